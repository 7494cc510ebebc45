//! The server of a node's control API: HTTP and JSON over a unix socket.
//!
//! Anyone who can open the node's own socket can do everything, so its mode is 0600. Further sockets
//! are for a role each, which decides which routes there are. The crate `api` describes the routes and defines what is sent over them. The server
//! knows a node only as a [`Host`], so that it can be tested without one.
//!
//! Modules:
//!
//! - `socket`: ownership of the socket's path, and the handling of a stale socket.
//! - `server`, `accept` and `routes`: the server; its owner decides when the node stops.
//! - `access` and `audit`: who may do what, and who did what.
//! - `remote` and `tokens`: the same over TCP, for other machines, with TLS and a token.
//! - `scrape`: the metrics and health over TCP, and nothing else there.
//! - `bodies` and `upload`: request bodies and the limits on their size.
//! - `event_log`: the last events, for streams.
//! - `health` and `metrics`: what probes and Prometheus get.
//! - `host`: the node as the server sees it.

#![forbid(unsafe_code)]

mod accept;
mod access;
mod audit;
mod bodies;
mod error;
mod event_log;
mod health;
mod host;
mod metrics;
mod problem;
mod remote;
mod routes;
mod scrape;
mod server;
mod socket;
mod tokens;
mod upload;

pub use accept::MAX_CONNECTIONS;
pub use audit::{MAX_AUDIT_BYTES, MAX_REFUSED_BYTES};
pub use bodies::MAX_BODIES_BYTES;
pub use error::ServeError;
pub use event_log::{MAX_KEPT_EVENT_BYTES, MAX_KEPT_EVENTS};
pub use health::Health;
pub use host::{Host, NodeHost, Sentences};
pub use remote::{
    Certificate, MAX_REMOTE, MAX_REMOTE_PER_TOKEN, MAX_STRANGERS, MAX_STRANGERS_PER_ADDRESS, Remote,
};
pub use routes::{MAX_CALLS, MAX_REQUESTS, MAX_STREAMS, MAX_TRACES, routes};
pub use scrape::{MAX_SCRAPERS, Scraped, listen, serve_metrics};
pub use server::{Bounds, Server, StopRequest, serve, serve_with};
pub use socket::Claim;

/// Returns the path of a file that belongs to a socket: its name and more, since a folder may have several sockets.
pub(crate) fn beside(socket: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    path.into()
}
