//! Frame slots: how many frames there may be, which process is in each, and the frame itself while
//! no code works with it.
//!
//! A process record names its frame by a [`FrameId`]. Code that works with the frame has a
//! [`FrameLease`]: it is taken out of the slot ([`FrameSlots::lease`]) and put back
//! ([`FrameSlots::put_back`]). The run state of the process decides which thread may do so: the one
//! that has set it to RUNNING. A turn takes the lease once, when it first needs the frame, and puts
//! it back at its end; to all others the process is running meanwhile, so they never ask for the
//! frame.
//!
//! A frame has its slot until it is dropped. Its [`SlotReservation`] names the slot and frees
//! it when the frame is dropped, be it because the frame is not needed any more or by a
//! panic that unwinds over the lease. So a slot is never lost with its frame.
//!
//! Lock order: a pool's lists are the innermost lock; `vacant` and a slot's `extent` are
//! taken alone.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};

use exuvia_image::{Extent, PageMap};
use exuvia_process::BoxCell;
use parking_lot::Mutex;

use crate::frames::frame::Frame;
use crate::frames::mappings;
use crate::frames::pool::Pool;
use crate::frames::{Census, Waiters};
use crate::guest::{FrameId, Location, RunPhase};
use crate::host::Host;

/// The value of `occupant` for no process.
const NO_PROCESS: u32 = u32::MAX;

/// A frame slot: how the pager finds the process in a frame. Schedulers write neighbouring slots at
/// the same time, so each has a cache line of its own.
#[repr(align(64))]
pub(crate) struct FrameSlot {
    /// The frame of the process that is bound to the slot, while no code works with it.
    frame: BoxCell<LeasedFrame>,
    occupant: AtomicU32,
    /// How often the slot was bound to a process; it wraps.
    bindings: AtomicU32,
    /// The version of the frame, 0 while there is none: artifacts are numbered from 1.
    /// Changed under the lock of that version's pool, like `listed`.
    pub(crate) artifact: AtomicU64,
    /// Whether it is in one of its pool's queues of processes at rest.
    pub(crate) listed: AtomicBool,
    /// How often it was listed so far, by any version; it wraps.
    pub(crate) listings: AtomicU32,
    /// Its index in its pool's list of all frames.
    pub(crate) at: AtomicUsize,
    /// Whether its process is in the main queue (see [`Pool`]).
    pub(crate) in_main_queue: AtomicBool,
    /// The kernel's mappings of the frame, at most.
    mappings: AtomicU8,
    /// Whether the frame cannot be taken away from its process: 0, or its mappings and one.
    pinned: AtomicU8,
    /// Bytes of written pages of the frame, as last measured.
    bytes: AtomicU64,
    /// Where the frame's memory is, while there is a frame.
    extent: Mutex<Option<Arc<Extent>>>,
}

impl std::fmt::Debug for FrameSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameSlot")
            .field("occupant", &self.occupant())
            .finish_non_exhaustive()
    }
}

impl FrameSlot {
    /// Returns the process slot of the process in the frame, if there is one.
    pub(crate) fn occupant(&self) -> Option<u32> {
        let slot = self.occupant.load(Ordering::Acquire);
        (slot != NO_PROCESS).then_some(slot)
    }

    /// Binds the frame to the process of a process slot. The caller has its lease.
    pub(crate) fn bind(&self, slot: u32) {
        let bindings = self.bindings.load(Ordering::Relaxed).wrapping_add(1);
        self.bindings.store(bindings, Ordering::Relaxed);
        self.occupant.store(slot, Ordering::Release);
    }

    /// Binds the frame to no process. The caller has its lease.
    pub(crate) fn unbind(&self) {
        self.occupant.store(NO_PROCESS, Ordering::Release);
    }

    /// Returns the bytes of written pages of the frame, as last measured.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether the frame cannot be taken away from its process.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) > 0
    }
}

/// All frame slots of a node.
#[derive(Debug)]
pub(crate) struct FrameSlots {
    all: Box<[FrameSlot]>,
    vacant: Mutex<Vec<u32>>,
    census: Arc<Census>,
    host: Arc<Host>,
    /// The sum over all slots.
    bytes: AtomicU64,
    /// Called when a slot becomes vacant.
    waiters: Arc<Waiters>,
}

impl FrameSlots {
    pub(crate) fn new(
        count: usize,
        host: Arc<Host>,
        census: Arc<Census>,
        waiters: Arc<Waiters>,
    ) -> FrameSlots {
        FrameSlots {
            all: (0..count)
                .map(|_| FrameSlot {
                    frame: BoxCell::new(),
                    occupant: AtomicU32::new(NO_PROCESS),
                    bindings: AtomicU32::new(0),
                    artifact: AtomicU64::new(0),
                    listed: AtomicBool::new(false),
                    listings: AtomicU32::new(0),
                    at: AtomicUsize::new(0),
                    in_main_queue: AtomicBool::new(false),
                    mappings: AtomicU8::new(0),
                    pinned: AtomicU8::new(0),
                    bytes: AtomicU64::new(0),
                    extent: Mutex::default(),
                })
                .collect(),
            vacant: Mutex::new((0..count).rev().filter_map(|i| i.try_into().ok()).collect()),
            census,
            host,
            bytes: AtomicU64::new(0),
            waiters,
        }
    }

