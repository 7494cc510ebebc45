//! Write Exuvia processes in Rust.
//!
//! A process is a Wasm module's code with its own memory and a mailbox. There
//! are two ways to write one:
//!
//! - **As an actor**: a type that holds the state, and a handler per kind of
//!   message. See [`Actor`] and [`actor`]. This is what you want most of the
//!   time: the process costs no stack while it is idle, and its state crosses
//!   to new code by field names.
//! - **As a loop**: a function that takes messages with [`receive`] or
//!   [`Buffer::receive`] and does what it likes. See [`module!`].
//!
//! ```
//! use exuvia::prelude::*;
//!
//! #[derive(Serialize, Deserialize, Layout)]
//! struct Counter {
//!     count: u64,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! enum Change {
//!     Add(u64),
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! enum Query {
//!     Get,
//! }
//!
//! #[exuvia::actor(schema = 1, layout)]
//! impl Actor for Counter {
//!     type Message = Change;
//!     type Request = Query;
//!     type Reply = u64;
//!
//!     fn init(_: (), _: &mut Context) -> Result<Self, String> {
//!         Ok(Counter { count: 0 })
//!     }
//!
//!     fn handle(&mut self, Change::Add(by): Change, _from: Pid, _: &mut Context) {
//!         self.count += by;
//!     }
//!
//!     fn handle_call(&mut self, _: Query, _: Caller<u64>, _: &mut Context) -> Option<u64> {
//!         Some(self.count)
//!     }
//! }
//! ```
//!
//! # Talking to a process
//!
//! [`Pid`] sends anything to anybody. [`Address`] is a pid that knows its
//! process's types, so that a wrong message does not compile. Both have `send`,
//! `call` (which waits), `request` (which does not) and `send_after`.
//!
//! # Tags
//!
//! A message carries a number beside its payload, the tag. The SDK uses three
//! conventions and leaves all other numbers to you:
//!
//! | tag | meaning |
//! | --- | --- |
//! | [`tag::TYPED`] (0) | the payload is MessagePack, with field names, of the receiver's declared type |
//! | [`tag::REFUSED`] (`u32::MAX`) | in a reply: the request was not understood; the payload says why, as text |
//! | anything else | yours: an actor gets it in [`Actor::handle_info`] |
//!
//! # Off the host
//!
//! Compiled for anything but Wasm, the host calls go to a small host in memory,
//! one per thread, so that actors have ordinary unit tests. See `testing`.
#![deny(unsafe_code)]

extern crate self as exuvia;

mod actor;
mod address;
mod bytes;
mod codec;
mod context;
mod error;
mod exports;
mod group;
#[cfg(any(all(target_arch = "wasm32", feature = "heap"), test))]
#[allow(unsafe_code, reason = "an allocator hands out raw memory")]
mod heap;
pub mod layout;
mod log;
mod message;
mod pid;
mod process;
mod receive;
#[doc(hidden)]
pub mod runtime;
mod spawn;
pub mod state;
#[doc(hidden)]
#[allow(unsafe_code, reason = "the imports and exports of a module")]
pub mod sys;
mod table;
pub mod tag;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use actor::{Actor, Info, Never};
pub use address::{Address, AddressOf, Pending};
pub use bytes::Bytes;
pub use codec::{decode, encode};
pub use context::{Caller, Context};
pub use error::Error;
pub use exuvia_abi::{ABI_VERSION, Kind, Priority, Reason, RunResult};
pub use exuvia_macros::{Layout, actor};
pub use group::Group;
pub use layout::Layout;
pub use log::Level;
#[doc(hidden)]
pub use log::write as __log;
pub use message::Message;
pub use pid::Pid;
pub use process::{
    cancel_timer, config, crossings, demonitor, exit, init_ack, init_failed, mailbox_length, me,
    monitor_name, monotonic, random, random_u64, realtime, reductions, register, set_priority,
    sleep, start_supervisor, trap_exit, unregister, whereis,
};
pub use receive::{Match, Nothing, Wait, receive, receive_or_upgrade};
pub use spawn::{Child, Spawn, spawn, spawn_self};
pub use sys::Buffer;
pub use table::{Access, Keys, Table};

/// What an actor's file begins with: `use exuvia::prelude::*;`.
///
/// `Serialize` and `Deserialize` are serde's; their derives want `serde` among
/// your crate's dependencies.
pub mod prelude {
    pub use crate::{
        Actor, Address, Bytes, Caller, Context, Error, Group, Info, Layout, Pending, Pid, Reason,
        Table, Wait,
    };
    pub use serde::{Deserialize, Serialize};
}
