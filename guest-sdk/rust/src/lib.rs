//! Write Exuvia processes in Rust.
//!
//! A process is a Wasm module's code with its own memory and a mailbox. There are two ways to
//! write one:
//!
//! - **As an actor**: a type that holds the state, and a handler for each kind of message. See
//!   [`Actor`] and [`actor`]. This is usually what you want: the process uses no stack while it
//!   is idle, and its state is migrated to new code by field names.
//! - **As a loop**: a function that takes messages with [`receive`] or [`Buffer::receive`] and
//!   is otherwise unrestricted. See [`module!`].
//!
//! ```
//! use exuvia::prelude::*;
//!
//! #[derive(Serialize, Deserialize, Layout, Saved)]
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
//! [`Pid`] sends anything to any process. [`Address`] is a pid with the types that its process
//! accepts, so that a wrong message does not compile. Both have `send`, `call` (which waits),
//! `request` (which does not) and `send_after`.
//!
//! # Tags
//!
//! A message has a number beside its payload, the tag. The SDK uses these conventions and
//! leaves all other numbers to you:
//!
//! | tag | meaning |
//! | --- | --- |
//! | [`tag::TYPED`] (0) | the payload is MessagePack, with field names, of the receiver's declared type |
//! | [`tag::REFUSED`] (`u32::MAX`) | in a reply: the request was rejected; the payload says why, as text |
//! | [`tag::HTTP_REQUEST`], [`tag::HTTP_RESPONSE`] | a request of HTTP and the reply to it: see [`http`](mod@http) |
//! | `tag::HTTP_STREAM`, `tag::SOCKET_...` | sockets and responses in parts: see [`socket`] |
//! | `tag::CHANNEL_...` | what sessions and presence lists send each other: see [`channel`] |
//! | anything else | yours: an actor receives it in [`Actor::handle_info`] |
//!
//! # Off the host
//!
//! Compiled for a target other than Wasm, the host calls go to a small in-memory host, one per
//! thread, so that actors have ordinary unit tests: see `testing`. A test can also run in a
//! real node with virtual time: see `test`.
#![deny(unsafe_code)]

extern crate self as exuvia;

