//! What an operator does with processes: kills, restarts, suspends and traces them, and watches what
//! becomes of a message.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use exuvia_abi::{Pid, Reason};
use exuvia_engine::Traced;
use exuvia_process::{ExitReason, Signal};

use super::Node;
use crate::core::Suspended;
use crate::error::{RestartFailed, SendFailed, TargetError};
use crate::event::{Event, Level};
use crate::supervision::Question;

/// How long a kill waits until the process has exited.
const ENDING: Duration = Duration::from_secs(1);
/// How long a message is followed to its receiver.
const OBSERVED: Duration = Duration::from_millis(200);
/// The interval between two checks meanwhile.
const CHECK: Duration = Duration::from_millis(1);
/// How long a supervisor may take to reply; a restart takes the `shutdown` of the child and its
/// start.
const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum number of the receiver's log lines that are returned.
const MOST_WARNINGS: usize = 5;

impl Node {
    /// Kills a process, which can neither trap nor delay that, and waits up to a second for its
    /// exit. Returns whether it has exited. Linked processes and the log get the reason.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is the host's own, or the app's root supervisor.
    pub fn end(&self, pid: Pid, why: Option<&str>) -> Result<bool, TargetError> {
        let system = &self.core().system;
        let gone = || TargetError::NoProcess(pid.to_string());
        if self.0.supervision.root() == Some(pid) && system.is_alive(pid) {
            return Err(TargetError::Root(pid.to_string()));
        }
        let is_host = self
            .core()
            .examine(pid, |process| process.guest().is_none());
        match is_host {
            Ok(true) if !self.is_supervisor(pid) => {
                return Err(TargetError::Native(pid.to_string()));
            }
            Err(error @ TargetError::NoProcess(_)) => return Err(error),
            // Killing a busy process is what this is for.
            _ => {}
        }
        let reason = match why {
            None => ExitReason::new(Reason::KILLED),
            Some(why) => ExitReason::with(Reason::KILLED.0, why.as_bytes()),
        };
        let kill = Signal::Exit {
            from: Pid::NONE,
            reason,
            linked: false,
        };
        system.signal(pid, kill).map_err(|_| gone())?;
        let checks = ENDING.as_millis() / CHECK.as_millis();
        for _ in 0..checks {
            if !system.is_alive(pid) {
                return Ok(true);
            }
            thread::park_timeout(CHECK);
        }
        Ok(false)
    }

    /// Has a child's supervisor stop it, as at the end of the app, and start it again. This does
    /// not count towards the restart intensity. Returns the pid of the new process.
    ///
    /// # Errors
    ///
    /// If the process cannot be inspected, it has no supervisor, its supervisor does not reply, or
    /// the new process does not start.
    pub fn restart(&self, pid: Pid) -> Result<Pid, RestartFailed> {
        let parent = self
            .core()
            .examine(pid, |process| process.relations_info().parent)?;
        let supervisor = parent
            .filter(|parent| self.is_supervisor(*parent))
            .ok_or(RestartFailed::NoSupervisor(pid))?;
        let question = |reply| Question::Restart { pid, reply };
        (self.0.supervision)
            .ask(supervisor, question, PATIENCE)
            .ok_or(RestartFailed::NoAnswer { pid, supervisor })?
            .map_err(|why| RestartFailed::Refused { pid, why })
    }

    /// Sends a message from outside the node, and follows it for up to 200 ms. Returns what the
    /// receiver logs as a warning or an error meanwhile, for example that it dropped the message,
    /// and whether it is suspended or has exited.
    ///
    /// # Errors
    ///
    /// As [`Node::send`].
    pub fn send_and_observe(
        &self,
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Vec<String>, SendFailed> {
        let mut events = self.core().events.listen();
        self.send(to, tag, payload)?;
        let mut warnings = Vec::new();
        let checks = OBSERVED.as_millis() / CHECK.as_millis();
        let slot = self.core().system.table.slot(to.slot());
        for _ in 0..checks {
            // Messages may be behind the control, so the mailbox must be empty too.
            let waiting = slot.is_some_and(|slot| !slot.mailbox.is_empty());
            let seen = self.core().examine(to, |process| {
                let inbox = process.messages();
                let suspended = process.suspended;
                process
                    .guest()
                    .map(|guest| (inbox, suspended, guest.stands_still()))
            });
            match seen {
                Ok(Some((_, true, _))) => {
                    warnings.push(
                        "it is suspended and will receive the message when it is resumed"
                            .to_owned(),
                    );
                    break;
                }
                Ok(Some((0, false, true))) if !waiting => break,
                Ok(Some(_)) => thread::park_timeout(CHECK),
                _ => break,
            }
        }
        let pid = to.to_string();
        while let Ok(event) = events.try_recv() {
            match event {
                Event::Log {
                    pid: of,
                    level: Level::Warn | Level::Error,
                    text,
                    ..
                } if of == pid => warnings.push(text),
                Event::Exit {
                    pid: of, reason, ..
                } if of == pid => warnings.push(format!("it has ended: {reason}")),
                _ => {}
            }
        }
        warnings.truncate(MOST_WARNINGS);
        Ok(warnings)
    }

    /// Suspends a process: from the end of its current handler it takes no message until it is
    /// resumed. It can still exit, be upgraded and be inspected (OTP: `sys:suspend`).
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn suspend(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.core().set_suspended(pid, true)
    }

    /// Resumes a suspended process (OTP: `sys:resume`).
    ///
    /// # Errors
    ///
    /// As [`Node::suspend`].
    pub fn resume(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.core().set_suspended(pid, false)
    }

    /// Traces what a process receives and sends, `limit` messages at most.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn trace(&self, pid: Pid, limit: u64) -> Result<Receiver<Traced>, TargetError> {
        self.core().trace(pid, limit)
    }
}
