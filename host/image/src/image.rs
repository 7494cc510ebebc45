//! Images: the difference between a process that is not running and the base of its
//! version. Pure functions over bytes; frames use them.
//!
//! Format: the memory size in Wasm pages (varint), then runs of 8-byte words that differ
//! (gap since the end of the last run, in words; length in words, not 0; the words), a run
//! of length 0 that ends them, then globals (index + 1, low 8 bytes, high 8 bytes) up to an
//! index of 0. Numbers are LEB128.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::base_file::BaseFile;
use crate::mapping::release;
use crate::memories::Extent;
use crate::{PAGE, WASM_PAGE};

/// Bytes that are compared at once, with the widest instructions of the machine.
const BLOCK: usize = 512;
/// Bytes of a block that are compared at once before single words are.
const LINE: usize = 64;
/// The fewest bytes that are given back to the system when they are discarded. It saves memory, not time: for
/// 32 KiB the call takes 2.4 us, and the page faults of writing there again 8.8 us, while to write zeros takes
/// 0.2 us (Linux 6.18 on a virtual machine). Fewer bytes are not worth that.
const LEAST_RELEASED: usize = 32 * 1024;
/// Bytes of a word, the unit that is stored or not.
pub(crate) const WORD: usize = 8;

/// The state that every process of a version starts with.
#[derive(Debug)]
pub struct Base {
    /// Pages of 4 KiB; `None` is all zero.
    pages: Vec<Option<Box<[u8; PAGE]>>>,
    /// Values of the mutable globals, in the order of the analysis.
    pub globals: Vec<u128>,
    /// Memory size in Wasm pages.
    pub memory_pages: u32,
    /// Where initialization wrote: only there does a new instance differ from the base.
    pub written: Vec<Range<usize>>,
    /// The offset and the file of the pages from the first to the last that is not all
    /// zero: new frames share them until they write. `None`: there are no such pages, or no
    /// file could be made.
    file: Option<(usize, Arc<BaseFile>)>,
    /// From the first to the last page that is not all zero, in bytes.
    filled: Range<usize>,
    /// The number of pages in there that are not all zero.
    filled_pages: usize,
    /// Set when it is first asked for.
    digest: OnceLock<[u8; 32]>,
}

pub(crate) static ZERO: [u8; PAGE] = [0; PAGE];

impl Base {
    /// Takes the base from an initialized memory. `dead` is stack that is never read again:
    /// it counts as zero.
    pub fn take(
        memory: &[u8],
        dead: Range<usize>,
        globals: Vec<u128>,
        memory_pages: u32,
        written: Vec<Range<usize>>,
    ) -> Base {
        let pages: Vec<Option<Box<[u8; PAGE]>>> = memory
            .as_chunks::<PAGE>()
            .0
            .iter()
            .enumerate()
            .map(|(index, page)| {
                let start = index * PAGE;
                let mut page = *page;
                let from = dead.start.clamp(start, start + PAGE) - start;
                let to = dead.end.clamp(start, start + PAGE) - start;
                page[from..to.max(from)].fill(0);
                (page != ZERO).then(|| Box::new(page))
            })
            .collect();
        let first = pages.iter().position(Option::is_some).unwrap_or(0);
        let behind = (pages.iter().rposition(Option::is_some)).map_or(first, |last| last + 1);
        let file = (first < behind).then(|| {
            let pages = pages[first..behind].iter();
            // Without the file each frame gets a copy.
            let file = BaseFile::new(pages.map(Option::as_deref)).ok()?;
            Some((first * PAGE, Arc::new(file)))
        });
        Base {
            filled: first * PAGE..behind * PAGE,
            filled_pages: pages.iter().flatten().count(),
            pages,
            globals,
            memory_pages,
            written,
            file: file.flatten(),
            digest: OnceLock::new(),
        }
    }

