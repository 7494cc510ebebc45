//! The API from outside: its document, and the client against servers that respond wrongly.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod client;
mod document;
