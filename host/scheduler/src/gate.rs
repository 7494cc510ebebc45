//! Holds a worker between two slices.
//!
//! Tests use it to set up a state of the queues that does not change. It may also serve an
//! inspection, but it cannot stop a process: other workers take over what waits here.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::shared::{HOLD, STOP, SchedulerState};

/// One worker's gate. Its lock is a leaf.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of guards that exist or are about to.
    holders: usize,
    /// The worker waits at the gate.
    standing: bool,
    /// The worker has stopped for good.
    gone: bool,
}

/// Holds one worker until it is dropped. See [`Handle::hold`](crate::Handle::hold).
#[derive(Debug)]
#[must_use = "the worker goes on when this is dropped"]
pub struct Held {
    shared: Arc<SchedulerState>,
    worker: usize,
}

impl Held {
    /// Waits until the worker is held; `None` if it has stopped for good.
    pub(crate) fn new(shared: &Arc<SchedulerState>, worker: usize) -> Option<Held> {
        let remote = &shared.remotes[worker];
        let mut state = remote.gate.state.lock();
        state.holders += 1;
        // Set under the lock, as it is cleared under it, so that the bit and `holders` agree.
        remote.order(HOLD);
        shared.idle.unpark(worker);
        while !state.standing && !state.gone {
            remote.gate.changed.wait(&mut state);
        }
        let gone = state.gone;
        drop(state);
        let held = Held {
            shared: Arc::clone(shared),
            worker,
        };
        (!gone).then_some(held)
    }

    /// Returns the number of the worker that is held.
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let remote = &self.shared.remotes[self.worker];
        let mut state = remote.gate.state.lock();
        state.holders -= 1;
        if state.holders == 0 {
            remote.take_back(HOLD);
            remote.gate.changed.notify_all();
        }
    }
}

impl Gate {
    /// Blocks the worker while any guard holds it, unless it must stop.
    pub(crate) fn stand(&self, stopping: impl Fn() -> bool) {
        let mut state = self.state.lock();
        state.standing = true;
        self.changed.notify_all();
        while state.holders > 0 && !stopping() {
            self.changed.wait(&mut state);
        }
        state.standing = false;
    }

    /// Notes that the worker stops: no thread may wait for it any more.
    pub(crate) fn leave(&self) {
        self.state.lock().gone = true;
        self.changed.notify_all();
    }
}

/// Orders every worker to stop after its current slice.
pub(crate) fn stop_all(shared: &SchedulerState) {
    for (worker, remote) in shared.remotes.iter().enumerate() {
        {
            // Under the lock, so that a worker at the gate cannot miss it between checking the
            // order and waiting.
            let _state = remote.gate.state.lock();
            remote.order(STOP);
            remote.gate.changed.notify_all();
        }
        shared.idle.unpark(worker);
    }
}
