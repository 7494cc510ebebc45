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
//!
//! Clearing a place over which a file was mapped takes a mapping for a moment, and must be possible
//! when the system allows no more: then freeing frames is what helps. So one is kept for it
//! ([`SPARE_MAPPING`]). If another thread gets that one, the place keeps its file and is cleared later.
//!
//! Lock order: `SPARE_MAPPING` is taken alone.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::mapping::{Mapping, advise, give_back};
use crate::{PAGE, WASM_PAGE};

/// Bytes for which the smallest places have addresses. Each size is twice the one before.
const SMALLEST: usize = 2 * WASM_PAGE;
/// Number of sizes: the largest is 4 MiB.
const SIZES: usize = 6;
/// Bytes of a chunk, about.
const CHUNK: usize = 16 << 20;
/// Bytes that a new memory can grow by without moving.
const HEADROOM: usize = WASM_PAGE;
/// The most bytes of a new memory in the arena.
pub const MOST_PACKED: usize = (SMALLEST << (SIZES - 1)) - HEADROOM;

/// The address of a page that is mapped only to be unmapped when the system allows no more mappings.
static SPARE_MAPPING: Mutex<Option<usize>> = Mutex::new(None);

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
    /// Places that could not be cleared, and where the file is, in bytes from the start of each.
    unclean: Vec<(usize, Range<usize>)>,
    /// Where places of this size lie. Each place keeps its size, so none is left when they are unmapped.
    chunks: Vec<Mapping>,
}

/// A place with zeros. Dropped, it is free for another memory.
#[derive(Debug)]
pub(crate) struct Place {
    address: usize,
    size: Arc<Size>,
    /// Where a file was mapped over it, in bytes from its start; empty: nowhere.
    pub(crate) file: Range<usize>,
}

impl Arena {
    /// Takes a place for a memory of so many bytes. Returns `None` if it is too large for any.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or mappings.
    pub(crate) fn take(&self, bytes: usize) -> io::Result<Option<Place>> {
        let mut sizes = (self.sizes.iter()).filter(|size| bytes <= size.capacity - HEADROOM);
        let Some(size) = sizes.next() else {
            return Ok(None);
        };
        match size.take() {
            Ok(place) => Ok(Some(place)),
            // One that is free already and larger than necessary needs nothing of the system.
            Err(error) => match sizes.find_map(Size::take_free) {
                Some(place) => Ok(Some(place)),
                None => Err(error),
            },
        }
    }
}

#[cfg(test)]
impl Arena {
    /// Returns the number of places that could not be cleared.
    pub(crate) fn unclean(&self) -> usize {
        let of = |size: &Arc<Size>| size.lists.lock().unclean.len();
        self.sizes.iter().map(of).sum()
    }
}

impl Size {
    /// Bytes from one place to the next.
    fn stride(&self) -> usize {
        self.capacity + PAGE
    }

    fn take(self: &Arc<Size>) -> io::Result<Place> {
        let mut lists = self.lists.lock();
        loop {
            if let Some(address) = lists.free.pop() {
                return Ok(self.place(address));
            }
            if let Some((address, file)) = lists.unclean.pop() {
                if clear(address, self.capacity, &file) {
                    return Ok(self.place(address));
                }
                lists.unclean.push((address, file));
            }
            self.add_chunk(&mut lists)?;
        }
    }

    fn take_free(self: &Arc<Size>) -> Option<Place> {
        let address = self.lists.lock().free.pop()?;
        Some(self.place(address))
    }

    fn place(self: &Arc<Size>, address: usize) -> Place {
        Place {
            address,
            size: self.clone(),
            file: 0..0,
        }
    }

    fn add_chunk(&self, lists: &mut Lists) -> io::Result<()> {
        let count = (CHUNK / self.stride()).max(4);
        let length = count * self.stride();
        let mut chunk = Mapping::new(length)?;
        // The first write to a mapping ties it to what it may be merged with. It comes before the
        // files split this one, so that the parts can be merged again when the files are gone.
        // It goes to the last page, which is behind the last place.
        chunk.bytes()[length - PAGE] = 1;
        let start = chunk.start();
        lists.chunks.push(chunk);
        keep_spare_mapping();
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
}

impl Drop for Place {
    fn drop(&mut self) {
        let (address, capacity) = (self.address, self.capacity());
        let mut cleared = clear(address, capacity, &self.file);
        if !cleared && release_spare_mapping() {
            cleared = clear(address, capacity, &self.file);
        }
        let mut lists = self.size.lists.lock();
        if cleared {
            lists.free.push(address);
        } else {
            lists.unclean.push((address, self.file.clone()));
        }
        drop(lists);
        if !self.file.is_empty() {
            keep_spare_mapping();
        }
    }
}

/// Makes a place zero again, and gives its pages back to the system. Its memory is gone, and nothing
/// refers to it. Returns `false` if the system has no mapping for it: then the file is still there, and
/// only its unwritten pages are.
fn clear(address: usize, capacity: usize, file: &Range<usize>) -> bool {
    let start = address as *mut u8;
    // SAFETY: the place is accessible as a whole and belongs to the caller alone.
    unsafe { give_back(start, capacity) };
    if file.is_empty() {
        return true;
    }
    // SAFETY: the same; a private mapping takes the place of another one of the same size.
    let mapped = unsafe {
        libc::mmap(
            start.add(file.start).cast(),
            file.len(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    // For the next memory, and so that the kernel can merge it with its neighbours.
    advise(start.wrapping_add(file.start), file.len());
    true
}

/// Makes sure that there is a spare mapping, if the system allows one.
fn keep_spare_mapping() {
    let mut spare = SPARE_MAPPING.lock();
    if spare.is_none() {
        // SAFETY: a fresh mapping that nothing uses; a shared one is never merged with others.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_NONE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        *spare = (page != libc::MAP_FAILED).then_some(page as usize);
    }
}

/// Gives the spare mapping up. Returns whether there was one.
fn release_spare_mapping() -> bool {
    let Some(page) = SPARE_MAPPING.lock().take() else {
        return false;
    };
    // SAFETY: unmaps what `keep_spare_mapping` mapped; nothing has used it.
    unsafe { libc::munmap(page as *mut libc::c_void, PAGE) == 0 }
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
        let gaps: Vec<usize> = addresses.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= SMALLEST + PAGE));
        let neighbours = gaps.iter().filter(|gap| **gap == SMALLEST + PAGE).count();
        assert!(neighbours > 250, "most have neighbours: {neighbours}");
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
        assert_eq!(capacity(SMALLEST - HEADROOM), Some(SMALLEST));
        assert_eq!(capacity(SMALLEST), Some(2 * SMALLEST));
        assert_eq!(capacity(MOST_PACKED), Some(4 << 20));
        assert_eq!(capacity(MOST_PACKED + 1), None);
        assert_eq!(capacity(usize::MAX), None);
    }

    #[test]
    fn memories_outlive_the_arena() {
        let mut place = Arena::default().take(1).unwrap().unwrap();
        bytes(&mut place).fill(1);
        assert_eq!(bytes(&mut place)[SMALLEST - 1], 1);
    }
}
