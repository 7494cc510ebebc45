//! Typed addresses: a pid together with the types that its process accepts.
//!
//! The host transfers only bytes, so the types are a promise of the code that creates the
//! address. In return, a wrong message does not compile.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Actor, Error, Info, Match, Message, Never, Nothing, Pid, Wait};

/// The pid of a process that accepts messages `M`, and requests `Q` with replies `R`.
///
/// Put these types into a crate that the process and its clients share, with a type alias for
/// the address:
///
/// ```
/// use exuvia::prelude::*;
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// pub enum Change {
///     Add(u64),
/// }
///
/// #[derive(Serialize, Deserialize)]
/// pub enum Query {
///     Get,
/// }
///
/// pub type Counter = Address<Change, Query, u64>;
///
/// fn client() -> Result<(), Error> {
///     let counter = Counter::whereis("counter")?;
///     counter.send(&Change::Add(3))?;
///     let count = counter.call(&Query::Get, Duration::from_secs(5))?;
///     exuvia::info!("{} is odd: {}", count, count % 2 == 1);
///     Ok(())
/// }
/// ```
///
/// A message of another type does not compile:
///
/// ```compile_fail
/// # use exuvia::prelude::*;
/// # #[derive(Serialize, Deserialize)] pub enum Change { Add(u64) }
/// fn client(counter: Address<Change>) {
///     counter.send(&"add three").ok();
/// }
/// ```
///
/// In messages and in a saved state it is encoded as the pid, so a field may become typed
/// without a migration.
pub struct Address<M, Q = Never, R = ()> {
    pid: Pid,
    types: PhantomData<fn(M, Q) -> R>,
}

/// The address of an actor, by the types of its implementation. Useful inside the actor's own
/// module; its clients have no access to the type.
///
/// ```
/// # use exuvia::prelude::*;
/// fn twin<A: Actor>(child: exuvia::Child) -> exuvia::AddressOf<A> {
///     child.address()
/// }
/// ```
pub type AddressOf<A> = Address<<A as Actor>::Message, <A as Actor>::Request, <A as Actor>::Reply>;

impl<M, Q, R> Address<M, Q, R> {
    /// Returns the address of a process that accepts these types. This is not checked: the
    /// process drops or rejects what it cannot decode, and logs it.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # fn example(from: Pid) {
    /// let client: Address<String> = Address::new(from);
    /// client.send(&"welcome".to_owned()).ok();
    /// # }
    /// ```
    pub const fn new(pid: Pid) -> Address<M, Q, R> {
        Address {
            pid,
            types: PhantomData,
        }
    }

    /// Returns the address of the process with this name, or [`Error::NoProc`] if there is
    /// none.
    ///
    /// ```
    /// # use exuvia::Address;
    /// assert!(Address::<String>::whereis("nobody").is_err());
    /// ```
    pub fn whereis(name: &str) -> Result<Address<M, Q, R>, Error> {
        crate::whereis(name).map(Address::new)
    }

