//! A message as a guest sees it.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Scratch;
use crate::sys::RawHeader;
use crate::{Error, Kind, Pid, Reason, tag};

/// A message taken from the mailbox. Its payload is in the [`Buffer`](crate::Buffer) that it
/// was received into, or on the heap if it did not fit.
///
/// ```
/// use exuvia::{Kind, Message, Pid};
/// fn answer(message: &Message) {
///     if message.kind == Kind::Request {
///         message.reply(&"hello").ok();
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// The kind of the message.
    pub kind: Kind,
    /// The sender; [`Pid::NONE`] for the host. For [`Kind::Exit`] and [`Kind::Down`], the
    /// process that terminated.
    pub sender: Pid,
    /// The reference of the request, monitor or timer; 0 if there is none.
    pub reference: u64,
    /// The sender's tag.
    pub tag: u32,
    /// The exit reason of a process, for [`Kind::Exit`] and [`Kind::Down`].
    pub reason: Reason,
    /// The payload.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(kind: Kind, header: &RawHeader, payload: Cow<'a, [u8]>) -> Message<'a> {
        Message {
            kind,
            sender: Pid::from_parts(header.node, header.local),
            reference: header.reference,
            tag: header.tag,
            reason: Reason(header.reason),
            payload,
        }
    }

    /// Decodes the payload. Returns [`Error::Refused`] for a reply that rejects the request, and [`Error::NoProc`] for the exit
    /// of the process that was asked.
    ///
    /// ```
    /// fn count(reply: &exuvia::Message) -> Result<u64, exuvia::Error> {
    ///     reply.decode()
    /// }
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.accepted()?;
        crate::decode(&self.payload)
    }

    /// Of what comes with the reference of a request: returns an error if it is a refusal, or the exit of the process that was
    /// asked.
    pub(crate) fn accepted(&self) -> Result<(), Error> {
        match (self.kind, self.tag) {
            (Kind::Down, _) => Err(Error::NoProc(self.reason)),
            (Kind::Reply, tag::REFUSED) => Err(Error::Refused(self.text().into_owned())),
            _ => Ok(()),
        }
    }

    /// Returns the payload as text; invalid UTF-8 is replaced.
    ///
    /// ```
    /// fn why(down: &exuvia::Message) {
    ///     exuvia::warn!("{} ended: {} {}", down.sender, down.reason.name(), down.text());
    /// }
    /// ```
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }

    /// Replies to this request with a value.
    ///
    /// ```
    /// fn answer(request: &exuvia::Message) -> Result<(), exuvia::Error> {
    ///     request.reply(&42)
    /// }
    /// ```
    pub fn reply<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let mut scratch = Scratch::new();
        scratch.encode(value)?;
        self.reply_bytes(tag::TYPED, scratch.as_slice())
    }

    /// Replies to this request with bytes.
    ///
    /// ```
    /// fn echo(request: &exuvia::Message) -> Result<(), exuvia::Error> {
    ///     request.reply_bytes(request.tag, &request.payload)
    /// }
    /// ```
    #[inline]
    pub fn reply_bytes(&self, tag: u32, payload: &[u8]) -> Result<(), Error> {
        self.sender.reply_bytes(self.reference, tag, payload)
    }

    /// Rejects this request: the caller gets [`Error::Refused`] with this text. Does nothing
    /// for other kinds.
    ///
    /// ```
    /// fn unknown(request: &exuvia::Message) {
    ///     request.refuse("no such tag");
    /// }
    /// ```
    pub fn refuse(&self, why: &str) {
        if self.kind == Kind::Request {
            // A caller that has terminated needs no reply.
            let _ = self.reply_bytes(tag::REFUSED, why.as_bytes());
        }
    }

    /// Returns the message with a payload of its own, to keep.
    ///
    /// ```
    /// let mut kept = Vec::new();
    /// # fn example(kept: &mut Vec<exuvia::Message<'static>>, message: exuvia::Message<'_>) {
    /// kept.push(message.into_owned());
    /// # }
    /// # kept.push(());
    /// ```
    pub fn into_owned(self) -> Message<'static> {
        Message {
            kind: self.kind,
            sender: self.sender,
            reference: self.reference,
            tag: self.tag,
            reason: self.reason,
            payload: Cow::Owned(self.payload.into_owned()),
        }
    }
}

/// Without the payload, which may be megabytes: this is used in log lines.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("sender", &self.sender)
            .field("reference", &self.reference)
            .field("tag", &self.tag)
            .field("reason", &self.reason.name())
            .field("length", &self.payload.len())
            .finish()
    }
}

/// Returns the kind for the header's number, or `None` for a kind of a later host, which a
/// guest skips.
#[inline]
pub(crate) fn kind(number: u32) -> Option<Kind> {
    Some(match number {
        1 => Kind::Init,
        2 => Kind::Message,
        3 => Kind::Request,
        4 => Kind::Reply,
        5 => Kind::Exit,
        6 => Kind::Down,
        7 => Kind::Timer,
        8 => Kind::Table,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind};

    #[test]
    fn every_kind_is_found_by_its_number() {
        let all = [
            Kind::Init,
            Kind::Message,
            Kind::Request,
            Kind::Reply,
            Kind::Exit,
            Kind::Down,
            Kind::Timer,
            Kind::Table,
        ];
        for wanted in all {
            assert_eq!(kind(wanted as u32), Some(wanted));
        }
        assert_eq!(kind(9), None);
    }
}
