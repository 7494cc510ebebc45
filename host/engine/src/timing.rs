//! How long something takes that happens too often for its time to be taken
//! each time, and how often something happens that must not cost a shared
//! counter. For display: neither is exact at a given moment.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_process::Clock;

/// One time of so many is taken.
const EVERY: u64 = 64;

/// The mean time of what is seldom timed.
#[derive(Debug, Default)]
pub struct Timing {
    samples: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Timing {
    /// Begins number `number`, the clock's time if it is one that is timed.
    #[inline]
    pub(crate) fn begin(number: u64, clock: &Clock) -> Option<u64> {
        number.is_multiple_of(EVERY).then(|| clock.now())
    }

    /// Ends it.
    #[inline]
    pub(crate) fn end(&self, began: Option<u64>, clock: &Clock) {
        if let Some(began) = began {
            let took = clock.now().saturating_sub(began);
            self.nanoseconds.fetch_add(took, Ordering::Relaxed);
            self.samples.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nanoseconds that one takes on the average; 0 if none was timed.
    pub fn mean(&self) -> u64 {
        let samples = self.samples.load(Ordering::Relaxed).max(1);
        self.nanoseconds.load(Ordering::Relaxed) / samples
    }
}

/// A counter that each thread adds to when it has counted some.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

/// What a thread counts before it tells.
const BATCH: u32 = 64;

thread_local! {
    /// Of all nodes of this process of the operating system; there is mostly one.
    static COUNTED: Cell<u32> = const { Cell::new(0) };
}

impl Tally {
    /// Counts one.
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

    /// How many, less what threads have not told yet.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_timed() {
        let (timing, clock) = (Timing::default(), Clock::manual());
        for number in 0..2 * EVERY {
            let began = Timing::begin(number, &clock);
            clock.advance(1_000 + number);
            timing.end(began, &clock);
        }
        assert_eq!(timing.mean(), 1_000 + EVERY / 2);
    }

    #[test]
    fn a_thread_tells_what_it_has_counted() {
        let tally = Tally::default();
        for _ in 0..10 * BATCH {
            tally.add();
        }
        assert_eq!(tally.get(), u64::from(10 * BATCH));
    }
}
