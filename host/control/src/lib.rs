//! Control of a running node: HTTP and JSON over a unix socket, and the client for it.
//!
//! Anyone who can open the socket can do everything, so its mode is 0600 and there is no other
//! check. `docs/cli.md` lists the routes; `wire` defines what is sent over them. The server
//! knows a node only as a [`Host`], so that it can be tested without one.
//!
//! Modules:
//!
//! - `socket`: ownership of the socket's path, and the handling of a stale socket.
//! - `server`, `accept` and `routes`: the server; its owner decides when the node stops.
//! - `scrape`: the metrics over TCP, and nothing else there.
//! - `bodies`: request bodies and the limits on their size.
//! - `client`: the client side of the same API.
//! - `payload`: converts what people write into the bytes that processes read.
//! - `text`: what is shown to people.
//!
//! Deliberately absent: control over TCP, users and permissions.

#![forbid(unsafe_code)]

mod accept;
mod bodies;
mod client;
mod error;
mod events;
mod framing;
mod host;
mod inspect_routes;
mod metrics;
mod node;
mod payload;
mod routes;
mod scrape;
mod server;
mod socket;
mod text;
mod wire;

pub use accept::MAX_CONNECTIONS;
pub use bodies::MAX_BODIES_BYTES;
pub use client::{Answer, Client, EventStream};
pub use error::{ClientError, Failure, ServeError, code};
pub use events::MAX_STREAMS;
pub use exuvia_node::{Function, Parameter, REFUSED_TAG, Rendered, TYPED_TAG};
pub use framing::{MAX_DEPLOY_BYTES, MAX_DEPLOY_HEADER_BYTES, MAX_DEPLOY_MODULES};
pub use host::{Host, Upload};
pub use inspect_routes::{DEFAULT_TRACED, MAX_TOP, MAX_TRACED, MAX_TRACES};
pub use payload::Payload;
pub use routes::{
    MAX_CALL_TIMEOUT, MAX_CALLS, MAX_LISTED, MAX_REASON_BYTES, MAX_REQUEST_BYTES, MAX_REQUESTS,
};
pub use scrape::{MAX_SCRAPERS, Scraped, listen, serve_metrics};
pub use server::{Bounds, Server, StopRequest, serve, serve_with};
pub use socket::{Claim, MAX_SOCKET_PATH_BYTES, check_path};
pub use text::{is_hidden, now};
pub use wire::{
    Branch, CallRequest, DeployOptions, Description, EventLine, Info, Killed, LoadedVersion, Loops,
    ModuleInfo, Process, Reply, Restarted, SchedulerLoad, SendRequest, Sent, Sort, StopTimeout,
    Suspended, Swap, Top, TopProcess,
};
