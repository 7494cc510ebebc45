//! Holding a worker still between two slices.
//!
//! Tests use it to build a state of the queues that nothing disturbs. It may serve an inspection
//! too, yet it is no way to stop a process: other workers take over what waits here.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::shared::{HOLD, STOP, Shared};

/// One worker's gate. Its lock is a leaf.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Guards alive or about to be.
    holders: usize,
    /// The worker stands at the gate.
    standing: bool,
    /// The worker's thread is past its last slice.
    gone: bool,
}

/// Keeps one worker still until it is dropped. See [`Handle::hold`](crate::Handle::hold).
#[derive(Debug)]
#[must_use = "the worker goes on when this is dropped"]
pub struct Held {
    shared: Arc<Shared>,
    worker: usize,
}

impl Held {
    /// Waits until the worker stands still; `None` when it has stopped for good.
    pub(crate) fn new(shared: &Arc<Shared>, worker: usize) -> Option<Held> {
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

    /// The worker that stands still.
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
    /// The worker stands here while anybody holds it and it need not stop.
    pub(crate) fn stand(&self, stopping: impl Fn() -> bool) {
        let mut state = self.state.lock();
        state.standing = true;
        self.changed.notify_all();
        while state.holders > 0 && !stopping() {
            self.changed.wait(&mut state);
        }
        state.standing = false;
    }

    /// The worker ends: nobody may wait for it any more.
    pub(crate) fn leave(&self) {
        self.state.lock().gone = true;
        self.changed.notify_all();
    }
}

/// Tells every worker to end after its current slice.
pub(crate) fn stop_all(shared: &Shared) {
    for (worker, remote) in shared.remotes.iter().enumerate() {
        {
            // Under the lock, so that a worker at the gate cannot miss it between its look at the
            // order and its wait.
            let _state = remote.gate.state.lock();
            remote.order(STOP);
            remote.gate.changed.notify_all();
        }
        shared.idle.unpark(worker);
    }
}
