//! The memories of frames. The engine hands them to wasmtime, which grows them.
//!
//! A memory is *wide* or *packed*. A wide one has reserved addresses of its own, as many as a 32-bit
//! address can reach, of which the first part is accessible: compiled code needs no bounds checks.
//! Packed ones lie side by side in an arena (`arena`): compiled code checks each address against the
//! length, and thousands of them share page tables and entries of the TLB.
//!
//! A memory moves only when it grows beyond its place in the arena: to a larger place, or to wide
//! addresses. Its [`Extent`] stays the same object and follows it.
//!
//! wasmtime cannot shrink a memory: a frame would stay as large as the largest
//! process that it has served, while a new process has the size of the base. So
//! [`Extent::shrink`] does it, between two processes. Pages beyond the new end are zero
//! when the memory grows again. A few of them stay where they are: giving pages back
//! interrupts all cores that run threads of the node, and the next process would take
//! them again.
//!
//! Lock order: no other lock is taken while `made` is held.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::PAGE;
use crate::arena::{Arena, Place};
use crate::base_file::BaseFile;
use crate::image::ZERO;
use crate::mapping::{advise, give_back};

/// Bytes of address space that are reserved for each wide memory: every 32-bit address lies in its
/// reservation.
pub const RESERVED: usize = 4 << 30;
/// Bytes of inaccessible address space before and after the reservation, which belong to the
/// memory.
pub const GUARD: usize = 32 << 20;

/// The address and length of a memory, for counting its pages while it is in use.
#[derive(Debug)]
pub struct Extent {
    /// Changed only with exclusive access to the memory, like the next three.
    address: AtomicUsize,
    bytes: AtomicUsize,
    /// See [`Extent::reached`].
    reached: AtomicUsize,
    packed: AtomicBool,
    /// Whether it has left the arena.
    moved_out: AtomicBool,
    /// The file that is mapped over part of it, and where.
    file: OnceLock<(usize, Arc<BaseFile>)>,
    /// Where its base is not zero, if it has a copy of the base instead of the file.
    copied: OnceLock<Range<usize>>,
}

impl Extent {
    pub(crate) fn new(address: usize, bytes: usize) -> Extent {
        Extent {
            address: AtomicUsize::new(address),
            bytes: AtomicUsize::new(bytes),
            reached: AtomicUsize::new(0),
            packed: AtomicBool::new(false),
            moved_out: AtomicBool::new(false),
            file: OnceLock::new(),
            copied: OnceLock::new(),
        }
    }

    /// Returns the address of its first byte.
    pub fn address(&self) -> usize {
        self.address.load(Ordering::Acquire)
    }

    /// Returns its current length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns up to where written pages may lie in its place, in bytes, if that is behind its end: it was
    /// longer, and they stay there, with zeros (see [`Extent::shrink`]).
    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }

    /// Returns whether it lies in the arena.
    pub fn is_packed(&self) -> bool {
        self.packed.load(Ordering::Relaxed)
    }

    /// Returns whether it has left the arena because it has grown.
    pub fn has_moved_out(&self) -> bool {
        self.moved_out.load(Ordering::Relaxed)
    }

    /// Returns whether the file of a base is mapped over part of it.
    pub fn has_file(&self) -> bool {
        self.file.get().is_some()
    }

    /// Records where the base is not zero of which the memory has a copy.
    pub(crate) fn set_copied(&self, range: Range<usize>) {
        let first = self.copied.set(range).is_ok();
        debug_assert!(first, "a memory has one base");
    }

    /// Records the file that was mapped over the memory at this offset. It has one at most.
    pub(crate) fn set_file(&self, at: usize, file: Arc<BaseFile>) {
        let first = self.file.set((at, file)).is_ok();
        debug_assert!(first, "a memory has one base");
    }
}

/// All memories of an engine's instances.
#[derive(Debug, Default)]
pub struct Memories {
    /// All existing memories, by address.
    made: Mutex<HashMap<usize, Arc<Extent>, foldhash::fast::FixedState>>,
    arena: Arena,
    /// The number of memories that have left the arena.
    moved_out: AtomicUsize,
    me: Weak<Memories>,
}

impl Memories {
    /// Creates an empty table of memories.
    pub fn new() -> Arc<Memories> {
        Arc::new_cyclic(|me| Memories {
            made: Mutex::default(),
            arena: Arena::default(),
            moved_out: AtomicUsize::new(0),
            me: me.clone(),
        })
    }

    /// Returns how many existing memories have left the arena because they have grown.
    pub fn moved_out(&self) -> usize {
        self.moved_out.load(Ordering::Relaxed)
    }

    /// Returns the extent of the memory at this address. `None`: it was not created here.
    pub fn extent(&self, address: *const u8) -> Option<Arc<Extent>> {
        self.made.lock().get(&(address as usize)).cloned()
    }

