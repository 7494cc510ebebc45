//! A turn of a process: from the signals that have arrived to its next rest. `turn` is what the
//! scheduler calls; `acquire` gets the frame; `saved` shows the state of a process at rest, and
//! `snapshot` captures and restores the whole process.

pub(crate) mod acquire;
pub(crate) mod saved;
mod snapshot;
pub(crate) mod turn;
