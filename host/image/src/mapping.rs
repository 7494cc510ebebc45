//! Mappings of memory: what the kernel is told about them.

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

/// Returns the pages of a memory to the system. The memory then has its initial
/// contents: the module's file image, and zero elsewhere.
pub fn release(memory: &mut [u8]) {
    assert!(
        memory.len().is_multiple_of(PAGE) && (memory.as_ptr() as usize).is_multiple_of(PAGE),
        "whole pages are released"
    );
    // SAFETY: the range is exactly this slice, which stays mapped; all values of bytes are
    // valid, and nothing else refers to them.
    unsafe {
        libc::madvise(
            memory.as_mut_ptr().cast(),
            memory.len(),
            libc::MADV_DONTNEED,
        )
    };
}

/// A separate mapping, like the memory of a frame.
pub(crate) struct Mapping(*mut u8, usize);

impl Mapping {
    /// Maps so many pages, none of them accessed yet. `None`: the system is out of
    /// memory or mappings.
    pub(crate) fn new(pages: usize) -> Option<Mapping> {
        // SAFETY: a fresh anonymous mapping; nothing else refers to it.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return None;
        }
        let mapping = Mapping(at.cast(), pages * PAGE);
        advise(mapping.0, mapping.1);
        Some(mapping)
    }

    /// Returns where it is.
    #[cfg(test)]
    pub(crate) fn extent(&self) -> crate::Extent {
        crate::Extent::new(self.0 as usize, self.1)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this length and lives as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps what `new` mapped; no reference to it is left.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}
