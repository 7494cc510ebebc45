//! Sampled durations of what happens too often to be timed each time, and counters for what must
//! not pay for a shared counter. For display: neither is exact at a given moment.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_process::Clock;

/// One in this many operations is timed.
const EVERY: u64 = 64;

/// The mean duration of an operation that is timed in samples.
#[derive(Debug, Default)]
pub struct Timing {
    samples: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Timing {
    /// Begins operation `number`. Returns the clock's time in nanoseconds if it is to be timed.
    #[inline]
    pub(crate) fn begin(number: u64, clock: &Clock) -> Option<u64> {
        number.is_multiple_of(EVERY).then(|| clock.now())
    }

    /// Ends the operation, given what [`Timing::begin`] returned.
    #[inline]
    pub(crate) fn end(&self, began: Option<u64>, clock: &Clock) {
        if let Some(began) = began {
            let took = clock.now().saturating_sub(began);
            self.nanoseconds.fetch_add(took, Ordering::Relaxed);
            self.samples.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the mean duration in nanoseconds; 0 if none was timed.
    pub fn mean(&self) -> u64 {
        let samples = self.samples.load(Ordering::Relaxed).max(1);
        self.nanoseconds.load(Ordering::Relaxed) / samples
    }
}

/// A counter to which each thread adds in batches.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

/// Number of events that a thread counts before it adds them.
const BATCH: u32 = 64;

thread_local! {
    /// The events that this thread has not added yet. All counters of this operating-system process
    /// share it; there is usually one node in it.
    static COUNTED: Cell<u32> = const { Cell::new(0) };
}

impl Tally {
    /// Counts one event.
    #[inline]
    pub(crate) fn add(&self) {
        COUNTED.with(|counted| {
            let now = counted.get() + 1;
            if now < BATCH {
                counted.set(now);
            } else {
                counted.set(0);
                self.0.fetch_add(u64::from(now), Ordering::Relaxed);
            }
        });
    }

    /// Returns the count, without the events that threads have not added yet.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_so_many_is_timed() {
        let (timing, clock) = (Timing::default(), Clock::manual());
        for number in 0..2 * EVERY {
            let began = Timing::begin(number, &clock);
            clock.advance(1_000 + number);
            timing.end(began, &clock);
        }
        assert_eq!(timing.mean(), 1_000 + EVERY / 2);
    }

    #[test]
    fn a_tally_includes_all_complete_batches() {
        let tally = Tally::default();
        for _ in 0..10 * BATCH {
            tally.add();
        }
        assert_eq!(tally.get(), u64::from(10 * BATCH));
    }
}
