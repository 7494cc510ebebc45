//! The memories of frames. Each has its own reserved addresses, of which the first
//! part is accessible. wasmtime creates them here ([`Memories`] is its memory
//! creator) and grows them.
//!
//! wasmtime cannot shrink a memory: a frame would stay as large as the largest
//! process that it has served, while a new process has the size of the base. So
//! [`Memories::shrink`] does it, between two processes. Pages beyond the new end are
//! returned to the system, and are zero when the memory grows again.
//!
//! Lock order: no other lock is taken while `made` is held.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::{LinearMemory, Memory, MemoryCreator, MemoryType, Store};

use super::{PAGE, advise};

/// Prefix of the error for a memory that cannot be mapped: wasmtime accepts only a
/// text from a memory creator.
pub(crate) const NO_ADDRESSES: &str = "there are no addresses for a memory";

/// The address and length of a memory, for counting its pages while it is in use.
#[derive(Debug)]
pub(crate) struct Extent {
    address: usize,
    /// Current length. Changed only with exclusive access to the memory.
    bytes: AtomicUsize,
}

impl Extent {
    pub(super) fn new(address: usize, bytes: usize) -> Extent {
        Extent {
            address,
            bytes: AtomicUsize::new(bytes),
        }
    }

    pub(crate) fn address(&self) -> usize {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// All memories of an engine's instances.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    /// All existing memories, by address.
    made: Mutex<HashMap<usize, Arc<Extent>, foldhash::fast::FixedState>>,
    me: Weak<Memories>,
}

impl Memories {
    pub(crate) fn new() -> Arc<Memories> {
        Arc::new_cyclic(|me| Memories {
            made: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Returns the extent of the memory at this address. `None`: it was not created here.
    pub(crate) fn extent(&self, address: *const u8) -> Option<Arc<Extent>> {
        self.made.lock().get(&(address as usize)).cloned()
    }

    /// Shrinks a memory in which no guest is running. Returns `false` if the system is
    /// out of memory or mappings; the memory is then unchanged.
    ///
    /// # Errors
    ///
    /// Returns an error if the memory was not created here, or wasmtime does not see its
    /// new length. The memory must not be used any more.
    pub(crate) fn shrink<T: 'static>(
        &self,
        store: &mut Store<T>,
        memory: &Memory,
        bytes: usize,
    ) -> wasmtime::Result<bool> {
        let address = memory.data_ptr(&*store);
        let extent = self
            .extent(address)
            .ok_or_else(|| wasmtime::Error::msg("it is no memory of this host"))?;
        let before = extent.bytes();
        assert!(
            bytes <= before && bytes.is_multiple_of(PAGE),
            "a memory is made smaller by whole pages"
        );
        if bytes == before {
            return Ok(true);
        }
        // SAFETY: the range is the end of a mapping of ours that still exists, since the
        // store owns the memory, and it is in `made`. No reference to its contents
        // exists: it would borrow the store, which is borrowed mutably here. Guests and
        // the host see the new length below, before anything else can run in the store.
        unsafe {
            let start = address.add(bytes).cast();
            if libc::mprotect(start, before - bytes, libc::PROT_NONE) != 0 {
                return Ok(false);
            }
            // This cannot fail for a private anonymous mapping.
            libc::madvise(start, before - bytes, libc::MADV_DONTNEED);
        }
        extent.bytes.store(bytes, Ordering::Relaxed);
        // Growing by 0 pages makes the instance read the length of its memory again.
        memory.grow(&mut *store, 0)?;
        match memory.data_size(&*store) == bytes {
            true => Ok(true),
            false => Err(wasmtime::Error::msg("its memory could not be made smaller")),
        }
    }
}

// SAFETY: each memory is a separate mapping, zero and inaccessible except for its
// first `minimum` bytes, with the requested reservation and guards; it is written
// only through the store that owns it.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let refused = |error: io::Error| format!("{NO_ADDRESSES}: {error}");
        let capacity = reserved.unwrap_or(0).max(minimum.next_multiple_of(PAGE));
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
            return Err(refused(io::Error::last_os_error()));
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
        reserve.grow(minimum).map_err(refused)?;
        (self.made.lock()).insert(base as usize, reserve.extent.clone());
        Ok(Box::new(reserve))
    }
}

/// The reserved addresses of one memory.
#[derive(Debug)]
struct Reserve {
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
    fn grow(&mut self, bytes: usize) -> io::Result<()> {
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

// SAFETY: the first `byte_size` bytes at `as_ptr` are readable and writable, the
// rest up to the end of the second guard is not; the memory never moves.
unsafe impl LinearMemory for Reserve {
    fn byte_size(&self) -> usize {
        self.extent.bytes()
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.grow(bytes).map_err(wasmtime::Error::from)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // Before the unmap: another memory may get the same addresses at once.
        if let Some(memories) = self.memories.upgrade() {
            memories.made.lock().remove(&(self.base as usize));
        }
        // SAFETY: unmaps what `new_memory` mapped; the instance that used it is gone.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
