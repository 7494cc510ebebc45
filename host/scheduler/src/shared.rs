//! The state that threads share: the injector, the stealers of the queues, orders and counters.
//!
//! [`SchedulerState`] lives as long as a handle or a worker does. It holds no process and no `Run`,
//! so a handle that outlives its scheduler keeps only empty queues alive.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use crossbeam_deque::{Injector, Steal, Stealer};
use crossbeam_utils::CachePadded;

use crate::{
    config::MOST_OTHERS_SHARE,
    gate::Gate,
    handoff::{SpareThreads, Threads},
    idle::Idle,
    metrics::{Counters, Metrics},
};

/// Order to a worker: stop after the current slice.
pub(crate) const STOP: u32 = 1;
/// Order to a worker: wait at the gate after the current slice.
pub(crate) const HOLD: u32 = 2;
/// Order to a worker: take what is pinned to it from [`Remote::pinned`].
pub(crate) const PINNED: u32 = 4;

#[derive(Debug)]
pub(crate) struct SchedulerState {
    pub(crate) injector: Injector<u32>,
    /// The queues of high and of low priority.
    pub(crate) high: PriorityQueue,
    pub(crate) low: PriorityQueue,
    /// See [`Config`](crate::Config).
    pub(crate) others_share: u32,
    pub(crate) remotes: Box<[Arc<Remote>]>,
    pub(crate) idle: Idle,
    /// Counts wakes of sleeping threads, each a system call, so the cost of a contended add does
    /// not matter.
    outside_unparks: AtomicU64,
    /// Spare threads that can continue as workers.
    pub(crate) ready: SpareThreads,
    pub(crate) threads: Threads,
    /// Threads that are blocked in place, or are about to be.
    pub(crate) blocked_threads: AtomicUsize,
    /// Number of times a thread has blocked in place.
    pub(crate) blocked_in_place: AtomicU64,
}

/// A queue, shared by all workers, for processes with a priority other than normal. Usually it is
/// empty, so checking it costs only one load.
#[derive(Debug, Default)]
pub(crate) struct PriorityQueue {
    queue: Injector<u32>,
    /// At least the length of the queue, except during a push or pop.
    waiting: CachePadded<AtomicUsize>,
}

impl PriorityQueue {
    fn push(&self, index: u32) {
        // Relaxed: a worker that parks does not miss it, because of the fence of the thread that
        // notifies, and one that is awake checks again.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.push(index);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let index = until_settled(|| self.queue.steal())?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(index)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }
}

/// Repeats an attempt that lost a race until it succeeds or finds the queue empty.
pub(crate) fn until_settled(mut attempt: impl FnMut() -> Steal<u32>) -> Option<u32> {
    loop {
        match attempt() {
            Steal::Success(index) => return Some(index),
            Steal::Empty => return None,
            Steal::Retry => hint::spin_loop(),
        }
    }
}

/// The part of a worker that other threads access. The counters are written in every slice, the
/// rest is rarely written, hence the padding.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) counters: CachePadded<Counters>,
    pub(crate) stealer: Stealer<u32>,
    /// Processes pinned to this worker that other threads have woken.
    pub(crate) pinned: Injector<u32>,
    orders: AtomicU32,
    pub(crate) gate: Gate,
}

impl Remote {
    pub(crate) fn new(stealer: Stealer<u32>) -> Self {
        Remote {
            counters: CachePadded::default(),
            stealer,
            pinned: Injector::new(),
            orders: AtomicU32::new(0),
            gate: Gate::default(),
        }
    }

    /// Gives an order. Release: pairs with the Acquire in `orders`. The token that follows makes a
    /// sleeper check.
    pub(crate) fn order(&self, order: u32) {
        self.orders.fetch_or(order, Ordering::Release);
    }

    pub(crate) fn take_back(&self, order: u32) {
        // AcqRel: a worker that clears an order and then checks what it was about must see what was
        // there before the order, and must not check earlier.
        self.orders.fetch_and(!order, Ordering::AcqRel);
    }

    /// Returns the orders. Read by the worker between slices; almost always 0.
    #[inline]
    pub(crate) fn orders(&self) -> u32 {
        self.orders.load(Ordering::Acquire)
    }
}

impl SchedulerState {
    pub(crate) fn new(remotes: Box<[Arc<Remote>]>, idle: Idle, others_share: u32) -> Self {
        SchedulerState {
            injector: Injector::new(),
            high: PriorityQueue::default(),
            low: PriorityQueue::default(),
            others_share: others_share.min(MOST_OTHERS_SHARE),
            remotes,
            idle,
            outside_unparks: AtomicU64::new(0),
            ready: SpareThreads::new(),
            threads: Threads::default(),
            blocked_threads: AtomicUsize::new(0),
            blocked_in_place: AtomicU64::new(0),
        }
    }

    /// Wakes a process from a thread that is not a worker of this scheduler.
    pub(crate) fn inject(&self, index: u32) {
        self.injector.push(index);
        if self.idle.notify_outside() {
            self.outside_unparks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes a process of high or low priority, from any thread.
    pub(crate) fn inject_with_priority(&self, queue: &PriorityQueue, index: u32) {
        queue.push(index);
        if self.idle.notify_outside() {
            self.outside_unparks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes a process that only this worker runs. The order is given after the push and before the
    /// token, so that a worker that parks, or searches, sees it.
    pub(crate) fn inject_pinned(&self, worker: usize, index: u32) {
        let remote = &self.remotes[worker];
        remote.pinned.push(index);
        remote.order(PINNED);
        self.idle.unpark(worker);
    }

    /// Returns whether there is something that a searcher could take.
    pub(crate) fn has_work(&self) -> bool {
        !self.injector.is_empty()
            || !self.high.is_empty()
            || !self.low.is_empty()
            || self.remotes.iter().any(|r| !r.stealer.is_empty())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics {
            workers: self.remotes.iter().map(|r| r.counters.snapshot()).collect(),
            outside_unparks: self.outside_unparks.load(Ordering::Relaxed),
            parked: self.idle.parked(),
        }
    }
}
