//! What the processes say to each other. Both sides use it, so the compiler checks
//! what is sent.
//!
//! A process may get messages that were sent before it was replaced: keep what an
//! older version sends readable.

/// What the store is sent and asked; its clients have it as `StoreClient`.
#[exuvia::protocol]
pub trait Store {
    /// A worker has done so many pieces of work.
    fn done(&mut self, worker: String, pieces: u64);
    /// How many pieces have been done in all.
    fn total(&self) -> u64;
}
