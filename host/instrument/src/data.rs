//! Takes active data segments out of a module: the host copies them, since modules that differ in data only, such
//! as two scripts for one interpreter, are the same code then, which is compiled once. Where that is not possible,
//! because an address is not a constant, segments are merged. The compiler makes some hundred bytes of native code of each, and
//! takes kilobytes of memory for it; Go's linker writes a segment wherever eight bytes are not
//! zero, a hundred thousand of them in a large program.
//!
//! Memory is zero before the segments are copied, so the bytes between two of them may be copied
//! too. Segments keep their indices: a segment that was merged into the one before becomes passive
//! and empty, which is what an active segment is to a program once it has been copied.

use std::collections::BTreeMap;
use std::ops::Range;

use wasm_encoder::{ConstExpr, DataSection};
use wasmparser::{ConstExpr as Expression, Data, DataKind, Operator};

use crate::error::InstrumentError;
use crate::parse::{Parsed, internal};

/// The most zeros between two segments that become one.
const MAX_GAP: usize = 1024;
/// Bytes of a page of memory.
const WASM_PAGE: u64 = 64 << 10;

/// A segment of the output.
enum Segment<'a> {
    /// It is copied as it is.
    Same(Data<'a>),
    /// Bytes of several segments at a constant address.
    Merged { start: u32, bytes: Vec<u8> },
    /// It is part of one before it.
    Empty,
}

/// The parts of memory to which segments were copied: where each begins, and where it ends. They
/// do not overlap.
#[derive(Default)]
struct Written(BTreeMap<u64, u64>);

impl Written {
    fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // Those that it touches become a part of it.
        while let Some((&first, &last)) = self.0.range(..=end).next_back()
            && last >= start
        {
            start = start.min(first);
            end = end.max(last);
            self.0.remove(&first);
        }
        self.0.insert(start, end);
    }

    /// Returns up to where memory is zero from an address on: the address itself if it is not.
    fn zero_until(&self, from: u64) -> u64 {
        let before = self.0.range(..=from).next_back();
        if before.is_some_and(|(_, end)| *end > from) {
            return from;
        }
        (self.0.range(from..).next()).map_or(u64::MAX, |(start, _)| *start)
    }
}

/// The data section of the output.
pub(crate) struct Merged<'a> {
    segments: Vec<Segment<'a>>,
    contents: Vec<(u32, Vec<u8>)>,
}

