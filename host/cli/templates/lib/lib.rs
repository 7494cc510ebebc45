//! Messages that several modules share. A module that answers them and one that
//! sends them both depend on this library, so the compiler checks what is sent.
//!
//! A process may get messages that were sent before it was replaced: keep what an
//! older version sends readable.

/// What a counter is sent and asked. Whoever is one implements it
/// (`#[exuvia::actor(schema = 1, protocol = ...)]`), and its clients have it:
/// `CounterClient::whereis("counter")?.add(1)`.
#[exuvia::protocol]
pub trait Counter {
    /// Counts on by so much.
    fn add(&mut self, by: u64);
    /// The count.
    fn get(&self) -> u64;
}
