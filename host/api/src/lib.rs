//! The control API of a node: its types and limits, its OpenAPI document, and a client for it.
//! The server is `control`; both sides, and tools in Rust, use these types.
//!
//! Modules:
//!
//! - `node`, `process`, `message`, `release`, `event` and `top`: what is sent, by subject.
//! - `query`: the parameters of requests. `limits`: the limits of requests and responses.
//! - `problem`: failures, and their codes.
//! - `openapi`: the document, with the table of routes.
//! - `client`: the client, with `multipart` and `sse`, the formats of its uploads and streams.
//!
//! It knows no node, and nothing of how a node serves the API.

#![forbid(unsafe_code)]

mod client;
mod error;
mod event;
mod fingerprint;
mod limits;
mod message;
mod multipart;
mod node;
pub mod openapi;
mod problem;
mod process;
mod query;
mod release;
mod role;
mod socket_path;
mod sse;
mod target;
mod time;
mod token;
mod top;

pub use client::{Answer, Client, EventStream, RemoteNode, fingerprint_of};
pub use error::{ClientError, PathTooLong};
pub use event::EventLine;
pub use fingerprint::Fingerprint;
pub use limits::{
    DEFAULT_LISTED, DEFAULT_TOP, DEFAULT_TRACED, MAX_CALL_TIMEOUT, MAX_DEPLOY_BYTES,
    MAX_DEPLOY_MODULES, MAX_LISTED, MAX_MESSAGE_BYTES, MAX_PART_HEAD_BYTES, MAX_REASON_BYTES,
    MAX_REQUEST_BYTES, MAX_TOP, MAX_TRACED,
};
pub use message::{
    CallRequest, MessageRequest, Payload, REFUSED_TAG, Rendered, Reply, Sent, TYPED_TAG,
};
pub use multipart::too_large as deployment_too_large;
pub use node::{Info, LoadedVersion, Module, ModuleList, StopOptions, StopReport};
pub use problem::{Details, PROBLEM_JSON, Problem, code, reason_too_large};
pub use process::{
    Branch, Description, Function, Holding, Inspection, Killed, Limits, Parameter, Process,
    ProcessPage, Restarted, SupervisionTree, Suspended, Table, WaitingMessage,
};
pub use query::{KillQuery, ProcessesQuery, TopQuery, TraceQuery, TreeQuery};
pub use release::{
    DeployOptions, Logged, Loops, Outcome, Pinned, Release, ReleaseList, ReleaseModule,
    ReleaseOrigin, RollbackOptions, Swap, Upload,
};
pub use role::Role;
pub use socket_path::{MAX_SOCKET_PATH_BYTES, check_path};
pub use target::is_pid;
pub use time::now;
pub use token::{MAX_TOKENS, NewToken, Token, TokenCreated, TokenList};
pub use top::{SchedulerLoad, Sort, Top, TopProcess};
