//! The frames of one version: those that are free, and the order in which the
//! processes in the others are paged out.
//!
//! Frames are dear to make and cold when they were not used for long, and many
//! processes handle one message and then sleep for hours. So a process that is
//! paged in takes the frame of another that was paged in lately and has not
//! been asked again (the *passing*): its memory and stack are still warm, and
//! those that are asked often stay where they are. A process that is asked
//! again soon is *staying*: soon means while it passes, or so few page-outs
//! later that it would be resident still if each had had a frame. It gets one
//! of its own as long as there is room, else the one that has been cold for
//! longest. Now and then one who stays is looked at though others pass, so that
//! nobody stays for having been busy once. This is the idea of S3-FIFO (Yang et
//! al., SOSP 2023): small queue, main queue, ghosts; the ghosts cost nothing
//! here, since an image can say when it was taken.
//!
//! Those who pass take turns in the frames of the last few who did. Who has
//! stayed and is not asked any more *waits* behind these, in a cold frame, until
//! one who stays wants it: to those who pass a warm frame is worth more.
//!
//! A place is in a list of its frame's version, once, or in none; so it is
//! listed and taken off under that version's lock. An entry of a place whose
//! frame is gone stays where it is until somebody meets it: what is done for one
//! frame must not depend on how many there are.
//!
//! A free frame has the size of the process that it served last, and is brought
//! to another's when that one gets it.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::places::{Place, Seated};

/// At one of so many page-outs of those who pass, one who stays is looked at.
const AGING: u32 = 16;
/// Sizes whose list is kept though it is empty: they come and go.
const SIZES: usize = 8;
/// Of the free frames that nobody has wanted for a while, one in so many goes at
/// a time; the sweeper asks every two seconds, so that half of them are gone after ten.
const UNWANTED: usize = 8;
/// At most so many: each gives its addresses back to the system, which
/// keeps others of the node from theirs meanwhile.
const MOST_UNWANTED: usize = 512;

/// The number of a page-out: never 0, so that a record has room for
/// one or none in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(NonZeroU32);

/// Which frame is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of those that others have just used.
    Warm,
    /// One that is missed least.
    Cold,
}

/// The frames of one version.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The version.
    pub(crate) artifact: u64,
    /// Frames that those who pass take turns in.
    warm: usize,
    /// Page-outs so far; it wraps.
    clock: AtomicU32,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    free: Free,
    /// Places of all frames of the version; each knows where it is here.
    all: Vec<u32>,
    /// Places of processes at rest that were asked once, in that order; before
    /// them those that have stayed.
    passing: VecDeque<Entry>,
    /// Places of processes at rest that are asked again and again.
    staying: VecDeque<Entry>,
    /// Entries of both that mean nothing any more, at most.
    stale: usize,
    /// Looks so far; it wraps.
    looks: u32,
    /// The version was unloaded: frames that come back are dropped.
    forgotten: bool,
}

/// A place in a list, and the how manieth listing of the place it is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u32,
    listing: u32,
}

/// Frames that stand at the base.
#[derive(Debug, Default)]
struct Free {
    /// By their pages; those that came back first are first.
    by_pages: BTreeMap<u32, Vec<Seated>>,
    count: usize,
    /// The fewest that there were since somebody looked.
    least: usize,
}

impl Free {
    fn push(&mut self, seated: Seated) {
        let pages = seated.frame.pages();
        self.by_pages.entry(pages).or_default().push(seated);
        self.count += 1;
    }

    /// One with so many pages, else one that grows to them, else one that is
    /// made smaller. That is dear, but another frame is dearer.
    fn pop(&mut self, pages: u32) -> Option<Seated> {
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
        let seated = frames.pop()?;
        if frames.is_empty() && self.by_pages.len() > SIZES {
            self.by_pages.remove(&pages);
        }
        self.taken(1);
        Some(seated)
    }

    fn taken(&mut self, count: usize) {
        self.count -= count;
        self.least = self.least.min(self.count);
    }

    fn take(&mut self) -> Vec<Seated> {
        let taken = std::mem::take(&mut self.by_pages);
        self.taken(self.count);
        taken.into_values().flatten().collect()
    }

