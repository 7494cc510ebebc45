//! Counters of each worker, and a snapshot of them.
//!
//! Only the worker itself writes its counters, so a count is a load and a store, both relaxed:
//! no locked instruction on the path of a slice. A snapshot may be a few counts behind, and two
//! counters of one snapshot need not be from the same moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::shared::Remote;

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds to the counter. Only the owner may call this: two writers would lose counts.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
            /// Since when the thread sleeps, by [`clock`]; 0: it is awake.
            asleep_since: AtomicU64,
        }

        /// The counters of one worker since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkerMetrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> WorkerMetrics {
                #[allow(unused_mut, reason = "only one of the counters is completed")]
                let mut metrics = WorkerMetrics { $($name: self.$name.get(),)* };
                metrics.parked_ns += self.sleeping();
                metrics
            }
        }

        impl WorkerMetrics {
            fn add(&mut self, other: &WorkerMetrics) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Slices run, including those that panicked.
    slices,
    /// Panics in `run` and `tick` that were caught.
    panics,
    /// Slices of the process that this worker had woken last.
    slot_hits,
    /// Times work was taken from the injector (a batch counts once).
    injector_pops,
    /// Times work was stolen from another worker's queue (a batch counts once).
    steals,
    /// Times the thread slept.
    parks,
    /// Workers that this worker woke.
    unparks,
    /// Calls of `tick`.
    ticks,
    /// Time asleep, in nanoseconds, up to the moment of the snapshot.
    parked_ns,
}

/// Returns the nanoseconds since the first call, plus one.
fn clock() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "the time of a sleep, for display"
    )]
    let now = Instant::now();
    let since = now.duration_since(*FIRST.get_or_init(|| now)).as_nanos();
    u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
}

impl Counters {
    /// Records that the thread is about to sleep, or has woken up. Only the owner may call this.
    pub(crate) fn sleeps(&self, asleep: bool) {
        if asleep {
            return self.asleep_since.store(clock(), Ordering::Relaxed);
        }
        // A concurrent snapshot counts the sleep twice for a moment rather than not at all.
        self.parked_ns.add(self.sleeping());
        self.asleep_since.store(0, Ordering::Relaxed);
    }

    /// Returns the duration, in nanoseconds, of a sleep that is not over and so not counted yet.
    fn sleeping(&self) -> u64 {
        match self.asleep_since.load(Ordering::Relaxed) {
            0 => 0,
            since => clock().saturating_sub(since),
        }
    }
}

/// Where the poller of a worker records when the worker's thread sleeps: what it does in a wait
/// besides is work.
#[derive(Debug)]
pub struct SleepRecord(pub(crate) Arc<Remote>);

impl SleepRecord {
    /// The thread is about to sleep, or has woken up. Called on the thread that waits.
    pub fn sleeps(&self, asleep: bool) {
        self.0.counters.sleeps(asleep);
    }
}

/// A snapshot of a scheduler's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// One entry for each worker.
    pub workers: Vec<WorkerMetrics>,
    /// Workers woken by threads that are not workers of this scheduler.
    pub outside_unparks: u64,
    /// Workers asleep at the moment of the snapshot.
    pub parked: usize,
}

impl Metrics {
    /// Returns the sum over all workers.
    pub fn total(&self) -> WorkerMetrics {
        let mut total = WorkerMetrics::default();
        for worker in &self.workers {
            total.add(worker);
        }
        total
    }
}
