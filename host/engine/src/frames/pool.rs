//! The frames of one version: those that are free, and the order in which the processes in the
//! others are paged out.
//!
//! A frame is expensive to make, and its memory is cold when it has not been used for a while. Many
//! processes handle one message and then sleep for hours. So a process that is paged in takes the
//! frame of another one that was paged in recently and has not been used again (the *small queue*):
//! the frame's memory and stack are still warm, and processes that are used often stay where they
//! are. A process that is used again soon belongs to the *main queue*. Soon means while it is in
//! the small queue, or so few page-outs later that it would still be resident if each of these
//! processes had a frame of its own (a *ghost hit*). It gets a frame of its own while there is
//! capacity, else the frame that has been cold for the longest time. Periodically, while others
//! pass through the small queue, the oldest entry of the main queue is examined too, so that no
//! process stays only because it was busy once. This is S3-FIFO (Yang et al., SOSP 2023): small
//! queue, main queue, ghosts. The ghosts cost nothing here, since an image records when it was
//! paged out.
//!
//! The last few entries of the small queue are warm: the processes that pass through it take turns
//! in these frames. A process that leaves the main queue because it was not used again is inserted
//! in front of them, in a cold frame. That frame goes to the next process that needs one of its
//! own, since a process that passes through is better off with a warm one.
//!
//! A slot is listed in at most one queue, once, of the pool of its frame's version. So it is listed
//! and delisted under that pool's lock. The entry of a slot whose frame is gone stays in the queue
//! until it is reached: the cost of dropping one frame must not depend on how many there are.
//!
//! A free frame has the memory size of the process that it served last, and is resized when another
//! process gets it.
//!
//! Lock order: under a pool's lock no other lock is taken. In particular no lease is dropped there,
//! since its reservation takes that lock.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::frames::free::Free;
use crate::frames::slots::{FrameLease, FrameSlot};
use crate::guest::Stamp;
use crate::instance::factory::Factory;

/// One in this many evictions from the small queue also examines an entry of the main queue.
const AGING: u32 = 16;
/// One in this many of the surplus free frames is dropped at a time. The background upgrader asks
/// every two seconds, so half of them are gone after ten.
const TRIM_SHARE: usize = 8;
/// Maximum number of frames dropped at a time. Each one returns its addresses to the system, whose
/// lock on the mappings meanwhile blocks other threads of the node that need it.
const TRIM_LIMIT: usize = 512;

/// Which frame to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvictFrom {
    /// A warm one, which another process has just used.
    SmallQueue,
    /// The one that is needed least.
    Coldest,
}

/// The frames of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The id of the version's artifact.
    pub(crate) artifact: u64,
    /// The number of frames of all versions of the module.
    module_frames: Arc<AtomicUsize>,
    /// Number of warm frames at the end of the small queue.
    warm: usize,
    /// Number of page-outs so far; it wraps.
    clock: AtomicU32,
    lists: Mutex<Lists>,
    /// The version was unloaded: frames that are given back are dropped. Set under the lock of the lists.
    forgotten: AtomicBool,
}

#[derive(Debug, Default)]
struct Lists {
    /// What frames are made with: the version's code, linked. It is there once the version was
    /// prepared or has a frame, until the version is unloaded.
    factory: Option<Arc<Factory>>,
    free: Free,
    /// Slots of all frames of the version; each slot knows its index here.
    all: Vec<u32>,
    /// Slots of processes at rest that were used once, in the order of use; before them (at the
    /// front) those demoted from the main queue.
    small_queue: VecDeque<Entry>,
    /// Slots of processes at rest that are used again and again.
    main_queue: VecDeque<Entry>,
    /// Upper bound on the stale entries of both queues.
    stale: usize,
    /// Number of aging checks so far; it wraps.
    aging_checks: u32,
}

/// A listed slot, with the number that this listing of the slot has.
#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u32,
    listing: u32,
}

impl Lists {
    /// Returns whether an entry is still valid. If it is, the slot is in no queue any more.
    fn delist(&mut self, artifact: u64, entry: Entry, slots: &[FrameSlot]) -> bool {
        let slot = &slots[entry.number as usize];
        // Both are changed under this lock as long as the slot is the version's. If the slot has
        // been listed for another version since, its listing number has advanced.
        let valid = slot.artifact.load(Ordering::Relaxed) == artifact
            && slot.listings.load(Ordering::Relaxed) == entry.listing
            && slot.listed.load(Ordering::Relaxed);
        if valid {
            // SeqCst: before the claim that follows, so that either the claim finds the
            // process at rest, or the thread that runs it finds the slot delisted.
            slot.listed.store(false, Ordering::SeqCst);
        } else {
            self.stale = self.stale.saturating_sub(1);
        }
        valid
    }