mod actor;
mod address;
mod bytes;
pub mod channel;
mod codec;
mod context;
mod error;
mod grants;
mod group;
#[cfg(any(all(target_arch = "wasm32", feature = "heap"), test))]
#[allow(unsafe_code, reason = "an allocator hands out raw memory")]
mod heap;
pub mod http;
pub mod layout;
mod log;
mod message;
mod pid;
mod process;
mod receive;
#[doc(hidden)]
pub mod runtime;
pub mod saved;
pub mod socket;
mod spawn;
pub mod state;
#[doc(hidden)]
#[allow(unsafe_code, reason = "the imports and exports of a module")]
pub mod sys;
mod table;
pub mod tag;
mod task;
#[cfg(not(target_arch = "wasm32"))]
pub mod test;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use actor::{Actor, Info, Never};
pub use address::{Address, AddressOf, Pending};
pub use bytes::Bytes;
pub use codec::{decode, encode};
pub use context::{Caller, Context};
pub use error::Error;
pub use exuvia_abi::{ABI_VERSION, Kind, Priority, Reason, RunResult};
/// Makes functions the handlers of requests for their paths and methods. The actor says that it has such a block, one, with
/// `#[exuvia::actor(schema = 1, http)]`; [`Actor::handle_http`] is then made of it.
///
/// A handler has one or several of `#[get]`, `#[post]`, `#[put]`, `#[patch]` and `#[delete]`, with a path, in which `{name}` is
/// one segment and `{*name}` the rest. The most exact path wins. Without a path it is all those that the manifest sends here and
/// that no other handler has. `GET` handles `HEAD` too. It may be `async`, as [`Actor`] says.
///
/// Each argument is made of the request:
///
/// | argument | what it is | otherwise the client gets |
/// | --- | --- | --- |
/// | `id: u64`, and `{id}` in the path | the parameter of the path, for each type with `FromStr` | 404 |
/// | `Query(page): Query<Page>` | [the query](http::Query) | 400 |
/// | `Json(item): Json<Item>` | [the body, of JSON](http::Json) | 415, 400 or 422 |
/// | `Form(item): Form<Item>` | [the body, a form](http::Form) | 415 or 422 |
/// | `#[header("if-match")] tag: String` | the header, for each type with `FromStr` | 400 |
/// | `#[header("if-match")] tag: Option<String>` | the same, if there is one | 400 |
/// | `body: BodyStream` | [the body, in parts](http::BodyStream) | |
/// | `request: &Request` | [all of it](http::Request) | |
/// | `from: Responder` | [who waits for the response](http::Responder): the handler returns nothing, and responds now or later | |
/// | `cx: &mut Context` | the actor's [`Context`] | |
/// | any other | what its [`FromRequest`](http::FromRequest) makes of the request | its error |
///
/// It returns [something that is a response](http::IntoResponse). For a path that no handler has, the client gets 404, and for a
/// method that a path has not, 405 with `Allow`. All of these say what was wrong, as text.
///
/// ```
/// use exuvia::http::{Json, Response};
/// use exuvia::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Board {
///     notes: Vec<String>,
/// }
///
/// #[exuvia::actor(schema = 1, http)]
/// impl Actor for Board {
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Board { notes: Vec::new() })
///     }
/// }
///
/// #[exuvia::http]
/// impl Board {
///     #[get("/notes/{number}")]
///     fn note(&self, number: usize) -> Option<String> {
///         self.notes.get(number).cloned()
///     }
///
///     #[post("/notes")]
///     fn add(&mut self, Json(note): Json<String>) -> Result<(u16, &'static str), Response> {
///         if note.len() > 1_000 {
///             return Err(Response::error(413, "a note has 1,000 bytes at most"));
///         }
///         self.notes.push(note);
///         Ok((201, "added\n"))
///     }
/// }
///
/// use exuvia::http::Request;
/// use exuvia::testing::{Process, deliver_http, response_to};
/// let mut board = Process::<Board>::start(&());
/// let put = deliver_http(&Request::new("PUT", "/notes"));
/// board.run();
/// assert_eq!(response_to(put).unwrap().status, 405);
/// ```
///
/// A block that the actor does not know of is an error:
///
/// ```compile_fail
/// # use exuvia::prelude::*;
/// # #[derive(Serialize, Deserialize)] struct Board;
/// #[exuvia::actor(schema = 1)] // `http` is missing
/// impl Actor for Board {
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Board)
///     }
/// }
///
/// #[exuvia::http]
/// impl Board {
///     #[get("/")]
///     fn page(&self) -> &'static str {
///         "never seen"
///     }
/// }
/// ```
pub use exuvia_macros::http;
/// Declares a trait as a protocol: its functions are the messages and requests that a process
/// accepts, and a client has them as methods.
///
/// For a trait `Counter` it generates `CounterMessage` and `CounterRequest`, whose variants are
/// the functions' names in camel case with their parameters as fields, `CounterReply`, and
/// `CounterClient`. A function that returns nothing is a message; the client sends it, also
/// after a delay (`reset_after`). A function that returns something is a request; the client
/// calls it, or sends the request without waiting (`request_get`).
///
/// - A parameter `cx: &mut Context` is not sent; the actor passes its own.
/// - A parameter `from: Caller<R>` is not sent either: such a function is a request whose reply
///   is sent with [`Caller::reply`], now or later.
/// - Functions may be `async`: see [`Actor`].
///
/// Put the trait into a crate that the actor and its clients share, and give the actor its
/// path, where the generated types are as well: `protocol = shop_protocol::Cart`.
///
/// ```
/// use exuvia::prelude::*;
///
/// #[exuvia::protocol]
/// pub trait Counter {
///     /// Adds to the count.
///     fn add(&mut self, by: u64);
///     /// The count.
///     fn get(&self) -> u64;
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Memory {
///     count: u64,
/// }
///
/// #[exuvia::actor(schema = 1, protocol = Counter)]
/// impl Actor for Memory {
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Memory { count: 0 })
///     }
/// }
///
/// impl Counter for Memory {
///     fn add(&mut self, by: u64) {
///         self.count += by;
///     }
///     fn get(&self) -> u64 {
///         self.count
///     }
/// }
///
/// fn client() -> Result<u64, Error> {
///     let counter = CounterClient::whereis("counter")?;
///     counter.add(3)?;
///     counter.get()
/// }
/// # let _ = client;
/// ```
///
/// On the wire `add(3)` is the message `{"Add": {"by": 3}}`, `get()` the request `"Get"`, and
/// the reply the number. Old processes reject a new function; a new parameter should be an
/// `Option`, which old clients leave out.
pub use exuvia_macros::protocol;
pub use exuvia_macros::{Layout, Saved, actor};
pub use grants::Grants;
pub use group::Group;
pub use layout::Layout;
pub use log::Level;
#[doc(hidden)]
pub use log::write as __log;
pub use message::Message;
pub use pid::Pid;
pub use process::{
    cancel_timer, config, demonitor, discard, exit, init_ack, init_failed, mailbox_length, me,
    monitor_name, monotonic, random, random_u64, realtime, reductions, register, set_priority,
    sleep, start_supervisor, trap_exit, unregister, upgrades, whereis,
};
pub use receive::{Match, Nothing, Wait, receive, receive_or_upgrade};
pub use saved::Saved;
#[doc(hidden)]
pub use serde as __serde;
pub use spawn::{Child, Spawn, spawn, spawn_self};
pub use sys::Buffer;
pub use table::{Access, Keys, Table};
#[doc(hidden)]
pub use task::Slot as __Slot;
pub use task::{After, Answer, after, join_all};

/// The usual imports of an actor's file: `use exuvia::prelude::*;`.
///
/// `Serialize` and `Deserialize` are serde's; their derives require `serde` among your crate's
/// dependencies.
pub mod prelude {
    pub use crate::{
        Actor, Address, Bytes, Caller, Context, Error, Group, Info, Layout, Pending, Pid, Reason,
        Saved, Table, Wait,
    };
    pub use serde::{Deserialize, Serialize};
}
