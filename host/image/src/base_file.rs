//! The file of a base, which new frames map over their memory: all of them share its pages until
//! they write.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::PAGE;
use crate::mapping::advise;

/// A file of pages that memories share until they write.
#[derive(Debug)]
pub(crate) struct BaseFile {
    file: File,
    length: usize,
}

impl BaseFile {
    /// Creates a file with these pages, where `None` is a page of zeros that takes no
    /// space. The file has no name and no other user.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or file descriptors.
    pub(crate) fn new<'a>(
        pages: impl ExactSizeIterator<Item = Option<&'a [u8; PAGE]>>,
    ) -> io::Result<BaseFile> {
        let file = File::from(memfd_create("exuvia-base", MemfdFlags::CLOEXEC)?);
        let length = pages.len() * PAGE;
        file.set_len(length as u64)?;
        for (number, page) in pages.enumerate() {
            if let Some(page) = page {
                file.write_all_at(page, (number * PAGE) as u64)?;
            }
        }
        Ok(BaseFile { file, length })
    }

    /// Returns its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Maps the file over `memory`, which must be whole pages of the caller's own
    /// mapping, as long as the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it is out of memory or mappings. The memory is
    /// then unchanged.
    pub(crate) fn map(&self, memory: &mut [u8]) -> io::Result<()> {
        assert!(
            memory.len() == self.length && (memory.as_ptr() as usize).is_multiple_of(PAGE),
            "a file is mapped over whole pages"
        );
        // SAFETY: the range is this slice's own private mapping, and becomes another
        // private mapping of the same size and access; all values of bytes are
        // valid, and nothing else refers to them. The file has this length, is
        // never truncated, and is not written any more.
        let at = unsafe {
            libc::mmap(
                memory.as_mut_ptr().cast(),
                memory.len(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                self.file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            still_there(memory);
            return Err(error);
        }
        advise(memory.as_ptr(), memory.len());
        Ok(())
    }
}

/// Time for the log to be written before the abort.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(100);

/// Aborts the program if `memory` is not mapped any more. Some kernels remove the old
/// mapping before they find that they are out of memory or mappings for the new one.
/// Other threads could then map something into the hole, and would lose it when the
/// memory is released. There is no way to continue.
fn still_there(memory: &[u8]) {
    let mut resident = vec![0u8; memory.len().div_ceil(PAGE)];
    // SAFETY: the kernel writes one byte for each page into `resident`, which is long
    // enough, and only examines the mappings at the addresses.
    let answer = unsafe {
        libc::mincore(
            memory.as_ptr().cast_mut().cast(),
            memory.len(),
            resident.as_mut_ptr(),
        )
    };
    if answer != 0 {
        tracing::error!("the system has taken a frame's memory away and has none for another");
        // Another thread may write the log, and may wait for its reader.
        std::thread::park_timeout(LAST_WORDS);
        std::process::abort();
    }
}
