//! The node as its users see it: real modules, real schedulers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod guests;
mod pingpong;
mod processes;
mod swaps;
