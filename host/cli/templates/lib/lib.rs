//! Messages that several modules share. A module that answers them and one that
//! sends them both depend on this library, so the compiler checks what is sent.
//!
//! A process may get messages that were sent before it was replaced: keep what an
//! older version sends readable.

use exuvia::Address;
use exuvia::prelude::*;

/// What a counter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Counts on by so much.
    Add(u64),
}

/// What a counter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The count.
    Get,
}

/// A counter, for its clients: `Counter::whereis("counter")?.send(&Change::Add(1))`.
pub type Counter = Address<Change, Query, u64>;
