//! Places: how many frames there may be, and who is in each.
//!
//! A frame has a place for as long as it lives. Its ticket says which, and
//! gives it back when the frame is dropped: by whoever has no use for it, or
//! by a panic that unwinds over it. So no place is lost with its frame.
//!
//! Lock order: a pool's lists, then nothing; `vacant` and a place's `extent` are
//! taken alone.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::frame::Frame;
use crate::frames::Waiters;
use crate::pagemap::{Extent, PageMap};
use crate::pool::Pool;
use crate::stack::Stack;

/// No process.
const NOBODY: u32 = u32::MAX;

/// Where the pager finds who is in a frame.
#[derive(Debug)]
pub(crate) struct Place {
    occupant: AtomicU32,
    /// The version of the frame, 0 while there is none: artifacts are numbered
    /// from 1. Changed under the lock of that version's pool, like `listed`.
    pub(crate) artifact: AtomicU64,
    /// In its pool's list of those at rest.
    pub(crate) listed: AtomicBool,
    /// Times that it was listed so far, by whatever version; it wraps.
    pub(crate) listings: AtomicU32,
    /// Where it is among all places of its pool.
    pub(crate) at: AtomicUsize,
    /// It is asked again and again (see [`Pool`]).
    pub(crate) stays: AtomicBool,
    /// Nobody can take the frame away.
    held: AtomicBool,
    /// Bytes of written pages of the frame, as last seen.
    bytes: AtomicU64,
    /// Where the frame's memory is, while there is one.
    extent: Mutex<Option<Arc<Extent>>>,
}

impl Place {
    /// Whose process is in the frame, if any is.
    pub(crate) fn occupant(&self) -> Option<u32> {
        let slot = self.occupant.load(Ordering::Acquire);
        (slot != NOBODY).then_some(slot)
    }

    pub(crate) fn occupy(&self, slot: u32) {
        self.occupant.store(slot, Ordering::Release);
    }

    pub(crate) fn vacate(&self) {
        self.occupy(NOBODY);
    }

    /// Bytes of written pages of the frame, as last seen.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nobody can take the frame away.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

/// All places of a node.
#[derive(Debug)]
pub(crate) struct Places {
    all: Box<[Place]>,
    vacant: Mutex<Vec<u32>>,
    live: AtomicUsize,
    held: AtomicUsize,
    /// Kernel mappings of the frames alive.
    mappings: AtomicUsize,
    /// The sum of all places.
    bytes: AtomicU64,
    /// Called when a place is vacant.
    waiters: Arc<Waiters>,
}

impl Places {
    pub(crate) fn new(count: usize, waiters: Arc<Waiters>) -> Places {
        Places {
            all: (0..count)
                .map(|_| Place {
                    occupant: AtomicU32::new(NOBODY),
                    artifact: AtomicU64::new(0),
                    listed: AtomicBool::new(false),
                    listings: AtomicU32::new(0),
                    at: AtomicUsize::new(0),
                    stays: AtomicBool::new(false),
                    held: AtomicBool::new(false),
                    bytes: AtomicU64::new(0),
                    extent: Mutex::default(),
                })
                .collect(),
            vacant: Mutex::new((0..count).rev().filter_map(|i| i.try_into().ok()).collect()),
            live: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            mappings: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            waiters,
        }
    }

    pub(crate) fn all(&self) -> &[Place] {
        &self.all
    }

    pub(crate) fn place(&self, number: u32) -> &Place {
        &self.all[number as usize]
    }

    /// Frames alive.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Those of them that nobody can take away.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Kernel mappings of the frames alive, at most.
    pub(crate) fn mappings(&self) -> usize {
        self.mappings.load(Ordering::Relaxed)
    }

