//! The allocator: free memory is zero.
//!
//! An idle process is stored as the words of its memory that differ from the base, in which the interpreter was
//! started. So what is freed becomes zero, nothing is kept in holes, and places are taken from the lowest free one on:
//! the same work leaves the same bytes behind.
//!
//! Memory is cut into pages of 4 KiB. A page has slots of one size, with a header that says which are taken, or is part
//! of a run of pages that is one block. Rust passes the size of what it frees, so a run needs no header.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

use crate::host;

const PAGE: usize = 4096;
const WASM_PAGE: usize = 65536;
/// How many pages there can be: 4 GiB.
const PAGES: usize = 1 << 20;
/// From this size on the host clears, and gives the pages back to the system.
const DISCARD_FROM: usize = 64 * 1024;
const HEADER: usize = size_of::<Header>();
const LARGEST_SLOT: usize = 2016;
/// What all blocks are aligned to.
const GRANULE: usize = 16;
const SIZES: [u16; 22] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 672, 800, 1008,
    1344, 2016,
];
/// No page: 0 is never one of the heap's.
const NONE: u32 = 0;

/// The front of a page with slots.
#[repr(C, align(16))]
struct Header {
    taken: [u64; 4],
    /// The next and the previous page of this size that have a free slot.
    next: u32,
    previous: u32,
    class: u16,
    count: u16,
    unused: u32,
}

struct State {
    /// A bit for each page: in use, or not of the heap.
    pages: [u64; PAGES / 64],
    /// The pages that the heap has asked the system for end here; 0 before the first.
    end: usize,
    /// No page below is free.
    lowest: usize,
    /// For each size, the first page that has a free slot.
    partial: [u32; SIZES.len()],
    /// How many bytes are allocated.
    allocated: usize,
}

/// The heap of the module.
pub struct Heap(UnsafeCell<State>);

// SAFETY: the module has one thread; the host refuses shared memories.
unsafe impl Sync for Heap {}

/// The heap.
#[global_allocator]
pub static HEAP: Heap = Heap(UnsafeCell::new(State {
    pages: [0; PAGES / 64],
    end: 0,
    lowest: 0,
    partial: [NONE; SIZES.len()],
    allocated: 0,
}));

impl Heap {
    /// How many bytes are allocated.
    pub fn allocated(&self) -> usize {
        // SAFETY: one thread, and the read ends here.
        unsafe { (*self.0.get()).allocated }
    }
}

fn class_of(size: usize) -> usize {
    if size <= 128 {
        return size.div_ceil(GRANULE).saturating_sub(1);
    }
    SIZES.partition_point(|slot| (*slot as usize) < size)
}

fn is_slot(layout: &Layout) -> bool {
    layout.size() <= LARGEST_SLOT && layout.align() <= GRANULE
}

fn slots(class: usize) -> usize {
    (PAGE - HEADER) / SIZES[class] as usize
}

/// # Safety
///
/// The page is one with slots.
unsafe fn header<'a>(page: u32) -> &'a mut Header {
    // SAFETY: the caller's promise; nobody else keeps a reference.
    unsafe { &mut *((page as usize * PAGE) as *mut Header) }
}

