//! The release store of an app: its modules by content digest, and the log of its releases, in one file. A node
//! comes up on the last release in it.
//!
//! A release is in the store before its code runs: the transaction that writes it, modules included, is what commits
//! it. Until that is on the disk, a crash leaves the release before it whole; after it, a start finds the new one. So
//! an error while it is written means that nothing has changed.
//!
//! The file is one of `redb` (copy-on-write trees, a checksum of each page). This crate knows neither how modules are
//! compiled nor who deploys them.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod file;
mod modules;
mod record;
mod retention;
mod store;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use record::{Origin, Outcome, ReleaseRecord};
pub use retention::{MAX_PINS, MIN_RELEASES, Retention};
pub use store::{Staged, Store};
