//! What the processes say to each other. Both sides use these types, so the
//! compiler checks what is sent.
//!
//! A process may get messages that were sent before it was replaced: keep what an
//! older version sends readable.

use exuvia::Address;
use exuvia::prelude::*;

/// What the store is sent.
#[derive(Serialize, Deserialize)]
pub enum Change {
    /// A worker has done so many pieces of work.
    Done { worker: String, pieces: u64 },
}

/// What the store is asked.
#[derive(Serialize, Deserialize)]
pub enum Query {
    /// How many pieces have been done in all.
    Total,
}

/// The store, for its clients.
pub type Store = Address<Change, Query, u64>;
