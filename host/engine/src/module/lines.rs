//! Lines of source for backtraces, from the debugging information (DWARF) in a module.
//!
//! Anybody may have written it, and a few megabytes can describe terabytes. So no table of files or lines is
//! expanded: the line program of the one unit that has the instruction is run, with a limit on its rows, and the
//! name of one file is put together, with a limit on its length. Many small units may share one large table,
//! which is read for each of them, so the search for the unit has a limit in time, once for a module.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use exuvia_instrument::DebugInfo;
use gimli::{AttributeValue, Dwarf, EndianSlice, LineProgramHeader, LineRow, LittleEndian, Unit};
use parking_lot::Mutex;

/// How many instructions' lines are remembered: a fault is usually always the same.
const REMEMBERED: usize = 1_024;
/// The most ranges and rows that are looked at for one instruction.
const STEPS: usize = 1_000_000;
/// How long the unit of one instruction is looked for. After that nothing more is looked for in the module.
/// It is some hundred times what large modules need.
const MOST_TIME: Duration = Duration::from_millis(200);
/// The longest name of a file that is shown, bytes; of a longer one the end is.
const FILE: usize = 256;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The debugging information of a module. It is read when an instruction is looked up for the first time.
pub(crate) struct Lines {
    info: DebugInfo,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    lines: HashMap<u32, Option<String>>,
    gave_up: bool,
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
    #[expect(
        clippy::disallowed_methods,
        reason = "a limit on the work of this thread, whatever the clock of the node says"
    )]
    pub(crate) fn find(&self, offset: u32) -> Option<String> {
        let mut found = self.found.lock();
        if let Some(line) = found.lines.get(&offset) {
            return line.clone();
        }
        // A module that traps everywhere is not worth more.
        if found.gave_up || found.lines.len() >= REMEMBERED {
            return None;
        }
        let began = Instant::now();
        let is_late = || began.elapsed() > MOST_TIME;
        let line = self.look(offset, is_late);
        found.gave_up = is_late();
        found.lines.insert(offset, line.clone());
        line
    }

    /// Reads where it is. `None`: there is nothing about it that can be read.
    fn look(&self, offset: u32, is_late: impl Fn() -> bool) -> Option<String> {
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
            if is_late() {
                return None;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Units without an entry, each of which refers to one table of megabytes: some 90,000 times 400,000
    /// abbreviations to be read.
    #[test]
    fn units_that_share_a_huge_table_are_given_up() {
        let mut abbreviations: Vec<u8> = Vec::new();
        for code in 1..400_000u64 {
            // Its code, the tag of a unit, no children, and no attributes.
            leb(&mut abbreviations, code);
            abbreviations.extend([0x11, 0, 0, 0]);
        }
        abbreviations.push(0);
        // Version 4, the table at 0, addresses of 4 bytes, and an entry of the first kind.
        let unit = [8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 4, 1];
        let lines = Lines::new(DebugInfo {
            code_start: 0,
            sections: vec![
                (".debug_abbrev".into(), abbreviations),
                (".debug_info".into(), unit.repeat(90_000)),
            ],
        });
        assert_eq!(lines.find(1), None);
        assert!(lines.found.lock().gave_up);
        assert_eq!(lines.find(2), None);
        assert_eq!(lines.found.lock().lines.len(), 1);
    }

    fn leb(bytes: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
}
