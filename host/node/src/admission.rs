//! Decides whether the machine has memory for one more process. Asked when a guest's spawn would
//! make the process table larger than it ever was, so that a guest that spawns without end gets
//! `LIMIT`, before the system's OOM killer acts.
//!
//! Deliberately absent: a bound on what running processes take (`limits`, `frames` have that).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use exuvia_process::{Clock, ReportInterval};

use crate::host_memory;

/// How long a decision holds, in nanoseconds: a check costs some microseconds, and at a million
/// spawns per second a node grows by 20 MB meanwhile.
const CHECK_INTERVAL: u64 = 50_000_000;

pub(crate) struct Admission {
    /// The system's clock, not the node's, which may stand still.
    clock: Clock,
    /// Bytes of memory that the node may take.
    memory: u64,
    next_check: AtomicU64,
    warnings: ReportInterval,
    admits: AtomicBool,
}

impl Admission {
    pub(crate) fn new(memory: u64) -> Admission {
        Admission {
            clock: Clock::system(),
            memory,
            next_check: AtomicU64::new(0),
            warnings: ReportInterval::default(),
            admits: AtomicBool::new(true),
        }
    }

    /// Returns whether one more process may start. Called under the lock of the process table's
    /// pool, so by one thread at a time.
    pub(crate) fn admits(&self) -> bool {
        let now = self.clock.now();
        if now < self.next_check.load(Ordering::Relaxed) {
            return self.admits.load(Ordering::Relaxed);
        }
        self.next_check
            .store(now + CHECK_INTERVAL, Ordering::Relaxed);
        let short = host_memory::shortage(self.memory);
        self.admits.store(short.is_none(), Ordering::Relaxed);
        if let Some(why) = &short
            && self.warnings.admits(&self.clock)
        {
            tracing::warn!("guests start no more processes for now: {why}");
        }
        short.is_none()
    }
}
