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
//! of its own as long as there is room, else that of the process which has
//! stayed longest without being asked. Now and then one who passes takes such
//! a frame too, so that nobody stays for having been busy once. This is the idea of S3-FIFO (Yang et
//! al., SOSP 2023): small queue, main queue, ghosts; the ghosts cost nothing
//! here, since an image can say when it was taken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::frames::Seated;

/// One page-out of so many is of a process that stays.
const AGING: u32 = 16;

/// The frames of one version.
#[derive(Debug, Default)]
pub(crate) struct Pool {
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
    /// Places of processes at rest that were asked once, in that order.
    passing: VecDeque<u32>,
    /// Places of processes at rest that are asked again and again.
    staying: VecDeque<u32>,
    /// The version was unloaded: frames that come back are dropped.
    forgotten: bool,
}

impl Pool {
    /// A free frame with so many pages, or with fewer: it can be grown.
    pub(crate) fn pop(&self, pages: u32) -> Option<Seated> {
        let free = &mut self.lists.lock().free;
        let exact = free
            .iter()
            .rposition(|seated| seated.frame.pages() == pages);
        let at = exact.or_else(|| free.iter().rposition(|seated| seated.frame.pages() < pages))?;
        Some(free.swap_remove(at))
    }

    /// Any free frame.
    pub(crate) fn pop_any(&self) -> Option<Seated> {
        self.lists.lock().free.pop()
    }

    /// Takes a free frame, or hands it back: the version is gone.
    pub(crate) fn push(&self, seated: Seated) -> Result<(), Seated> {
        let mut lists = self.lists.lock();
        if lists.forgotten {
            return Err(seated);
        }
        lists.free.push(seated);
        Ok(())
    }

    /// No frame comes back from now on.
    pub(crate) fn forget(&self) {
        self.lists.lock().forgotten = true;
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

    /// A frame of the version was made.
    pub(crate) fn joined(&self, place: u32) {
        self.lists.lock().all.push(place);
    }

    /// One is dropped: nobody can be paged out of it any more.
    pub(crate) fn left(&self, place: u32) {
        let mut lists = self.lists.lock();
        lists.all.retain(|other| *other != place);
        lists.passing.retain(|other| *other != place);
        lists.staying.retain(|other| *other != place);
    }

    /// A process at rest may be paged out of this place.
    pub(crate) fn list(&self, place: u32, stays: bool) {
        let mut lists = self.lists.lock();
        let list = if stays {
            &mut lists.staying
        } else {
            &mut lists.passing
        };
        list.push_back(place);
    }

    /// Who goes next: of those who pass, or of those who stay, if there are
    /// any, else of the others.
    pub(crate) fn next(&self, of_staying: bool) -> Option<u32> {
        let of_staying = of_staying || self.clock.load(Ordering::Relaxed) % AGING == AGING - 1;
        let mut lists = self.lists.lock();
        let Lists {
            passing, staying, ..
        } = &mut *lists;
        if of_staying {
            staying.pop_front().or_else(|| passing.pop_front())
        } else {
            passing.pop_front().or_else(|| staying.pop_front())
        }
    }

    /// How many processes at rest are listed.
    pub(crate) fn listed(&self) -> usize {
        let lists = self.lists.lock();
        lists.passing.len() + lists.staying.len()
    }

    /// The number of a page-out that happens now.
    pub(crate) fn stamp(&self) -> u32 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a process that was paged out at `stamp` would still be here if
    /// there were `frames` for the version.
    pub(crate) fn soon(&self, stamp: u32, frames: usize) -> bool {
        let since = self.clock.load(Ordering::Relaxed).wrapping_sub(stamp);
        (since as usize) < frames
    }
}