    /// Removes the stale entries when there are about as many as frames.
    fn tidy(&mut self, artifact: u64, slots: &[FrameSlot]) {
        if self.stale <= self.all.len() + 64 {
            return;
        }
        let valid = |entry: &Entry| {
            let slot = &slots[entry.number as usize];
            slot.artifact.load(Ordering::Relaxed) == artifact
                && slot.listings.load(Ordering::Relaxed) == entry.listing
                && slot.listed.load(Ordering::Relaxed)
        };
        self.small_queue.retain(valid);
        self.main_queue.retain(valid);
        self.stale = 0;
    }
}

impl Pool {
    pub(crate) fn new(artifact: u64, module_frames: Arc<AtomicUsize>, warm: usize) -> Pool {
        Pool {
            artifact,
            module_frames,
            warm,
            clock: AtomicU32::new(0),
            lists: Mutex::default(),
            forgotten: AtomicBool::new(false),
        }
    }

    /// Returns whether the version was unloaded.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Returns what its frames are made with; `link` makes it if it is not there yet.
    pub(crate) fn factory(
        &self,
        link: impl FnOnce() -> wasmtime::Result<Factory>,
    ) -> wasmtime::Result<Arc<Factory>> {
        if let Some(factory) = &self.lists.lock().factory {
            return Ok(factory.clone());
        }
        let made = Arc::new(link()?);
        let mut lists = self.lists.lock();
        if self.is_forgotten() {
            return Ok(made);
        }
        Ok(lists.factory.get_or_insert(made).clone())
    }

    /// Returns whether the version's code is linked.
    #[cfg(test)]
    pub(crate) fn is_linked(&self) -> bool {
        self.lists.lock().factory.is_some()
    }

    /// Takes a free frame, if possible one with this many pages. If there is none, returns the
    /// number of frames that the version has.
    pub(crate) fn pop(&self, pages: u32) -> Result<FrameLease, usize> {
        let mut lists = self.lists.lock();
        let free = lists.free.pop(pages);
        free.ok_or(lists.all.len())
    }

    /// Takes any free frame, one of the largest first.
    pub(crate) fn pop_any(&self) -> Option<FrameLease> {
        self.lists.lock().free.coldest(1).pop()
    }

    /// Takes all free frames.
    pub(crate) fn take_free(&self) -> Vec<FrameLease> {
        self.lists.lock().free.take()
    }

    /// Takes a share of the free frames that were not needed since the last call. Keeps some while
    /// processes are in other frames, and does not take all at once: they may still be needed.
    pub(crate) fn take_surplus(&self) -> Vec<FrameLease> {
        let mut lists = self.lists.lock();
        let Lists { free, all, .. } = &mut *lists;
        let kept = match all.len() > free.count {
            true => self.warm,
            false => 0,
        };
        let unwanted = free.least.saturating_sub(kept);
        let taken = free.coldest(unwanted.div_ceil(TRIM_SHARE).min(TRIM_LIMIT));
        free.least = free.count;
        taken
    }

    /// Gives back a free frame; drops it if the version was unloaded.
    pub(crate) fn push(&self, lease: FrameLease) {
        let mut lists = self.lists.lock();
        if self.is_forgotten() {
            // Dropping its reservation takes the lock.
            drop(lists);
            drop(lease);
        } else {
            lists.free.push(lease);
        }
    }

    /// Returns the free frames of a version that is unloaded, and drops its code. From now on no
    /// frame is given back, and no process is paged out of one.
    pub(crate) fn forget(&self) -> Vec<FrameLease> {
        let mut lists = self.lists.lock();
        self.forgotten.store(true, Ordering::Relaxed);
        lists.small_queue = VecDeque::new();
        lists.main_queue = VecDeque::new();
        lists.stale = 0;
        let (factory, free) = (lists.factory.take(), lists.free.take());
        // It may be the last user of the code, whose mappings are then removed.
        drop(lists);
        drop(factory);
        free
    }

    /// Returns the number of frames of the version.
    pub(crate) fn len(&self) -> usize {
        self.lists.lock().all.len()
    }

    /// Returns the number of frames of all versions of its module.
    pub(crate) fn len_of_module(&self) -> usize {
        self.module_frames.load(Ordering::Relaxed)
    }

    /// Returns whether the other pool is that of another version of the module.
    pub(crate) fn is_of_module(&self, other: &Pool) -> bool {
        self.artifact != other.artifact && Arc::ptr_eq(&self.module_frames, &other.module_frames)
    }

    /// Returns how many of them are free.
    pub(crate) fn free(&self) -> usize {
        self.lists.lock().free.count
    }

    /// Returns the slots of all its frames.
    pub(crate) fn slots(&self) -> Vec<u32> {
        self.lists.lock().all.clone()
    }

