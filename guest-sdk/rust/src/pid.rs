//! Process identifiers, and the operations on a process by its pid.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::Scratch;
use crate::receive::Wait;
use crate::{Buffer, Error, Message, Reason, sys, tag};

/// A process identifier. It may be stored, sent and compared; its contents are opaque.
/// MessagePack encodes it as a binary of 16 bytes.
///
/// ```
/// use exuvia::Pid;
/// let me = exuvia::me();
/// let bytes = exuvia::encode(&me).unwrap();
/// assert_eq!(exuvia::decode::<Pid>(&bytes).unwrap(), me);
/// assert_ne!(me, Pid::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pid(pub(crate) exuvia_abi::Pid);

impl Pid {
    /// No process: the sender of messages from outside the node, and of messages from the host
    /// itself.
    ///
    /// ```
    /// assert_eq!(exuvia::Pid::NONE, exuvia::Pid::default());
    /// assert_eq!(exuvia::Pid::NONE.to_string(), "outside the node");
    /// ```
    pub const NONE: Pid = Pid(exuvia_abi::Pid::NONE);

    /// Creates a pid from its two halves, for tests and for formats of your own.
    ///
    /// ```
    /// assert_eq!(exuvia::Pid::from_parts(0, 0), exuvia::Pid::NONE);
    /// ```
    pub const fn from_parts(node: u64, local: u64) -> Pid {
        Pid(exuvia_abi::Pid { node, local })
    }

    /// Returns the pid's 16 bytes as they appear in a header.
    ///
    /// ```
    /// let me = exuvia::me();
    /// assert_eq!(exuvia::Pid::from_bytes(me.to_bytes()), me);
    /// ```
    #[inline]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Creates a pid from its 16 bytes.
    ///
    /// ```
    /// assert_eq!(exuvia::Pid::from_bytes([0; 16]), exuvia::Pid::NONE);
    /// ```
    #[inline]
    pub fn from_bytes(bytes: [u8; 16]) -> Pid {
        Pid(exuvia_abi::Pid::from_bytes(bytes))
    }

    /// Sends a value to the process: an actor receives it in [`Actor::handle`]. Sending to a
    /// process that has terminated succeeds, as in Erlang: use a link or a monitor to find out.
    ///
    /// ```
    /// # #[derive(serde::Serialize)] enum Change { Add(u64) }
    /// # fn example(counter: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// counter.send(&Change::Add(3))?;
    /// # Ok(()) }
    /// ```
    ///
    /// [`Actor::handle`]: crate::Actor::handle
    pub fn send<T: Serialize + ?Sized>(self, message: &T) -> Result<(), Error> {
        let mut scratch = Scratch::new();
        scratch.encode(message)?;
        self.send_bytes(tag::TYPED, scratch.as_slice())
    }

    /// Sends bytes as they are, with a tag of your choice.
    ///
    /// ```
    /// # fn example(peer: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// const BALL: u32 = 1;
    /// peer.send_bytes(BALL, b"ping")?;
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send_bytes(self, tag: u32, payload: &[u8]) -> Result<(), Error> {
        Error::check(sys::send(self, tag, payload))
    }

    /// Sends a request and waits for its reply: an actor receives it in [`Actor::handle_call`].
    /// The caller keeps its frame while it waits.
    ///
    /// If the process has terminated or terminates meanwhile, returns [`Error::NoProc`] with
    /// its exit reason; a reply after the timeout is dropped.
    ///
    /// ```
    /// # #[derive(serde::Serialize)] enum Query { Get }
    /// # fn example(counter: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// use std::time::Duration;
    /// let count: u64 = counter.call(&Query::Get, Duration::from_secs(5))?;
    /// # Ok(()) }
    /// ```
    ///
    /// [`Actor::handle_call`]: crate::Actor::handle_call
    pub fn call<R>(
        self,
        request: &(impl Serialize + ?Sized),
        timeout: impl Into<Wait>,
    ) -> Result<R, Error>
    where
        R: serde::de::DeserializeOwned,
    {
        let mut scratch = Scratch::new();
        scratch.encode(request)?;
        let mut buffer = Buffer::new();
        buffer
            .call(self, tag::TYPED, scratch.as_slice(), timeout)?
            .decode()
    }

