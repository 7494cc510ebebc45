//! What a module is told while it is initialized once for all its processes, instead of what differs
//! between them: clocks stand at [`CLOCK`], and random numbers are always the same. See
//! [`exports::SHARED_START`](exuvia_abi::exports::SHARED_START).

/// What every clock says, in nanoseconds. Not 0: runtimes take that for a clock that fails (Go ends with
/// "nanotime returning zero").
pub(crate) const CLOCK: u64 = 1;

/// Whose hash the random bytes are.
const SEED: &[u8] = b"exuvia: random bytes of a shared start";

/// The random bytes of a run. They do not repeat, since some code looks for a number that it has not
/// had.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// Each stage of the initialization has its own, since a frame may repeat the first one alone.
    stage: &'static str,
    drawn: u64,
}

impl Fixed {
    /// Those of a stage.
    pub(crate) fn of(stage: &'static str) -> Fixed {
        Fixed { stage, drawn: 0 }
    }

    /// Fills a buffer with the next bytes.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(SEED).update(self.stage.as_bytes());
        let mut bytes = hasher.finalize_xof();
        bytes.set_position(self.drawn);
        bytes.fill(buffer);
        self.drawn += buffer.len() as u64;
    }
}
