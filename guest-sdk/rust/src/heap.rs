//! The allocator of a guest: what is free is zero.
//!
//! A process that is idle is stored as the words of its memory that differ from
//! its version's base. An ordinary allocator leaves the bytes of whatever it
//! has freed, and its own links among them: a process that has once handled a
//! message of 3 KB carries 3 KB for as long as it sleeps. So this one
//!
//! - clears what is freed, to what it was in the base;
//! - keeps small blocks in an arena without a word of its own between them. Rust
//!   tells the size of a block when it is freed, so a map with one bit for each
//!   16 bytes is all there is to know, and it is zero again when all is free;
//! - leaves large blocks, and what does not fit the arena any more, to the
//!   standard library's allocator, clearing them as well. That one's own words
//!   stay, a few for each block.
//!
//! Figures are in `host/notes/rust-images.md`. With `unsafe`, since an allocator
//! hands out raw memory; beside `sys` the only file that has any.

mod map;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

use map::{GRANULES, Map};

/// Bytes that are taken and given as one. Two words of an image: smaller ones
/// would save no image bytes, since free bytes are zero anyway.
const GRANULE: usize = 16;
/// Bytes of the arena. An actor with more on its heap than this is no small one,
/// and its search for a free place must not grow with it.
const ARENA: usize = GRANULES * GRANULE;
/// Blocks above this size go to the standard library, so that one of them does
/// not fill the arena.
const LARGEST: usize = ARENA / 4;
/// Up to this size plain stores clear: a `memory.fill` is a call out of the
/// compiled code, however little it fills. A guess, not measured by itself.
const SMALL: usize = 256;

/// A heap whose free bytes are zero.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Heap {
    /// Before the arena, so that the first blocks share its page.
    map: UnsafeCell<Map>,
    arena: UnsafeCell<Arena>,
}

/// The bytes of the blocks. Aligned, so that every granule is.
#[derive(Debug)]
#[repr(align(16))]
struct Arena([u8; ARENA]);

const _: () = assert!(align_of::<Arena>() == GRANULE);

// SAFETY: a module of this target without atomics has one thread, and the ABI
// refuses shared memories.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl Sync for Heap {}

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: Heap = Heap::new();

// Its address stands in the data segments, as that of an actor's state does: two
// versions that keep their heaps in different places have different data, and no
// process is carried from one to the other.
#[cfg(target_arch = "wasm32")]
#[used]
static HEAP_IS_AT: &Heap = &HEAP;

impl Heap {
    /// A heap with nothing on it.
    pub(crate) const fn new() -> Heap {
        Heap {
            map: UnsafeCell::new(Map::new()),
            arena: UnsafeCell::new(Arena([0; ARENA])),
        }
    }

    /// The first granule's address.
    fn start(&self) -> *mut u8 {
        // SAFETY: the pointer is the cell's own, and nothing is read.
        unsafe { (&raw mut (*self.arena.get()).0).cast() }
    }

    /// The granule that a block of the arena begins with.
    fn first_granule(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start() as usize);
        (offset < ARENA).then_some(offset / GRANULE)
    }

    /// The map.
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

/// Clears a block that nobody uses any more.
///
/// # Safety
///
/// The `size` bytes from `block` on may be written.
unsafe fn clear(block: *mut u8, size: usize) {
    if size > SMALL || !(block as usize).is_multiple_of(size_of::<u64>()) {
        // SAFETY: the caller's promise.
        unsafe { block.write_bytes(0, size) };
        return;
    }
    let words = size / size_of::<u64>();
    for word in 0..words {
        // Volatile, or the compiler makes a `memory.fill` of the loop.
        // SAFETY: within the block, and aligned, since the block is.
        unsafe { block.cast::<u64>().add(word).write_volatile(0) };
    }
    for byte in words * size_of::<u64>()..size {
        // SAFETY: within the block.
        unsafe { block.add(byte).write_volatile(0) };
    }
}

// SAFETY: a block is either granules of the arena that the map gave to nobody
// else, or one of the standard library's; which one it is its address tells.
// Nothing here allocates or panics: the numbers of granules of a block are
// inside the arena.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= LARGEST && layout.align() <= GRANULE {
            let count = layout.size().div_ceil(GRANULE);
            // SAFETY: one thread, and the reference ends with the statement.
            if let Some(first) = unsafe { self.map() }.take(count) {
                // SAFETY: the map has no granules outside of the arena.
                return unsafe { self.start().add(first * GRANULE) };
            }
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && self.first_granule(block).is_none() {
            // The standard library's blocks have had its links in them.
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and its owner is done with it.
        unsafe { clear(block, layout.size()) };
        match self.first_granule(block) {
            // SAFETY: one thread, and the reference ends with the statement.
            Some(first) => unsafe { self.map() }.give(first, layout.size().div_ceil(GRANULE)),
            // SAFETY: what is not in the arena came from there, with this layout.
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
        // Never the standard library's own way, which leaves the old bytes where
        // they were when it moves a block.
        // SAFETY: the caller promises that the size fits the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that the size is not 0.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: two blocks, and each has as many bytes.
            unsafe { ptr::copy_nonoverlapping(block, moved, old.min(size)) };
            // SAFETY: the block and its layout are the caller's.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests;
