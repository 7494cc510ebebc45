//! The actor style: a state, and a handler per kind of message.

use std::fmt;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Address, AddressOf, Caller, Context, Message, Pid, Reason};

/// A process as a state with handlers. Write `#[exuvia::actor(schema = 1)]`
/// over the implementation: it exports the module, and fills in the types that
/// you leave out (`Args = ()`, `Message = Never`, `Request = Never`,
/// `Reply = ()`).
///
/// Between messages everything a process is must be in `self`: its image is
/// what differs from the module's start, and its state crosses to new code by
/// the names of these fields. A new field wants `#[serde(default)]`; one that
/// went away is ignored. Statics and thread locals of your own survive while
/// the process stays on its version, but no crossing by `save` and `load`.
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
/// `handle`, `handle_call` and `handle_info` may be `async fn`. What they `.await` costs the
/// process no stack: it may be paged out meanwhile, and a million may wait. It handles no other message
/// until the handler has ended, as with a call that waits, and it does not cross to new code.
/// Await [`Pending`](crate::Pending) answers, timers ([`after`](crate::after)) and what is made of them.
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
    /// What it is started with. A process spawned without arguments can be `()`,
    /// an `Option`, or a structure whose fields all have a default.
    type Args: DeserializeOwned;
    /// What it is sent with [`Pid::send`], and what its timers bring.
    type Message: DeserializeOwned;
    /// What it is asked with [`Pid::call`].
    type Request: DeserializeOwned;
    /// What it answers to a request.
    type Reply: Serialize;

    /// Makes the state, before any other message. An error ends the process,
    /// and whoever waits for the start is told why; `?` makes the words of an
    /// [`Error`](crate::Error).
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

    /// Handles a message. `from` is the process itself for a timer.
    fn handle(&mut self, message: Self::Message, from: Pid, cx: &mut Context) {
        let _ = (message, cx);
        crate::warn!("dropped a message from {from}: this actor has no `handle`");
    }

    /// Handles a request: answer it now with `Some`, or keep `from` in the
    /// state, answer `None`, and [`Caller::reply`] later.
    fn handle_call(
        &mut self,
        request: Self::Request,
        from: Caller<Self::Reply>,
        cx: &mut Context,
    ) -> Option<Self::Reply> {
        let _ = (request, cx);
        from.refuse("this actor answers no requests");
        None
    }

    /// Handles everything else: exits, monitors, replies, raw messages. If you
    /// write it, answer the raw requests that you do not know, with
    /// [`Message::refuse`]: else their callers wait for their timeouts.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Pool { workers: Vec<Pid> }
    /// #[exuvia::actor(schema = 1)]
    /// impl Actor for Pool {
    ///     fn init(_: (), cx: &mut Context) -> Result<Self, String> {
    ///         // Else the end of a worker would be the pool's.
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
            request.refuse("this actor answers no raw requests");
        }
    }

    // What `#[exuvia::actor]` makes of handlers that are `async`.

    #[doc(hidden)]
    const ASYNC_HANDLE: bool = false;
    #[doc(hidden)]
    const ASYNC_HANDLE_CALL: bool = false;
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
    fn handle_info_async(&mut self, info: Info, cx: &mut Context) -> impl Future<Output = ()> {
        let _ = (info, cx);
        std::future::ready(())
    }

    /// Makes a state of what another version saved. The default reads it by
    /// field names, and is what you want unless a field's meaning has changed.
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

    /// This process's own address: a timer's message is checked by the compiler.
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

    /// Called once a version, before any process: what it does to memory is
    /// shared by all processes. It may log and nothing else.
    fn warm_up() {}
}

/// What an actor gets beside messages and requests of its types.
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
    /// A linked process ended, and this one traps exits.
    Exit {
        /// Which.
        pid: Pid,
        /// Why.
        reason: Reason,
        /// Why, in its own words.
        text: String,
    },
    /// A monitored process ended, or the one that a request went to.
    Down {
        /// Which.
        pid: Pid,
        /// The monitor's or the request's reference.
        reference: u64,
        /// Why.
        reason: Reason,
        /// Why, in its own words.
        text: String,
    },
    /// The reply to a [`Pid::request`], under its reference.
    Reply(Message<'static>),
    /// A timer with a tag of your own.
    Timer(Message<'static>),
    /// A table belongs to this process now: it was given, or its owner has ended and
    /// this one is its heir.
    Table {
        /// Which.
        table: crate::Table,
        /// Whose it was.
        from: Pid,
        /// What that one said with it.
        tag: u32,
    },
    /// A message or request with a tag of your own.
    Raw(Message<'static>),
}

/// The type that has no value: for an actor that takes no messages, or no
/// requests. What arrives nevertheless cannot be decoded, and is refused.
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

/// Why no value of [`Never`] can be read.
struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this actor takes none")
    }
}
