//! Stacks of fibers, side by side.
//!
//! A stack with a mapping of its own takes two of the kernel's: one for the stack, one for the guard
//! below it. Here a chunk of addresses is accessible as a whole, and guards are marks in its page
//! tables (`MADV_GUARD_INSTALL`, Linux 6.13), so that stacks take none. On an older kernel, and in
//! locked memory, a guard is made by taking the access away, which splits the mapping: then a stack
//! takes two, as anywhere else.
//!
//! A free stack has no pages. Chunks are kept for as long as a stack lies in them or the pool exists.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::PAGE;
use crate::mapping::{Mapping, give_back};

/// The advice that makes pages inaccessible without a mapping of their own (Linux 6.13).
const GUARD_INSTALL: libc::c_int = 102;
/// Bytes of a chunk, about.
const CHUNK: usize = 32 << 20;
/// Bytes of a guard. A function of the host may have a frame larger than a page; compilers touch
/// every page of such a frame in order, so one page is enough.
const GUARD: usize = PAGE;

/// A pool of stacks of one size.
#[derive(Debug)]
pub struct Stacks {
    /// Bytes of a stack, whole pages.
    size: usize,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Addresses of free stacks. The last one is taken first: its lines in the page tables are warm.
    free: Vec<usize>,
    /// Addresses of places whose guard is not made yet.
    fresh: Vec<usize>,
    /// Where stacks and guards lie. Each stack keeps its pool, so none is left when they are unmapped.
    chunks: Vec<Mapping>,
}

/// A stack of zeros with a guard below it. Dropped, it is free for another fiber.
#[derive(Debug)]
pub struct FiberStack {
    /// Its lowest byte, behind the guard.
    address: usize,
    stacks: Arc<Stacks>,
}

impl Stacks {
    /// Makes a pool of stacks of `size` bytes, which are rounded up to whole pages.
    pub fn new(size: usize) -> Arc<Stacks> {
        Arc::new(Stacks {
            size: size.max(1).next_multiple_of(PAGE),
            lists: Mutex::default(),
        })
    }

    /// Returns the bytes of each stack.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes a stack.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or mappings.
    pub fn take(self: &Arc<Stacks>) -> io::Result<FiberStack> {
        let mut lists = self.lists.lock();
        if let Some(address) = lists.free.pop() {
            return Ok(self.stack(address));
        }
        if lists.fresh.is_empty() {
            self.add_chunk(&mut lists)?;
        }
        let Some(address) = lists.fresh.pop() else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        if let Err(error) = make_guard(address - GUARD) {
            lists.fresh.push(address);
            return Err(error);
        }
        Ok(self.stack(address))
    }

    fn stack(self: &Arc<Stacks>, address: usize) -> FiberStack {
        FiberStack {
            address,
            stacks: self.clone(),
        }
    }

    fn add_chunk(&self, lists: &mut Lists) -> io::Result<()> {
        let stride = GUARD + self.size;
        let count = (CHUNK / stride).max(4);
        let chunk = Mapping::new(count * stride)?;
        let start = chunk.start();
        lists.chunks.push(chunk);
        let places = (0..count).rev().map(|index| start + index * stride + GUARD);
        lists.fresh.extend(places);
        Ok(())
    }
}

