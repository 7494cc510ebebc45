//! Finds the written pages of a frame's memory. The kernel tracks them, so guests
//! pay nothing for it.
//!
//! A page counts as written if it is neither a page of the module's file image
//! nor the shared zero page, and is present or swapped (a page in migration
//! shows as swapped). This holds only without huge pages and page merging, so
//! both are disabled for a frame's memory (see `memories`), and for the addresses
//! into which it can grow.
//!
//! There are three methods, and the best one that works is used: the ioctl
//! `PAGEMAP_SCAN` (Linux 6.7); the bits of `/proc/self/pagemap`; or none, in which
//! case every page is compared with the base. The first two read the same file.
//!
//! The first write to a page is a page fault of the writing thread, and the kernel
//! counts the faults of each thread. So a thread that has scanned a memory, and has
//! had no fault since, need not scan again: see [`Faults`]. That is ten times as
//! fast, and warm frames have no faults.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::PAGE;
use crate::faults::{Faults, counts_faults};
use crate::memories::Extent;

/// The most regions that one ioctl reports. A longer scan continues where it ended.
const REGIONS: usize = 64;

/// `_IOWR('f', 16, struct pm_scan_arg)`, from `include/uapi/linux/fs.h`.
const PAGEMAP_SCAN: libc::c_ulong = 0xC060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// `struct pm_scan_arg` of the kernel.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// A method to find written pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The ioctl `PAGEMAP_SCAN`.
    Scan,
    /// The bits of `/proc/self/pagemap`.
    Bits,
    /// Every page counts as written.
    Compare,
}

/// Finds written pages.
#[derive(Debug)]
pub struct PageMap {
    file: Option<File>,
    method: Method,
    /// Whether this kernel counts faults, see [`counts_faults`].
    counts_faults: bool,
}

impl PageMap {
    /// Uses the best method that works on this machine, or tries the `forced` one (for
    /// tests). If none works, the method is [`Method::Compare`].
    pub fn new(forced: Option<Method>) -> PageMap {
        PageMap::open("/proc/self/pagemap", forced)
    }

    fn open(path: &str, forced: Option<Method>) -> PageMap {
        let file = File::open(path).ok();
        let mut map = PageMap {
            file,
            method: Method::Scan,
            counts_faults: counts_faults(),
        };
        let works = |map: &PageMap| {
            let probe = vec![1u8; 4 * PAGE];
            map.written(&probe, &mut Vec::new()).is_some()
        };
        let methods = match forced {
            Some(method) => vec![method],
            None => vec![Method::Scan, Method::Bits],
        };
        for method in methods {
            map.method = method;
            if works(&map) {
                return map;
            }
        }
        map.method = Method::Compare;
        map
    }

    /// Returns the page faults of the current thread. `None`: they cannot be used, and
    /// every query must scan.
    pub fn faults(&self) -> Option<Faults> {
        match self.method {
            Method::Scan | Method::Bits if self.counts_faults => Faults::now(),
            _ => None,
        }
    }

    /// Returns the method in use.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Appends the byte ranges of `memory` that may have been written: whole pages, in
    /// order. If the scan fails or the method is [`Method::Compare`], that is all of it.
    pub fn dirty(&self, memory: &[u8], ranges: &mut Vec<Range<usize>>) {
        self.dirty_up_to(memory, 0, ranges);
    }

    /// Does the same up to `end`, in bytes from the memory's start, if that is behind its end. What lies
    /// there is not read.
    pub fn dirty_up_to(&self, memory: &[u8], end: usize, ranges: &mut Vec<Range<usize>>) {
        let before = ranges.len();
        let length = memory.len().max(end);
        if (self.written_at(memory.as_ptr() as usize, length, ranges)).is_none() {
            ranges.truncate(before);
            ranges.push(0..length);
        }
    }

    /// Returns the bytes of written pages of a memory, also of those that stay behind its end. Other
    /// threads may use it meanwhile, or may have dropped it. `None`: the scan failed, or the method is
    /// [`Method::Compare`].
    pub fn count(&self, extent: &Extent) -> Option<u64> {
        let mut ranges = Vec::new();
        let address = extent.address();
        let end = extent.bytes().max(extent.reached());
        self.written_at(address, end, &mut ranges)?;
        // It may have moved meanwhile: then its length belongs to another address.
        (extent.address() == address).then_some(())?;
        Some(total(&ranges))
    }

    fn written(&self, memory: &[u8], ranges: &mut Vec<Range<usize>>) -> Option<()> {
        self.written_at(memory.as_ptr() as usize, memory.len(), ranges)
    }

    /// Does the same for a memory that another thread owns or owned: only the kernel's
    /// tables are read, so the memory need not exist any more.
    fn written_at(
        &self,
        address: usize,
        length: usize,
        ranges: &mut Vec<Range<usize>>,
    ) -> Option<()> {
        match (self.method, &self.file) {
            (Method::Scan, Some(file)) => scan(file, address, length, ranges),
            (Method::Bits, Some(file)) => bits(file, address, length, ranges),
            _ => None,
        }
    }
}

