//! The server and its client over a real socket, with a host that only
//! remembers what it was asked.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod api;
mod connections;
mod document;
mod events;
mod fake;
mod health;
mod remote;
mod roles;
mod schema;
mod socket;
mod uploads;
mod wait;
