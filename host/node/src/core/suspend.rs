//! Suspends processes for an operator, and traces their messages.

use std::sync::mpsc::Receiver;

use exuvia_engine::Traced;
use exuvia_process::Pid;

use super::Core;
use crate::error::TargetError;

/// The result of suspending or resuming a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspended {
    /// Whether that changed anything.
    pub changed: bool,
    /// Whether it is outside a handler, so that it stops at once when it is suspended; else it
    /// finishes the handler first.
    pub still: bool,
}

impl Core {
    /// Suspends a process, or resumes it.
    pub(crate) fn set_suspended(&self, pid: Pid, on: bool) -> Result<Suspended, TargetError> {
        let halted = self.examine(pid, move |process| {
            let still = process.guest()?.stands_still();
            Some(Suspended {
                changed: std::mem::replace(&mut process.suspended, on) != on,
                still,
            })
        })?;
        // Its messages have arrived already: no signal will report them.
        self.system.wake(pid);
        halted.ok_or_else(|| TargetError::Native(pid.to_string()))
    }

    /// Whether a process is suspended and in no handler, and if so whether messages wait
    /// for it.
    pub(crate) fn suspended_with_messages(&self, pid: Pid) -> Option<bool> {
        let seen = self.examine(pid, |process| {
            let still = process.suspended && process.guest()?.stands_still();
            still.then(|| process.messages())
        });
        let taken = seen.ok().flatten()?;
        // Messages may be behind the control.
        let slot = self.system.table.slot(pid.slot());
        Some(taken > 0 || slot.is_some_and(|slot| !slot.mailbox.is_empty()))
    }

    /// Traces what a process receives and sends, `limit` messages at most.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub(crate) fn trace(&self, pid: Pid, limit: u64) -> Result<Receiver<Traced>, TargetError> {
        let receiver = self.executor.trace(pid, limit);
        let marked = self.examine(pid, |process| {
            let is_guest = process.guest().is_some();
            process.traced = is_guest;
            is_guest
        });
        match marked {
            Ok(true) => Ok(receiver),
            other => {
                self.executor.end_trace(pid);
                Err(other
                    .err()
                    .unwrap_or_else(|| TargetError::Native(pid.to_string())))
            }
        }
    }
}
