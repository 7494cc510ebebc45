//! What a handler can do, and the caller that it replies to.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Pid, Reason, Spawn, sys, tag};

/// Passed to every handler. It only holds the sender, and whether the process is to stop; the
/// rest are shortcuts to the functions of this crate.
///
/// ```
/// use exuvia::Context;
/// fn handle(cx: &mut Context) {
///     if cx.whereis("leader").is_err() {
///         cx.register("leader").ok();
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Context {
    pub(crate) stop: Option<(Reason, String)>,
    pub(crate) sender: Pid,
}

impl Context {
    /// Returns the sender of the message that is handled: for a timer this process itself, for
    /// an exit the process that has terminated.
    ///
    /// ```
    /// fn handle(cx: &mut exuvia::Context) {
    ///     exuvia::info!("from {}", cx.sender());
    /// }
    /// ```
    pub fn sender(&self) -> Pid {
        self.sender
    }

    /// Returns this process's pid.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// exuvia::info!("I am {}", cx.me());
    /// # }
    /// ```
    pub fn me(&self) -> Pid {
        sys::self_pid()
    }

    /// Terminates the process when this handler returns. [`Reason::NORMAL`] is the cheap way to
    /// terminate.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// cx.stop(exuvia::Reason::NORMAL);
    /// # }
    /// ```
    pub fn stop(&mut self, reason: Reason) {
        self.stop_saying(reason, "");
    }

    /// Like [`stop`](Context::stop), with a text for linked processes.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// cx.stop_saying(exuvia::Reason(exuvia::Reason::GUEST + 1), "the disk is full");
    /// # }
    /// ```
    pub fn stop_saying(&mut self, reason: Reason, text: &str) {
        self.stop = Some((reason, text.to_owned()));
    }

    /// Replies to a request that was kept.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context, waiting: exuvia::Caller<u64>) {
    /// cx.reply(waiting, 42).ok();
    /// # }
    /// ```
    pub fn reply<R: Serialize>(&mut self, to: Caller<R>, value: R) -> Result<(), Error> {
        to.reply(&value)
    }

    /// Sends this process a message after a delay; see [`Pid::send_after`]. Any value compiles;
    /// with [`Actor::address`](crate::Actor::address) the compiler checks its type.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) -> Result<(), exuvia::Error> {
    /// let timer = cx.send_after(&"tick", std::time::Duration::from_secs(1))?;
    /// # let _ = timer; Ok(()) }
    /// ```
    pub fn send_after<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        delay: Duration,
    ) -> Result<u64, Error> {
        self.me().send_after(message, delay)
    }

    /// Prepares to spawn a process; see [`Spawn`].
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) -> Result<(), exuvia::Error> {
    /// let child = cx.spawn("worker").link().start()?;
    /// # let _ = child; Ok(()) }
    /// ```
    pub fn spawn<'a>(&mut self, module: &'a str) -> Spawn<'a> {
        crate::spawn(module)
    }

    /// See [`Pid::monitor`].
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context, peer: exuvia::Pid) {
    /// cx.monitor(peer).ok();
    /// # }
    /// ```
    pub fn monitor(&mut self, pid: Pid) -> Result<u64, Error> {
        pid.monitor()
    }

    /// See [`Pid::link`].
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context, peer: exuvia::Pid) {
    /// cx.link(peer).ok();
    /// # }
    /// ```
    pub fn link(&mut self, pid: Pid) -> Result<(), Error> {
        pid.link()
    }

    /// See the function [`trap_exit`](crate::trap_exit).
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// cx.trap_exit(true);
    /// # }
    /// ```
    pub fn trap_exit(&mut self, on: bool) -> bool {
        crate::trap_exit(on)
    }

    /// Registers a name for this process.
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// cx.register("leader").ok();
    /// # }
    /// ```
    pub fn register(&mut self, name: &str) -> Result<(), Error> {
        crate::register(name, self.me())
    }

    /// See the function [`whereis`](crate::whereis).
    ///
    /// ```
    /// # fn example(cx: &mut exuvia::Context) {
    /// cx.whereis("leader").ok();
    /// # }
    /// ```
    pub fn whereis(&self, name: &str) -> Result<Pid, Error> {
        crate::whereis(name)
    }
}

/// The sender of a request. It may be kept in the state, and replied to after other messages or
/// even by newer code.
///
/// ```
/// use exuvia::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Door {
///     waiting: Vec<Caller<String>>,
/// }
///
/// #[exuvia::actor(schema = 1)]
/// impl Actor for Door {
///     type Message = ();
///     type Request = ();
///     type Reply = String;
///
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         Ok(Door { waiting: Vec::new() })
///     }
///
///     fn handle_call(&mut self, _: (), from: Caller<String>, _: &mut Context) -> Option<String> {
///         self.waiting.push(from);
///         None
///     }
///
///     fn handle(&mut self, _: (), _: Pid, cx: &mut Context) {
///         for caller in self.waiting.drain(..) {
///             cx.reply(caller, "it is open".to_owned()).ok();
///         }
///     }
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Caller<R> {
    /// The process that waits for the reply.
    pub pid: Pid,
    /// The reference of its request.
    pub reference: u64,
    #[serde(skip)]
    reply: PhantomData<fn(R)>,
}

impl<R> Caller<R> {
    /// Creates a caller from the pid and reference of a request.
    ///
    /// ```
    /// # fn example(request: &exuvia::Message) {
    /// let caller = exuvia::Caller::<u64>::new(request.sender, request.reference);
    /// caller.reply(&42).ok();
    /// # }
    /// ```
    pub fn new(pid: Pid, reference: u64) -> Caller<R> {
        Caller {
            pid,
            reference,
            reply: PhantomData,
        }
    }

    /// Sends the reply.
    ///
    /// ```
    /// # fn example(caller: exuvia::Caller<u64>) {
    /// caller.reply(&42).ok();
    /// # }
    /// ```
    pub fn reply(&self, value: &R) -> Result<(), Error>
    where
        R: Serialize,
    {
        let mut scratch = crate::codec::Scratch::new();
        scratch.encode(value)?;
        self.pid
            .reply_bytes(self.reference, tag::TYPED, scratch.as_slice())
    }

    /// Rejects the request: the caller gets [`Error::Refused`] with this text.
    ///
    /// ```
    /// # fn example(caller: exuvia::Caller<u64>) {
    /// caller.refuse("not while the door is open");
    /// # }
    /// ```
    pub fn refuse(&self, why: &str) {
        // A caller that has terminated needs no reply.
        let _ = self
            .pid
            .reply_bytes(self.reference, tag::REFUSED, why.as_bytes());
    }
}

// Implemented by hand: derives would put bounds on `R`.
impl<R> Clone for Caller<R> {
    fn clone(&self) -> Caller<R> {
        *self
    }
}

impl<R> Copy for Caller<R> {}

impl<R> PartialEq for Caller<R> {
    fn eq(&self, other: &Caller<R>) -> bool {
        (self.pid, self.reference) == (other.pid, other.reference)
    }
}

impl<R> Eq for Caller<R> {}

impl<R> fmt::Debug for Caller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({} #{})", self.pid, self.reference)
    }
}
