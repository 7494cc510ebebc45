//! Development as its users see it: a real node, real files, real builds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for a condition with a deadline of the system's clock"
)]

mod developed;
mod developing;
mod editing;
#[path = "../../../node/tests/it/guests.rs"]
#[allow(dead_code, reason = "the node's tests use the rest")]
mod guests;
#[path = "../../../engine/tests/it/layout.rs"]
mod layout;
mod pingpong;
mod seen;
mod watching;
