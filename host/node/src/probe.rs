//! A process through which a test acts: it has a pid, a mailbox and limits like any other process,
//! and makes the same calls as a guest. Its messages wait in its mailbox until the test takes them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use exuvia_abi::{HostCall, Pid};
use exuvia_engine::{Guest, GuestProcess, GuestSystem, HostCaller};
use exuvia_process::{Context, Envelope, Native, Selector};

use crate::error::TargetError;
use crate::node::Node;

/// How long the process may take to run an action.
const PATIENCE: Duration = Duration::from_secs(10);

/// An action of the test.
type Act = Box<dyn FnOnce(&mut GuestProcess, &GuestSystem) + Send>;

/// The process of a test. It traps exits from the beginning.
#[derive(Debug)]
pub struct Probe {
    node: Node,
    pid: Pid,
    acts: Sender<Act>,
}

struct Keeper {
    acts: Receiver<Act>,
    started: bool,
}

impl Native<Guest> for Keeper {
    fn begin_turn(&mut self, context: &mut Context<'_, Guest>) -> bool {
        if !self.started {
            // Its INIT, of which the test need not know.
            self.started = context.process.take(0).is_some();
            context.process.set_trap_exit(true);
        }
        for act in self.acts.try_iter() {
            act(context.process, context.system);
        }
        false
    }

    fn handle(&mut self, _: &mut Context<'_, Guest>, _: Envelope) {}
}

impl Probe {
    /// Spawns the process; `None`: the process table is full.
    pub fn new(node: &Node) -> Option<Probe> {
        let (sender, acts) = channel();
        let started = false;
        let pid = node.spawn_native(Box::new(Keeper { acts, started }))?;
        Some(Probe {
            node: node.clone(),
            pid,
            acts: sender,
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
    /// If the process has ended, or the schedulers do not run it in time.
    pub fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut GuestProcess, &GuestSystem) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let (sender, receiver) = channel();
        let act = move |process: &mut GuestProcess, system: &GuestSystem| {
            let _ = sender.send(act(process, system));
        };
        let gone = || TargetError::NoProcess(self.pid.to_string());
        // When the process ends, it drops its end, and with it what is in the channel.
        self.acts.send(Box::new(act)).map_err(|_| gone())?;
        self.node.system().wake(self.pid);
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => gone(),
                RecvTimeoutError::Timeout => TargetError::Busy(self.pid.to_string()),
            })
    }

    /// Makes a host call as this process: the same method that serves guests.
    ///
    /// # Errors
    ///
    /// As [`Probe::act`]. What the call itself returns is in the result.
    pub fn call<T: Send + 'static>(
        &self,
        call: &'static HostCall,
        make: impl FnOnce(&mut HostCaller<'_>) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let executor = self.node.core().executor.clone();
        self.act(move |process, _| executor.call(process, call, make))
    }

    /// Takes the first message that has arrived and is wanted.
    pub fn take(&self, wanted: Selector) -> Option<Envelope> {
        let taken = self.act(move |process, system| {
            process.drain_new_signals(system);
            let position = process.position(&wanted)?;
            process.take(position)
        });
        taken.ok().flatten()
    }

    /// Returns the number of messages that have arrived.
    pub fn waiting(&self) -> usize {
        let messages = self.act(|process, system| {
            process.drain_new_signals(system);
            process.messages()
        });
        messages.unwrap_or(0)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.node.kill(self.pid);
    }
}