/// # Safety
///
/// The bytes are the heap's, and nobody uses them.
unsafe fn clear(block: *mut u8, size: usize) {
    if size >= DISCARD_FROM {
        // SAFETY: the caller's promise.
        if unsafe { host::discard(block, size as u32) } == 0 {
            return;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { block.write_bytes(0, size) };
    // What is freed is not read any more, but by the host: these are no dead stores.
    std::hint::black_box(block);
}

impl State {
    fn is_used(&self, page: usize) -> bool {
        self.pages[page / 64] >> (page % 64) & 1 == 1
    }

    fn mark(&mut self, pages: std::ops::Range<usize>, used: bool) {
        for page in pages {
            let bit = 1 << (page % 64);
            if used {
                self.pages[page / 64] |= bit;
            } else {
                self.pages[page / 64] &= !bit;
            }
        }
    }

    /// Takes so many pages in a row; `None` if there is no memory for them.
    fn take_pages(&mut self, count: usize) -> Option<usize> {
        let (mut page, mut run) = (self.lowest, 0);
        let mut only_used = true;
        while page < self.end {
            let used = self.is_used(page);
            run = if used { 0 } else { run + 1 };
            page += 1;
            if only_used {
                if used {
                    self.lowest = page;
                } else {
                    only_used = false;
                }
            }
            if run == count {
                self.mark(page - count..page, true);
                return Some(page - count);
            }
        }
        let wanted = (count - run).div_ceil(WASM_PAGE / PAGE);
        let mut grown = core::arch::wasm32::memory_grow::<0>(wanted);
        if grown == usize::MAX {
            return None;
        }
        let mut first = grown * (WASM_PAGE / PAGE);
        if first != self.end {
            // What lies between belongs to the C library, or to the script at the first time.
            if self.end == 0 {
                self.lowest = first;
            }
            self.mark(self.end..first, true);
            self.end = first + wanted * (WASM_PAGE / PAGE);
            if run > 0 {
                let more = run.div_ceil(WASM_PAGE / PAGE);
                grown = core::arch::wasm32::memory_grow::<0>(more);
                if grown * (WASM_PAGE / PAGE) != self.end {
                    return None;
                }
                self.end += more * (WASM_PAGE / PAGE);
            }
        } else {
            self.end = first + wanted * (WASM_PAGE / PAGE);
            first -= run;
        }
        self.mark(first..first + count, true);
        Some(first)
    }

    fn give_pages(&mut self, pages: std::ops::Range<usize>) {
        self.lowest = self.lowest.min(pages.start);
        self.mark(pages, false);
    }

    /// Makes a page the first of its size that has a free slot.
    fn offer(&mut self, page: u32) {
        // SAFETY: the page has slots.
        let class = unsafe { header(page) }.class as usize;
        let next = std::mem::replace(&mut self.partial[class], page);
        // SAFETY: the page has slots.
        unsafe { header(page) }.next = next;
        if next != NONE {
            // SAFETY: what is in the list has slots.
            unsafe { header(next) }.previous = page;
        }
    }

    fn withdraw(&mut self, page: u32) {
        // SAFETY: the page has slots.
        let of = unsafe { header(page) };
        let (next, previous, class) = (of.next, of.previous, of.class as usize);
        (of.next, of.previous) = (NONE, NONE);
        if previous == NONE {
            self.partial[class] = next;
        } else {
            // SAFETY: what is in the list has slots.
            unsafe { header(previous) }.next = next;
        }
        if next != NONE {
            // SAFETY: as above.
            unsafe { header(next) }.previous = previous;
        }
    }

    fn take_slot(&mut self, class: usize) -> Option<*mut u8> {
        if self.partial[class] == NONE {
            let page = self.take_pages(1)? as u32;
            // SAFETY: the page is the heap's own from now on, and zero.
            unsafe { header(page) }.class = class as u16;
            self.offer(page);
        }
        let page = self.partial[class];
        // SAFETY: what is in the list has slots.
        let of = unsafe { header(page) };
        let word = of.taken.iter().position(|word| *word != u64::MAX)?;
        let slot = word * 64 + of.taken[word].trailing_ones() as usize;
        of.taken[word] |= 1 << (slot % 64);
        of.count += 1;
        if of.count as usize == slots(class) {
            self.withdraw(page);
        }
        self.allocated += SIZES[class] as usize;
        Some((page as usize * PAGE + HEADER + slot * SIZES[class] as usize) as *mut u8)
    }

    fn give_slot(&mut self, block: *mut u8) {
        let page = (block as usize / PAGE) as u32;
        // SAFETY: small blocks lie in pages with slots.
        let of = unsafe { header(page) };
        let class = of.class as usize;
        let size = SIZES[class] as usize;
        let slot = (block as usize % PAGE - HEADER) / size;
        // SAFETY: the slot is the block's.
        unsafe { clear(block, size) };
        of.taken[slot / 64] &= !(1 << (slot % 64));
        self.allocated -= size;
        if of.count as usize == slots(class) {
            self.offer(page);
        }
        of.count -= 1;
        if of.count == 0 {
            self.withdraw(page);
            of.class = 0;
            self.give_pages(page as usize..page as usize + 1);
        }
    }

    fn take(&mut self, layout: &Layout) -> Option<*mut u8> {
        if is_slot(layout) {
            return self.take_slot(class_of(layout.size()));
        }
        if layout.align() > PAGE {
            return None;
        }
        let count = layout.size().div_ceil(PAGE);
        let page = self.take_pages(count)?;
        self.allocated += count * PAGE;
        Some((page * PAGE) as *mut u8)
    }

    fn give(&mut self, block: *mut u8, layout: &Layout) {
        if is_slot(layout) {
            return self.give_slot(block);
        }
        let page = block as usize / PAGE;
        let count = layout.size().div_ceil(PAGE);
        // SAFETY: the block has this size, and its owner no longer uses it.
        unsafe { clear(block, layout.size()) };
        self.allocated -= count * PAGE;
        self.give_pages(page..page + count);
    }

    /// Makes a block larger or smaller where it is, if that is possible.
    fn resize(&mut self, block: *mut u8, layout: &Layout, size: usize) -> bool {
        if is_slot(layout) {
            return size <= LARGEST_SLOT && {
                let fits = class_of(size) == class_of(layout.size());
                if fits && size < layout.size() {
                    // SAFETY: these bytes are given up.
                    unsafe { clear(block.add(size), layout.size() - size) };
                }
                fits
            };
        }
        if size <= LARGEST_SLOT {
            return false;
        }
        let page = block as usize / PAGE;
        let (had, wants) = (layout.size().div_ceil(PAGE), size.div_ceil(PAGE));
        if size < layout.size() {
            // SAFETY: these bytes are given up.
            unsafe { clear(block.add(size), layout.size() - size) };
        }
        if wants < had {
            self.give_pages(page + wants..page + had);
            self.allocated -= (had - wants) * PAGE;
        }
        if wants > had {
            let more = page + had..page + wants;
            if more.end > self.end || more.clone().any(|page| self.is_used(page)) {
                return false;
            }
            self.mark(more, true);
            self.allocated += (wants - had) * PAGE;
        }
        true
    }
}

// SAFETY: slots and pages are marked as taken, so no two blocks overlap. Nothing here allocates or panics: the indices
// are those of pages below `PAGES`.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and the reference ends here.
        unsafe { (*self.0.get()).take(&layout) }.unwrap_or(ptr::null_mut())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // What is free is zero.
        // SAFETY: the caller's promise.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { (*self.0.get()).give(block, &layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        if unsafe { (*self.0.get()).resize(block, &layout, size) } {
            return block;
        }
        // SAFETY: the caller promises that the size fits the alignment.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: two blocks with at least this many bytes; the old one is the caller's.
            unsafe {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}
