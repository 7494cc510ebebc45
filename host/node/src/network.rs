//! What a node listens to: the gateway of `exuvia-io`, with the processes of this node.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use exuvia_engine::Guest;
use exuvia_io::{Gateway, Guests, Listen, ListenError, NewProcess, NoProcess};
use parking_lot::Mutex;

use crate::core::{Core, may_begin};

/// The gateway, once anything is listened to.
#[derive(Debug, Default)]
pub(crate) struct Network(Mutex<Option<Gateway<Guest>>>);

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
    /// Listens to these addresses from now on, and to no others.
    pub(crate) fn set(&self, core: &Arc<Core>, listen: Vec<Listen>) -> Result<(), ListenError> {
        let mut gateway = self.0.lock();
        match &*gateway {
            Some(gateway) => gateway.set(listen),
            None if listen.is_empty() => Ok(()),
            None => {
                let guests = Arc::new(Processes(Arc::downgrade(core)));
                let limits = core.limits.of_node().clone();
                let sources = core.config.sources.clone();
                let system = core.system.clone();
                *gateway = Some(Gateway::start(system, guests, limits, listen, sources)?);
                Ok(())
            }
        }
    }

    /// Returns the addresses that are listened to.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let gateway = self.0.lock();
        gateway.as_ref().map(Gateway::addresses).unwrap_or_default()
    }

    /// Stops listening. Requests under way may take so long. Returns how long it took.
    pub(crate) fn stop(&self, patience: Duration) -> Duration {
        let gateway = self.0.lock().take();
        gateway.map_or(Duration::ZERO, |gateway| gateway.stop(patience))
    }
}
