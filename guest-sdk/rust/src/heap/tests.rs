//! Checks the heap against the requirements of an allocator, off Wasm: one heap per test.

use std::alloc::{GlobalAlloc, Layout};

use super::{ARENA, Heap, LARGEST};

/// A block that a test holds, filled with its mark.
struct Block {
    at: *mut u8,
    layout: Layout,
    mark: u8,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the heap gave this many bytes, and they were written.
        unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
    }

    fn fill(&self) {
        // SAFETY: the heap gave this many bytes.
        unsafe { self.at.write_bytes(self.mark, self.layout.size()) };
    }

    fn check(&self) {
        assert!(self.bytes().iter().all(|byte| *byte == self.mark));
        assert!((self.at as usize).is_multiple_of(self.layout.align()));
    }
}

fn arena(heap: &Heap) -> &[u8; ARENA] {
    // SAFETY: no block is in use while a test looks.
    unsafe { &(*heap.arena.get()).0 }
}

#[test]
fn blocks_keep_their_bytes_and_leak_none() {
    let heap = Box::new(Heap::new());
    let mut held: Vec<Block> = Vec::new();
    let mut random = 0x5eed_u64;
    let mut below = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % end as u64) as usize
    };
    for round in 0..30_000_usize {
        let largest = [24, 300, 5_000, 2 * LARGEST][below(4)];
        let size = below(largest) + 1;
        let mark = round.to_le_bytes()[0] | 1;
        let filling = round / 3_000 % 2 == 0;
        if below(10) < if filling { 6 } else { 4 } {
            let layout = Layout::from_size_align(size, 1 << below(6)).unwrap();
            let clean = below(2) == 0;
            // SAFETY: the size is not 0.
            let at = unsafe {
                if clean {
                    heap.alloc_zeroed(layout)
                } else {
                    heap.alloc(layout)
                }
            };
            let block = Block { at, layout, mark };
            if clean || heap.first_granule(at).is_some() {
                assert!(block.bytes().iter().all(|byte| *byte == 0));
            }
            block.fill();
            held.push(block);
        } else if !held.is_empty() {
            let block = held.swap_remove(below(held.len()));
            block.check();
            if below(2) == 0 {
                // SAFETY: a block of this heap, with its layout.
                unsafe { heap.dealloc(block.at, block.layout) };
                continue;
            }
            let kept = block.layout.size().min(size);
            // SAFETY: a block of this heap, with its layout; the size is not 0.
            let at = unsafe { heap.realloc(block.at, block.layout, size) };
            let layout = Layout::from_size_align(size, block.layout.align()).unwrap();
            let moved = Block { at, layout, mark };
            assert!(moved.bytes()[..kept].iter().all(|byte| *byte == block.mark));
            moved.fill();
            held.push(moved);
        }
    }
    assert!(held.iter().any(|b| heap.first_granule(b.at).is_some()));
    assert!(held.iter().any(|b| heap.first_granule(b.at).is_none()));
    for block in held {
        block.check();
        // SAFETY: a block of this heap, with its layout.
        unsafe { heap.dealloc(block.at, block.layout) };
    }
    assert!(arena(&heap).iter().all(|byte| *byte == 0));
}

#[test]
fn a_growing_vector_stays_where_it_is() {
    let heap = Heap::new();
    let mut layout = Layout::from_size_align(8, 8).unwrap();
    // SAFETY: the size is not 0.
    let first = unsafe { heap.alloc(layout) };
    let mut at = first;
    while layout.size() < LARGEST {
        let size = layout.size() * 2;
        // SAFETY: a block of this heap, with its layout.
        at = unsafe { heap.realloc(at, layout, size) };
        layout = Layout::from_size_align(size, 8).unwrap();
        assert_eq!(at, first);
    }
    // SAFETY: a block of this heap, with its layout.
    unsafe { heap.dealloc(at, layout) };
}