    pub(crate) fn all(&self) -> &[FrameSlot] {
        &self.all
    }

    pub(crate) fn slot(&self, number: u32) -> &FrameSlot {
        &self.all[number as usize]
    }

    /// Takes the frame out of its slot. The caller runs its process or has claimed it. Returns
    /// `None` if the frame is not there, or the slot is another process's by now: both are bugs of
    /// the host.
    #[inline]
    pub(crate) fn lease(&self, id: FrameId) -> Option<FrameLease> {
        let slot = self.slot(id.slot);
        // Relaxed: the slot was bound by the process's last turn, or earlier.
        let is_its_own = slot.bindings.load(Ordering::Relaxed) == id.binding;
        is_its_own.then(|| slot.frame.take().map(FrameLease))?
    }

    /// Puts a frame back into its slot. The location of its process names it.
    #[inline]
    pub(crate) fn put_back(&self, lease: FrameLease) {
        self.slot(lease.slot_number()).frame.put(lease.0);
    }

    /// Returns the location of the process that is bound to the frame of a lease.
    #[inline]
    pub(crate) fn location(&self, lease: &FrameLease, phase: RunPhase) -> Location {
        let slot = lease.slot_number();
        if phase == RunPhase::Suspended {
            self.note_mappings(lease);
        }
        let binding = self.slot(slot).bindings.load(Ordering::Relaxed);
        Location::Frame {
            frame: FrameId { slot, binding },
            pages: lease.frame.pages(),
            reusable: lease.frame.reusable,
            phase,
        }
    }

    /// Notes how many mappings the frame of a guest has that may be pinned next: its memory may have left
    /// the arena.
    fn note_mappings(&self, lease: &FrameLease) {
        let frame = &lease.frame;
        let more = match frame.extent.has_moved_out() {
            true => mappings::MOVED_OUT,
            false => 0,
        };
        let mappings = u8::try_from(frame.mappings() + more).unwrap_or(u8::MAX - 1);
        let slot = self.slot(lease.slot_number());
        slot.mappings.store(mappings, Ordering::Relaxed);
    }

    /// Drops all frames that are in their slots.
    pub(crate) fn clear(&self) {
        self.all.iter().for_each(|slot| drop(slot.frame.take()));
    }

    /// Counts the frame of a slot, once, among those that cannot be taken away from their
    /// processes. The caller has the frame or runs its process.
    pub(crate) fn pin(&self, number: u32) {
        let slot = self.slot(number);
        if !slot.is_pinned() {
            let mappings = slot.mappings.load(Ordering::Relaxed);
            slot.pinned.store(mappings + 1, Ordering::Relaxed);
            self.host.blocking.pin(mappings.into());
        }
    }

    /// Lets the frame of a slot be taken away from its process again.
    pub(crate) fn unpin(&self, number: u32) {
        let slot = self.slot(number);
        if let Some(mappings) = slot.pinned.load(Ordering::Relaxed).checked_sub(1) {
            slot.pinned.store(0, Ordering::Relaxed);
            self.host.blocking.unpin(mappings.into());
        }
    }

    /// Returns the number of live frames.
    pub(crate) fn live(&self) -> usize {
        self.census.live.load(Ordering::Relaxed)
    }

    pub(crate) fn census(&self) -> &Census {
        &self.census
    }

    /// Returns the maximum number of kernel mappings of the live frames.
    pub(crate) fn mappings(&self) -> usize {
        self.census.mappings()
    }

