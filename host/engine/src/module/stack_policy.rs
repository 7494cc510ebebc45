//! On which kind of stack a frame's guest runs.
//!
//! On a fiber it can be suspended anywhere. The price is a fourth of the cost of a message, and a
//! stack for each frame, cold when its turn comes. On the stack of the scheduler's thread it costs
//! nothing extra; but if the guest must wait after all, the thread blocks in place and another one
//! continues as the scheduler (see `blocked`), which is expensive. So a version runs on the
//! threads' stacks once [`PROVEN`] of its entries have returned without waiting, and until one
//! waits.

use std::sync::atomic::{AtomicU32, Ordering};

/// The kind of stack that a frame's guest runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// The stack of a fiber: host functions may be asynchronous.
    Fiber,
    /// The stack of the thread that enters the guest.
    Thread,
}

/// Number of entries of a version that must return before its guests run on the threads' stacks. A
/// process in the style of a loop waits in its first entry.
const PROVEN: u32 = 64;
/// The state after an entry has waited.
const WAITS: u32 = u32::MAX;

/// What a version's entries have done so far: their number, [`PROVEN`] or [`WAITS`].
#[derive(Debug, Default)]
pub(crate) struct StackPolicy(AtomicU32);

impl StackPolicy {
    /// Returns the kind of stack on which the version's guests are to run.
    #[inline]
    pub(crate) fn stack(&self) -> Stack {
        match self.0.load(Ordering::Relaxed) {
            PROVEN => Stack::Thread,
            _ => Stack::Fiber,
        }
    }

    /// Records that an entry has returned.
    #[inline]
    pub(crate) fn returned(&self) {
        let entries = self.0.load(Ordering::Relaxed);
        if entries < PROVEN {
            // If another thread has counted in between, this one is not counted: no loss.
            let order = Ordering::Relaxed;
            let _ = (self.0).compare_exchange(entries, entries + 1, order, order);
        }
    }

    /// Records that an entry was suspended, because it waits or its slice was used up.
    pub(crate) fn waited(&self) {
        // Every turn reads it: a store would take its cache line from the other schedulers.
        if self.0.load(Ordering::Relaxed) != WAITS {
            self.0.store(WAITS, Ordering::Relaxed);
        }
    }

    /// Takes over what is known of the previous version, unless something is known of this one.
    pub(crate) fn expect(&self, before: &StackPolicy) {
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
    fn a_version_earns_the_threads_stack_by_returning_and_loses_it_by_waiting() {
        let policy = StackPolicy::default();
        for _ in 0..PROVEN {
            assert_eq!(policy.stack(), Stack::Fiber);
            policy.returned();
        }
        assert_eq!(policy.stack(), Stack::Thread);
        let next = StackPolicy::default();
        next.expect(&policy);
        assert_eq!(next.stack(), Stack::Thread);
        policy.waited();
        for _ in 0..2 * PROVEN {
            policy.returned();
            assert_eq!(policy.stack(), Stack::Fiber);
        }
        // What is known of a version takes precedence over its predecessor.
        let other = StackPolicy::default();
        other.waited();
        other.expect(&next);
        assert_eq!(other.stack(), Stack::Fiber);
    }
}