    /// Like [`call`](Pid::call), with bytes instead of values.
    ///
    /// ```
    /// # fn example(peer: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let reply = peer.call_bytes(7, b"state?", exuvia::Wait::Forever)?;
    /// exuvia::info!("{} bytes", reply.payload.len());
    /// # Ok(()) }
    /// ```
    pub fn call_bytes(
        self,
        tag: u32,
        payload: &[u8],
        timeout: impl Into<Wait>,
    ) -> Result<Message<'static>, Error> {
        Buffer::new()
            .call(self, tag, payload, timeout)
            .map(Message::into_owned)
    }

    /// Sends a request without waiting and returns its reference. Later, exactly one of the
    /// reply or the receiver's exit arrives with this reference: an actor receives it as
    /// [`Info::Reply`] or [`Info::Down`].
    ///
    /// ```
    /// # #[derive(serde::Serialize)] enum Query { Get }
    /// # fn example(counter: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let reference = counter.request(&Query::Get)?;
    /// # let _ = reference; Ok(()) }
    /// ```
    ///
    /// [`Info::Reply`]: crate::Info::Reply
    /// [`Info::Down`]: crate::Info::Down
    pub fn request<T: Serialize + ?Sized>(self, request: &T) -> Result<u64, Error> {
        let mut scratch = Scratch::new();
        scratch.encode(request)?;
        self.request_bytes(tag::TYPED, scratch.as_slice())
    }

    /// Like [`request`](Pid::request), with bytes.
    ///
    /// ```
    /// # fn example(peer: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let reference = peer.request_bytes(7, b"")?;
    /// # let _ = reference; Ok(()) }
    /// ```
    pub fn request_bytes(self, tag: u32, payload: &[u8]) -> Result<u64, Error> {
        sys::request(self, tag, payload)
    }

    /// Replies to a request with bytes; called on its sender, with its reference.
    ///
    /// ```
    /// # fn example(request: &exuvia::Message) -> Result<(), exuvia::Error> {
    /// request.sender.reply_bytes(request.reference, 7, b"fine")?;
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn reply_bytes(self, reference: u64, tag: u32, payload: &[u8]) -> Result<(), Error> {
        Error::check(sys::reply(self, reference, tag, payload))
    }

    /// Sends a value after a delay: an actor receives it in [`Actor::handle`], as if it had
    /// been sent then. Returns the timer's reference.
    ///
    /// ```
    /// # #[derive(serde::Serialize)] enum Change { Add(u64) }
    /// # fn example() -> Result<(), exuvia::Error> {
    /// use std::time::Duration;
    /// let timer = exuvia::me().send_after(&Change::Add(1), Duration::from_secs(1))?;
    /// exuvia::cancel_timer(timer);
    /// # Ok(()) }
    /// ```
    ///
    /// [`Actor::handle`]: crate::Actor::handle
    pub fn send_after<T: Serialize + ?Sized>(
        self,
        message: &T,
        delay: Duration,
    ) -> Result<u64, Error> {
        let mut scratch = Scratch::new();
        scratch.encode(message)?;
        self.send_bytes_after(tag::TYPED, scratch.as_slice(), delay)
    }

    /// Like [`send_after`](Pid::send_after), with bytes.
    ///
    /// ```
    /// # fn example() -> Result<(), exuvia::Error> {
    /// let timer = exuvia::me().send_bytes_after(9, b"", std::time::Duration::from_millis(10))?;
    /// # let _ = timer; Ok(()) }
    /// ```
    pub fn send_bytes_after(self, tag: u32, payload: &[u8], delay: Duration) -> Result<u64, Error> {
        sys::send_after(self, tag, payload, Wait::For(delay).millis())
    }

    /// Links this process with the other: each receives the other's exit signal.
    ///
    /// ```
    /// # fn example(worker: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// worker.link()?;
    /// worker.unlink()?;
    /// # Ok(()) }
    /// ```
    pub fn link(self) -> Result<(), Error> {
        Error::check(sys::link(self))
    }

    /// Removes a link.
    ///
    /// ```
    /// # fn example(worker: exuvia::Pid) { worker.unlink().ok(); }
    /// ```
    pub fn unlink(self) -> Result<(), Error> {
        Error::check(sys::unlink(self))
    }

    /// Monitors the process: a message arrives when it terminates, or at once if it has
    /// terminated already. Returns the monitor's reference.
    ///
    /// ```
    /// # fn example(worker: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let reference = worker.monitor()?;
    /// exuvia::demonitor(reference, true)?;
    /// # Ok(()) }
    /// ```
    pub fn monitor(self) -> Result<u64, Error> {
        sys::monitor(self)
    }

    /// Sends an exit signal, like Erlang's `exit/2`: [`Reason::NORMAL`] is ignored by a process
    /// that does not trap exits.
    ///
    /// ```
    /// # fn example(worker: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// worker.exit(exuvia::Reason::SHUTDOWN, "")?;
    /// # Ok(()) }
    /// ```
    pub fn exit(self, reason: Reason, text: &str) -> Result<(), Error> {
        Error::check(sys::exit_process(self, reason, text.as_bytes()))
    }

    /// Kills the process; it cannot trap this.
    ///
    /// ```
    /// # fn example(worker: exuvia::Pid) { worker.kill().ok(); }
    /// ```
    pub fn kill(self) -> Result<(), Error> {
        Error::check(sys::kill(self))
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Pid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Pid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pid, D::Error> {
        deserializer.deserialize_bytes(PidVisitor)
    }
}

struct PidVisitor;

impl<'de> Visitor<'de> for PidVisitor {
    type Value = Pid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the 16 bytes of a pid")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Pid, E> {
        <[u8; 16]>::try_from(bytes)
            .map(Pid::from_bytes)
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pid, A::Error> {
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = list
                .next_element()?
                .ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(Pid::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::Pid;
    use crate::{decode, encode};

    #[test]
    fn a_pid_is_a_binary_of_sixteen_bytes() {
        let pid = Pid::from_parts(0x0102, 3);
        let bytes = encode(&pid).unwrap();
        assert_eq!(bytes[..2], [0xc4, 16]);
        assert_eq!(decode::<Pid>(&bytes).unwrap(), pid);
        let as_list = encode(&pid.to_bytes().to_vec()).unwrap();
        assert_eq!(decode::<Pid>(&as_list).unwrap(), pid);
        assert!(decode::<Pid>(&[0xc4, 2, 1, 1]).is_err());
    }
}
