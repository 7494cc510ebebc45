//! Lines of source for backtraces, from the debugging information (DWARF) in a module.

use std::collections::HashMap;

use addr2line::gimli::{self, EndianSlice, LittleEndian};
use addr2line::{Context, LookupResult};
use exuvia_instrument::DebugInfo;
use parking_lot::Mutex;

/// How many instructions' places are remembered: a fault is usually always the same.
const REMEMBERED: usize = 1_024;
/// The most calls at one instruction that were inlined into each other and are shown.
const INLINED: usize = 16;

/// The debugging information of a module. It is read when an instruction is looked up for the first time.
pub(crate) struct Lines {
    info: DebugInfo,
    found: Mutex<HashMap<u32, Vec<Place>>>,
}

/// A function in which a guest was, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its name as the compiler has it; `None`: not known.
    pub(crate) function: Option<String>,
    /// `file:line`, or `file:line:column`.
    pub(crate) line: Option<String>,
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

    /// Returns where the instruction at an offset of the module is in the source: innermost first, if calls
    /// were inlined; nothing if that is not known.
    pub(crate) fn find(&self, offset: u32) -> Vec<Place> {
        if let Some(places) = self.found.lock().get(&offset) {
            return places.clone();
        }
        let places = self.look(offset).unwrap_or_default();
        let mut found = self.found.lock();
        if found.len() < REMEMBERED {
            found.insert(offset, places.clone());
        }
        places
    }

    /// Reads where it is. `None`: there is nothing about it that can be read.
    fn look(&self, offset: u32) -> Option<Vec<Place>> {
        let address = offset.checked_sub(self.info.code_start)?;
        let dwarf = gimli::Dwarf::load(|id| {
            let mut sections = self.info.sections.iter();
            let bytes = sections.find(|(name, _)| name == id.name());
            let bytes = bytes.map_or(&[][..], |(_, bytes)| bytes);
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        });
        let context = Context::from_dwarf(dwarf.ok()?).ok()?;
        // Information in files of its own is not there.
        let LookupResult::Output(frames) = context.find_frames(address.into()) else {
            return None;
        };
        let mut frames = frames.ok()?;
        let mut places = Vec::new();
        while places.len() < INLINED
            && let Ok(Some(frame)) = frames.next()
        {
            let function = frame.function.as_ref();
            let function = function.and_then(|name| Some(name.raw_name().ok()?.into_owned()));
            let line = frame.location.and_then(|location| {
                let (file, line) = (location.file?, location.line?);
                Some(match location.column {
                    Some(column) if column > 0 => format!("{file}:{line}:{column}"),
                    _ => format!("{file}:{line}"),
                })
            });
            places.push(Place { function, line });
        }
        Some(places)
    }
}