    /// Brings the memory of a new instance to the base; `extent` is that memory's. It shares the base's
    /// pages until it writes to them, for which the system needs mappings. Only if it is packed, and no
    /// more than `copied` pages are not all zero, it gets a copy.
    ///
    /// # Errors
    ///
    /// If the system is out of memory or mappings.
    pub fn map(&self, memory: &mut [u8], extent: &Extent, copied: usize) -> io::Result<()> {
        let copies = extent.is_packed() && self.filled_pages <= copied;
        let Some((at, file)) = self.file.as_ref().filter(|_| !copies) else {
            self.restore(memory, &self.written);
            extent.set_copied(self.filled.clone());
            return Ok(());
        };
        let shared = *at..at + file.len();
        file.map(&mut memory[shared.clone()])?;
        extent.set_file(*at, file.clone());
        for range in &self.written {
            let before = range.start..range.end.min(shared.start);
            let behind = range.start.max(shared.end)..range.end;
            self.restore(memory, &[before, behind]);
        }
        Ok(())
    }

    /// Returns the bytes of its pages that are not all zero, which all processes share.
    pub fn bytes(&self) -> u64 {
        (self.filled_pages * PAGE) as u64
    }

    /// Makes a range of the memory of a process zero. Pages that are zero in the base as well go back to
    /// the system: they are as if they had never been written.
    pub fn discard(&self, memory: &mut [u8], range: Range<usize>) {
        let whole = range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE;
        let before = whole.start..whole.end.min(self.filled.start);
        let behind = whole.start.max(self.filled.end)..whole.end;
        let mut kept = range.start;
        for pages in [before, behind] {
            if pages.len() >= LEAST_RELEASED {
                memory[kept..pages.start].fill(0);
                release(&mut memory[pages.clone()]);
                kept = pages.end;
            }
        }
        memory[kept..range.end].fill(0);
    }

    /// Returns whether the processes of both start with the same state.
    pub fn is_same(&self, other: &Base) -> bool {
        (&self.pages, &self.globals, self.memory_pages)
            == (&other.pages, &other.globals, other.memory_pages)
    }

    /// Returns the digest of the state: two bases with the same digest are the same.
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.memory_pages.to_le_bytes());
            hasher.update(&(self.globals.len() as u64).to_le_bytes());
            for global in &self.globals {
                hasher.update(&global.to_le_bytes());
            }
            for (index, page) in self.pages.iter().enumerate() {
                if let Some(page) = page {
                    hasher.update(&(index as u64).to_le_bytes());
                    hasher.update(&page[..]);
                }
            }
            *hasher.finalize().as_bytes()
        })
    }

    fn page(&self, index: usize) -> &[u8; PAGE] {
        match self.pages.get(index) {
            Some(Some(page)) => page,
            _ => &ZERO,
        }
    }

    /// Resets `memory` to the base, where it was written. Ranges behind its end are left out.
    pub fn restore(&self, memory: &mut [u8], written: &[Range<usize>]) {
        for range in written {
            let range = within(range, memory.len());
            for start in range.clone().step_by(PAGE) {
                let page = &mut memory[start..(start + PAGE).min(range.end)];
                let base = &self.page(start / PAGE)[..page.len()];
                if page != base {
                    page.copy_from_slice(base);
                }
            }
        }
    }
}

/// The maximum bytes of an image that is stored in the process record itself. The state of
/// a small actor fits, with a few words to spare, so such an actor wakes and rests without
/// the allocator. More would put the record into the next size class.
const INLINE: usize = 30;

/// The guest state of one process that is not running.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(Bytes);

#[derive(Clone, PartialEq, Eq)]
enum Bytes {
    /// Bytes from `length` on are 0.
    Inline {
        length: u8,
        bytes: [u8; INLINE],
    },
    Boxed(Box<[u8]>),
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} bytes)", self.size())
    }
}