    /// Returns the pid, to link, monitor or register the process.
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(peer: Address<String>) {
    /// peer.pid().monitor().ok();
    /// # }
    /// ```
    pub const fn pid(self) -> Pid {
        self.pid
    }

    /// Sends a message; see [`Pid::send`].
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(peer: Address<String>) -> Result<(), exuvia::Error> {
    /// peer.send(&"hello".to_owned())
    /// # }
    /// ```
    pub fn send(self, message: &M) -> Result<(), Error>
    where
        M: Serialize,
    {
        self.pid.send(message)
    }

    /// Sends a message after a delay and returns the timer's reference; see
    /// [`Pid::send_after`].
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(peer: Address<String>) -> Result<(), exuvia::Error> {
    /// let timer = peer.send_after(&"wake up".to_owned(), std::time::Duration::from_secs(1))?;
    /// exuvia::cancel_timer(timer);
    /// # Ok(()) }
    /// ```
    pub fn send_after(self, message: &M, delay: Duration) -> Result<u64, Error>
    where
        M: Serialize,
    {
        self.pid.send_after(message, delay)
    }

    /// Sends a request and waits for the reply; see [`Pid::call`].
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(adder: Address<(), (u32, u32), u32>) -> Result<(), exuvia::Error> {
    /// let sum = adder.call(&(2, 3), std::time::Duration::from_secs(5))?;
    /// # let _ = sum; Ok(()) }
    /// ```
    pub fn call(self, request: &Q, timeout: impl Into<Wait>) -> Result<R, Error>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        self.pid.call(request, timeout)
    }

    /// Sends a request without waiting; the reply arrives as an [`Info`], which
    /// [`Pending::answer`] decodes. See [`Pid::request`].
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(adder: Address<(), (u32, u32), u32>) -> Result<(), exuvia::Error> {
    /// let sum = adder.request(&(2, 3))?;
    /// # let _ = sum; Ok(()) }
    /// ```
    pub fn request(self, request: &Q) -> Result<Pending<R>, Error>
    where
        Q: Serialize,
    {
        self.pid.request(request).map(Pending::new)
    }
}

/// The reply to a request, not received yet. It may be kept in the state, across other messages
/// and across upgrades.
///
/// ```
/// use exuvia::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Shop {
///     price: Option<Pending<u64>>,
/// }
///
/// #[exuvia::actor(schema = 1)]
/// impl Actor for Shop {
///     fn init(_: (), _: &mut Context) -> Result<Self, String> {
///         let prices = Address::<(), String, u64>::whereis("prices")?;
///         let price = prices.request(&"apples".to_owned())?;
///         Ok(Shop { price: Some(price) })
///     }
///
///     fn handle_info(&mut self, info: Info, _: &mut Context) {
///         if let Some(answer) = self.price.and_then(|price| price.answer(&info)) {
///             self.price = None;
///             match answer {
///                 Ok(price) => exuvia::info!("apples are {price}"),
///                 Err(error) => exuvia::warn!("no price: {error}"),
///             }
///         }
///     }
/// }
/// ```
pub struct Pending<R> {
    reference: u64,
    types: PhantomData<fn() -> R>,
}

impl<R> Pending<R> {
    /// Creates the pending reply for a reference returned by [`Pid::request`].
    ///
    /// ```
    /// # fn example(peer: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let count = exuvia::Pending::<u64>::new(peer.request(&"how many?")?);
    /// # let _ = count; Ok(()) }
    /// ```
    pub const fn new(reference: u64) -> Pending<R> {
        Pending {
            reference,
            types: PhantomData,
        }
    }

    /// Returns the reference.
    ///
    /// ```
    /// assert_eq!(exuvia::Pending::<()>::new(7).reference(), 7);
    /// ```
    pub const fn reference(self) -> u64 {
        self.reference
    }

    /// Returns the reply if `info` is it, [`Error::NoProc`] if `info` says that the process
    /// terminated before it replied, and `None` for everything else.
    ///
    /// ```
    /// # use exuvia::{Info, Pending};
    /// fn handle_info(count: Pending<u64>, info: Info) {
    ///     if let Some(answer) = count.answer(&info) {
    ///         exuvia::info!("{answer:?}");
    ///     }
    /// }
    /// ```
    pub fn answer(self, info: &Info) -> Option<Result<R, Error>>
    where
        R: DeserializeOwned,
    {
        match info {
            Info::Reply(reply) if reply.reference == self.reference => Some(reply.decode()),
            Info::Down {
                reference, reason, ..
            } if *reference == self.reference => Some(Err(Error::NoProc(*reason))),
            _ => None,
        }
    }

    /// Waits for the reply. The process keeps its frame meanwhile. After a timeout the reply
    /// may still arrive; [`cancel`](Pending::cancel) prevents that.
    ///
    /// ```
    /// # use exuvia::Address;
    /// # fn example(adder: Address<(), (u32, u32), u32>) -> Result<(), exuvia::Error> {
    /// let (first, second) = (adder.request(&(1, 2))?, adder.request(&(3, 4))?);
    /// let five_seconds = std::time::Duration::from_secs(5);
    /// let sum = first.wait(five_seconds)? + second.wait(five_seconds)?;
    /// # let _ = sum; Ok(()) }
    /// ```
    pub fn wait(self, timeout: impl Into<Wait>) -> Result<R, Error>
    where
        R: DeserializeOwned,
    {
        reply(self.reference, timeout.into())?.decode()
    }

    /// Cancels the request: nothing with its reference arrives any more.
    ///
    /// ```
    /// # fn example(count: exuvia::Pending<u64>) {
    /// count.cancel();
    /// # }
    /// ```
    pub fn cancel(self) {
        // An unknown reference is no error, and no other error is possible.
        let _ = crate::demonitor(self.reference, true);
    }
}

/// Waits on the stack of the handler for what comes with the reference of a request: the reply, or the exit of the process that
/// was asked; see [`Message::accepted`].
pub(crate) fn reply(reference: u64, limit: Wait) -> Result<Message<'static>, Error> {
    crate::receive(Match::Reference(reference), limit).map_err(|nothing| match nothing {
        Nothing::Limit => Error::Limit,
        Nothing::Empty | Nothing::Timeout | Nothing::Upgrade => Error::Timeout,
    })
}

// Implemented by hand: derives would put bounds on the type parameters.

impl<M, Q, R> Clone for Address<M, Q, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, Q, R> Copy for Address<M, Q, R> {}

impl<M, Q, R> PartialEq for Address<M, Q, R> {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid
    }
}

impl<M, Q, R> Eq for Address<M, Q, R> {}

impl<M, Q, R> Hash for Address<M, Q, R> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.pid.hash(hasher);
    }
}

impl<M, Q, R> PartialOrd for Address<M, Q, R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M, Q, R> Ord for Address<M, Q, R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.pid.cmp(&other.pid)
    }
}

impl<M, Q, R> fmt::Debug for Address<M, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pid, f)
    }
}

impl<M, Q, R> fmt::Display for Address<M, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pid, f)
    }
}

impl<M, Q, R> Serialize for Address<M, Q, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pid.serialize(serializer)
    }
}

impl<'de, M, Q, R> Deserialize<'de> for Address<M, Q, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Pid::deserialize(deserializer).map(Address::new)
    }
}

impl<M, Q, R> From<Address<M, Q, R>> for Pid {
    fn from(address: Address<M, Q, R>) -> Pid {
        address.pid
    }
}

impl<R> Clone for Pending<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Pending<R> {}

impl<R> PartialEq for Pending<R> {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}

impl<R> Eq for Pending<R> {}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending(#{})", self.reference)
    }
}

impl<R> Serialize for Pending<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.reference.serialize(serializer)
    }
}

impl<'de, R> Deserialize<'de> for Pending<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Pending::new)
    }
}
