//! The server of a node's control API: HTTP and JSON over a unix socket.
//!
//! Anyone who can open the socket can do everything, so its mode is 0600 and there is no other
//! check. `docs/cli.md` lists the routes; the crate `api` defines what is sent over them. The
//! server knows a node only as a [`Host`], so that it can be tested without one.
//!
//! Modules:
//!
//! - `socket`: ownership of the socket's path, and the handling of a stale socket.
//! - `server`, `accept` and `routes`: the server; its owner decides when the node stops.
//! - `scrape`: the metrics over TCP, and nothing else there.
//! - `bodies`: request bodies and the limits on their size.
//!
//! Deliberately absent: control over TCP, users and permissions.

#![forbid(unsafe_code)]

mod accept;
mod bodies;
mod error;
mod events;
mod host;
mod inspect_routes;
mod metrics;
mod node;
mod refusal;
mod routes;
mod scrape;
mod server;
mod socket;

pub use accept::MAX_CONNECTIONS;
pub use bodies::MAX_BODIES_BYTES;
pub use error::ServeError;
pub use events::MAX_STREAMS;
pub use host::Host;
pub use inspect_routes::MAX_TRACES;
pub use routes::{MAX_CALLS, MAX_REQUESTS};
pub use scrape::{MAX_SCRAPERS, Scraped, listen, serve_metrics};
pub use server::{Bounds, Server, StopRequest, serve, serve_with};
pub use socket::Claim;
