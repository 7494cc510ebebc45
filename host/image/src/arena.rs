//! Where packed memories lie: side by side, in places of a few sizes.
//!
//! Memories that are 4 GiB apart share no page of the page tables, and their hot pages meet in the
//! same sets of the TLB. Here a chunk of addresses is accessible as a whole and divided into places
//! of one size. A place is an odd number of pages, so that the same page of neighbours falls into
//! different sets. Only the guest's own bounds checks separate neighbours: the code of a guest
//! whose memory is here is compiled with them.
//!
//! A free place is zero and has no pages. Chunks are kept for as long as a memory lies in them or the
//! arena exists: only their addresses are, since free places have no pages.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::mapping::advise;
use crate::{PAGE, WASM_PAGE};

/// Bytes for which the smallest places have addresses. Each size is twice the one before.
const SMALLEST: usize = 2 * WASM_PAGE;
/// Number of sizes: the largest is 4 MiB.
const SIZES: usize = 6;
/// Bytes of a chunk, about.
const CHUNK: usize = 16 << 20;
/// Bytes that a new memory can grow by without moving.
const SPARE: usize = WASM_PAGE;

/// All places, by size.
#[derive(Debug)]
pub(crate) struct Arena {
    sizes: [Arc<Size>; SIZES],
}

impl Default for Arena {
    fn default() -> Arena {
        Arena {
            sizes: std::array::from_fn(|number| {
                Arc::new(Size {
                    capacity: SMALLEST << number,
                    lists: Mutex::default(),
                })
            }),
        }
    }
}

/// The places of one size.
#[derive(Debug)]
struct Size {
    /// Most bytes of a memory.
    capacity: usize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Addresses of free places. The last one is taken first: its lines in the page tables are warm.
    free: Vec<usize>,
    chunks: Vec<Chunk>,
}

/// Addresses that belong to places of one size.
#[derive(Debug)]
struct Chunk {
    start: usize,
    length: usize,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: unmaps what `Size::add_chunk` mapped. Each place refers to its size, so no
        // memory lies here any more.
        unsafe { libc::munmap(self.start as *mut _, self.length) };
    }
}

/// A place with zeros. Dropped, it is free for another memory.
#[derive(Debug)]
pub(crate) struct Place {
    address: usize,
    size: Arc<Size>,
    /// Whether a file was mapped over part of it.
    pub(crate) has_file: bool,
}

impl Arena {
    /// Takes a place for a memory of so many bytes. Returns `None` if it is too large for any.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or mappings.
    pub(crate) fn take(&self, bytes: usize) -> io::Result<Option<Place>> {
        let fits = |size: &&Arc<Size>| bytes + SPARE <= size.capacity;
        let Some(size) = self.sizes.iter().find(fits) else {
            return Ok(None);
        };
        let mut lists = size.lists.lock();
        if lists.free.is_empty() {
            size.add_chunk(&mut lists)?;
        }
        Ok(lists.free.pop().map(|address| Place {
            address,
            size: size.clone(),
            has_file: false,
        }))
    }
}

impl Size {
    /// Bytes from one place to the next.
    fn stride(&self) -> usize {
        self.capacity + PAGE
    }

    fn add_chunk(&self, lists: &mut Lists) -> io::Result<()> {
        let count = (CHUNK / self.stride()).max(4);
        let length = count * self.stride();
        // SAFETY: a fresh anonymous mapping; nothing else refers to it.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Page maps require it.
        advise(start.cast(), length);
        let start = start as usize;
        lists.chunks.push(Chunk { start, length });
        let places = (0..count).rev().map(|index| start + index * self.stride());
        lists.free.extend(places);
        Ok(())
    }
}

impl Place {
    /// Returns the address of its first byte.
    pub(crate) fn address(&self) -> *mut u8 {
        self.address as *mut u8
    }

    /// Returns the most bytes of a memory here.
    pub(crate) fn capacity(&self) -> usize {
        self.size.capacity
    }

    /// Makes it zero again. Returns whether that was possible.
    fn clear(&self) -> bool {
        let address = self.address as *mut libc::c_void;
        if !self.has_file {
            // SAFETY: the place belongs to `self` alone, and its memory is gone.
            return unsafe { libc::madvise(address, self.capacity(), libc::MADV_DONTNEED) == 0 };
        }
        // SAFETY: the same; a private mapping takes the place of others of the same size.
        let mapped = unsafe {
            libc::mmap(
                address,
                self.capacity(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return false;
        }
        // So that the kernel can merge it with its neighbours, and for the next memory.
        advise(self.address(), self.capacity());
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.clear() {
            self.size.lists.lock().free.push(self.address);
        } else {
            tracing::error!(
                "the addresses of a memory cannot be used again: the system is out of mappings"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the contents of a place.
    fn bytes(place: &mut Place) -> &mut [u8] {
        // SAFETY: the place belongs to the borrower, and is accessible as a whole.
        unsafe { std::slice::from_raw_parts_mut(place.address(), place.capacity()) }
    }

    #[test]
    fn places_do_not_overlap_and_are_zero_when_taken_again() {
        let arena = Arena::default();
        let mut places: Vec<_> = (0..300)
            .map(|_| arena.take(WASM_PAGE).unwrap().unwrap())
            .collect();
        let mut addresses: Vec<_> = places.iter().map(|place| place.address).collect();
        addresses.sort_unstable();
        let apart = |pair: &[usize]| pair[1] - pair[0] >= SMALLEST;
        assert!(addresses.windows(2).all(apart));
        for place in &mut places {
            assert!(bytes(place).iter().all(|byte| *byte == 0));
            bytes(place).fill(7);
        }
        let last = places.pop().map(|place| place.address);
        let mut again = arena.take(1).unwrap().unwrap();
        assert_eq!(Some(again.address), last, "the one that was used last");
        assert!(bytes(&mut again).iter().all(|byte| *byte == 0));
        assert!(bytes(&mut places[0]).iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_memory_gets_the_smallest_place_in_which_it_can_grow() {
        let arena = Arena::default();
        let capacity = |bytes| arena.take(bytes).unwrap().map(|place| place.capacity());
        assert_eq!(capacity(0), Some(SMALLEST));
        assert_eq!(capacity(SMALLEST - SPARE), Some(SMALLEST));
        assert_eq!(capacity(SMALLEST), Some(2 * SMALLEST));
        assert_eq!(capacity((4 << 20) - SPARE), Some(4 << 20));
        assert_eq!(capacity(4 << 20), None);
    }

    #[test]
    fn memories_outlive_the_arena() {
        let mut place = Arena::default().take(1).unwrap().unwrap();
        bytes(&mut place).fill(1);
        assert_eq!(bytes(&mut place)[SMALLEST - 1], 1);
    }
}