/// Makes the guard that begins at this address, in a chunk.
fn make_guard(address: usize) -> io::Result<()> {
    if guards_are_free() && install(address as *mut libc::c_void) {
        return Ok(());
    }
    // SAFETY: the page belongs to a chunk, and to no stack.
    match unsafe { libc::mprotect(address as *mut libc::c_void, GUARD, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn install(guard: *mut libc::c_void) -> bool {
    // SAFETY: only called for a page of a mapping made here that holds nothing.
    unsafe { libc::madvise(guard, GUARD, GUARD_INSTALL) == 0 }
}

/// Returns whether guards take none of the kernel's mappings on this system.
fn guards_are_free() -> bool {
    static FREE: OnceLock<bool> = OnceLock::new();
    *FREE.get_or_init(|| {
        // SAFETY: a fresh mapping, which nothing else refers to and which is unmapped again.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                GUARD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED {
                return false;
            }
            let installed = install(page);
            libc::munmap(page, GUARD);
            installed
        }
    })
}

/// Returns how many of the kernel's mappings a stack takes at most, beside those that all stacks of a
/// chunk share.
pub fn mappings_of_stack() -> usize {
    if guards_are_free() { 0 } else { 2 }
}

impl FiberStack {
    /// Returns the addresses of the stack, without its guard. It is readable and writable as long as
    /// this exists, and belongs to whoever has this.
    pub fn range(&self) -> Range<usize> {
        self.address..self.address + self.stacks.size
    }

    /// Returns the addresses of its guard, which are inaccessible.
    pub fn guard(&self) -> Range<usize> {
        self.address - GUARD..self.address
    }
}

impl Drop for FiberStack {
    fn drop(&mut self) {
        // SAFETY: the stack is accessible and belongs to the caller alone, and nothing refers to it any
        // more. Marks of guards are outside of it.
        unsafe { give_back(self.address as *mut u8, self.stacks.size) };
        self.stacks.lists.lock().free.push(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(stack: &mut FiberStack) -> &mut [u8] {
        let range = stack.range();
        // SAFETY: the stack belongs to the borrower, and is accessible as a whole.
        unsafe { std::slice::from_raw_parts_mut(range.start as *mut u8, range.len()) }
    }

    /// Returns whether a byte can be read, by asking the kernel to read it.
    fn is_accessible(address: usize) -> bool {
        let (reader, writer) = std::io::pipe().expect("there are descriptors");
        let _ = &reader;
        use std::os::fd::AsRawFd;
        // SAFETY: the kernel only reads the byte, and answers EFAULT if it cannot.
        unsafe { libc::write(writer.as_raw_fd(), address as *const _, 1) == 1 }
    }

    #[test]
    fn stacks_are_zero_when_taken_again_and_do_not_overlap() {
        let stacks = Stacks::new(64 << 10);
        let mut taken: Vec<_> = (0..200).map(|_| stacks.take().unwrap()).collect();
        let mut starts: Vec<usize> = taken.iter().map(|stack| stack.range().start).collect();
        starts.sort_unstable();
        assert!(
            starts
                .windows(2)
                .all(|two| two[1] - two[0] >= (64 << 10) + GUARD)
        );
        for stack in &mut taken {
            assert!(bytes(stack).iter().all(|byte| *byte == 0));
            bytes(stack).fill(7);
        }
        let last = taken.pop().map(|stack| stack.range());
        let mut again = stacks.take().unwrap();
        assert_eq!(Some(again.range()), last, "the one that was used last");
        assert!(bytes(&mut again).iter().all(|byte| *byte == 0));
        assert!(bytes(&mut taken[0]).iter().all(|byte| *byte == 7));
    }

    #[test]
    fn only_the_guards_are_inaccessible_also_when_a_stack_is_taken_again() {
        let stacks = Stacks::new(3 * PAGE);
        for _ in 0..2 {
            let taken: Vec<_> = (0..20).map(|_| stacks.take().unwrap()).collect();
            for stack in &taken {
                let (guard, range) = (stack.guard(), stack.range());
                assert!(!is_accessible(guard.start) && !is_accessible(guard.end - 1));
                assert!(is_accessible(range.start) && is_accessible(range.end - 1));
            }
        }
    }

    #[test]
    fn stacks_outlive_the_pool() {
        let mut stack = Stacks::new(1).take().unwrap();
        bytes(&mut stack).fill(1);
        assert_eq!(bytes(&mut stack), [1; PAGE]);
    }

    #[test]
    fn a_size_is_rounded_up() {
        assert_eq!(Stacks::new(PAGE + 1).size(), 2 * PAGE);
        assert_eq!(Stacks::new(0).size(), PAGE);
    }
}
