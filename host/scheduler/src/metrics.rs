//! Counters of each worker, and a snapshot of them.
//!
//! Only the worker itself writes its counters, so a count is a load and a store, both relaxed:
//! no locked instruction on the path of a slice. A snapshot may be a few counts behind, and two
//! counters of one snapshot need not be from the same moment.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Owner only: two writers would lose counts.
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
        pub(crate) struct Counters { $(pub(crate) $name: Count,)* }

        /// The counters of one worker since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct WorkerMetrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> WorkerMetrics {
                WorkerMetrics { $($name: self.$name.get(),)* }
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
    /// Slices run, those that panicked included.
    slices,
    /// Panics of `run` and `tick` that were caught.
    panics,
    /// Slices of the process that this worker had woken last.
    slot_hits,
    /// Times the injector gave work (a batch counts once).
    injector_pops,
    /// Times another worker's queue gave work (a batch counts once).
    steals,
    /// Times the thread slept.
    parks,
    /// Workers that this worker woke.
    unparks,
    /// Calls of `tick`.
    ticks,
    /// Time asleep, in nanoseconds. A sleep counts when it ends.
    parked_ns,
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
    /// The sum over all workers.
    pub fn total(&self) -> WorkerMetrics {
        let mut total = WorkerMetrics::default();
        for worker in &self.workers {
            total.add(worker);
        }
        total
    }
}
