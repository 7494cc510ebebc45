//! Lines of source for backtraces, from the debugging information (DWARF) in a module.
//!
//! Anybody may have written it, and a few megabytes can describe terabytes. So tables are never expanded: the
//! line program of the one unit that has the instruction is run, with a limit on its rows, and the name of one
//! file is put together, with a limit on its length.

use std::collections::HashMap;

use exuvia_instrument::DebugInfo;
use gimli::{AttributeValue, Dwarf, EndianSlice, LineProgramHeader, LineRow, LittleEndian, Unit};
use parking_lot::Mutex;

/// How many instructions' lines are remembered: a fault is usually always the same.
const REMEMBERED: usize = 1_024;
/// The most units that are looked at, and the most ranges and rows, for one instruction: some ten
/// milliseconds.
const STEPS: usize = 1_000_000;
/// The longest name of a file that is shown, bytes; of a longer one the end is.
const FILE: usize = 256;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The debugging information of a module. It is read when an instruction is looked up for the first time.
pub(crate) struct Lines {
    info: DebugInfo,
    found: Mutex<HashMap<u32, Option<String>>>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

impl Lines {
    pub(crate) fn new(info: DebugInfo) -> Lines {
        Lines {
            info,
            found: Mutex::default(),
        }
    }

    /// Returns where the instruction at an offset of the module is in the source: `file:line`, or
    /// `file:line:column`. `None`: that is not known.
    pub(crate) fn find(&self, offset: u32) -> Option<String> {
        let mut found = self.found.lock();
        if let Some(line) = found.get(&offset) {
            return line.clone();
        }
        // A module that traps everywhere is not worth more.
        if found.len() >= REMEMBERED {
            return None;
        }
        let line = self.look(offset);
        found.insert(offset, line.clone());
        line
    }

    /// Reads where it is. `None`: there is nothing about it that can be read.
    fn look(&self, offset: u32) -> Option<String> {
        let address = u64::from(offset.checked_sub(self.info.code_start)?);
        let dwarf = Dwarf::load(|id| {
            let mut sections = self.info.sections.iter();
            let bytes = sections.find(|(name, _)| name == id.name());
            let bytes = bytes.map_or(&[][..], |(_, bytes)| bytes);
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        });
        let dwarf = dwarf.ok()?;
        let mut steps = STEPS;
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            steps = steps.checked_sub(1)?;
            let Ok(unit) = dwarf.unit(header) else {
                continue;
            };
            if has(&dwarf, &unit, address, &mut steps)? {
                return line_in(&dwarf, &unit, address, &mut steps);
            }
        }
        None
    }
}

/// Returns whether a unit has the instruction at an address. `None`: it says so much that reading on is not
/// worth it.
fn has(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    address: u64,
    steps: &mut usize,
) -> Option<bool> {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else {
        return Some(false);
    };
    while let Ok(Some(range)) = ranges.next() {
        *steps = steps.checked_sub(1)?;
        if (range.begin..range.end).contains(&address) {
            return Some(true);
        }
    }
    Some(false)
}

/// Runs a unit's line program until the row of an address.
fn line_in(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    address: u64,
    steps: &mut usize,
) -> Option<String> {
    let program = unit.line_program.clone()?;
    let mut rows = program.rows();
    // The row before, if it is in the same sequence: it holds up to the next one.
    let mut before: Option<LineRow> = None;
    while let Ok(Some((header, row))) = rows.next_row() {
        *steps = steps.checked_sub(1)?;
        if let Some(before) = before.take_if(|_| row.address() > address)
            && before.address() <= address
        {
            return shown(dwarf, unit, header, &before);
        }
        before = (!row.end_sequence()).then_some(*row);
    }
    None
}

/// Returns a row as `file:line:column`.
fn shown(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    header: &LineProgramHeader<Reader<'_>>,
    row: &LineRow,
) -> Option<String> {
    let line = row.line()?;
    let file = row.file(header)?;
    let name = text(dwarf, unit, file.path_name())?;
    let folder = file.directory(header);
    let folder = folder.and_then(|folder| text(dwarf, unit, folder));
    let path = match folder {
        Some(folder) if !name.starts_with('/') && !folder.is_empty() => format!("{folder}/{name}"),
        _ => name,
    };
    let start = path.ceil_char_boundary(path.len().saturating_sub(FILE));
    let path = &path[start..];
    Some(match row.column() {
        gimli::ColumnType::Column(column) => format!("{path}:{line}:{column}"),
        gimli::ColumnType::LeftEdge => format!("{path}:{line}"),
    })
}

/// Returns a name, or the end of one that is too long.
fn text(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    value: AttributeValue<Reader<'_>>,
) -> Option<String> {
    let bytes = dwarf.attr_string(unit, value).ok()?;
    let bytes = bytes.slice();
    let bytes = &bytes[bytes.len().saturating_sub(FILE)..];
    Some(String::from_utf8_lossy(bytes).into_owned())
}