impl<'a> Merged<'a> {
    /// Merges the segments of a module, and takes them out if all of them lie at known places of its memory.
    pub(crate) fn new(parsed: &Parsed<'a>) -> Merged<'a> {
        // A memory of another may have contents between the segments.
        let own_memory = parsed
            .memories
            .first()
            .is_some_and(|(_, imported)| !imported);
        let mut segments: Vec<Segment<'a>> = Vec::with_capacity(parsed.data.len());
        // The segment to which the next one may be added.
        let mut open: Option<usize> = None;
        // What was copied before the open segment. `None` after one whose address is not known.
        let mut written = Some(Written::default());
        let mut zero_until = 0;
        for data in &parsed.data {
            let DataKind::Active { offset_expr, .. } = &data.kind else {
                segments.push(Segment::Same(data.clone()));
                continue;
            };
            let start = constant(offset_expr).filter(|_| own_memory);
            let added = match (open.and_then(|open| segments.get_mut(open)), start) {
                (Some(segment), Some(start)) => segment.add(start, data.data, zero_until),
                _ => false,
            };
            if added {
                segments.push(Segment::Empty);
                continue;
            }
            // Order counts if segments overlap, so nothing is moved over one whose address is
            // not known.
            if let (Some(written), Some(open)) = (&mut written, open) {
                written.insert(segments[open].range());
            }
            if start.is_none() {
                written = None;
            }
            zero_until = match (&written, start) {
                (Some(written), Some(start)) => written.zero_until(start.into()),
                _ => 0,
            };
            open = start.map(|_| segments.len());
            segments.push(Segment::Same(data.clone()));
        }
        let mut merged = Merged {
            segments,
            contents: Vec::new(),
        };
        let memory = parsed.memories.first().filter(|_| own_memory);
        let bytes = memory.map_or(0, |(ty, _)| ty.initial.saturating_mul(WASM_PAGE));
        // Order counts if segments overlap, so all are taken or none.
        if merged
            .segments
            .iter()
            .all(|segment| segment.is_known(bytes))
        {
            merged.take();
        }
        merged
    }

    /// Takes the contents of all active segments out.
    fn take(&mut self) {
        for segment in &mut self.segments {
            // The others are not copied.
            let Some(at) = segment.start() else { continue };
            let bytes = match std::mem::replace(segment, Segment::Empty) {
                Segment::Same(data) => data.data.to_vec(),
                Segment::Merged { bytes, .. } => bytes,
                Segment::Empty => Vec::new(),
            };
            self.contents.push((at, bytes));
        }
    }

    /// Returns what was taken out: addresses and bytes, in the order in which they are to be copied.
    pub(crate) fn into_contents(self) -> Vec<(u32, Vec<u8>)> {
        self.contents
    }

    /// Returns how many segments have to be copied when a module starts.
    pub(crate) fn copied(&self) -> usize {
        let copied = self.segments.iter().filter(|segment| match segment {
            Segment::Same(data) => matches!(data.kind, DataKind::Active { .. }),
            Segment::Merged { .. } => true,
            Segment::Empty => false,
        });
        copied.count()
    }

    /// Returns the section, or an error if a bug in the host made it invalid.
    pub(crate) fn section(&self) -> Result<DataSection, InstrumentError> {
        use wasm_encoder::reencode::{RoundtripReencoder, utils::parse_data};
        let mut section = DataSection::new();
        for segment in &self.segments {
            match segment {
                Segment::Same(data) => {
                    parse_data(&mut RoundtripReencoder, &mut section, data.clone())
                        .map_err(internal)?;
                }
                Segment::Merged { start, bytes } => {
                    let start = ConstExpr::i32_const(start.cast_signed());
                    section.active(0, &start, bytes.iter().copied());
                }
                Segment::Empty => {
                    section.passive([]);
                }
            }
        }
        Ok(section)
    }
}

impl Segment<'_> {
    /// Returns its address, if it is copied to one that is known.
    fn start(&self) -> Option<u32> {
        match self {
            Segment::Merged { start, .. } => Some(*start),
            Segment::Same(data) => match &data.kind {
                DataKind::Active { offset_expr, .. } => constant(offset_expr),
                DataKind::Passive => None,
            },
            Segment::Empty => None,
        }
    }

    /// Returns the bytes that it covers; none if its address is not known.
    fn range(&self) -> Range<u64> {
        let length = match self {
            Segment::Merged { bytes, .. } => bytes.len(),
            Segment::Same(data) => data.data.len(),
            Segment::Empty => 0,
        };
        self.start().map_or(0..0, |start| {
            u64::from(start)..u64::from(start) + length as u64
        })
    }

    /// Returns whether it is known where it is copied to, and that is within so many bytes.
    fn is_known(&self, memory: u64) -> bool {
        let is_active = match self {
            Segment::Same(data) => matches!(data.kind, DataKind::Active { .. }),
            Segment::Merged { .. } => true,
            Segment::Empty => false,
        };
        !is_active || self.start().is_some() && self.range().end <= memory
    }

    /// Adds the bytes of a later segment if they are near enough, and memory is zero between, as
    /// it is up to `zero_until`. Later bytes overwrite earlier ones, as they would if both were
    /// copied.
    fn add(&mut self, at: u32, more: &[u8], zero_until: u64) -> bool {
        let (start, length) = match self {
            Segment::Merged { start, bytes } => (*start, bytes.len()),
            Segment::Same(data) => match &data.kind {
                DataKind::Active { offset_expr, .. } => match constant(offset_expr) {
                    Some(start) => (start, data.data.len()),
                    None => return false,
                },
                DataKind::Passive => return false,
            },
            Segment::Empty => return false,
        };
        let Some(begin) = at.checked_sub(start).map(|begin| begin as usize) else {
            return false;
        };
        let may_skip = u64::from(at) <= zero_until;
        if begin > length + if may_skip { MAX_GAP } else { 0 } {
            return false;
        }
        if let Segment::Same(data) = self {
            let bytes = data.data.to_vec();
            *self = Segment::Merged { start, bytes };
        }
        if let Segment::Merged { bytes, .. } = self {
            let end = begin + more.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[begin..end].copy_from_slice(more);
        }
        true
    }
}

