//! Counts the page faults of threads, which tells whether a thread has written to a page that it
//! had not written to before. `pagemap` asks for it before it scans.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::PAGE;
use crate::mapping::Mapping;

/// The number of page faults of a thread. While it is unchanged, a memory that only
/// this thread has used since has no further written pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    thread: u64,
    count: i64,
}

impl Faults {
    /// Returns the count of the current thread. Not inlined because of the
    /// thread-local: a fiber may resume on another
    /// thread.
    #[inline(never)]
    pub(crate) fn now() -> Option<Faults> {
        // SAFETY: all-zero bytes are a value of this struct of integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one such struct, which lives on this stack.
        if unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } != 0 {
            return None;
        }
        Some(Faults {
            thread: thread_number(),
            count: usage.ru_minflt + usage.ru_majflt,
        })
    }

    /// Returns whether the count is of the current thread.
    #[inline]
    pub fn are_ours(&self) -> bool {
        self.thread == thread_number()
    }
}

/// Returns a number for the current thread that no other thread has or had.
#[inline]
pub fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// Returns whether the first write to a page counts as a fault, and the next one does
/// not. Some kernels do not count.
pub(crate) fn counts_faults() -> bool {
    // Not from the allocator, which may reuse pages that were written before.
    let Ok(mut mapping) = Mapping::new(64 * PAGE) else {
        return false;
    };
    let mut write = |value: u8| {
        let before = Faults::now()?.count;
        let pages = mapping.bytes().chunks_exact_mut(PAGE);
        let count = pages.len() as i64;
        for page in pages {
            // Otherwise the compiler may remove a store that is never read.
            *std::hint::black_box(&mut page[0]) = value;
        }
        Some((count, Faults::now()?.count - before))
    };
    write(1).is_some_and(|(pages, faults)| faults >= pages)
        && write(2).is_some_and(|(_, faults)| faults == 0)
}
