//! A process through which a test acts: it has a pid and a mailbox like any other process, and its
//! messages wait until the test takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use exuvia_abi::{Kind, Pid, receive};
use exuvia_engine::{Guest, GuestProcess, GuestSystem};
use exuvia_process::{Context, Envelope, Native};
use parking_lot::Mutex;

use crate::error::TargetError;
use crate::node::Node;

/// How long the process may take to run an action.
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
                context.process.set_trap_exit(true);
            }
            _ => self.0.lock().push_back(message),
        }
    }
}

impl Probe {
    /// Spawns the process; `None`: the process table is full.
    pub fn new(node: &Node) -> Option<Probe> {
        let inbox = Inbox::default();
        let pid = node.spawn_native(Box::new(Keeper(inbox.clone())))?;
        Some(Probe {
            node: node.clone(),
            pid,
            inbox,
        })
    }

    /// Returns its pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Runs `act` as this process, at the beginning of one of its turns, and returns the result.
    ///
    /// # Errors
    ///
    /// If the process was killed, or the schedulers do not run it in time.
    pub fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut GuestProcess, &GuestSystem) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let (sender, receiver) = channel();
        let act = move |process: &mut GuestProcess, system: &GuestSystem| {
            let _ = sender.send(act(process, system));
        };
        let gone = || TargetError::NoProcess(self.pid.to_string());
        let sent = self.node.system().control(self.pid, act);
        sent.map_err(|_| gone())?;
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| TargetError::Busy(self.pid.to_string()))
    }

    /// Takes the first message that has arrived and matches a mode and a key of
    /// [`exuvia_abi::receive`].
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

    /// Returns the number of messages that have arrived.
    pub fn waiting(&self) -> usize {
        self.inbox.lock().len()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.node.kill(self.pid);
    }
}
