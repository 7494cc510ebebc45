//! The server and its client over a real socket, with a host that only
//! remembers what it was asked.

#![forbid(unsafe_code)]

mod api;
mod fake;
mod socket;
