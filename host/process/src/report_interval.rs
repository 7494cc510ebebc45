//! Keeps a report that may repeat without end to one in thirty seconds.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

/// When a report may be made again. Whoever logs a lasting state asks before each line.
#[derive(Debug, Default)]
pub struct ReportInterval {
    /// By the clock that the callers pass, in nanoseconds.
    next: AtomicU64,
}

impl ReportInterval {
    /// The minimum time between two reports, in nanoseconds.
    pub const NANOSECONDS: u64 = 30_000_000_000;

    /// Returns whether a report may be made now. If so, it counts as made.
    pub fn admits(&self, clock: &Clock) -> bool {
        let now = clock.now();
        let next = self.next.load(Ordering::Relaxed);
        let then = now.saturating_add(Self::NANOSECONDS);
        // Of threads that ask at the same time, one gets it.
        now >= next
            && (self.next)
                .compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::ReportInterval;
    use crate::clock::Clock;

    #[test]
    fn the_first_report_is_made_at_once_and_the_next_after_the_interval() {
        let (interval, clock) = (ReportInterval::default(), Clock::manual());
        assert!(interval.admits(&clock) && !interval.admits(&clock));
        clock.advance(ReportInterval::NANOSECONDS - 1);
        assert!(!interval.admits(&clock));
        clock.advance(1);
        assert!(interval.admits(&clock) && !interval.admits(&clock));
    }
}
