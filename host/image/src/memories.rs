//! The memories of frames. Each has its own reserved addresses, of which the first
//! part is accessible. The engine hands them to wasmtime, which grows them.
//!
//! wasmtime cannot shrink a memory: a frame would stay as large as the largest
//! process that it has served, while a new process has the size of the base. So
//! [`Memories::shrink`] does it, between two processes. Pages beyond the new end are
//! returned to the system, and are zero when the memory grows again.
//!
//! Lock order: no other lock is taken while `made` is held.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::PAGE;
use crate::mapping::advise;

/// Bytes of address space that are reserved for each memory. A memory never moves, and every
/// 32-bit address lies in its reservation.
pub const RESERVED: usize = 4 << 30;
/// Bytes of inaccessible address space before and after the reservation, which belong to the
/// memory.
pub const GUARD: usize = 32 << 20;

/// The address and length of a memory, for counting its pages while it is in use.
#[derive(Debug)]
pub struct Extent {
    address: usize,
    /// Current length. Changed only with exclusive access to the memory.
    bytes: AtomicUsize,
}

impl Extent {
    pub(crate) fn new(address: usize, bytes: usize) -> Extent {
        Extent {
            address,
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// Returns the address of its first byte.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Returns its current length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// All memories of an engine's instances.
#[derive(Debug, Default)]
pub struct Memories {
    /// All existing memories, by address.
    made: Mutex<HashMap<usize, Arc<Extent>, foldhash::fast::FixedState>>,
    me: Weak<Memories>,
}

impl Memories {
    /// Creates an empty table of memories.
    pub fn new() -> Arc<Memories> {
        Arc::new_cyclic(|me| Memories {
            made: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Returns the extent of the memory at this address. `None`: it was not created here.
    pub fn extent(&self, address: *const u8) -> Option<Arc<Extent>> {
        self.made.lock().get(&(address as usize)).cloned()
    }

    /// Reserves the addresses of a memory of `capacity` bytes between two guards, and makes the
    /// first `minimum` bytes accessible. Sizes are rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory, mappings or addresses.
    pub fn reserve(&self, minimum: usize, capacity: usize, guard: usize) -> io::Result<Reserve> {
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
        let base = start.wrapping_add(guard);
        let mut reserve = Reserve {
            start,
            length,
            capacity,
            base,
            extent: Arc::new(Extent::new(base as usize, 0)),
            memories: self.me.clone(),
        };
        reserve.grow(minimum)?;
        (self.made.lock()).insert(base as usize, reserve.extent.clone());
        Ok(reserve)
    }

    /// Makes the memory at `address` smaller, to `bytes`, a number of whole pages. The pages
    /// behind its new end go back to the system, and are zero when it grows again.
    ///
    /// # Errors
    ///
    /// Returns an error if the system is out of memory or mappings, or, of the kind
    /// [`ErrorKind::InvalidInput`], if the memory was not created here. The memory is then
    /// unchanged.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is larger than the memory, or not whole pages.
    ///
    /// # Safety
    ///
    /// The memory must exist until this returns. Nothing may refer to its contents from `bytes`
    /// on, and whatever accesses the memory must know its new length before it does so again.
    pub unsafe fn shrink(&self, address: *mut u8, bytes: usize) -> io::Result<()> {
        let extent = self.extent(address).ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidInput, "it is not a memory of this host")
        })?;
        let before = extent.bytes();
        assert!(
            bytes <= before && bytes.is_multiple_of(PAGE),
            "a memory is made smaller by whole pages"
        );
        if bytes == before {
            return Ok(());
        }
        // SAFETY: the range is the end of a mapping of ours that still exists, as the caller
        // guarantees, and it is in `made`. By the same contract nothing refers to it.
        unsafe {
            let start = address.add(bytes).cast();
            if libc::mprotect(start, before - bytes, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            // This cannot fail for a private anonymous mapping.
            libc::madvise(start, before - bytes, libc::MADV_DONTNEED);
        }
        extent.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// The reserved addresses of one memory.
#[derive(Debug)]
pub struct Reserve {
    /// Start of the whole mapping, with guards.
    start: *mut u8,
    /// Length of the whole mapping, bytes.
    length: usize,
    /// Most bytes to which the memory can grow.
    capacity: usize,
    /// Start of the memory, after the first guard.
    base: *mut u8,
    extent: Arc<Extent>,
    memories: Weak<Memories>,
}

// SAFETY: it owns its mapping, and refers to it by address only.
unsafe impl Send for Reserve {}
// SAFETY: a shared reference only returns addresses and sizes.
unsafe impl Sync for Reserve {}

impl Reserve {
    /// Returns the start of the memory. The first [`Reserve::bytes`] bytes are readable and
    /// writable, what follows up to the end of the second guard is not; it never moves.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base
    }

    /// Returns the current length in bytes.
    pub fn bytes(&self) -> usize {
        self.extent.bytes()
    }

    /// Returns to how many bytes it can grow.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the memory larger, to `bytes`. What is added is zero.
    ///
    /// # Errors
    ///
    /// Returns an error if that is beyond the capacity, or if the system is out of memory or
    /// mappings.
    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let before = self.extent.bytes().next_multiple_of(PAGE);
        let after = bytes.next_multiple_of(PAGE);
        if after > self.capacity {
            return Err(io::Error::other("a memory does not move to grow"));
        }
        if after > before {
            // SAFETY: the range lies in this mapping, before its second guard, and
            // was not accessible before, so nothing refers to it.
            let answer = unsafe {
                let start = self.base.add(before).cast();
                let access = libc::PROT_READ | libc::PROT_WRITE;
                libc::mprotect(start, after - before, access)
            };
            if answer != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.extent.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // Before the unmap: another memory may get the same addresses at once.
        if let Some(memories) = self.memories.upgrade() {
            memories.made.lock().remove(&(self.base as usize));
        }
        // SAFETY: unmaps what `reserve` mapped; whoever used it gives up its own copy of
        // `as_ptr` with it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