    /// Makes a wide memory: reserves addresses for `capacity` bytes between two guards, and makes the
    /// first `minimum` bytes accessible. Sizes are rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory, mappings or addresses.
    pub fn wide(&self, minimum: usize, capacity: usize, guard: usize) -> io::Result<Reserve> {
        let mut place = Home::wide(minimum, capacity, guard)?;
        place.make_accessible(0, minimum)?;
        Ok(self.made(place, minimum))
    }

    /// Makes a packed memory of `minimum` bytes. It has no guards. If it is too large for the arena,
    /// it gets wide addresses, in which packed code runs as well.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory, mappings or addresses.
    pub fn packed(&self, minimum: usize) -> io::Result<Reserve> {
        Ok(self.made(self.packed_home(minimum)?, minimum))
    }

    fn packed_home(&self, bytes: usize) -> io::Result<Home> {
        if let Some(place) = self.arena.take(bytes)? {
            return Ok(Home::Arena(place));
        }
        let mut home = Home::wide(bytes, RESERVED, GUARD)?;
        home.make_accessible(0, bytes)?;
        Ok(home)
    }

    fn made(&self, home: Home, bytes: usize) -> Reserve {
        let address = home.address();
        let extent = Arc::new(Extent::new(address as usize, bytes));
        extent.packed.store(home.is_packed(), Ordering::Relaxed);
        (self.made.lock()).insert(address as usize, extent.clone());
        Reserve {
            home,
            extent,
            memories: self.me.clone(),
        }
    }
}

