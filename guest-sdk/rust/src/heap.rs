//! The allocator of a guest: free memory is zero.
//!
//! An idle process is stored as the words of its memory that differ from its version's base. An
//! ordinary allocator leaves behind the bytes of what it has freed, and its own links among
//! them: a process that has once handled a message of 3 KB stores 3 KB for as long as it
//! sleeps. So this allocator
//!
//! - clears what is freed, back to what it was in the base;
//! - keeps small blocks in an arena, without metadata between them. Rust passes the size of a
//!   block when it is freed, so a bitmap with one bit for each 16 bytes suffices, and it is all
//!   zeros again when everything is free;
//! - leaves large blocks, and those that no longer fit into the arena, to the standard
//!   library's allocator, and clears them as well. The metadata of that allocator remains, a
//!   few words for each block.
//!
//! Figures are in `host/notes/rust-images.md`. Uses `unsafe`, since an allocator hands out raw
//! memory; apart from `sys` this is the only module of the SDK that does.

mod map;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

use map::{GRANULES, Map};

/// The unit of allocation in bytes: two words of an image. A smaller one would save no image
/// bytes, since free bytes are zero anyway.
const GRANULE: usize = 16;
/// The size of the arena in bytes. An actor with a larger heap is not small, and the search for
/// free space must not grow with it.
const ARENA: usize = GRANULES * GRANULE;
/// Larger blocks go to the standard library, so that a single one does not fill the arena.
const LARGEST: usize = ARENA / 4;
/// Up to this size plain stores clear: a `memory.fill` is a call out of the
/// compiled code, however small. An estimate, not measured separately.
const SMALL: usize = 256;
/// From this size on the host clears, and gives the pages back to the system.
#[cfg(target_arch = "wasm32")]
const HUGE: usize = 64 * 1024;

/// A heap whose free bytes are zero.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Heap {
    /// Before the arena, so that it shares a page with the first blocks.
    map: UnsafeCell<Map>,
    arena: UnsafeCell<Arena>,
}

/// The bytes of the blocks. Aligned, so that every granule is.
#[derive(Debug)]
#[repr(align(16))]
struct Arena([u8; ARENA]);

const _: () = assert!(align_of::<Arena>() == GRANULE);

// SAFETY: a module of this target without atomics has one thread, and the ABI rejects shared
// memories.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl Sync for Heap {}

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: Heap = Heap::new();

// Its address is part of the data segments, as is that of an actor's state: two versions that
// keep their heaps at different addresses have different data, so neither reuses the memory of
// the other's processes.
#[cfg(target_arch = "wasm32")]
#[used]
static HEAP_IS_AT: &Heap = &HEAP;

impl Heap {
    /// Creates an empty heap.
    pub(crate) const fn new() -> Heap {
        Heap {
            map: UnsafeCell::new(Map::new()),
            arena: UnsafeCell::new(Arena([0; ARENA])),
        }
    }

    /// Returns the address of the first granule.
    fn start(&self) -> *mut u8 {
        // SAFETY: the pointer is the cell's own, and nothing is read.
        unsafe { (&raw mut (*self.arena.get()).0).cast() }
    }

    /// Returns the first granule of a block, or `None` if the block is not in the arena.
    fn first_granule(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start() as usize);
        (offset < ARENA).then_some(offset / GRANULE)
    }

    /// Returns the map.
    ///
    /// # Safety
    ///
    /// No other reference to it may be alive.
    #[allow(clippy::mut_from_ref, reason = "the cell is the heap's own")]
    unsafe fn map(&self) -> &mut Map {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.map.get() }
    }
}

/// Clears a block that is no longer used.
///
/// # Safety
///
/// The `size` bytes starting at `block` must be writable.
unsafe fn clear(block: *mut u8, size: usize) {
    #[cfg(target_arch = "wasm32")]
    if size >= HUGE {
        // SAFETY: the caller's promise; all values of bytes are valid.
        crate::sys::discard(unsafe { std::slice::from_raw_parts_mut(block, size) });
        return;
    }
    if size > SMALL || !(block as usize).is_multiple_of(size_of::<u64>()) {
        // SAFETY: the caller's promise.
        unsafe { block.write_bytes(0, size) };
        return;
    }
    let words = size / size_of::<u64>();
    for word in 0..words {
        // Volatile, or the compiler turns the loop into a `memory.fill`.
        // SAFETY: within the block, and aligned, since the block is.
        unsafe { block.cast::<u64>().add(word).write_volatile(0) };
    }
    for byte in words * size_of::<u64>()..size {
        // SAFETY: within the block.
        unsafe { block.add(byte).write_volatile(0) };
    }
}

// SAFETY: a block is either granules of the arena that the map gave to no other block, or a
// block of the standard library's allocator; its address tells which. Nothing here allocates or
// panics: the granule indices of a block are inside the arena.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= LARGEST && layout.align() <= GRANULE {
            let count = layout.size().div_ceil(GRANULE);
            // SAFETY: one thread, and the reference ends with the statement.
            if let Some(first) = unsafe { self.map() }.take(count) {
                // SAFETY: all granules of the map are inside the arena.
                return unsafe { self.start().add(first * GRANULE) };
            }
        }
        // SAFETY: forwards the caller's guarantee.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: forwards the caller's guarantee.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && self.first_granule(block).is_none() {
            // The standard library's allocator may have left its links in the block.
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and its owner no longer uses it.
        unsafe { clear(block, layout.size()) };
        match self.first_granule(block) {
            // SAFETY: one thread, and the reference ends with the statement.
            Some(first) => unsafe { self.map() }.give(first, layout.size().div_ceil(GRANULE)),
            // SAFETY: a block outside the arena was allocated there, with this layout.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let old = layout.size();
        if let Some(first) = self.first_granule(block) {
            let (had, wants) = (old.div_ceil(GRANULE), size.div_ceil(GRANULE));
            if size <= old {
                // SAFETY: the block has `old` bytes, and these are given up.
                unsafe { clear(block.add(size), old - size) };
                // SAFETY: one thread, and the reference ends with the statement.
                unsafe { self.map() }.give(first + wants, had - wants);
                return block;
            }
            // SAFETY: one thread, and the reference ends with the condition.
            if size <= LARGEST && unsafe { self.map() }.take_at(first + had, wants - had) {
                return block;
            }
        }
        // Never use the standard library's own `realloc`, which leaves the old bytes in place
        // when it moves a block.
        // SAFETY: the caller guarantees that the size fits the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller guarantees that the size is not 0.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: two distinct blocks, each with at least this many bytes.
            unsafe { ptr::copy_nonoverlapping(block, moved, old.min(size)) };
            // SAFETY: the block and its layout come from the caller.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests;