    /// So many of those that have been here for longest, the largest first.
    fn coldest(&mut self, count: usize) -> Vec<Seated> {
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

impl Lists {
    /// Whether an entry still means its place, which is then in no list any more.
    fn delist(&mut self, artifact: u64, entry: Entry, places: &[Place]) -> bool {
        let place = &places[entry.number as usize];
        // Both are changed under this lock as long as the place is the version's;
        // of another's place the number of listings has gone on.
        let valid = place.artifact.load(Ordering::Relaxed) == artifact
            && place.listings.load(Ordering::Relaxed) == entry.listing
            && place.listed.load(Ordering::Relaxed);
        if valid {
            // SeqCst: before the claim that follows, so that either the claim finds the
            // process at rest or its runner finds it off the list.
            place.listed.store(false, Ordering::SeqCst);
        } else {
            self.stale = self.stale.saturating_sub(1);
        }
        valid
    }

    /// Forgets entries that mean nothing, when they are as many as the others.
    fn tidy(&mut self, artifact: u64, places: &[Place]) {
        if self.stale <= self.all.len() + 64 {
            return;
        }
        let valid = |entry: &Entry| {
            let place = &places[entry.number as usize];
            place.artifact.load(Ordering::Relaxed) == artifact
                && place.listings.load(Ordering::Relaxed) == entry.listing
                && place.listed.load(Ordering::Relaxed)
        };
        self.passing.retain(valid);
        self.staying.retain(valid);
        self.stale = 0;
    }
}

impl Pool {
    pub(crate) fn new(artifact: u64, warm: usize) -> Pool {
        Pool {
            artifact,
            warm,
            clock: AtomicU32::new(0),
            lists: Mutex::default(),
        }
    }

    /// A free frame, if possible with so many pages. If there is none: how many
    /// frames the version has.
    pub(crate) fn pop(&self, pages: u32) -> Result<Seated, usize> {
        let mut lists = self.lists.lock();
        let free = lists.free.pop(pages);
        free.ok_or(lists.all.len())
    }

    /// Any free frame.
    pub(crate) fn pop_any(&self) -> Option<Seated> {
        self.lists.lock().free.coldest(1).pop()
    }

    /// All free frames.
    pub(crate) fn take_free(&self) -> Vec<Seated> {
        self.lists.lock().free.take()
    }

    /// A part of the free frames that nobody has wanted since it was asked last,
    /// but for some while processes are in others; not all at once, since they may
    /// yet be wanted.
    pub(crate) fn take_unwanted(&self) -> Vec<Seated> {
        let mut lists = self.lists.lock();
        let Lists { free, all, .. } = &mut *lists;
        let kept = match all.len() > free.count {
            true => self.warm,
            false => 0,
        };
        let unwanted = free.least.saturating_sub(kept);
        let taken = free.coldest(unwanted.div_ceil(UNWANTED).min(MOST_UNWANTED));
        free.least = free.count;
        taken
    }

    /// Takes a free frame; drops it if the version is gone.
    pub(crate) fn push(&self, seated: Seated) {
        let mut lists = self.lists.lock();
        if lists.forgotten {
            // Its ticket takes the lock.
            drop(lists);
            drop(seated);
        } else {
            lists.free.push(seated);
        }
    }

    /// The version is unloaded: no frame comes back from now on, and nobody is
    /// paged out of one. Answers the free ones.
    pub(crate) fn forget(&self) -> Vec<Seated> {
        let mut lists = self.lists.lock();
        lists.forgotten = true;
        lists.passing = VecDeque::new();
        lists.staying = VecDeque::new();
        lists.stale = 0;
        lists.free.take()
    }

    /// Frames of the version.
    pub(crate) fn len(&self) -> usize {
        self.lists.lock().all.len()
    }

    /// Free ones among them.
    pub(crate) fn free(&self) -> usize {
        self.lists.lock().free.count
    }

    /// The places of all its frames.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.lists.lock().all.clone()
    }

    /// A frame of the version gets this place.
    pub(crate) fn joined(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        place.artifact.store(self.artifact, Ordering::Relaxed);
        place.at.store(lists.all.len(), Ordering::Relaxed);
        lists.all.push(number);
    }

    /// Its frame is dropped. Whoever gets the place next may be of another
    /// version, and must not be found here.
    pub(crate) fn left(&self, number: u32, places: &[Place]) {
        let place = &places[number as usize];
        let mut lists = self.lists.lock();
        place.artifact.store(0, Ordering::Relaxed);
        let at = place.at.load(Ordering::Relaxed);
        debug_assert_eq!(
            lists.all.get(at),
            Some(&number),
            "a place knows where it is"
        );
        lists.all.swap_remove(at);
        if let Some(moved) = lists.all.get(at) {
            places[*moved as usize].at.store(at, Ordering::Relaxed);
        }
        if place.listed.swap(false, Ordering::AcqRel) {
            lists.stale += 1;
            lists.tidy(self.artifact, places);
        }
    }

    /// A process at rest may be paged out of this place, if the place is still
    /// the version's.
    pub(crate) fn list(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        let Some(entry) = self.entry(&lists, number, place) else {
            return;
        };
        if place.stays.load(Ordering::Relaxed) {
            lists.staying.push_back(entry);
        } else {
            lists.passing.push_back(entry);
        }
    }

    /// One who has stayed waits, claimed by the caller, if the place is still
    /// the version's.
    pub(crate) fn park(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        if let Some(entry) = self.entry(&lists, number, place) {
            place.stays.store(false, Ordering::Relaxed);
            let waiting = lists.passing.len().saturating_sub(self.warm);
            lists.passing.insert(waiting, entry);
        }
    }

    /// An entry for a place of the version that is in no list yet.
    fn entry(&self, lists: &Lists, number: u32, place: &Place) -> Option<Entry> {
        if lists.forgotten
            || place.artifact.load(Ordering::Relaxed) != self.artifact
            || place.listed.swap(true, Ordering::AcqRel)
        {
            return None;
        }
        let listing = place.listings.fetch_add(1, Ordering::Relaxed);
        let listing = listing.wrapping_add(1);
        Some(Entry { number, listing })
    }

    /// Whose frame goes next, and how many are listed with it.
    pub(crate) fn next(&self, wanted: Wanted, places: &[Place]) -> Option<(u32, usize)> {
        let mut lists = self.lists.lock();
        let listed = lists.passing.len() + lists.staying.len();
        loop {
            let Lists {
                passing, staying, ..
            } = &mut *lists;
            let waiting = passing.len().saturating_sub(self.warm);
            let entry = match wanted {
                Wanted::Warm => passing.remove(waiting).or_else(|| staying.pop_front()),
                Wanted::Cold if waiting > 0 => passing.pop_front(),
                Wanted::Cold => staying.pop_front().or_else(|| passing.pop_front()),
            }?;
            if lists.delist(self.artifact, entry, places) {
                return Some((entry.number, listed));
            }
        }
    }

    /// Who is to be looked at, now and then: the one that has stayed for longest.
    pub(crate) fn oldest(&self, places: &[Place]) -> Option<u32> {
        let mut lists = self.lists.lock();
        lists.looks = lists.looks.wrapping_add(1);
        if !lists.looks.is_multiple_of(AGING) {
            return None;
        }
        loop {
            let entry = lists.staying.pop_front()?;
            if lists.delist(self.artifact, entry, places) {
                return Some(entry.number);
            }
        }
    }

    /// The number of a page-out that happens now.
    pub(crate) fn stamp(&self) -> Stamp {
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        // The one of all numbers that is not told from its neighbour.
        Stamp(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    /// Entries of both lists, those that mean nothing too.
    #[cfg(test)]
    pub(crate) fn listed(&self) -> usize {
        let lists = self.lists.lock();
        lists.passing.len() + lists.staying.len()
    }

    /// Whether a process that was paged out at `stamp` would still be here if
    /// there were `frames` for the version.
    pub(crate) fn soon(&self, stamp: Stamp, frames: usize) -> bool {
        let clock = self.clock.load(Ordering::Relaxed);
        let since = clock.wrapping_sub(stamp.0.get());
        (since as usize) < frames
    }
}
