//! The actor style: a state, and a handler for each kind of message.

use std::fmt;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::http;
use crate::socket::{self, Socket};
use crate::{Address, AddressOf, Caller, Context, Message, Pid, Reason};

/// A process as a state with handlers. Write `#[exuvia::actor(schema = 1)]` over the
/// implementation: it exports the module, and fills in the types that you leave out (`Args =
/// ()`, `Message = Never`, `Request = Never`, `Reply = ()`).
///
/// Between messages, everything that makes up the process must be in `self`: its image is what
/// differs from the module's initial memory, and `save` and `load` transfer its state to new
/// code by the names of these fields. A new field needs `#[serde(default)]`; a removed one is
/// ignored. Your own statics and thread locals survive while the process stays on its version,
/// but not an upgrade by `save` and `load`.
///
/// ```
/// use exuvia::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Clock {
///     ticks: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// enum Event {
///     Tick,
/// }
///
/// #[exuvia::actor(schema = 1)]
/// impl Actor for Clock {
///     type Message = Event;
///
///     fn init(_: (), cx: &mut Context) -> Result<Self, String> {
///         cx.send_after(&Event::Tick, std::time::Duration::from_secs(1))?;
///         Ok(Clock { ticks: 0 })
///     }
///
///     fn handle(&mut self, Event::Tick: Event, _from: Pid, cx: &mut Context) {
///         self.ticks += 1;
///         cx.send_after(&Event::Tick, std::time::Duration::from_secs(1)).ok();
///     }
/// }
/// ```
///
/// # Handlers that wait
///
/// `handle`, `handle_call`, `handle_http`, `handle_socket` and `handle_info` may be `async fn`. While such a handler awaits,
/// the process uses no stack: it may be paged out, and a million processes may wait. It handles
/// no other message until the handler has ended, as with a call that waits, and it is not
/// upgraded to new code. Await replies ([`Pending`](crate::Pending)), timers
/// ([`after`](crate::after)) and combinations of them.
///
/// ```
/// use exuvia::prelude::*;
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// struct Shop {
///     prices: Address<(), String, u64>,
/// }
///
/// #[exuvia::actor(schema = 1)]
/// impl Actor for Shop {
///     type Request = Vec<String>;
///     type Reply = Option<u64>;
///
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Shop { prices: Address::whereis("prices")? })
///     }
///
///     async fn handle_call(
///         &mut self,
///         basket: Vec<String>,
///         _from: Caller<Option<u64>>,
///         _: &mut Context,
///     ) -> Option<Option<u64>> {
///         let mut sum = 0;
///         for thing in &basket {
///             let price = self.prices.request(thing).ok()?;
///             sum += price.within(Duration::from_secs(5)).await.ok()?;
///         }
///         Some(Some(sum))
///     }
/// }
/// ```
pub trait Actor: Serialize + DeserializeOwned + 'static {
    /// The arguments it is started with. For a process spawned without arguments this can be
    /// `()`, an `Option`, or a structure whose fields all have a default.
    type Args: DeserializeOwned;
    /// The messages sent with [`Pid::send`], and those of its timers.
    type Message: DeserializeOwned;
    /// The requests made with [`Pid::call`].
    type Request: DeserializeOwned;
    /// The reply to a request.
    type Reply: Serialize;

    /// Creates the state, before any other message. An error terminates the process and is
    /// reported to the process that waits for the start; `?` converts an
    /// [`Error`](crate::Error) to text.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Greeter { greeting: String }
    /// #[exuvia::actor(schema = 1)]
    /// impl Actor for Greeter {
    ///     type Args = String;
    ///     fn init(greeting: String, _: &mut Context) -> Result<Self, String> {
    ///         if greeting.is_empty() {
    ///             return Err("a greeter needs a greeting".to_owned());
    ///         }
    ///         Ok(Greeter { greeting })
    ///     }
    /// }
    /// ```
    fn init(args: Self::Args, cx: &mut Context) -> Result<Self, String>;

    /// Handles a message. For a timer, `from` is the process itself.
    fn handle(&mut self, message: Self::Message, from: Pid, cx: &mut Context) {
        let _ = (message, cx);
        crate::warn!("dropped a message from {from}: this actor has no `handle`");
    }

    /// Handles a request: reply now by returning `Some`, or keep `from` in the state, return
    /// `None`, and call [`Caller::reply`] later.
    fn handle_call(
        &mut self,
        request: Self::Request,
        from: Caller<Self::Reply>,
        cx: &mut Context,
    ) -> Option<Self::Reply> {
        let _ = (request, cx);
        from.refuse("this actor accepts no requests");
        None
    }

    /// Handles a request of HTTP: respond now by returning `Some`, or keep `from` in the state,
    /// return `None`, and call [`Responder::respond`](crate::http::Responder::respond) later. See
    /// [`http`](mod@crate::http), also for handlers of one path and method each.
    fn handle_http(
        &mut self,
        request: http::Request,
        from: http::Responder,
        cx: &mut Context,
    ) -> Option<http::Response> {
        let _ = (from, cx);
        crate::warn!(
            "a request for {}: this actor has no `handle_http`",
            request.path
        );
        Some(http::Response::new(501))
    }

    /// Handles what happens to a socket that this actor owns. When it returns, the event is
    /// acknowledged. See [`socket`](crate::socket).
    fn handle_socket(&mut self, socket: Socket, event: socket::Event, cx: &mut Context) {
        let _ = (event, cx);
        crate::warn!(
            "the socket {}: this actor has no `handle_socket`",
            socket.pid()
        );
    }

    /// Handles everything else: exits, monitors, replies, raw messages. If you implement it,
    /// reply to raw requests that you do not know with [`Message::refuse`]; otherwise their
    /// callers wait until their timeouts.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Pool { workers: Vec<Pid> }
    /// #[exuvia::actor(schema = 1)]
    /// impl Actor for Pool {
    ///     fn init(_: (), cx: &mut Context) -> Result<Self, String> {
    ///         // Otherwise the exit of a worker would terminate the pool.
    ///         cx.trap_exit(true);
    ///         let worker = cx.spawn("worker").link().sync().start()?;
    ///         Ok(Pool { workers: vec![worker.pid] })
    ///     }
    ///
    ///     fn handle_info(&mut self, info: Info, cx: &mut Context) {
    ///         if let Info::Exit { pid, reason, .. } = info {
    ///             exuvia::warn!("{pid} ended: {}", reason.name());
    ///             self.workers.retain(|worker| *worker != pid);
    ///             match cx.spawn("worker").link().start() {
    ///                 Ok(worker) => self.workers.push(worker.pid),
    ///                 Err(error) => exuvia::error!("no new worker: {error}"),
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        let _ = cx;
        crate::debug!("dropped {info:?}");
        if let Info::Raw(request) = info {
            request.refuse("this actor accepts no raw requests");
        }
    }

    // `#[exuvia::actor]` turns `async` handlers into the items below.

    #[doc(hidden)]
    const ASYNC_HANDLE: bool = false;
    /// Whether requests of HTTP go to the functions of `#[exuvia::http]`.
    #[doc(hidden)]
    const HTTP_HANDLERS: bool = false;
    #[doc(hidden)]
    const ASYNC_HANDLE_CALL: bool = false;
    #[doc(hidden)]
    const ASYNC_HANDLE_HTTP: bool = false;
    #[doc(hidden)]
    const ASYNC_HANDLE_SOCKET: bool = false;
    #[doc(hidden)]
    const ASYNC_HANDLE_INFO: bool = false;

    #[doc(hidden)]
    fn handle_async(
        &mut self,
        message: Self::Message,
        from: Pid,
        cx: &mut Context,
    ) -> impl Future<Output = ()> {
        let _ = (message, from, cx);
        std::future::ready(())
    }

    #[doc(hidden)]
    fn handle_call_async(
        &mut self,
        request: Self::Request,
        from: Caller<Self::Reply>,
        cx: &mut Context,
    ) -> impl Future<Output = Option<Self::Reply>> {
        let _ = (request, from, cx);
        std::future::ready(None)
    }

    #[doc(hidden)]
    fn handle_http_async(
        &mut self,
        request: http::Request,
        from: http::Responder,
        cx: &mut Context,
    ) -> impl Future<Output = Option<http::Response>> {
        let _ = (request, from, cx);
        std::future::ready(None)
    }

    #[doc(hidden)]
    fn handle_socket_async(
        &mut self,
        socket: Socket,
        event: socket::Event,
        cx: &mut Context,
    ) -> impl Future<Output = ()> {
        let _ = (socket, event, cx);
        std::future::ready(())
    }

    #[doc(hidden)]
    fn handle_info_async(&mut self, info: Info, cx: &mut Context) -> impl Future<Output = ()> {
        let _ = (info, cx);
        std::future::ready(())
    }

    /// Creates a state from what another version saved. The default reads it by field names,
    /// which is what you want unless a field's meaning has changed.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// #[derive(Serialize, Deserialize)]
    /// struct Meter {
    ///     metres: f64,
    /// }
    ///
    /// #[exuvia::actor(schema = 2)]
    /// impl Actor for Meter {
    ///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
    ///         Ok(Meter { metres: 0.0 })
    ///     }
    ///
    ///     fn migrate(from_schema: i32, state: &[u8]) -> Result<Self, String> {
    ///         #[derive(Deserialize)]
    ///         struct InFeet {
    ///             feet: f64,
    ///         }
    ///         if from_schema == 1 {
    ///             let old: InFeet = exuvia::decode(state)?;
    ///             return Ok(Meter { metres: old.feet * 0.3048 });
    ///         }
    ///         Ok(exuvia::decode(state)?)
    ///     }
    /// }
    /// ```
    fn migrate(from_schema: i32, state: &[u8]) -> Result<Self, String> {
        let _ = from_schema;
        crate::state::by_name(state)
    }

    /// Returns this process's own address, with which the compiler checks a timer's message.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Clock { }
    /// # #[derive(Serialize, Deserialize)] enum Event { Tick }
    /// # #[exuvia::actor(schema = 1)]
    /// # impl Actor for Clock {
    /// #     type Message = Event;
    /// fn init(_: (), _: &mut Context) -> Result<Self, String> {
    ///     Self::address().send_after(&Event::Tick, std::time::Duration::from_secs(1))?;
    ///     Ok(Clock {})
    /// }
    /// #     fn handle(&mut self, _: Event, _: Pid, _: &mut Context) {}
    /// # }
    /// ```
    fn address() -> AddressOf<Self> {
        Address::new(crate::me())
    }

    /// Called once per version, before any process: its changes to memory are shared by all
    /// processes. It may log and do nothing else.
    fn warm_up() {}
}