    /// Returns the bytes of written pages of all frames, as last measured.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records the bytes of written pages of the frame in a slot.
    #[inline]
    pub(crate) fn note(&self, number: u32, bytes: u64) {
        let slot = self.slot(number);
        if slot.bytes() != bytes {
            let before = slot.bytes.swap(bytes, Ordering::Relaxed);
            // The sum may wrap in between, and is right again after the last change.
            let change = bytes.wrapping_sub(before);
            self.bytes.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Measures the written pages of all frames, which may be in use meanwhile. Returns the
    /// bytes of those frames that cannot be taken away from their processes.
    pub(crate) fn measure(&self, page_map: &PageMap) -> u64 {
        let mut held = 0;
        for (number, slot) in (0..).zip(&self.all) {
            // The frame may be dropped meanwhile; its reservation then waits for this lock
            // and writes last.
            let extent = slot.extent.lock();
            let Some(extent) = &*extent else { continue };
            if let Some(bytes) = page_map.count(extent) {
                self.note(number, bytes);
            }
            if slot.is_pinned() {
                held += slot.bytes();
            }
        }
        held
    }

    /// Returns the number of slots without a frame.
    pub(crate) fn vacant(&self) -> usize {
        self.vacant.lock().len()
    }

    /// Reserves a slot for a frame of the pool's version that is still to be made.
    pub(crate) fn take(self: &Arc<FrameSlots>, pool: &Arc<Pool>) -> Option<SlotReservation> {
        let number = self.vacant.lock().pop()?;
        self.census.live.fetch_add(1, Ordering::Relaxed);
        pool.joined(number, self.slot(number));
        // Until its memory and its stack are known.
        let mappings = mappings::most();
        self.census.mappings.fetch_add(mappings, Ordering::Relaxed);
        Some(SlotReservation {
            number,
            pool: pool.clone(),
            slots: Arc::downgrade(self),
            mappings,
        })
    }
}

/// The right to a frame slot.
#[derive(Debug)]
pub(crate) struct SlotReservation {
    number: u32,
    pool: Arc<Pool>,
    /// Weak, because the slots own frames.
    slots: Weak<FrameSlots>,
    /// Its share of the mappings of all frames.
    mappings: usize,
}

impl SlotReservation {
    /// Records the number of mappings that the frame has.
    fn set_mappings(&mut self, mappings: usize, slots: &FrameSlots) {
        let all = &slots.census.mappings;
        all.fetch_add(mappings, Ordering::Relaxed);
        all.fetch_sub(self.mappings, Ordering::Relaxed);
        self.mappings = mappings;
        let slot = slots.slot(self.number);
        let mappings = u8::try_from(mappings).unwrap_or(u8::MAX - 1);
        slot.mappings.store(mappings, Ordering::Relaxed);
    }
}

impl Drop for SlotReservation {
    fn drop(&mut self) {
        let Some(slots) = self.slots.upgrade() else {
            return;
        };
        let slot = slots.slot(self.number);
        slots.unpin(self.number);
        *slot.extent.lock() = None;
        slots.note(self.number, 0);
        slot.unbind();
        self.pool.left(self.number, slots.all());
        slots.census.live.fetch_sub(1, Ordering::Relaxed);
        let mappings = &slots.census.mappings;
        mappings.fetch_sub(self.mappings, Ordering::Relaxed);
        slots.vacant.lock().push(self.number);
        // Pairs with the fence in `Waiters::join`: a process that waits because of these counts, or
        // of its module's, is called.
        fence(Ordering::SeqCst);
        slots.waiters.call();
    }
}

/// The right to use a frame, and the frame. It ends when the frame is put back into its slot
/// ([`FrameSlots::put_back`]) or given to a pool. Dropped, it drops the frame and frees the slot.
#[derive(Debug)]
pub(crate) struct FrameLease(Box<LeasedFrame>);

#[derive(Debug)]
pub(crate) struct LeasedFrame {
    // Dropped before the reservation: a slot is vacant once its frame is gone.
    pub(crate) frame: Frame,
    reservation: SlotReservation,
}

impl Deref for FrameLease {
    type Target = LeasedFrame;

    fn deref(&self) -> &LeasedFrame {
        &self.0
    }
}

impl DerefMut for FrameLease {
    fn deref_mut(&mut self) -> &mut LeasedFrame {
        &mut self.0
    }
}

impl FrameLease {
    /// Makes the lease of a new frame.
    pub(crate) fn new(
        frame: Frame,
        mut reservation: SlotReservation,
        slots: &FrameSlots,
    ) -> FrameLease {
        reservation.set_mappings(frame.mappings(), slots);
        let slot = slots.slot(reservation.number);
        *slot.extent.lock() = Some(frame.extent.clone());
        slots.note(reservation.number, frame.written());
        FrameLease(Box::new(LeasedFrame { frame, reservation }))
    }

    /// Moves its guest to fibers for good. Returns `Ok(false)` if the system has no memory
    /// or mappings for a stack.
    pub(crate) fn use_fibers(&mut self, slots: &FrameSlots) -> Result<bool, String> {
        let done = self.frame.use_fibers()?;
        let mappings = self.frame.mappings();
        self.reservation.set_mappings(mappings, slots);
        Ok(done)
    }

    /// Returns the number of its frame slot.
    pub(crate) fn slot_number(&self) -> u32 {
        self.reservation.number
    }

    /// Returns the pool of its version.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.reservation.pool
    }

    /// Puts the frame of a guest that is suspended back into its slot, for code that does not have
    /// the frame table. Returns where its process is now, or `None` if there is no table any more.
    pub(crate) fn put_back_suspended(self) -> Option<Location> {
        let slots = self.reservation.slots.upgrade()?;
        let location = slots.location(&self, RunPhase::Suspended);
        slots.put_back(self);
        Some(location)
    }
}
