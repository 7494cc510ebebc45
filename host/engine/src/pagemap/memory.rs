//! The memories of frames: addresses that each has for itself, of which the
//! first part can be reached. wasmtime asks for them here ([`Memories`] is its
//! creator) and makes them larger.
//!
//! It has no way to make one smaller: a frame would stay as large as the largest
//! process that it has served, and a process that is born has the size of the
//! base. So [`Memories::shrink`] does it, between two processes. What is beyond
//! the end then is given back, and is zero when the memory grows again.
//!
//! Lock order: `made` is taken alone.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::{LinearMemory, Memory, MemoryCreator, MemoryType, Store};

use super::{PAGE, advise};

/// How an error begins that says that there are no addresses for a memory:
/// wasmtime takes no more than a text from a creator.
pub(crate) const NO_ADDRESSES: &str = "there are no addresses for a memory";

/// Where a memory is and how large, for whoever counts its pages while others
/// use it.
#[derive(Debug)]
pub(crate) struct Extent {
    address: usize,
    /// Changed by whoever has the memory for himself.
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
    /// Those that there are, by address.
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

    /// Where the memory at an address is that wasmtime has asked for here.
    pub(crate) fn extent(&self, address: *const u8) -> Option<Arc<Extent>> {
        self.made.lock().get(&(address as usize)).cloned()
    }

    /// Makes a memory smaller, in which no guest is under way. `Ok(false)`: the
    /// system has no room for what that takes, and nothing has happened.
    ///
    /// # Errors
    ///
    /// The memory cannot be used any more.
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
        // SAFETY: the range is the end of a mapping of ours that is still there,
        // since the store has the memory, and it is in `made`. Nobody refers to what it
        // holds: whoever did would borrow the store, which is borrowed here for
        // writing. Guests and the host find the new length below, before anything
        // else can run in the store.
        unsafe {
            let start = address.add(bytes).cast();
            if libc::mprotect(start, before - bytes, libc::PROT_NONE) != 0 {
                return Ok(false);
            }
            // It cannot fail for a range that is mapped so.
            libc::madvise(start, before - bytes, libc::MADV_DONTNEED);
        }
        extent.bytes.store(bytes, Ordering::Relaxed);
        // Growing by nothing has the instance look how large its memory is.
        memory.grow(&mut *store, 0)?;
        match memory.data_size(&*store) == bytes {
            true => Ok(true),
            false => Err(wasmtime::Error::msg("its memory could not be made smaller")),
        }
    }
}

// SAFETY: each memory is a mapping of its own, zero and without access but for
// its first `minimum` bytes, with the reservation and the guards that were asked
// for; nobody writes to it but through the store that has it.
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
        // Page maps want it so. The guards too, so that the kernel keeps those of
        // two frames side by side in one mapping.
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

/// Addresses of one memory.
#[derive(Debug)]
struct Reserve {
    /// Of the whole mapping.
    start: *mut u8,
    length: usize,
    /// Bytes that the memory can have.
    capacity: usize,
    /// Of the memory, behind the first guard.
    base: *mut u8,
    extent: Arc<Extent>,
    memories: Weak<Memories>,
}

// SAFETY: it has its mapping for itself, and refers to it by address only.
unsafe impl Send for Reserve {}
// SAFETY: shared, it only tells addresses and sizes.
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
            // was not accessible before, so nobody refers to it.
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

// SAFETY: the first `byte_size` bytes at `as_ptr` can be read and written, and
// the rest up to the second guard's end cannot; the memory never moves.
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
        // First: another may get the addresses at once.
        if let Some(memories) = self.memories.upgrade() {
            memories.made.lock().remove(&(self.base as usize));
        }
        // SAFETY: unmaps what `new_memory` has mapped; the instance that had it is gone.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
