//! Whether the machine has memory for one more process. Asked when a guest's birth
//! would make the processes more than they ever were, so that a guest that spawns
//! without end meets `LIMIT` and not the system's last resort.
//!
//! Deliberately absent: a bound on what living processes take (`limits`, `frames`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use exuvia_process::Clock;

use crate::machine;

/// How long an answer holds, nanoseconds: a look costs some microseconds, and at a
/// million births a second a node grows by 20 MB meanwhile.
const LOOKED_EVERY: u64 = 50_000_000;
/// How often it is told at most, nanoseconds.
const TOLD_EVERY: u64 = 30_000_000_000;

pub(crate) struct Admission {
    /// Not the node's, which may stand still.
    clock: Clock,
    /// Bytes that the node can have.
    memory: u64,
    next_look: AtomicU64,
    next_word: AtomicU64,
    admits: AtomicBool,
}

impl Admission {
    pub(crate) fn new(memory: u64) -> Admission {
        Admission {
            clock: Clock::system(),
            memory,
            next_look: AtomicU64::new(0),
            next_word: AtomicU64::new(0),
            admits: AtomicBool::new(true),
        }
    }

    /// Whether one more may be born. Called under the lock of the process table's
    /// pool, so by one thread at a time.
    pub(crate) fn admits(&self) -> bool {
        let now = self.clock.now();
        if now < self.next_look.load(Ordering::Relaxed) {
            return self.admits.load(Ordering::Relaxed);
        }
        self.next_look.store(now + LOOKED_EVERY, Ordering::Relaxed);
        let short = machine::shortage(self.memory);
        self.admits.store(short.is_none(), Ordering::Relaxed);
        if let Some(why) = &short
            && now >= self.next_word.load(Ordering::Relaxed)
        {
            self.next_word.store(now + TOLD_EVERY, Ordering::Relaxed);
            tracing::warn!("guests start no more processes for now: {why}");
        }
        short.is_none()
    }
}
