//! The free frames of a version, by the size of their memory.

use std::collections::BTreeMap;

use super::slots::FrameLease;

/// Number of memory sizes whose list is kept even when it is empty: such sizes come and go.
const SIZES: usize = 8;
/// Frames that are at the base.
#[derive(Debug, Default)]
pub(super) struct Free {
    /// By their memory size in pages; those that were given back first come first.
    by_pages: BTreeMap<u32, Vec<FrameLease>>,
    pub(super) count: usize,
    /// The lowest count since the last `Pool::take_surplus`.
    pub(super) least: usize,
}

impl Free {
    pub(super) fn push(&mut self, lease: FrameLease) {
        let pages = lease.frame.pages();
        self.by_pages.entry(pages).or_default().push(lease);
        self.count += 1;
    }

    /// Takes a frame with this many pages; else one that must grow; else one that must shrink. To
    /// shrink a frame is expensive, but to make another one is more so.
    pub(super) fn pop(&mut self, pages: u32) -> Option<FrameLease> {
        let has = |pages| {
            self.by_pages
                .get(pages)
                .is_some_and(|some| !some.is_empty())
        };
        let pages = if has(&pages) {
            pages
        } else {
            let mut smaller = self.by_pages.range(..pages).rev();
            let mut larger = self.by_pages.range(pages..);
            let some = |(pages, frames): (&u32, &Vec<_>)| (!frames.is_empty()).then_some(*pages);
            smaller.find_map(some).or_else(|| larger.find_map(some))?
        };
        let frames = self.by_pages.get_mut(&pages)?;
        let lease = frames.pop()?;
        if frames.is_empty() && self.by_pages.len() > SIZES {
            self.by_pages.remove(&pages);
        }
        self.taken(1);
        Some(lease)
    }

    fn taken(&mut self, count: usize) {
        self.count -= count;
        self.least = self.least.min(self.count);
    }

    pub(super) fn take(&mut self) -> Vec<FrameLease> {
        let taken = std::mem::take(&mut self.by_pages);
        self.taken(self.count);
        taken.into_values().flatten().collect()
    }

    /// Takes up to `count` of the frames that have been free the longest, largest size first.
    pub(super) fn coldest(&mut self, count: usize) -> Vec<FrameLease> {
        let mut coldest = Vec::new();
        while coldest.len() < count
            && let Some(mut frames) = self.by_pages.last_entry()
        {
            let missing = count - coldest.len();
            let some = missing.min(frames.get().len());
            coldest.extend(frames.get_mut().drain(..some));
            if frames.get().is_empty() {
                frames.remove();
            }
        }
        self.taken(coldest.len());
        coldest
    }
}
