//! Which message a process wants to receive.

use exuvia_abi::{Kind, Pid, receive};

use crate::signal::Envelope;

/// Which message a process wants: a mode of [`receive`] and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The first message.
    Any,
    /// The first message with this tag that is no notification of an end: the tag of those was not
    /// chosen by a sender.
    Tag(u64),
    /// The first reply, notification or timer with this reference. References are unique within
    /// the process that created them, so those of other processes' requests must not match.
    Reference(u64),
    /// The first message, of any kind, from this process.
    Sender(Pid),
    /// The first reply, notification or timer with one of these references.
    References(Box<[u64]>),
}

impl Selector {
    /// Returns whether it selects a message.
    #[inline]
    pub fn selects(&self, message: &Envelope) -> bool {
        let has_own_reference = || matches!(message.kind, Kind::Reply | Kind::Down | Kind::Timer);
        match self {
            Selector::Any => true,
            Selector::Tag(tag) => {
                u64::from(message.tag) == *tag && !matches!(message.kind, Kind::Exit | Kind::Down)
            }
            Selector::Reference(reference) => {
                message.reference == *reference && has_own_reference()
            }
            Selector::Sender(pid) => message.sender == *pid,
            Selector::References(references) => {
                has_own_reference() && references.contains(&message.reference)
            }
        }
    }

    /// Returns the mode of [`receive`].
    pub fn mode(&self) -> i32 {
        match self {
            Selector::Any => receive::ANY,
            Selector::Tag(_) => receive::TAG,
            Selector::Reference(_) => receive::REFERENCE,
            Selector::Sender(_) => receive::SENDER,
            Selector::References(_) => receive::REFERENCES,
        }
    }
}