    /// Bytes of written pages of all frames, as last seen.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes what the frame of a place holds.
    #[inline]
    pub(crate) fn note(&self, number: u32, bytes: u64) {
        let place = self.place(number);
        if place.bytes() != bytes {
            let before = place.bytes.swap(bytes, Ordering::Relaxed);
            // It wraps in between, and is right again after the last of all.
            let change = bytes.wrapping_sub(before);
            self.bytes.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Counts the written pages of all frames, whoever uses them meanwhile.
    /// Answers what those hold that nobody can take away.
    pub(crate) fn measure(&self, page_map: &PageMap) -> u64 {
        let mut held = 0;
        for (number, place) in (0..).zip(&self.all) {
            // It may be dropped meanwhile; then its ticket waits for this lock,
            // and has the last word.
            let extent = place.extent.lock();
            let Some(extent) = &*extent else { continue };
            if let Some(bytes) = page_map.count(extent) {
                self.note(number, bytes);
            }
            if place.is_held() {
                held += place.bytes();
            }
        }
        held
    }

    /// Places without a frame.
    pub(crate) fn vacant(&self) -> usize {
        self.vacant.lock().len()
    }

    /// A place for a frame of the pool's version, which is still to be made.
    pub(crate) fn take(self: &Arc<Places>, pool: &Arc<Pool>) -> Option<Ticket> {
        let number = self.vacant.lock().pop()?;
        self.live.fetch_add(1, Ordering::Relaxed);
        pool.joined(number, self.place(number));
        let mappings = MOST_MAPPINGS;
        self.mappings.fetch_add(mappings, Ordering::Relaxed);
        Some(Ticket {
            number,
            pool: pool.clone(),
            places: self.clone(),
            held: false,
            mappings,
        })
    }
}

/// A right to a place.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u32,
    pool: Arc<Pool>,
    places: Arc<Places>,
    /// Counted among those that nobody can take away.
    held: bool,
    /// Its part of those of all.
    mappings: usize,
}

/// Mappings of a frame of which nothing is known yet.
const MOST_MAPPINGS: usize = Stack::Fiber.mappings();

impl Ticket {
    /// The frame has a guest that runs on this stack.
    fn weigh(&mut self, stack: Stack) {
        let mappings = stack.mappings();
        let all = &self.places.mappings;
        all.fetch_add(mappings, Ordering::Relaxed);
        all.fetch_sub(self.mappings, Ordering::Relaxed);
        self.mappings = mappings;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let place = self.places.place(self.number);
        if self.held {
            place.held.store(false, Ordering::Relaxed);
            self.places.held.fetch_sub(1, Ordering::Relaxed);
        }
        *place.extent.lock() = None;
        self.places.note(self.number, 0);
        place.vacate();
        self.pool.left(self.number, self.places.all());
        self.places.live.fetch_sub(1, Ordering::Relaxed);
        let mappings = &self.places.mappings;
        mappings.fetch_sub(self.mappings, Ordering::Relaxed);
        self.places.vacant.lock().push(self.number);
        self.places.waiters.call();
    }
}

/// A frame with its place, in one box: a record of a process has room for it.
#[derive(Debug)]
pub(crate) struct Seated(Box<Seat>);

#[derive(Debug)]
pub(crate) struct Seat {
    // Dropped before the ticket: a place is vacant when its frame is gone.
    pub(crate) frame: Frame,
    ticket: Ticket,
}

impl Deref for Seated {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.0
    }
}

impl DerefMut for Seated {
    fn deref_mut(&mut self) -> &mut Seat {
        &mut self.0
    }
}

impl Seated {
    pub(crate) fn new(frame: Frame, mut ticket: Ticket) -> Seated {
        ticket.weigh(frame.stack());
        let place = ticket.places.place(ticket.number);
        *place.extent.lock() = Some(frame.extent.clone());
        ticket.places.note(ticket.number, frame.written());
        Seated(Box::new(Seat { frame, ticket }))
    }

    /// Has its guest run on fibers from now on. `Ok(false)`: the system has no
    /// room for a stack.
    pub(crate) fn use_fibers(&mut self) -> Result<bool, String> {
        let done = self.frame.use_fibers()?;
        self.0.ticket.weigh(self.0.frame.stack());
        Ok(done)
    }

    /// The number of its place.
    pub(crate) fn place(&self) -> u32 {
        self.ticket.number
    }

    /// The pool of its version.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.ticket.pool
    }

    /// Counts it among the frames that nobody can take away, once.
    pub(crate) fn hold(&mut self) {
        if !std::mem::replace(&mut self.ticket.held, true) {
            let place = self.ticket.places.place(self.place());
            place.held.store(true, Ordering::Relaxed);
            self.ticket.places.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Somebody may take it away again; but never that of a resident-only
    /// module.
    pub(crate) fn let_go(&mut self) {
        if self.frame.reusable && std::mem::replace(&mut self.ticket.held, false) {
            let place = self.ticket.places.place(self.place());
            place.held.store(false, Ordering::Relaxed);
            self.ticket.places.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
