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
//! listed and taken off under that version's lock.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::places::{Place, Seated};

/// At one of so many page-outs of those who pass, one who stays is looked at.
const AGING: u32 = 16;

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

/// SeqCst: before the claim that follows, so that either the claim finds the
/// process at rest or its runner finds it off the list.
fn delist(number: u32, places: &[Place]) {
    places[number as usize]
        .listed
        .store(false, Ordering::SeqCst);
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
    /// Frames that stand at the base. Nearly always all have one size, so the
    /// last one mostly fits.
    free: Vec<Seated>,
    /// Places of all frames of the version.
    all: Vec<u32>,
    /// Places of processes at rest that were asked once, in that order; before
    /// them those that have stayed.
    passing: VecDeque<u32>,
    /// Places of processes at rest that are asked again and again.
    staying: VecDeque<u32>,
    /// Looks so far; it wraps.
    looks: u32,
    /// The version was unloaded: frames that come back are dropped.
    forgotten: bool,
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

    /// A free frame with so many pages, or with fewer: it can be grown. If there
    /// is none: how many frames the version has.
    pub(crate) fn pop(&self, pages: u32) -> Result<Seated, usize> {
        let mut lists = self.lists.lock();
        let free = &mut lists.free;
        let exact = free
            .iter()
            .rposition(|seated| seated.frame.pages() == pages);
        let at = exact.or_else(|| free.iter().rposition(|seated| seated.frame.pages() < pages));
        match at {
            Some(at) => Ok(free.swap_remove(at)),
            None => Err(lists.all.len()),
        }
    }

    /// Any free frame.
    pub(crate) fn pop_any(&self) -> Option<Seated> {
        self.lists.lock().free.pop()
    }

    /// All free frames.
    pub(crate) fn take_free(&self) -> Vec<Seated> {
        std::mem::take(&mut self.lists.lock().free)
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

    /// Drops the free frames; none comes back from now on.
    pub(crate) fn empty(&self) {
        self.lists.lock().forgotten = true;
        while self.pop_any().is_some() {}
    }

    /// Frames of the version.
    pub(crate) fn len(&self) -> usize {
        self.lists.lock().all.len()
    }

    /// Free ones among them.
    pub(crate) fn free(&self) -> usize {
        self.lists.lock().free.len()
    }

    /// The places of all its frames.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.lists.lock().all.clone()
    }

    /// A frame of the version gets this place.
    pub(crate) fn joined(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        place.artifact.store(self.artifact, Ordering::Relaxed);
        lists.all.push(number);
    }

    /// Its frame is dropped. Whoever gets the place next may be of another
    /// version, and must not be found here.
    pub(crate) fn left(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        place.artifact.store(0, Ordering::Relaxed);
        if let Some(at) = lists.all.iter().position(|other| *other == number) {
            lists.all.swap_remove(at);
        }
        if place.listed.swap(false, Ordering::AcqRel) {
            lists.passing.retain(|other| *other != number);
            lists.staying.retain(|other| *other != number);
        }
    }

    /// A process at rest may be paged out of this place, if the place is still
    /// the version's.
    pub(crate) fn list(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        if place.artifact.load(Ordering::Relaxed) != self.artifact
            || place.listed.swap(true, Ordering::AcqRel)
        {
            return;
        }
        if place.stays.load(Ordering::Relaxed) {
            lists.staying.push_back(number);
        } else {
            lists.passing.push_back(number);
        }
    }

    /// One who has stayed waits, claimed by the caller, if the place is still
    /// the version's.
    pub(crate) fn park(&self, number: u32, place: &Place) {
        let mut lists = self.lists.lock();
        if place.artifact.load(Ordering::Relaxed) == self.artifact
            && !place.listed.swap(true, Ordering::AcqRel)
        {
            place.stays.store(false, Ordering::Relaxed);
            let waiting = lists.passing.len().saturating_sub(self.warm);
            lists.passing.insert(waiting, number);
        }
    }

    /// Whose frame goes next, and how many are listed with it.
    pub(crate) fn next(&self, wanted: Wanted, places: &[Place]) -> Option<(u32, usize)> {
        let mut lists = self.lists.lock();
        let Lists {
            passing, staying, ..
        } = &mut *lists;
        let listed = passing.len() + staying.len();
        let waiting = passing.len().saturating_sub(self.warm);
        let number = match wanted {
            Wanted::Warm => passing.remove(waiting).or_else(|| staying.pop_front()),
            Wanted::Cold if waiting > 0 => passing.pop_front(),
            Wanted::Cold => staying.pop_front().or_else(|| passing.pop_front()),
        }?;
        delist(number, places);
        Some((number, listed))
    }

    /// Who is to be looked at, now and then: the one that has stayed for longest.
    pub(crate) fn oldest(&self, places: &[Place]) -> Option<u32> {
        let mut lists = self.lists.lock();
        lists.looks = lists.looks.wrapping_add(1);
        if !lists.looks.is_multiple_of(AGING) {
            return None;
        }
        let number = lists.staying.pop_front()?;
        delist(number, places);
        Some(number)
    }

    /// The number of a page-out that happens now.
    pub(crate) fn stamp(&self) -> Stamp {
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        // The one of all numbers that is not told from its neighbour.
        Stamp(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    /// Whether a process that was paged out at `stamp` would still be here if
    /// there were `frames` for the version.
    pub(crate) fn soon(&self, stamp: Stamp, frames: usize) -> bool {
        let clock = self.clock.load(Ordering::Relaxed);
        let since = clock.wrapping_sub(stamp.0.get());
        (since as usize) < frames
    }
}
