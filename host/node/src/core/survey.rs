//! Examines processes: one that is parked or between two of its turns, never one that runs.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use exuvia_engine::{GuestProcess, GuestSystem};
use exuvia_process::{Pid, RunState};

use super::Core;
use crate::error::TargetError;

/// How long an examination waits until the turn of a running process ends.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

impl Core {
    /// Calls `see` with a process that is parked or at the beginning of a turn, and returns its
    /// result.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not reach the end of a turn.
    pub(crate) fn examine<T: Send + 'static>(
        &self,
        pid: Pid,
        see: impl FnOnce(&mut GuestProcess) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let gone = || TargetError::NoProcess(pid.to_string());
        if !self.system.is_alive(pid) {
            return Err(gone());
        }
        // If the slot belongs to another process by then, `see` is dropped.
        let (sender, receiver) = channel();
        let see = move |process: &mut GuestProcess, _: &GuestSystem| {
            let _ = sender.send(see(process));
        };
        self.system.control(pid, see).map_err(|_| gone())?;
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => gone(),
                RecvTimeoutError::Timeout => TargetError::Busy(pid.to_string()),
            })
    }

    /// Returns the results of `see` for the processes, until there are `limit` of them. `all` says
    /// that `see` returns `Some` for every process, so that running processes, whose results come
    /// later, count towards the limit.
    pub(crate) fn survey<T: Send + 'static>(
        &self,
        limit: usize,
        all: bool,
        see: impl Fn(&mut GuestProcess) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let slots = self.system.table.indices();
        self.survey_slots(slots, limit, all, PATIENCE, see)
    }

    /// Does the same for some slots; waits for running processes for `patience` at most.
    pub(crate) fn survey_slots<T: Send + 'static>(
        &self,
        slots: impl Iterator<Item = u32>,
        limit: usize,
        all: bool,
        patience: Duration,
        see: impl Fn(&mut GuestProcess) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let system = &self.system;
        let mut found = Vec::new();
        let (sender, receiver) = channel();
        let mut asked = 0;
        let mut slots = slots;
        loop {
            let sure = if all { asked } else { 0 };
            if found.len() + sure >= limit {
                break;
            }
            // After the limit: a caller that continues with the iterator misses no slot.
            let Some(index) = slots.next() else { break };
            let Some(slot) = system.table.slot(index) else {
                continue;
            };
            if slot.state.get() == RunState::Free {
                continue;
            }
            if let Some(seen) = self.executor.examine(index, &see) {
                found.extend(seen);
            } else if let Some(pid) = system.pid(index) {
                let sender = sender.clone();
                let see = see.clone();
                let see = move |process: &mut GuestProcess, _: &GuestSystem| {
                    // The caller may have timed out.
                    let _ = sender.send(see(process));
                };
                if system.control(pid, see).is_ok() {
                    asked += 1;
                }
            }
        }
        drop(sender);
        let until = Duration::from_nanos(system.clock.now()) + patience;
        while asked > 0 {
            let now = Duration::from_nanos(system.clock.now());
            match receiver.recv_timeout(until.saturating_sub(now)) {
                Ok(seen) => {
                    asked -= 1;
                    found.extend(seen);
                }
                Err(_) => break,
            }
        }
        found
    }
}
