//! The control API of a node: its types and limits, and a client for it. The server is
//! `control`; both sides, and tools in Rust, use these types.
//!
//! Modules:
//!
//! - `wire`: what is sent over the socket.
//! - `payload`: converts what people write into the bytes that processes read.
//! - `framing`: the body of a deployment.
//! - `limits`: the limits of requests and responses.
//! - `client`: the client.
//! - `error`: failures, and their codes.
//!
//! It knows no node, and nothing of how a node serves the API.

#![forbid(unsafe_code)]

mod client;
mod error;
pub mod framing;
mod limits;
mod payload;
mod socket_path;
mod time;
mod wire;

pub use client::{Answer, Client, EventStream};
pub use error::{ClientError, Failure, PathTooLong, code};
pub use limits::{
    DEFAULT_LISTED, DEFAULT_TOP, DEFAULT_TRACED, MAX_CALL_TIMEOUT, MAX_DEPLOY_BYTES,
    MAX_DEPLOY_HEADER_BYTES, MAX_DEPLOY_MODULES, MAX_LISTED, MAX_REASON_BYTES, MAX_REQUEST_BYTES,
    MAX_TOP, MAX_TRACED,
};
pub use payload::{Payload, REFUSED_TAG, Rendered, TYPED_TAG};
pub use socket_path::{MAX_SOCKET_PATH_BYTES, check_path};
pub use time::now;
pub use wire::{
    Branch, CallRequest, DeployOptions, Description, EventLine, Function, Info, KillRequest,
    Killed, LoadedVersion, Loops, ModuleInfo, Parameter, Process, Reply, Restarted, SchedulerLoad,
    SendRequest, Sent, Sort, StopTimeout, Suspended, Swap, Target, Top, TopProcess, Upload,
};
