//! Handles: the interface for all threads to wake processes.

use std::sync::{Arc, atomic::Ordering};

use crate::{gate::Held, handoff::SpareThread, metrics::Metrics, shared::SchedulerState, worker};

/// A reference to a scheduler. It stays valid after the scheduler has stopped; wakes then have no
/// effect.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<SchedulerState>,
}

impl Handle {
    /// Makes a process runnable. It must be neither queued nor running (see the crate's contract).
    ///
    /// On a worker of this scheduler, also inside `run` and `tick`, the process goes to that
    /// worker's slot and is likely to run next there; the previous occupant of the slot goes to the
    /// back of the worker's queue. On any other thread it goes to the injector.
    #[inline]
    pub fn wake(&self, index: u32) {
        let local = worker::with_current(&self.shared, |worker| worker.wake(index));
        if local.is_none() {
            self.shared.inject(index);
        }
    }

    /// Makes a process runnable that has priority over all others. While there are such processes,
    /// on any worker, others get only their share of slices (`Config::others_share`).
    pub fn wake_high(&self, index: u32) {
        self.shared.inject_with_priority(&self.shared.high, index);
    }

    /// Makes a process runnable that gets one slice of eight, and those that no other process
    /// needs.
    pub fn wake_low(&self, index: u32) {
        self.shared.inject_with_priority(&self.shared.low, index);
    }

    /// Makes a process runnable that only `worker` may run. It is never stolen and never in the
    /// slot; it alternates with the worker's queue.
    ///
    /// # Panics
    ///
    /// Panics if there is no such worker.
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

    /// Announces that the current slice will take far longer than others. It moves the process that
    /// was woken last to the queue, where other workers can take it, and for the rest of the slice
    /// wakes go there too. Does nothing on other threads.
    pub fn slice_gets_long(&self) {
        worker::with_current(&self.shared, |worker| worker.slice_gets_long());
    }

    /// Makes a worker call `tick` again before it continues to sleep. Call it after a timer of that
    /// worker was set earlier than what the last `tick` returned. A running worker calls `tick`
    /// soon anyway, so calling this too often is harmless; a call just before it sleeps is not
    /// lost.
    pub fn unpark_worker(&self, worker: usize) {
        assert!(worker < self.workers(), "worker {worker} does not exist");
        self.shared.idle.unpark(worker);
    }

    /// Returns a thread that can continue as this thread's worker, for a slice that must block in
    /// the middle.
    ///
    /// `None`: this is not the thread of a worker of this scheduler, or too many threads are
    /// blocked. The latter does not happen in a slice that has checked
    /// [`Handle::may_block_in_place`] before.
    pub fn spare_thread(&self) -> Option<SpareThread> {
        SpareThread::new(&self.shared)
    }

    /// Returns whether there is a spare thread for every worker. To be checked before a slice
    /// begins something that it could not finish without one.
    #[inline]
    pub fn may_block_in_place(&self) -> bool {
        self.shared.ready.len() >= self.workers()
    }

    /// Returns how many times a thread has blocked in place.
    pub fn blocked_in_place(&self) -> u64 {
        self.shared.blocked_in_place.load(Ordering::Relaxed)
    }

    /// Returns the number of threads that are blocked in place.
    pub fn blocked_threads(&self) -> usize {
        self.shared.blocked_threads.load(Ordering::Relaxed)
    }

    /// Returns the number of the worker whose thread this is; `None` on any other thread.
    #[inline]
    pub fn current_worker(&self) -> Option<usize> {
        worker::with_current(&self.shared, |worker| worker.number())
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.shared.remotes.len()
    }

    /// Returns the current counters.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }

    /// Waits until a worker is between two slices and holds it there until the returned guard is
    /// dropped. Others may take what waits in its queue. Meant for tests.
    ///
    /// `None` if the worker has stopped, or if the caller is on a worker of this scheduler: two
    /// workers that hold each other would never continue.
    pub fn hold(&self, worker: usize) -> Option<Held> {
        assert!(worker < self.workers(), "worker {worker} does not exist");
        match self.current_worker() {
            Some(_) => None,
            None => Held::new(&self.shared, worker),
        }
    }
}