fn scan(file: &File, address: usize, length: usize, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let address = address as u64;
    // Wasm memories begin on a page; a probe on the heap need not.
    let first = address / PAGE as u64 * PAGE as u64;
    let end = address + length as u64;
    let mut regions = [Region::default(); REGIONS];
    let mut start = first;
    while start < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: 0,
            start,
            end: end.next_multiple_of(PAGE as u64),
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        };
        // SAFETY: the kernel writes only into `arg`, whose layout and size are
        // the kernel's, and at most `vec_len` regions into `regions`; both
        // live on this stack. The scanned memory itself is only described.
        let found = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let found = usize::try_from(found).ok()?;
        for region in &regions[..found.min(REGIONS)] {
            push(
                ranges,
                clip(region.start, address, end)..clip(region.end, address, end),
            );
        }
        // A full vector ends the walk without an error: continue where it ended.
        if arg.walk_end <= start {
            return None;
        }
        start = arg.walk_end;
    }
    Some(())
}

fn clip(at: u64, start: u64, end: u64) -> usize {
    usize::try_from(at.clamp(start, end) - start).unwrap_or(usize::MAX)
}

fn push(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ if range.is_empty() => {}
        _ => ranges.push(range),
    }
}

fn bits(file: &File, address: usize, length: usize, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    let first = address / PAGE;
    let last = (address + length).div_ceil(PAGE);
    let mut entries = [0u8; 8 * 512];
    let mut page = first;
    while page < last {
        let count = (last - page).min(512);
        let buffer = &mut entries[..count * 8];
        file.read_exact_at(buffer, page as u64 * 8).ok()?;
        for (index, entry) in buffer.as_chunks::<8>().0.iter().enumerate() {
            let entry = u64::from_le_bytes(*entry);
            let (present, swapped, file_page) = (entry >> 63 & 1, entry >> 62 & 1, entry >> 61 & 1);
            if (present | swapped) == 1 && file_page == 0 {
                let at = (page + index) * PAGE;
                let start = at.max(address) - address;
                let end = (at + PAGE).min(address + length) - address;
                push(ranges, start..end);
            }
        }
        page += count;
    }
    Some(())
}

/// Returns the number of bytes in the ranges that are at `from` or behind it.
pub fn total_from(ranges: &[Range<usize>], from: usize) -> u64 {
    let ranges = ranges.iter().map(|range| range.start.max(from)..range.end);
    ranges.map(|range| range.len() as u64).sum()
}

/// Returns the number of bytes in the ranges.
pub fn total(ranges: &[Range<usize>]) -> u64 {
    ranges.iter().map(|range| range.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Mapping, release};

    #[test]
    fn written_pages_are_found_and_others_are_not() {
        for method in [Method::Scan, Method::Bits] {
            let map = PageMap::new(Some(method));
            if map.method() != method {
                continue;
            }
            let mut mapping = Mapping::new(1000 * PAGE).unwrap();
            // More separate regions than one ioctl reports.
            let written: Vec<usize> = (0..1000).step_by(3).collect();
            for page in &written {
                mapping.bytes()[page * PAGE + 17] = 1;
            }
            // A read maps the zero page, which does not count as written.
            assert_eq!(mapping.bytes()[PAGE], 0);
            let mut ranges = Vec::new();
            map.dirty(mapping.bytes(), &mut ranges);
            let found: Vec<usize> = ranges
                .iter()
                .flat_map(|range| (range.start / PAGE)..(range.end / PAGE))
                .collect();
            match method {
                Method::Scan => assert_eq!(found, written),
                // The bits do not identify the zero page.
                _ => assert!(written.iter().all(|page| found.contains(page))),
            }
        }
    }

    #[test]
    fn a_first_write_is_a_fault_of_the_thread_that_makes_it() {
        let map = PageMap::new(None);
        if map.method() == Method::Compare || !map.counts_faults {
            assert_eq!(map.faults(), None);
            return;
        }
        let mut mapping = Mapping::new(8 * PAGE).unwrap();
        // One page is read before it is written, the other is not.
        assert_eq!(mapping.bytes()[2 * PAGE], 0);
        for page in [2, 3] {
            let before = map.faults().unwrap();
            mapping.bytes()[page * PAGE] = 1;
            let after = map.faults().unwrap();
            assert_ne!(before, after);
            mapping.bytes()[page * PAGE] = 2;
            assert_eq!(map.faults(), Some(after));
        }
        let ours = map.faults().unwrap();
        let theirs = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| {
                assert!(!ours.are_ours());
                map.faults().unwrap()
            });
            theirs.join().unwrap()
        });
        assert!(ours.are_ours() && !theirs.are_ours());
        assert_ne!(ours, theirs);
    }

    #[test]
    fn without_a_page_map_every_page_counts_as_written() {
        let forced = PageMap::new(Some(Method::Compare));
        // `/proc` is not mounted or not readable; the file is another one.
        let missing = PageMap::open("/proc/self/no-such-file", None);
        let other = PageMap::open("/dev/null", None);
        for map in [forced, missing, other] {
            assert_eq!(map.method(), Method::Compare);
            let mut ranges = Vec::new();
            map.dirty(&[0; 3 * PAGE], &mut ranges);
            assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..3 * PAGE));
            assert_eq!(map.count(&Extent::new(0, 0)), None);
        }
    }

    #[test]
    fn released_pages_are_zero_and_not_written() {
        let map = PageMap::new(None);
        let mut mapping = Mapping::new(8 * PAGE).unwrap();
        mapping.bytes()[5 * PAGE] = 7;
        let extent = mapping.extent();
        if map.method() == Method::Scan {
            assert_eq!(map.count(&extent), Some(PAGE as u64));
        }
        release(mapping.bytes());
        if map.method() == Method::Scan {
            assert_eq!(map.count(&extent), Some(0));
        }
        assert_eq!(mapping.bytes()[5 * PAGE], 0);
    }
}
