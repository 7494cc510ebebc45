//! The node's clock, which a test can control.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that counts nanoseconds since it was created: the system's, or a test's own.
#[derive(Debug)]
pub struct Clock(Source);

#[derive(Debug)]
enum Source {
    System(Instant),
    Manual(AtomicU64),
}

impl Clock {
    /// Returns a clock that follows the system's monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is what others are given")]
    pub fn system() -> Clock {
        Clock(Source::System(Instant::now()))
    }

    /// Returns a clock that stands still until it is advanced.
    pub fn manual() -> Clock {
        Clock(Source::Manual(AtomicU64::new(0)))
    }

    /// Returns the nanoseconds since the clock was created.
    #[inline]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }

    /// Returns the nanoseconds since 1970-01-01 UTC; a manual clock starts there.
    #[expect(clippy::disallowed_methods, reason = "this is what others are given")]
    pub fn realtime(&self) -> u64 {
        match &self.0 {
            Source::System(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| u64::try_from(since.as_nanos()).ok())
                .unwrap_or(0),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }

    /// Returns whether this is a manual clock.
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Advances a manual clock by so many nanoseconds; has no effect on the system's.
    pub fn advance(&self, nanoseconds: u64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(nanoseconds, Ordering::AcqRel);
        }
    }
}
