//! A process in whose name a test acts: it has a pid and a mailbox as any other, and what
//! arrives there waits until the test takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use exuvia_abi::{Kind, Pid, receive};
use exuvia_engine::{Guest, GuestOwn, GuestSystem};
use exuvia_process::{Context, Envelope, Native, Signal};
use parking_lot::Mutex;

use crate::error::TargetError;
use crate::node::Node;

/// How long it may take until the process has acted.
const PATIENCE: Duration = Duration::from_secs(10);

type Inbox = Arc<Mutex<VecDeque<Envelope>>>;

/// The process of a test. It traps exits.
#[derive(Debug)]
pub struct Probe {
    node: Node,
    pid: Pid,
    inbox: Inbox,
}

struct Keeper(Inbox);

impl Native<Guest> for Keeper {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        match message.kind {
            Kind::Init => {
                context.own.set_trap_exit(true);
            }
            _ => self.0.lock().push_back(message),
        }
    }
}

impl Probe {
    /// A new process. `None`: the node has no room for one.
    pub fn new(node: &Node) -> Option<Probe> {
        let inbox = Inbox::default();
        let pid = node.spawn_native(Box::new(Keeper(inbox.clone())))?;
        Some(Probe {
            node: node.clone(),
            pid,
            inbox,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Does something as this process, between two of its turns.
    ///
    /// # Errors
    ///
    /// If it has been killed, or the node's schedulers do not come to it.
    pub fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut GuestOwn, &GuestSystem) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let (sender, receiver) = channel();
        let act = Box::new(move |own: &mut GuestOwn, system: &GuestSystem| {
            let _ = sender.send(act(own, system));
        });
        let gone = || TargetError::NoProcess(self.pid.to_string());
        let sent = (self.node.system()).signal(self.pid, Signal::Control(act));
        sent.map_err(|_| gone())?;
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| TargetError::Busy(self.pid.to_string()))
    }

    /// Takes the first message that a mode and a key of [`exuvia_abi::receive`]
    /// want, of those that have arrived.
    pub fn take(&self, mode: i32, key: u64) -> Option<Envelope> {
        let mut inbox = self.inbox.lock();
        let place = inbox.iter().position(|message| match mode {
            receive::TAG => {
                u64::from(message.tag) == key && !matches!(message.kind, Kind::Exit | Kind::Down)
            }
            receive::REFERENCE => {
                message.reference == key
                    && matches!(message.kind, Kind::Reply | Kind::Down | Kind::Timer)
            }
            _ => true,
        })?;
        inbox.remove(place)
    }

    /// Messages that have arrived.
    pub fn waiting(&self) -> usize {
        self.inbox.lock().len()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.node.kill(self.pid);
    }
}
