//! Mappings of memory: what the kernel is told about them.

use std::io;

use crate::PAGE;

/// Prepares addresses for page maps: disables huge pages and merging, now and for
/// memory that grows into them later.
pub(crate) fn advise(start: *const u8, length: usize) {
    for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_UNMERGEABLE] {
        // SAFETY: both change neither the contents of memory nor its access, wherever
        // the range lies. A kernel built without the feature returns EINVAL, and then
        // the feature is off anyway.
        unsafe { libc::madvise(start.cast_mut().cast(), length, advice) };
    }
}

/// Returns the pages of an anonymous memory to the system, or makes them zero if the system does not take
/// them.
pub fn release(memory: &mut [u8]) {
    assert!(
        memory.len().is_multiple_of(PAGE) && (memory.as_ptr() as usize).is_multiple_of(PAGE),
        "whole pages are released"
    );
    // SAFETY: the range is exactly this slice, which stays mapped; all values of bytes are
    // valid, and nothing else refers to them.
    unsafe { give_back(memory.as_mut_ptr(), memory.len()) };
}

/// Makes pages zero again and gives them back to the system.
///
/// # Safety
///
/// The pages belong to anonymous, writable mappings of the caller's, and nothing refers to them.
pub(crate) unsafe fn give_back(start: *mut u8, bytes: usize) {
    // SAFETY: the caller guarantees it.
    unsafe {
        if libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED) != 0 {
            // Locked memory cannot be given back.
            start.write_bytes(0, bytes);
        }
    }
}

/// Addresses that are readable, writable and zero; pages are taken when they are written. Dropped, they
/// are unmapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: usize,
    length: usize,
}

impl Mapping {
    /// Maps so many bytes, whole pages.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or mappings.
    pub(crate) fn new(length: usize) -> io::Result<Mapping> {
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
        advise(start.cast(), length);
        let start = start as usize;
        Ok(Mapping { start, length })
    }

    /// Returns its first address.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Returns where it is.
    #[cfg(test)]
    pub(crate) fn extent(&self) -> crate::Extent {
        crate::Extent::new(self.start, self.length)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this length and lives as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps what `new` mapped; no reference to it is left, and whoever has handed out
        // parts of it has them back.
        unsafe { libc::munmap(self.start as *mut _, self.length) };
    }
}
