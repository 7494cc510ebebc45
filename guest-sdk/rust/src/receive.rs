//! Taking messages from the mailbox.

use std::borrow::Cow;
use std::time::Duration;

use exuvia_abi::{Code, receive as modes};

use crate::message::kind;
use crate::sys::RawHeader;
use crate::{Buffer, Error, Kind, Message, Pid, Reason, sys};

/// Selects a message.
///
/// ```
/// use exuvia::{Match, Wait};
/// # fn example(reference: u64) {
/// let reply = exuvia::receive(Match::Reference(reference), Wait::Forever);
/// # let _ = reply; }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// The first message.
    Any,
    /// The first message with this tag. Others stay, in order.
    Tag(u32),
    /// The first message with this reference. Others stay, in order.
    Reference(u64),
    /// The first message, of any kind, from this process. Others stay, in order.
    Sender(Pid),
    /// The first message with one of these references: 1 to 64, for an executor that waits for
    /// several replies and timers. Others stay, in order.
    References(&'a [u64]),
}

/// How long to wait. A process that waits keeps its frame; one that returns
/// [`RunResult::Rest`](crate::RunResult::Rest) instead does not.
///
/// ```
/// use exuvia::Wait;
/// use std::time::Duration;
/// assert_eq!(Wait::from(Duration::from_secs(1)), Wait::For(Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    For(Duration),
    /// Without a limit.
    Forever,
}

impl Wait {
    /// Returns the number that the host expects, in milliseconds. Rounds up, so that a short
    /// wait does not become none.
    #[inline]
    pub(crate) fn millis(self) -> i64 {
        match self {
            Wait::No => 0,
            Wait::Forever => modes::FOREVER,
            Wait::For(duration) => {
                let millis = duration.as_nanos().div_ceil(1_000_000);
                i64::try_from(millis).unwrap_or(i64::MAX)
            }
        }
    }
}

impl From<Duration> for Wait {
    fn from(duration: Duration) -> Wait {
        Wait::For(duration)
    }
}

/// Why no message was taken.
///
/// ```
/// use exuvia::{Match, Nothing, Wait};
/// assert_eq!(exuvia::receive(Match::Any, Wait::No), Err(Nothing::Empty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// The mailbox has no such message, and no wait was requested. Return
    /// [`RunResult::Rest`](crate::RunResult::Rest) if all state is in memory.
    Empty,
    /// No such message arrived in time.
    Timeout,
    /// New code is ready: return [`RunResult::Rest`](crate::RunResult::Rest). Returned by
    /// `receive_or_upgrade` only.
    Upgrade,
    /// The maximum number of processes are waiting already, so this one may not wait. Return
    /// [`RunResult::Rest`](crate::RunResult::Rest), which is always allowed.
    Limit,
}

/// Takes a message. The payload is allocated; a loop that handles many messages should use
/// [`Buffer::receive`].
///
/// ```
/// use exuvia::{Match, Wait};
/// if let Ok(message) = exuvia::receive(Match::Tag(3), Wait::No) {
///     exuvia::info!("{} bytes from {}", message.payload.len(), message.sender);
/// }
/// ```
pub fn receive(wanted: Match<'_>, wait: impl Into<Wait>) -> Result<Message<'static>, Nothing> {
    Buffer::new().receive(wanted, wait).map(Message::into_owned)
}

/// Takes any message, and also returns when there is new code: for the outermost receive of a
/// process that waits in a loop, when all its state is in memory. After [`Nothing::Upgrade`],
/// return [`RunResult::Rest`](crate::RunResult::Rest), and the new code's `run` is called.
/// [`state`](crate::state) describes how the state gets there.
///
/// ```
/// use exuvia::{Nothing, RunResult, Wait};
/// fn run() -> RunResult {
///     loop {
///         match exuvia::receive_or_upgrade(Wait::Forever) {
///             Ok(message) => exuvia::info!("{} bytes", message.payload.len()),
///             Err(_) => return RunResult::Rest,
///         }
///     }
/// }
/// ```
pub fn receive_or_upgrade(wait: impl Into<Wait>) -> Result<Message<'static>, Nothing> {
    Buffer::new()
        .receive_or_upgrade(wait)
        .map(Message::into_owned)
}

