//! What a node has to do with the network: the gateway of `exuvia-io`, with the processes of this node, and the client that
//! makes requests for them.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use exuvia_engine::Guest;
use exuvia_io::{
    ClientError, Gateway, Guests, HttpClient, InheritedSockets, Listen, ListenError, NewProcess,
    NoProcess,
};
use parking_lot::Mutex;

use crate::core::{Core, may_begin};

/// The gateway, once anything is listened to, and the client, once a process may connect.
#[derive(Debug, Default)]
pub(crate) struct Network {
    gateway: Mutex<Option<Gateway<Guest>>>,
    client: Mutex<Option<HttpClient<Guest>>>,
}

/// Makes processes for requests. Weak: the gateway does not keep the node.
struct Processes(Weak<Core>);

impl Guests<Guest> for Processes {
    fn new_process(&self, module: &str) -> Result<NewProcess<Guest>, NoProcess> {
        let core = self.0.upgrade().ok_or(NoProcess::Stopping)?;
        let body = core.executor.new_process(module);
        let body = body.ok_or_else(|| NoProcess::NoModule(module.to_owned()))?;
        let limits = core.limits.of(module);
        may_begin(&body, &limits).map_err(|error| NoProcess::Limit(error.to_string()))?;
        Ok(NewProcess { body, limits })
    }
}

impl Network {
    /// Listens to these addresses from now on, and to no others. The first ones take the inherited sockets.
    pub(crate) fn set(
        &self,
        core: &Arc<Core>,
        listen: Vec<Listen>,
        inherited: InheritedSockets,
    ) -> Result<(), ListenError> {
        let mut gateway = self.gateway.lock();
        match &*gateway {
            Some(gateway) => gateway.set(listen),
            None if listen.is_empty() => inherited.all_taken(),
            None => {
                let guests = Arc::new(Processes(Arc::downgrade(core)));
                let limits = core.limits.of_node().clone();
                let sources = core.config.sources.clone();
                let system = core.system.clone();
                let pollers = core.pollers.clone();
                *gateway = Some(Gateway::start(
                    system, pollers, guests, limits, listen, sources, inherited,
                )?);
                Ok(())
            }
        }
    }

    /// Has the process run that makes requests for others.
    pub(crate) fn serve_outbound(&self, core: &Arc<Core>) -> Result<(), ClientError> {
        let mut client = self.client.lock();
        if client.is_none() {
            let limits = core.limits.of_node().clone();
            *client = Some(HttpClient::start(
                core.system.clone(),
                core.pollers.clone(),
                &limits,
            )?);
        }
        Ok(())
    }

    /// Ends that process.
    pub(crate) fn end_outbound(&self) {
        drop(self.client.lock().take());
    }

    /// Returns the addresses of TCP that are listened to.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let gateway = self.gateway.lock();
        gateway.as_ref().map(Gateway::addresses).unwrap_or_default()
    }

    /// Returns them as URLs.
    pub(crate) fn urls(&self) -> Vec<String> {
        let gateway = self.gateway.lock();
        gateway.as_ref().map(Gateway::urls).unwrap_or_default()
    }

    /// Stops listening. Requests under way may take so long, and of the sockets so many are closed in a second. Returns how
    /// long it took.
    pub(crate) fn stop(&self, patience: Duration, drain_per_s: u32) -> Duration {
        let gateway = self.gateway.lock().take();
        gateway.map_or(Duration::ZERO, |gateway| {
            gateway.stop(patience, drain_per_s)
        })
    }
}
