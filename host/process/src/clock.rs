//! The node's clock, so that a test can be its master.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the clock was made: the system's, or a test's own.
#[derive(Debug)]
pub struct Clock(Source);

#[derive(Debug)]
enum Source {
    System(Instant),
    Manual(AtomicU64),
}

impl Clock {
    /// The system's monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is what others are given")]
    pub fn system() -> Clock {
        Clock(Source::System(Instant::now()))
    }

    /// A clock that stands until it is advanced.
    pub fn manual() -> Clock {
        Clock(Source::Manual(AtomicU64::new(0)))
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }

    /// Nanoseconds since 1970-01-01 UTC; a manual clock begins there.
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

    /// Whether it stands until it is advanced.
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Moves a manual clock; the system's does not care.
    pub fn advance(&self, nanoseconds: u64) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(nanoseconds, Ordering::AcqRel);
        }
    }
}
