//! Free frames that a thread has just used. Their lines are in that core's cache and, as long as the same
//! thread takes them, nobody has to ask the kernel for their pages again; and they are taken and given
//! back without a lock that other schedulers want.
//!
//! Each thread has a shelf for a few frames, of any versions. What does not fit goes to the pool of its
//! version, and so does all that lies on shelves when the pools are trimmed. A thread that finds no free
//! frame in the pool looks on the others' shelves, before a frame is made or a process paged out.
//!
//! Lock order: a shelf's lock is taken alone. In particular no lease is dropped under it.

use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_image::thread_number;
use parking_lot::Mutex;

use crate::frames::slots::FrameLease;

/// Number of shelves. More threads share them.
const SHELVES: usize = 16;
/// Frames on one shelf.
const FRAMES: usize = 8;

/// The shelves of all threads.
#[derive(Debug, Default)]
pub(super) struct Nearby([Shelf; SHELVES]);

/// The frames of one thread, the one that was used last at the end.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shelf {
    /// How many there are, for other threads: they leave an empty shelf alone.
    count: AtomicUsize,
    frames: Mutex<Vec<FrameLease>>,
}

impl Shelf {
    /// Does something with the frames under the lock.
    fn with<T>(&self, act: impl FnOnce(&mut Vec<FrameLease>) -> T) -> T {
        let mut frames = self.frames.lock();
        let done = act(&mut frames);
        // Relaxed: a thread that reads the number before misses a frame, and waits: then it is called, since
        // whoever has put the frame here has a fence before it looks for those that wait.
        self.count.store(frames.len(), Ordering::Relaxed);
        done
    }

    /// Takes the frame whose index `find` returns.
    fn take(&self, find: impl FnOnce(&[FrameLease]) -> Option<usize>) -> Option<FrameLease> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.with(|frames| {
            let index = find(frames)?;
            Some(frames.remove(index))
        })
    }
}

impl Nearby {
    fn own(&self) -> &Shelf {
        &self.0[thread_number() as usize % SHELVES]
    }

    /// Puts a free frame on this thread's shelf. Returns one for its pool if the shelf is full, and the
    /// frame itself if its version was unloaded.
    pub(super) fn push(&self, lease: FrameLease) -> Option<FrameLease> {
        self.own().with(|frames| {
            // Under the lock: whoever unloads a version says so before it empties the shelves.
            if lease.pool().is_forgotten() {
                return Some(lease);
            }
            let cold = (frames.len() >= FRAMES).then(|| frames.remove(0));
            frames.push(lease);
            cold
        })
    }

    /// Takes the frame of a version that this thread has used last, if possible one with a memory of so
    /// many pages, or else a larger packed one, which is cheap to shrink: one that must grow might have to
    /// move.
    pub(super) fn pop(&self, artifact: u64, pages: u32) -> Option<FrameLease> {
        let of_version = |lease: &FrameLease| lease.pool().artifact == artifact;
        let fits = |lease: &FrameLease| of_version(lease) && lease.frame.pages() == pages;
        let larger = |lease: &FrameLease| {
            of_version(lease) && lease.frame.extent.is_packed() && lease.frame.pages() > pages
        };
        self.own().take(|frames| {
            let exact = frames.iter().rposition(fits);
            exact.or_else(|| frames.iter().rposition(larger))
        })
    }

    /// Takes a frame of a version from any shelf.
    pub(super) fn steal(&self, artifact: u64) -> Option<FrameLease> {
        let of_version = |lease: &FrameLease| lease.pool().artifact == artifact;
        let find = |frames: &[FrameLease]| frames.iter().rposition(of_version);
        self.0.iter().find_map(|shelf| shelf.take(find))
    }

    /// Takes all frames of a version, or all.
    pub(super) fn take(&self, artifact: Option<u64>) -> Vec<FrameLease> {
        let wanted = |lease: &mut FrameLease| artifact.is_none_or(|id| lease.pool().artifact == id);
        let taken = (self.0.iter()).map(|shelf| {
            shelf.with(|frames| frames.extract_if(.., wanted).collect::<Vec<FrameLease>>())
        });
        taken.flatten().collect()
    }

    /// Returns how many frames lie on the shelves.
    pub(super) fn count(&self) -> usize {
        let counts = self
            .0
            .iter()
            .map(|shelf| shelf.count.load(Ordering::Relaxed));
        counts.sum()
    }
}