/// Buffers that diffs reuse.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Where memory was written.
    pub ranges: Vec<Range<usize>>,
    /// The current values of the mutable globals.
    pub globals: Vec<u128>,
    runs: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

/// Whether a diff leaves the memory as it is or resets it to the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The memory stays as it is.
    Keep,
    /// The memory is reset to the base.
    Reset,
}

impl Image {
    pub(crate) fn new(image: &[u8]) -> Image {
        Image(match u8::try_from(image.len()) {
            Ok(length) if image.len() <= INLINE => {
                let mut bytes = [0; INLINE];
                bytes[..image.len()].copy_from_slice(image);
                Bytes::Inline { length, bytes }
            }
            _ => Bytes::Boxed(image.into()),
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Boxed(bytes) => bytes,
        }
    }

    /// Returns the size of the image in bytes.
    pub fn size(&self) -> usize {
        self.bytes().len()
    }

    /// Returns the image of `memory` and `scratch.globals` against `base`. `scratch.ranges`
    /// says where the memory may have been written, and may go beyond its end; `dead` is not stored.
    pub fn take(
        memory: &mut [u8],
        base: &Base,
        dead: Range<usize>,
        after: After,
        scratch: &mut Scratch,
    ) -> Image {
        let Scratch {
            ranges,
            globals,
            runs,
            bytes,
        } = scratch;
        runs.clear();
        bytes.clear();
        for range in ranges.iter() {
            let range = within(range, memory.len());
            find_runs(memory, base, range, &dead, after, runs);
        }
        write_number(bytes, (memory.len() / WASM_PAGE) as u64);
        let mut at = 0;
        for &(start, end) in runs.iter() {
            write_number(bytes, ((start - at) / WORD) as u64);
            write_number(bytes, ((end - start) / WORD) as u64);
            bytes.extend_from_slice(&memory[start..end]);
            at = end;
        }
        bytes.extend_from_slice(&[0, 0]);
        for (index, (now, before)) in globals.iter().zip(&base.globals).enumerate() {
            if now != before {
                write_number(bytes, index as u64 + 1);
                bytes.extend_from_slice(&now.to_le_bytes());
            }
        }
        bytes.push(0);
        if after == After::Reset {
            for &(start, end) in runs.iter() {
                copy_base(memory, base, start, end);
            }
        }
        Image::new(bytes)
    }

    /// Returns the memory size in Wasm pages.
    pub fn memory_pages(&self) -> u32 {
        let mut reader = self.bytes();
        u32::try_from(read_number(&mut reader)).unwrap_or(u32::MAX)
    }

    /// Applies the image to a memory that has the base's content and the image's size.
    /// Returns the globals that differ from the base, by index.
    pub fn apply(&self, memory: &mut [u8]) -> Vec<(usize, u128)> {
        let mut reader = self.bytes();
        let _pages = read_number(&mut reader);
        let mut at = 0;
        loop {
            let gap = read_number(&mut reader);
            let words = read_number(&mut reader);
            if words == 0 {
                break;
            }
            // The image was made by `take` from a memory of this size.
            at += gap as usize * WORD;
            let length = words as usize * WORD;
            let (words, rest) = reader.split_at(length);
            memory[at..at + length].copy_from_slice(words);
            at += length;
            reader = rest;
        }
        let mut globals = Vec::new();
        loop {
            let index = read_number(&mut reader);
            if index == 0 {
                return globals;
            }
            let Some((value, rest)) = reader.split_first_chunk::<16>() else {
                return globals;
            };
            globals.push((index as usize - 1, u128::from_le_bytes(*value)));
            reader = rest;
        }
    }
}

#[doc(hidden)]
impl Image {
    /// For tests of hosts: returns an image that no memory can load, since it lies outside of
    /// all memories.
    pub fn broken(pages: u32) -> Image {
        let mut bytes = Vec::new();
        for number in [pages.into(), 1 << 40, 1, 0, 0, 0, 0] {
            write_number(&mut bytes, number);
        }
        Image::new(&bytes)
    }
}

/// Appends the runs of words in `range`, whole pages, that differ from the base. Most pages that were
/// written differ in a few lines.
fn find_runs(
    memory: &mut [u8],
    base: &Base,
    range: Range<usize>,
    dead: &Range<usize>,
    after: After,
    runs: &mut Vec<(usize, usize)>,
) {
    let (pages, _) = memory[..range.end].as_chunks_mut::<PAGE>();
    for (index, page) in pages.iter_mut().enumerate().skip(range.start / PAGE) {
        let (blocks, _) = page.as_chunks_mut::<BLOCK>();
        let (base_blocks, _) = base.page(index).as_chunks::<BLOCK>();
        let mut at = index * PAGE;
        for (block, base_block) in blocks.iter_mut().zip(base_blocks) {
            if block != base_block {
                differing_words(block, base_block, at, dead, after, runs);
            }
            at += BLOCK;
        }
    }
}

/// Appends the runs of words of a block that differ from the base; `at` is where it lies.
fn differing_words(
    block: &mut [u8; BLOCK],
    base: &[u8; BLOCK],
    mut at: usize,
    dead: &Range<usize>,
    after: After,
    runs: &mut Vec<(usize, usize)>,
) {
    let (lines, base_lines) = (block.as_chunks_mut::<LINE>().0, base.as_chunks::<LINE>().0);
    for (line, base_line) in lines.iter_mut().zip(base_lines) {
        if line == base_line {
            at += LINE;
            continue;
        }
        let (words, base_words) = (
            line.as_chunks_mut::<WORD>().0,
            base_line.as_chunks::<WORD>().0,
        );
        for (word, base_word) in words.iter_mut().zip(base_words) {
            if word != base_word {
                if dead.start <= at && at + WORD <= dead.end {
                    if after == After::Reset {
                        *word = *base_word;
                    }
                } else {
                    match runs.last_mut() {
                        Some((_, end)) if *end == at => *end += WORD,
                        _ => runs.push((at, at + WORD)),
                    }
                }
            }
            at += WORD;
        }
    }
}

/// Returns the part of a range of whole pages that a memory of this length has.
fn within(range: &Range<usize>, length: usize) -> Range<usize> {
    range.start.min(length)..range.end.min(length)
}

fn copy_base(memory: &mut [u8], base: &Base, start: usize, end: usize) {
    let mut at = start;
    while at < end {
        let page = at / PAGE;
        let stop = end.min((page + 1) * PAGE);
        memory[at..stop].copy_from_slice(&base.page(page)[at % PAGE..][..stop - at]);
        at = stop;
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(crate) fn read_number(reader: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    while let Some((byte, rest)) = reader.split_first() {
        *reader = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift >= 64 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 32;

    fn memory() -> impl Strategy<Value = Vec<(usize, u8)>> {
        prop::collection::vec((0..PAGES * PAGE, any::<u8>()), 0..300)
    }

    fn written(edits: &[(usize, u8)]) -> Vec<Range<usize>> {
        let mut pages: Vec<usize> = edits.iter().map(|(at, _)| at / PAGE).collect();
        pages.sort_unstable();
        pages.dedup();
        pages
            .into_iter()
            .map(|p| p * PAGE..(p + 1) * PAGE)
            .collect()
    }

    /// Large parts outside of what the base fills are given back, and all is zero.
    #[test]
    fn discarded_pages_go_back_to_the_system() {
        let map = crate::PageMap::new(Some(crate::Method::Scan));
        let mut mapping = crate::mapping::Mapping::new(PAGES * PAGE).unwrap();
        let memory = mapping.bytes();
        memory[15 * PAGE..17 * PAGE].fill(1);
        let base = Base::take(memory, 0..0, Vec::new(), 2, Vec::new());
        let least = LEAST_RELEASED / PAGE;
        // The whole pages outside of 15 and 16 that are not written by it any more.
        for (range, back) in [
            (0..PAGES * PAGE, [0..15, 17..PAGES]),
            (1..PAGES * PAGE - 1, [1..15, 17..PAGES - 1]),
            (15 * PAGE..17 * PAGE, [0..0, 0..0]),
            (0..least * PAGE, [0..least, 0..0]),
            (0..(least - 1) * PAGE, [0..0, 0..0]),
            (1..least * PAGE, [0..0, 0..0]),
            (
                (PAGES - least) * PAGE..PAGES * PAGE,
                [0..0, PAGES - least..PAGES],
            ),
        ] {
            memory.fill(7);
            base.discard(memory, range.clone());
            for (at, byte) in memory.iter().enumerate() {
                assert_eq!(*byte == 0, range.contains(&at), "{range:?}: {at}");
            }
            if map.method() != crate::Method::Scan {
                continue;
            }
            let mut written = Vec::new();
            map.dirty(memory, &mut written);
            for page in 0..PAGES {
                let is_written = written.iter().any(|pages| pages.contains(&(page * PAGE)));
                let is_back = back.iter().any(|pages| pages.contains(&page));
                assert_eq!(is_written, !is_back, "{range:?}: page {page}");
            }
        }
    }

    /// Images that are stored in a record, and larger ones.
    #[test]
    fn an_image_of_any_size_restores_the_memory() {
        assert_eq!(size_of::<Image>(), 32, "a record counts on it");
        let mut sizes = Vec::new();
        for words in 0..6 {
            let clean = vec![0u8; PAGES * PAGE];
            let base = Base::take(&clean, 0..0, Vec::new(), 2, Vec::new());
            let mut memory = clean.clone();
            memory[64..64 + words * WORD].fill(7);
            let expected = memory.clone();
            let mut scratch = Scratch::default();
            scratch.ranges.push(0..PAGE);
            let image = Image::take(&mut memory, &base, 0..0, After::Reset, &mut scratch);
            assert!(memory == clean);
            assert!(image.apply(&mut memory).is_empty());
            assert!(memory == expected);
            assert_eq!(image, image.clone());
            sizes.push(image.size());
        }
        assert!(
            sizes.contains(&INLINE) && sizes.iter().any(|size| *size > INLINE),
            "{sizes:?}"
        );
    }

    proptest! {
        /// An image applied to the base gives the memory it was taken from, except for dead
        /// stack; and a reset leaves exactly the base.
        #[test]
        fn an_image_is_the_difference(start in memory(), edits in memory(), dead in 0..PAGES * PAGE) {
            let dead = 0..dead;
            let mut memory = vec![0u8; PAGES * PAGE];
            for (at, byte) in &start {
                memory[*at] = *byte;
            }
            let base = Base::take(&memory, dead.clone(), vec![1, 2], 2, Vec::new());
            memory[dead.clone()].fill(0);
            let clean = memory.clone();
            for (at, byte) in &edits {
                memory[*at] = *byte;
            }
            let expected = memory.clone();
            let mut scratch = Scratch { ranges: written(&edits), globals: vec![1, 7], ..Scratch::default() };
            let kept = Image::take(&mut memory, &base, dead.clone(), After::Keep, &mut scratch);
            prop_assert_eq!(&memory, &expected);
            let image = Image::take(&mut memory, &base, dead.clone(), After::Reset, &mut scratch);
            prop_assert_eq!(&kept, &image);
            // A word across the edge of the dead stack is stored as a whole.
            let edge = dead.end / WORD * WORD;
            prop_assert!(memory == clean);
            let globals = image.apply(&mut memory);
            prop_assert_eq!(globals, vec![(1, 7)]);
            prop_assert!(memory[edge..] == expected[edge..]);
            prop_assert!(memory[..edge] == clean[..edge]);
            prop_assert_eq!(image.memory_pages(), 2);
        }
    }
}