    /// Adds a slot that gets a frame of the version.
    pub(crate) fn joined(&self, number: u32, slot: &FrameSlot) {
        let mut lists = self.lists.lock();
        slot.artifact.store(self.artifact, Ordering::Relaxed);
        slot.at.store(lists.all.len(), Ordering::Relaxed);
        lists.all.push(number);
        self.module_frames.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a slot whose frame is dropped. The slot's next frame may be of another version, and
    /// must not be found here.
    pub(crate) fn left(&self, number: u32, slots: &[FrameSlot]) {
        let slot = &slots[number as usize];
        let mut lists = self.lists.lock();
        slot.artifact.store(0, Ordering::Relaxed);
        let at = slot.at.load(Ordering::Relaxed);
        debug_assert_eq!(lists.all.get(at), Some(&number), "a slot knows its index");
        lists.all.swap_remove(at);
        self.module_frames.fetch_sub(1, Ordering::Relaxed);
        if let Some(moved) = lists.all.get(at) {
            slots[*moved as usize].at.store(at, Ordering::Relaxed);
        }
        if slot.listed.swap(false, Ordering::AcqRel) {
            lists.stale += 1;
            lists.tidy(self.artifact, slots);
        }
    }

    /// Lists the slot of a process at rest, which may then be paged out, if the slot is still the
    /// version's.
    pub(crate) fn list(&self, number: u32, slot: &FrameSlot) {
        let mut lists = self.lists.lock();
        let Some(entry) = self.entry(&lists, number, slot) else {
            return;
        };
        if slot.in_main_queue.load(Ordering::Relaxed) {
            lists.main_queue.push_back(entry);
        } else {
            lists.small_queue.push_back(entry);
        }
    }

    /// Moves a slot from the main queue to the small queue, in front of the warm entries, if it is
    /// still the version's. The caller has claimed the process.
    pub(crate) fn demote(&self, number: u32, slot: &FrameSlot) {
        let mut lists = self.lists.lock();
        if let Some(entry) = self.entry(&lists, number, slot) {
            slot.in_main_queue.store(false, Ordering::Relaxed);
            let waiting = lists.small_queue.len().saturating_sub(self.warm);
            lists.small_queue.insert(waiting, entry);
        }
    }

    /// Makes an entry for a slot. Returns `None` if the slot is listed already or is not the
    /// version's.
    fn entry(&self, _: &Lists, number: u32, slot: &FrameSlot) -> Option<Entry> {
        if self.is_forgotten()
            || slot.artifact.load(Ordering::Relaxed) != self.artifact
            || slot.listed.swap(true, Ordering::AcqRel)
        {
            return None;
        }
        let listing = slot.listings.fetch_add(1, Ordering::Relaxed);
        let listing = listing.wrapping_add(1);
        Some(Entry { number, listing })
    }

    /// Returns the slot to evict next, and how many slots are listed with it.
    pub(crate) fn next(&self, wanted: EvictFrom, slots: &[FrameSlot]) -> Option<(u32, usize)> {
        let mut lists = self.lists.lock();
        let listed = lists.small_queue.len() + lists.main_queue.len();
        loop {
            let Lists {
                small_queue,
                main_queue,
                ..
            } = &mut *lists;
            let waiting = small_queue.len().saturating_sub(self.warm);
            let entry = match wanted {
                EvictFrom::SmallQueue => small_queue
                    .remove(waiting)
                    .or_else(|| main_queue.pop_front()),
                EvictFrom::Coldest if waiting > 0 => small_queue.pop_front(),
                EvictFrom::Coldest => main_queue.pop_front().or_else(|| small_queue.pop_front()),
            }?;
            if lists.delist(self.artifact, entry, slots) {
                return Some((entry.number, listed));
            }
        }
    }

    /// Periodically returns the slot that has been in the main queue for longest, to be examined.
    pub(crate) fn next_aging_candidate(&self, slots: &[FrameSlot]) -> Option<u32> {
        let mut lists = self.lists.lock();
        lists.aging_checks = lists.aging_checks.wrapping_add(1);
        if !lists.aging_checks.is_multiple_of(AGING) {
            return None;
        }
        loop {
            let entry = lists.main_queue.pop_front()?;
            if lists.delist(self.artifact, entry, slots) {
                return Some(entry.number);
            }
        }
    }

    /// Returns the number of a page-out that happens now.
    pub(crate) fn stamp(&self) -> Stamp {
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        // 0 shares its number with its neighbour.
        Stamp(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    /// Returns the number of entries in both queues, including stale ones.
    #[cfg(test)]
    pub(crate) fn listed(&self) -> usize {
        let lists = self.lists.lock();
        lists.small_queue.len() + lists.main_queue.len()
    }

    /// Returns whether a process that was paged out at `stamp` would still be resident if the
    /// version had `frames` frames.
    pub(crate) fn ghost_hit(&self, stamp: Stamp, frames: usize) -> bool {
        let clock = self.clock.load(Ordering::Relaxed);
        let since = clock.wrapping_sub(stamp.0.get());
        (since as usize) < frames
    }
}
