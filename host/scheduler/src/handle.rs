//! The way in for everybody else: wakes, from any thread.

use std::sync::{Arc, atomic::Ordering};

use crate::{gate::Held, metrics::Metrics, relay::StandIn, shared::Shared, worker};

/// A reference to a scheduler. It stays valid after the scheduler has stopped; wakes then lead
/// nowhere.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Makes a process runnable. It must be neither queued nor running (see the crate's contract).
    ///
    /// On a worker of this scheduler, also inside `run` and `tick`, the process goes to that
    /// worker's slot and is likely to run next there; what was in the slot goes to the back of the
    /// worker's queue. From elsewhere it goes to the injector.
    #[inline]
    pub fn wake(&self, index: u32) {
        let local = worker::with_current(&self.shared, |worker| worker.wake(index));
        if local.is_none() {
            self.shared.inject(index);
        }
    }

    /// The same for a process that goes before all others. While there are such, on any worker,
    /// no other begins a slice.
    pub fn wake_high(&self, index: u32) {
        self.shared.set_aside(&self.shared.high, index);
    }

    /// The same for a process that gets one slice of eight, and what others leave.
    pub fn wake_low(&self, index: u32) {
        self.shared.set_aside(&self.shared.low, index);
    }

    /// The same for a process that only `worker` may run. It is never stolen, and never in the
    /// slot; it takes turns with the worker's queue.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    pub fn wake_on(&self, worker: usize, index: u32) {
        assert!(worker < self.workers(), "worker {worker} does not exist");
        let local = worker::with_current(&self.shared, |current| {
            let here = current.number() == worker;
            if here {
                current.wake_pinned(index);
            }
            here
        });
        if local != Some(true) {
            self.shared.inject_pinned(worker, index);
        }
    }

    /// To be called inside a slice that will take far longer than others. It hands the process that
    /// was woken last to the queue, where other workers can take it, and for the rest of the slice
    /// wakes go there too. Does nothing on other threads.
    pub fn slice_gets_long(&self) {
        worker::with_current(&self.shared, |worker| worker.slice_gets_long());
    }

    /// Makes a worker call `tick` again before it sleeps on. Call it after a timer of that worker
    /// was set earlier than what the last `tick` answered. A worker that runs ticks soon anyway,
    /// so the call may come too often; it never comes too late.
    pub fn unpark_worker(&self, worker: usize) {
        assert!(worker < self.workers(), "worker {worker} does not exist");
        self.shared.idle.unpark(worker);
    }

    /// A thread that can go on as this one's worker, for a slice that must wait in its middle.
    ///
    /// `None`: this is not the thread of a worker of this scheduler, or too many are aside. The latter
    /// does not happen in a slice that has asked [`Handle::may_step_aside`] before.
    pub fn stand_in(&self) -> Option<StandIn> {
        StandIn::new(&self.shared)
    }

    /// Whether there is a stand-in for every worker: to be asked before a slice begins what it could
    /// not end without.
    #[inline]
    pub fn may_step_aside(&self) -> bool {
        self.shared.ready.len() >= self.workers()
    }

    /// Times that a thread has stepped aside.
    pub fn stepped_aside(&self) -> u64 {
        self.shared.stepped_aside.load(Ordering::Relaxed)
    }

    /// Threads that have stepped aside.
    pub fn aside(&self) -> usize {
        self.shared.aside.load(Ordering::Relaxed)
    }

    /// The number of the worker whose thread this is; `None` on any other thread.
    #[inline]
    pub fn current_worker(&self) -> Option<usize> {
        worker::with_current(&self.shared, |worker| worker.number())
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.shared.remotes.len()
    }

    /// The counters as they are now.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Waits until a worker stands still between two slices and keeps it there until the answer is
    /// dropped. Others may take what waits in its queue. Meant for tests.
    ///
    /// `None` when the worker has stopped, or when the caller is on a worker of this scheduler:
    /// two workers that hold each other would never go on.
    pub fn hold(&self, worker: usize) -> Option<Held> {
        assert!(worker < self.workers(), "worker {worker} does not exist");
        match self.current_worker() {
            Some(_) => None,
            None => Held::new(&self.shared, worker),
        }
    }
}
