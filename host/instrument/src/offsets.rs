//! Maps offsets in the output module to offsets in the input module.
//!
//! Operators are copied unchanged, so between two changes the distance between
//! an output offset and its input offset is constant: one [`Run`] per change.

/// A range of output code: first `inserted` bytes that the pass wrote, then bytes
/// that were copied from `input` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Offset in the output at which the range begins.
    pub(crate) output: u32,
    /// The input offset that the inserted bytes represent, and at which the copied bytes begin.
    pub(crate) input: u32,
    /// Length of the inserted bytes.
    pub(crate) inserted: u32,
}

/// Maps code offsets of the output module to offsets of the input module. Both
/// count from the first byte of the file, as wasmtime's `module_offset` does.
#[derive(Clone, Debug, Default)]
pub struct OffsetMap {
    /// Runs in ascending order of `output`, which is also the order of `input`.
    runs: Vec<Run>,
    /// Output offset at which the code that comes from the input ends.
    end: u32,
}

impl OffsetMap {
    pub(crate) fn new(runs: Vec<Run>, end: u32) -> Self {
        Self { runs, end }
    }

    /// Returns the input offset for an output offset. An inserted operator maps to
    /// the operator of the input that follows it or that it replaces. Returns `None`
    /// outside the input's code, and in functions that the pass added.
    pub fn original(&self, output: u32) -> Option<u32> {
        if output >= self.end {
            return None;
        }
        let after = self.runs.partition_point(|run| run.output <= output);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let into = output - run.output;
        Some(run.input + into.saturating_sub(run.inserted))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns whether the module has no code.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// Returns the output offset of the operator at `input`, within the runs of one function.
pub(crate) fn forward(runs: &[Run], input: u32) -> Option<u32> {
    let after = runs.partition_point(|run| run.input <= input);
    let run = runs.get(after.checked_sub(1)?)?;
    Some(run.output + run.inserted + (input - run.input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_map_both_ways() {
        let runs = vec![
            Run {
                output: 100,
                input: 50,
                inserted: 10,
            },
            Run {
                output: 130,
                input: 70,
                inserted: 5,
            },
        ];
        assert_eq!(forward(&runs, 50), Some(110));
        assert_eq!(forward(&runs, 69), Some(129));
        assert_eq!(forward(&runs, 70), Some(135));
        assert_eq!(forward(&runs, 49), None);
        let map = OffsetMap::new(runs, 140);
        assert_eq!(map.original(99), None);
        assert_eq!(map.original(100), Some(50));
        assert_eq!(map.original(109), Some(50));
        assert_eq!(map.original(111), Some(51));
        assert_eq!(map.original(130), Some(70));
        assert_eq!(map.original(136), Some(71));
        assert_eq!(map.original(140), None);
        assert_eq!(OffsetMap::default().original(0), None);
    }
}
