//! What the node does with the network: listeners, their connections, and HTTP.
//!
//! A connection is a process of the host. It has a pid, so links, monitors, exit reasons and kills hold for
//! it as for any process, and it outlives every swap: what changes is the process behind it. The bytes are
//! read and written by tasks on the schedulers' threads (`pollers`); the process (`connection`) is how they
//! reach the other processes of the node, and the only one that does: a request is a request of the
//! connection's process, and the reply or the end of the receiver completes it.
//!
//! Read `settings` (what can be listened to, and where a request goes), then `gateway`, `connection`,
//! `serve`. `guest-sdk/io.md` says what guests see.
//!
//! Generic over `G`, the engine's half of a guest: nothing here knows Wasm.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod activity;
mod answer;
mod body;
mod browser;
mod client;
mod connection;
mod datagrams;
mod drain;
mod error;
mod files;
mod gateway;
mod head;
mod inherited;
mod keyed;
mod listener;
mod patience;
mod pollers;
mod port;
mod router;
mod serve;
mod settings;
mod socket;
mod stream;
mod tcp;
mod thread;
mod tls;
mod udp;

pub use browser::{Cors, CorsHeaders, response_headers};
pub use client::HttpClient;
pub use error::{ClientError, InheritError, ListenError};
pub use gateway::{Gateway, Guests, NewProcess, NoProcess};
pub use inherited::InheritedSockets;
pub use listener::ListenAddress;
pub use pollers::{Poller, Pollers, Signal};
pub use settings::{
    BuiltinFile, ConnectionLimits, Datagrams, Existing, Listen, Owner, Pattern, Protocol,
    Recipient, Route, Target,
};
pub use tls::Certificate;
