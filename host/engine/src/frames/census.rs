//! How many frames there are, and which modules may have more of the last ones.
//!
//! A process in the middle of a handler keeps its frame, and a handler that never returns
//! keeps it for ever. So that the processes of one module cannot take all frames of a node
//! in this way, the last ones are reserved for modules that have few. All versions of a module
//! count together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use exuvia_image::Memories;

use crate::frames::mappings;
use crate::frames::pool::Pool;

/// One in so many frames is reserved for modules that have few.
const LAST_SHARE: usize = 8;
/// A module has many if it has more than one in so many of the live frames.
const MANY_SHARE: usize = 4;

/// The live frames, and the limits on them. Relaxed: a limit that is missed by one frame
/// for a moment does no harm. A process that waits because of a limit is called when there is a frame
/// less: fences order that (see `waiters`).
#[derive(Debug)]
pub(crate) struct Census {
    /// Live frames.
    pub(crate) live: AtomicUsize,
    /// Kernel mappings of the live frames, without what memories have taken by growing out of the
    /// arena.
    pub(crate) mappings: AtomicUsize,
    /// The memories of the frames.
    memories: OnceLock<Arc<Memories>>,
    most_live: usize,
    most_mappings: usize,
}

impl Census {
    pub(crate) fn new(most_live: usize, most_mappings: usize) -> Census {
        Census {
            live: AtomicUsize::new(0),
            mappings: AtomicUsize::new(0),
            memories: OnceLock::new(),
            most_live,
            most_mappings,
        }
    }

    /// Sets the memories that frames have.
    pub(crate) fn set_memories(&self, memories: &Arc<Memories>) {
        self.memories.get_or_init(|| memories.clone());
    }

    /// Returns the maximum number of kernel mappings of the live frames.
    pub(crate) fn mappings(&self) -> usize {
        let moved_out = (self.memories.get()).map_or(0, |memories| memories.moved_out());
        self.mappings.load(Ordering::Relaxed) + mappings::MOVED_OUT * moved_out
    }

    /// Returns whether only the reserved frames are left and the module has many: then
    /// it gets no more than it has.
    pub(crate) fn denies(&self, pool: &Pool) -> bool {
        self.are_last(0) && self.has_many(pool)
    }

    /// Returns whether the module would not be denied a frame if one of another module
    /// were dropped.
    pub(crate) fn may_replace(&self, pool: &Pool) -> bool {
        !self.are_last(1) || !self.has_many(pool)
    }

    /// Returns whether only the reserved frames are left once so many frames are dropped.
    fn are_last(&self, dropped: usize) -> bool {
        let live = self.live.load(Ordering::Relaxed).saturating_sub(dropped);
        let freed = dropped * mappings::SHARED;
        let mappings = self.mappings().saturating_sub(freed);
        let are_last = |used: usize, most: usize| used >= most - (most / LAST_SHARE).max(1);
        are_last(live, self.most_live) || are_last(mappings, self.most_mappings)
    }

    fn has_many(&self, pool: &Pool) -> bool {
        pool.len_of_module() * MANY_SHARE > self.live.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn all_versions_of_a_module_have_one_share_of_the_last_frames() {
        let census = Census::new(16, 1_000);
        let frames = Arc::new(AtomicUsize::new(3));
        let [old, new] = [1, 2].map(|id| Pool::new(id, frames.clone(), 4));
        let other = Pool::new(3, Arc::new(AtomicUsize::new(3)), 4);
        assert!(old.is_of_module(&new) && !old.is_of_module(&old) && !old.is_of_module(&other));
        census.live.store(14, Ordering::Relaxed);
        for pool in [&old, &new, &other] {
            assert!(!census.denies(pool));
        }
        frames.store(4, Ordering::Relaxed);
        assert!(census.denies(&old) && census.denies(&new) && !census.denies(&other));
        census.live.store(13, Ordering::Relaxed);
        assert!(!census.denies(&old));
    }
}
