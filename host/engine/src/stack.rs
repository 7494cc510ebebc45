//! On which stack a frame's guest runs.
//!
//! On a fiber it can be suspended anywhere, at a price: a fourth of what a
//! message costs, and a stack for each frame, cold when its turn comes. On the
//! stack of the scheduler's thread it costs nothing, and if it must wait after
//! all, another thread goes on as the scheduler (see `aside`), which is dear. So
//! a version runs on the threads' stacks once so many of its entries have
//! returned without waiting, until one waits.

use std::sync::atomic::{AtomicU32, Ordering};

/// On which stack a frame's guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// On a fiber's: host functions may be asynchronous.
    Fiber,
    /// On that of the thread which enters it.
    Thread,
}

impl Stack {
    /// Kernel mappings that a frame takes at most: the base's file in the middle
    /// of the memory, what is before and behind it, and the guard; on a fiber
    /// also the stack and its guard.
    pub(crate) const fn mappings(self) -> usize {
        match self {
            Stack::Thread => 4,
            Stack::Fiber => 6,
        }
    }
}

/// Entries of a version that have to return before its guests run on the
/// threads' stacks. A process in the style of a loop waits in its first.
const PROVEN: u32 = 64;
/// One has waited.
const WAITS: u32 = u32::MAX;

/// What a version's entries have done so far.
#[derive(Debug, Default)]
pub(crate) struct Manner(AtomicU32);

impl Manner {
    /// On which stack its guests are to run.
    #[inline]
    pub(crate) fn stack(&self) -> Stack {
        match self.0.load(Ordering::Relaxed) {
            PROVEN => Stack::Thread,
            _ => Stack::Fiber,
        }
    }

    /// An entry has returned.
    #[inline]
    pub(crate) fn returned(&self) {
        let entries = self.0.load(Ordering::Relaxed);
        if entries < PROVEN {
            // One that is not counted because another came between is no loss.
            let order = Ordering::Relaxed;
            let _ = (self.0).compare_exchange(entries, entries + 1, order, order);
        }
    }

    /// An entry waits in its middle, or its slice was over.
    pub(crate) fn waited(&self) {
        self.0.store(WAITS, Ordering::Relaxed);
    }

    /// What is known of the version before is taken to be true of this one.
    pub(crate) fn expect(&self, before: &Manner) {
        if before.stack() == Stack::Thread {
            let order = Ordering::Relaxed;
            let _ = self.0.compare_exchange(0, PROVEN, order, order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_must_prove_itself_and_may_fail_once() {
        let manner = Manner::default();
        for _ in 0..PROVEN {
            assert_eq!(manner.stack(), Stack::Fiber);
            manner.returned();
        }
        assert_eq!(manner.stack(), Stack::Thread);
        let next = Manner::default();
        next.expect(&manner);
        assert_eq!(next.stack(), Stack::Thread);
        manner.waited();
        for _ in 0..2 * PROVEN {
            manner.returned();
            assert_eq!(manner.stack(), Stack::Fiber);
        }
        // What was found out about it before is not forgotten.
        let other = Manner::default();
        other.waited();
        other.expect(&next);
        assert_eq!(other.stack(), Stack::Fiber);
    }
}