impl Buffer {
    /// Takes a message into this buffer; a message that does not fit is allocated.
    ///
    /// ```
    /// use exuvia::{Buffer, Match, RunResult, Wait};
    /// fn run() -> RunResult {
    ///     let mut buffer = Buffer::new();
    ///     while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
    ///         message.sender.send_bytes(message.tag, &message.payload).ok();
    ///     }
    ///     RunResult::Rest
    /// }
    /// ```
    #[inline]
    pub fn receive(
        &mut self,
        wanted: Match<'_>,
        wait: impl Into<Wait>,
    ) -> Result<Message<'_>, Nothing> {
        self.take(wait.into().millis(), wanted, 0)
    }

    /// Like the function [`receive_or_upgrade`], into this buffer.
    ///
    /// ```
    /// use exuvia::{Buffer, Wait};
    /// let mut buffer = Buffer::new();
    /// assert!(buffer.receive_or_upgrade(Wait::No).is_err());
    /// ```
    #[inline]
    pub fn receive_or_upgrade(&mut self, wait: impl Into<Wait>) -> Result<Message<'_>, Nothing> {
        self.take(wait.into().millis(), Match::Any, modes::UPGRADE)
    }

    #[inline]
    fn take(&mut self, millis: i64, wanted: Match<'_>, flags: i32) -> Result<Message<'_>, Nothing> {
        loop {
            let mut header = RawHeader::new();
            let answer = self.receive_raw(&mut header, millis, wanted, flags);
            let large = if answer == Code::Ok as i32 {
                None
            } else if answer == Code::TooBig as i32 {
                match receive_large(&mut header, millis, wanted, flags)? {
                    Large::Taken(payload) => Some(payload),
                    Large::Refused(why) => return Ok(refusal(&header, why)),
                    Large::Dropped => continue,
                }
            } else {
                return Err(nothing(answer));
            };
            // A kind that only later hosts know is skipped.
            if let Some(kind) = kind(header.kind) {
                let payload = large.map_or_else(|| Cow::Borrowed(self.as_slice()), Cow::Owned);
                return Ok(Message::new(kind, &header, payload));
            }
        }
    }

    /// Sends a request and waits for its reply, which is stored in this buffer.
    ///
    /// ```
    /// # fn example(peer: exuvia::Pid) -> Result<(), exuvia::Error> {
    /// let mut buffer = exuvia::Buffer::new();
    /// let reply = buffer.call(peer, 7, b"state?", exuvia::Wait::Forever)?;
    /// # let _ = reply; Ok(()) }
    /// ```
    pub fn call(
        &mut self,
        to: Pid,
        tag: u32,
        payload: &[u8],
        timeout: impl Into<Wait>,
    ) -> Result<Message<'_>, Error> {
        let mut header = RawHeader::new();
        let answer = self.call_raw(to, tag, payload, &mut header, timeout.into().millis());
        if answer == Code::Ok as i32 {
            let payload = Cow::Borrowed(self.as_slice());
            return Ok(Message::new(Kind::Reply, &header, payload));
        }
        if answer == Code::TooBig as i32 {
            // The reply waits in the mailbox with the call's reference.
            let wanted = Match::Reference(header.reference);
            return match receive_large(&mut header, 0, wanted, 0) {
                Ok(Large::Taken(payload)) => {
                    Ok(Message::new(Kind::Reply, &header, Cow::Owned(payload)))
                }
                Ok(Large::Refused(why)) => Err(Error::Refused(why)),
                Ok(Large::Dropped) | Err(_) => Err(Error::Limit),
            };
        }
        Err(match Error::from_code(answer) {
            Error::NoProc(_) => Error::NoProc(Reason(header.reason)),
            error => error,
        })
    }
}

/// What became of a message that did not fit into a buffer.
enum Large {
    Taken(Vec<u8>),
    /// It answers this process, and there was no memory for it.
    Refused(String),
    /// There was no memory for it, and that was said.
    Dropped,
}

/// Takes the message that did not fit, whose header has been received. No message can come before it: for
/// `Any` it stays first, and the selective modes find the same one again; but if new code is ready by now,
/// none is given.
///
/// If there is no memory for it, it is dropped: whoever may send to a process must not be able to end it
/// by that.
#[cold]
fn receive_large(
    header: &mut RawHeader,
    millis: i64,
    wanted: Match<'_>,
    flags: i32,
) -> Result<Large, Nothing> {
    let mut payload = Vec::new();
    let has_room = payload.try_reserve_exact(header.length as usize).is_ok();
    *header = RawHeader::new();
    let answer = match has_room {
        true => sys::receive_into(header, &mut payload, millis, wanted, flags),
        false => sys::receive_into(
            header,
            &mut payload,
            millis,
            wanted,
            flags | modes::TRUNCATE,
        ),
    };
    if answer != Code::Ok as i32 {
        return Err(nothing(answer));
    }
    if has_room {
        return Ok(Large::Taken(payload));
    }
    let bytes = header.length;
    let Some(kind) = kind(header.kind) else {
        return Ok(Large::Dropped);
    };
    if kind == Kind::Init {
        sys::exit(
            Reason(Reason::GUEST),
            format!("there is no memory for the arguments of the start: {bytes} bytes").as_bytes(),
        );
    }
    let message = Message::new(kind, header, Cow::Borrowed(&[]));
    crate::error!(
        "dropped a {} of {bytes} bytes from {}: there is no memory for it; raise `memory` in the module's limits, or lower `message` of those that send to it",
        kind.name(),
        message.sender,
    );
    message.refuse("there is no memory for a request of this size");
    let answers = matches!(kind, Kind::Reply | Kind::Down | Kind::Timer);
    Ok(match answers {
        true => Large::Refused(format!("there is no memory for a reply of {bytes} bytes")),
        false => Large::Dropped,
    })
}

/// Returns what stands for a reply for which there was no memory: a refusal.
fn refusal(header: &RawHeader, why: String) -> Message<'static> {
    let mut refused = Message::new(Kind::Reply, header, Cow::Owned(why.into_bytes()));
    refused.tag = crate::tag::REFUSED;
    refused
}

#[inline]
fn nothing(answer: i32) -> Nothing {
    if answer == Code::Empty as i32 {
        Nothing::Empty
    } else if answer == Code::Timeout as i32 {
        Nothing::Timeout
    } else if answer == Code::Upgrade as i32 {
        Nothing::Upgrade
    } else if answer == Code::Limit as i32 {
        Nothing::Limit
    } else {
        panic!("the host returned {answer} from receive")
    }
}
