//! Control of a running node: HTTP and JSON over a unix socket, and the client
//! for it.
//!
//! Whoever can open the socket may do everything, so its mode is 0600 and there
//! is no other check. `docs/cli.md` lists the routes; what they carry is in
//! `wire`. The server knows a node only as a [`Host`], so that it can be tested
//! without one.
//!
//! Where to look:
//! - `socket`: who owns the socket's path, and what happens to one left behind.
//! - `server`, `accept` and `routes`: the server; stopping is its owner's matter.
//! - `bodies`: what requests carry, and how much of it at a time.
//! - `client`: the same API from the other side.
//! - `payload`: what people write, and the bytes that processes read.
//!
//! Deliberately absent: TCP, users and rights.

#![forbid(unsafe_code)]

mod accept;
mod bodies;
mod client;
mod error;
mod events;
mod framing;
mod host;
mod look;
mod metrics;
mod node;
mod payload;
mod routes;
mod server;
mod socket;
mod wire;

pub use accept::MAX_CONNECTIONS;
pub use bodies::MAX_BODIES_BYTES;
pub use client::{Answer, Client, EventStream};
pub use error::{ClientError, Failure, ServeError, code};
pub use exuvia_node::{REFUSED_TAG, Shown, TYPED_TAG};
pub use framing::{MAX_DEPLOY_BYTES, MAX_DEPLOY_HEADER_BYTES, MAX_DEPLOY_MODULES};
pub use host::{Host, Upload};
pub use look::{DEFAULT_TRACED, MAX_TOP, MAX_TRACED, MAX_TRACES};
pub use payload::Payload;
pub use routes::{MAX_CALL_TIMEOUT, MAX_LISTED, MAX_REQUEST_BYTES, MAX_REQUESTS};
pub use server::{Bounds, Server, StopRequest, serve, serve_with};
pub use socket::{Claim, MAX_SOCKET_PATH_BYTES, check_path};
pub use wire::{
    CallRequest, DeployOptions, EventLine, Info, LoadedVersion, Loops, ModuleInfo, Process, Reply,
    SchedulerLoad, SendRequest, Sort, StopTimeout, Swap, Top, TopProcess,
};
