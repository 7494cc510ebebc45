//! A turn of a process: from the signals that have arrived to its next rest. `turn` is what the
//! scheduler calls; `step` decides what the turn does next, `acquire` gets the frame, `enter` runs
//! the guest in it, `exit` ends the process. `saved` shows the state of a process at rest, and
//! `snapshot` captures and restores the whole process.

mod acquire;
mod enter;
mod exit;
pub(crate) mod saved;
mod snapshot;
mod step;
mod turn;