/// What an actor receives besides messages and requests of its types.
///
/// ```
/// use exuvia::{Info, Reason};
/// fn handle_info(info: Info) {
///     match info {
///         Info::Down { pid, reason, .. } => exuvia::warn!("{pid} ended: {}", reason.name()),
///         Info::Reply(reply) => exuvia::info!("{:?}", reply.decode::<u64>()),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Info {
    /// A linked process terminated, and this process traps exits.
    Exit {
        /// The linked process.
        pid: Pid,
        /// The exit reason.
        reason: Reason,
        /// The exit reason as text.
        text: String,
    },
    /// A monitored process terminated, or the receiver of a request.
    Down {
        /// The process that terminated.
        pid: Pid,
        /// The monitor's or the request's reference.
        reference: u64,
        /// The exit reason.
        reason: Reason,
        /// The exit reason as text.
        text: String,
    },
    /// The reply to a [`Pid::request`], with its reference.
    Reply(Message<'static>),
    /// A timer with a tag of your own.
    Timer(Message<'static>),
    /// This process has become the owner of a table: the table was given to it, or the previous
    /// owner has terminated and this process is its heir.
    Table {
        /// The table.
        table: crate::Table,
        /// The previous owner.
        from: Pid,
        /// The tag set by the previous owner.
        tag: u32,
    },
    /// A message or request with a tag of your own.
    Raw(Message<'static>),
}

/// The type that has no value: for an actor that accepts no messages, or no requests. What
/// arrives nevertheless cannot be decoded, and is rejected.
///
/// ```
/// assert!(exuvia::decode::<exuvia::Never>(b"\xc0").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Never, D::Error> {
        Err(de::Error::custom(format_args!("{Nothing}")))
    }
}

/// The error message for reading a [`Never`].
struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this actor accepts none")
    }
}