impl Extent {
    /// Makes the memory smaller, to `bytes`, a number of whole pages. What is behind its new end is zero
    /// when it grows again: its pages go back to the system, or, if `stays` says that they are zero
    /// already and the memory is packed, stay where they are. Returns whether they stay.
    ///
    /// # Errors
    ///
    /// Returns an error if the system is out of memory or mappings. The length is then unchanged.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is larger than the memory, or not whole pages.
    ///
    /// # Safety
    ///
    /// The memory must exist until this returns. Nothing may refer to its contents from `bytes`
    /// on, and whatever accesses the memory must know its new length before it does so again.
    pub unsafe fn shrink(&self, bytes: usize, stays: bool) -> io::Result<bool> {
        let before = self.bytes();
        assert!(
            bytes <= before && bytes.is_multiple_of(PAGE),
            "a memory is made smaller by whole pages"
        );
        let packed = self.is_packed();
        let reached = self.reached().max(before);
        let stays = stays && packed;
        if !stays && bytes < reached {
            // SAFETY: the range begins in a memory of ours that still exists, as the caller guarantees.
            // It ends where that memory has ended in the same place. By the same contract
            // nothing refers to it.
            unsafe {
                let start = (self.address() as *mut u8).add(bytes);
                give_back(start, reached - bytes);
                // The arena is accessible as a whole.
                if !packed && libc::mprotect(start.cast(), reached - bytes, libc::PROT_NONE) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        let reached = if stays { reached } else { 0 };
        self.reached.store(reached, Ordering::Relaxed);
        Ok(stays)
    }
}

/// Where a memory lies.
#[derive(Debug)]
enum Home {
    /// In a mapping of its own.
    Wide(Wide),
    /// In the arena.
    Arena(Place),
}

#[derive(Debug)]
struct Wide {
    /// Start of the whole mapping, with guards.
    start: *mut u8,
    /// Length of the whole mapping, bytes.
    length: usize,
    /// Most bytes to which the memory can grow.
    capacity: usize,
    /// Start of the memory, after the first guard.
    base: *mut u8,
}

// SAFETY: it owns its mapping, and refers to it by address only.
unsafe impl Send for Wide {}
// SAFETY: a shared reference only returns addresses and sizes.
unsafe impl Sync for Wide {}

impl Drop for Wide {
    fn drop(&mut self) {
        // SAFETY: unmaps what `Home::wide` mapped; whoever used it gives up its own copy of the
        // address with it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

impl Home {
    fn wide(minimum: usize, capacity: usize, guard: usize) -> io::Result<Home> {
        let capacity = capacity.max(minimum).next_multiple_of(PAGE);
        let guard = guard.next_multiple_of(PAGE);
        let length = capacity + 2 * guard;
        // SAFETY: a fresh anonymous mapping; nothing else refers to it.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        // Page maps require it. The guards are included so that the kernel can merge
        // the adjacent guards of two frames into one mapping.
        advise(start, length);
        Ok(Home::Wide(Wide {
            start,
            length,
            capacity,
            base: start.wrapping_add(guard),
        }))
    }

    /// Says how the place is to be cleared when this is dropped.
    fn set_file_range(&mut self, extent: &Extent) {
        if let Home::Arena(place) = self {
            place.file = (extent.file.get()).map_or(0..0, |(at, file)| *at..*at + file.len());
        }
    }

    fn address(&self) -> *mut u8 {
        match self {
            Home::Wide(wide) => wide.base,
            Home::Arena(place) => place.address(),
        }
    }

    fn is_packed(&self) -> bool {
        matches!(self, Home::Arena(_))
    }

    fn capacity(&self) -> usize {
        match self {
            Home::Wide(wide) => wide.capacity,
            Home::Arena(place) => place.capacity(),
        }
    }

    /// Makes the bytes from `before` to `after` accessible; `after` is within the capacity.
    fn make_accessible(&mut self, before: usize, after: usize) -> io::Result<()> {
        let Home::Wide(wide) = self else {
            return Ok(());
        };
        let before = before.next_multiple_of(PAGE);
        let after = after.next_multiple_of(PAGE);
        if after <= before {
            return Ok(());
        }
        assert!(after <= wide.capacity, "checked by the caller");
        // SAFETY: the range lies in this mapping, before its second guard, and
        // was not accessible before, so nothing refers to it.
        let answer = unsafe {
            let start = wide.base.add(before).cast();
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mprotect(start, after - before, access)
        };
        match answer {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// One memory.
#[derive(Debug)]
pub struct Reserve {
    home: Home,
    extent: Arc<Extent>,
    memories: Weak<Memories>,
}

impl Reserve {
    /// Returns the start of the memory. The first [`Reserve::bytes`] bytes are readable and
    /// writable. It changes only when the memory grows beyond [`Reserve::capacity`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.home.address()
    }

    /// Returns the current length in bytes.
    pub fn bytes(&self) -> usize {
        self.extent.bytes()
    }

    /// Returns to how many bytes it can grow where it is.
    pub fn capacity(&self) -> usize {
        self.home.capacity()
    }

    /// Makes the memory larger, to `bytes`. What is added is zero. A packed memory that does not fit
    /// its place moves.
    ///
    /// # Errors
    ///
    /// Returns an error if a wide memory would exceed its capacity, or if the system is out of memory
    /// or mappings. The memory is then unchanged.
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > self.home.capacity() {
            return match self.home {
                Home::Wide(_) => Err(io::Error::other("a wide memory does not move to grow")),
                Home::Arena(_) => self.move_to_grow(bytes),
            };
        }
        self.home.make_accessible(self.extent.bytes(), bytes)?;
        self.extent.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn move_to_grow(&mut self, bytes: usize) -> io::Result<()> {
        let gone = || io::Error::other("the host of this memory has ended");
        let memories = self.memories.upgrade().ok_or_else(gone)?;
        let home = memories.packed_home(bytes)?;
        let length = self.extent.bytes();
        // SAFETY: both are memories of this length at least that nothing else refers to: the one
        // is exclusively borrowed, the other is new.
        let (old, new) = unsafe {
            (
                std::slice::from_raw_parts(self.home.address(), length),
                std::slice::from_raw_parts_mut(home.address(), length),
            )
        };
        // The pages of the base stay shared, and count as unwritten, in the new place too.
        let mut shared = 0..0;
        if let Some((at, file)) = self.extent.file.get() {
            shared = *at..*at + file.len();
            file.map(&mut new[shared.clone()])?;
        }
        // A page of the base that is zero by now counts as written there too: it differs from the base.
        let copied = self.extent.copied.get().cloned().unwrap_or(0..0);
        let pages = old.chunks(PAGE).zip(new.chunks_mut(PAGE));
        for (start, (old, new)) in (0..).step_by(PAGE).zip(pages) {
            // Elsewhere the new page is zero; to read it would make it count as written on some
            // systems.
            let differs = match shared.contains(&start) {
                true => old != new,
                false => copied.contains(&start) || *old != ZERO[..old.len()],
            };
            if differs {
                new.copy_from_slice(old);
            }
        }
        let mut before = std::mem::replace(&mut self.home, home);
        let address = self.home.address() as usize;
        let mut made = memories.made.lock();
        made.remove(&(before.address() as usize));
        self.extent.address.store(address, Ordering::Release);
        self.extent.bytes.store(bytes, Ordering::Relaxed);
        self.extent.reached.store(0, Ordering::Relaxed);
        let packed = self.home.is_packed();
        self.extent.packed.store(packed, Ordering::Relaxed);
        self.extent.moved_out.store(!packed, Ordering::Relaxed);
        if !packed {
            memories.moved_out.fetch_add(1, Ordering::Relaxed);
        }
        made.insert(address, self.extent.clone());
        drop(made);
        before.set_file_range(&self.extent);
        Ok(())
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // Before the addresses are free: another memory may get them at once.
        if let Some(memories) = self.memories.upgrade() {
            let address = self.home.address() as usize;
            memories.made.lock().remove(&address);
            if self.extent.has_moved_out() {
                memories.moved_out.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.home.set_file_range(&self.extent);
    }
}

#[cfg(test)]
mod tests;