/// Returns the address of a segment, if it is a plain constant.
fn constant(expression: &Expression<'_>) -> Option<u32> {
    let mut reader = expression.get_operators_reader();
    match (reader.read(), reader.read()) {
        (Ok(Operator::I32Const { value }), Ok(Operator::End)) => Some(value.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use wasmparser::{Parser, Payload};

    use super::*;
    use crate::{Instrumented, instrument};

    const MEMORY: usize = 64 << 10;

    /// Returns the memory of an instrumented module after its start, and how many segments were copied.
    fn copied(output: &Instrumented) -> (Vec<u8>, usize) {
        let (mut memory, mut copied) = copy(&output.wasm);
        assert!(copied == 0 || output.contents.is_empty(), "all or none");
        for (at, bytes) in &output.contents {
            memory[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
            copied += 1;
        }
        (memory, copied)
    }

    /// Returns the memory of a module after its start, and how many segments were copied.
    fn copy(wasm: &[u8]) -> (Vec<u8>, usize) {
        let (mut memory, mut copied) = (vec![0; MEMORY], 0);
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::DataSection(section) = payload.unwrap() else {
                continue;
            };
            for data in section {
                let data = data.unwrap();
                if let DataKind::Active { offset_expr, .. } = &data.kind {
                    // The only other expression in these tests is 300 + 300.
                    let at = constant(offset_expr).unwrap_or(600) as usize;
                    memory[at..at + data.data.len()].copy_from_slice(data.data);
                    copied += 1;
                }
            }
        }
        (memory, copied)
    }

    fn module(segments: &[(Option<u16>, u8, u8)]) -> Vec<u8> {
        let mut text = "(module (memory 1) ".to_owned();
        for (at, length, byte) in segments {
            let offset = match at {
                Some(at) => format!("(i32.const {at})"),
                None => "(i32.add (i32.const 300) (i32.const 300))".to_owned(),
            };
            let bytes = format!("\\{byte:02x}").repeat(usize::from(*length));
            let _ = write!(text, "(data {offset} \"{bytes}\")");
        }
        wat::parse_str(text + ")").unwrap()
    }

    #[test]
    fn segments_that_are_near_are_copied_together() {
        let near: Vec<_> = (0..200).map(|n| (Some(n * 16), 4, 7)).collect();
        let output = instrument(&module(&near)).unwrap();
        assert_eq!(copied(&output).1, 1);
        let far: Vec<_> = (0..20).map(|n| (Some(n * 2_000), 4, 7)).collect();
        let output = instrument(&module(&far)).unwrap();
        assert_eq!(copied(&output).1, 20);
    }

    /// As linkers write them that do not sort their sections.
    #[test]
    fn segments_below_earlier_ones_are_copied_together_too() {
        let high = (0..200).map(|n| (Some(30_000 + n * 16), 4, 7));
        let low = (0..200).map(|n| (Some(n * 16), 4, 8));
        let input = module(&high.chain(low).collect::<Vec<_>>());
        let output = instrument(&input).unwrap();
        let (memory, copied) = copied(&output);
        assert_eq!(copied, 2);
        assert!(memory == copy(&input).0);
    }

    /// The bytes between two segments are not those of a third.
    #[test]
    fn what_an_earlier_segment_wrote_is_not_cleared() {
        let segments = [(Some(500), 4, 7), (Some(10), 4, 8), (Some(900), 4, 9)];
        let input = module(&segments);
        let output = instrument(&input).unwrap();
        assert!(copied(&output).0 == copy(&input).0);
    }

    /// Two scripts for one interpreter are compiled once.
    #[test]
    fn modules_that_differ_in_data_only_are_the_same_code() {
        let one = instrument(&module(&[(Some(10), 4, 7), (Some(9_000), 40, 8)])).unwrap();
        let two = instrument(&module(&[(Some(12), 9, 1), (Some(9_500), 3, 2)])).unwrap();
        assert!(one.wasm == two.wasm);
        assert_ne!(one.contents, two.contents);
        assert_ne!(one.data_digest, two.data_digest);
        // One whose place is not known, or is not there, is left to the module.
        for kept in [(None, 4, 7), (Some(u16::MAX), 4, 7)] {
            let output = instrument(&module(&[(Some(10), 4, 7), kept])).unwrap();
            assert!(output.contents.is_empty());
        }
    }

    proptest! {
        /// The memory after the start is the same, whatever the order of the segments, and
        /// however they overlap.
        #[test]
        fn merged_segments_give_the_same_memory(
            segments in prop::collection::vec(
                (prop::option::weighted(0.9, 0..4_000u16), 0..80u8, 1..9u8), 0..40)
        ) {
            let input = module(&segments);
            let output = instrument(&input).unwrap();
            prop_assert!(copied(&output).0 == copy(&input).0);
        }
    }
}
