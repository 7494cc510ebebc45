//! What threads see of each other: the injector, the queues' other ends, orders and counters.
//!
//! `Shared` lives as long as a handle or a worker does. It holds no process and no `Run`, so a
//! handle that outlives its scheduler keeps only empty queues.

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
    idle::Idle,
    metrics::{Counters, Metrics},
    relay::{StandIns, Threads},
};

/// Order to a worker: end after the current slice.
pub(crate) const STOP: u32 = 1;
/// Order to a worker: stand at the gate after the current slice.
pub(crate) const HOLD: u32 = 2;
/// Order to a worker: take what was pinned to it.
pub(crate) const PINNED: u32 = 4;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) injector: Injector<u32>,
    /// What goes before all else, and what goes behind it.
    pub(crate) high: Aside,
    pub(crate) low: Aside,
    /// See `Config`.
    pub(crate) others_share: u32,
    pub(crate) remotes: Box<[Arc<Remote>]>,
    pub(crate) idle: Idle,
    /// Counts system calls, so a contended add does not matter.
    outside_unparks: AtomicU64,
    /// Threads that could go on as workers.
    pub(crate) ready: StandIns,
    pub(crate) threads: Threads,
    /// Threads that have stepped aside, or are about to.
    pub(crate) aside: AtomicUsize,
    /// Times that one has.
    pub(crate) stepped_aside: AtomicU64,
}

/// A queue of all workers for processes of another than the usual priority. There are few of them, so
/// it costs whoever has none to look but one load.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    queue: Injector<u32>,
    /// Never below what is in the queue, once a push has returned.
    waiting: CachePadded<AtomicUsize>,
}

impl Aside {
    fn push(&self, index: u32) {
        // Relaxed: a worker that parks is kept from missing it by the fence of whoever notifies, and
        // one that is awake looks again.
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

/// Repeats an attempt that lost a race until it answers.
pub(crate) fn until_settled(mut attempt: impl FnMut() -> Steal<u32>) -> Option<u32> {
    loop {
        match attempt() {
            Steal::Success(index) => return Some(index),
            Steal::Empty => return None,
            Steal::Retry => hint::spin_loop(),
        }
    }
}

/// The part of a worker that other threads reach. The counters are written in every slice, the rest
/// by almost nobody, hence the padding.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) counters: CachePadded<Counters>,
    pub(crate) stealer: Stealer<u32>,
    /// Processes of this worker alone that others have woken.
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

    /// Pairs with the Acquire in `orders`. The token that follows makes a sleeper look.
    pub(crate) fn order(&self, order: u32) {
        self.orders.fetch_or(order, Ordering::Release);
    }

    pub(crate) fn take_back(&self, order: u32) {
        // AcqRel: who takes an order back and then looks for what it was about must
        // see what was there before the order, and must not look earlier.
        self.orders.fetch_and(!order, Ordering::AcqRel);
    }

    /// Read by the worker between slices; almost always 0.
    #[inline]
    pub(crate) fn orders(&self) -> u32 {
        self.orders.load(Ordering::Acquire)
    }
}

impl Shared {
    pub(crate) fn new(remotes: Box<[Arc<Remote>]>, idle: Idle, others_share: u32) -> Self {
        Shared {
            injector: Injector::new(),
            high: Aside::default(),
            low: Aside::default(),
            others_share: others_share.min(MOST_OTHERS_SHARE),
            remotes,
            idle,
            outside_unparks: AtomicU64::new(0),
            ready: StandIns::new(),
            threads: Threads::default(),
            aside: AtomicUsize::new(0),
            stepped_aside: AtomicU64::new(0),
        }
    }

    /// A wake from a thread that is not one of our workers.
    pub(crate) fn inject(&self, index: u32) {
        self.injector.push(index);
        if self.idle.notify_outside() {
            self.outside_unparks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A wake of a process that goes before all others, or behind them, from any thread.
    pub(crate) fn set_aside(&self, aside: &Aside, index: u32) {
        aside.push(index);
        if self.idle.notify_outside() {
            self.outside_unparks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A wake of a process that only this worker runs. The order is given after the push and before
    /// the token, so that a worker that parks, or searches, sees it.
    pub(crate) fn inject_pinned(&self, worker: usize, index: u32) {
        let remote = &self.remotes[worker];
        remote.pinned.push(index);
        remote.order(PINNED);
        self.idle.unpark(worker);
    }

    /// There is something that a searcher could take.
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
