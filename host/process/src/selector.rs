//! Which message a process wants to receive.

use exuvia_abi::{Code, Kind, Pid, limits};

use crate::signal::Envelope;

/// Which message a process wants: a mode of [`exuvia_abi::receive`] and its key.
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

    /// Returns what selects several references, of which these are the bytes, eight each. Returns
    /// [`Code::BadArgument`] for none, and for more than [`limits::REFERENCES`].
    pub fn references(bytes: &[u8]) -> Result<Selector, Code> {
        let (references, _) = bytes.as_chunks::<8>();
        if !(1..=limits::REFERENCES as usize).contains(&references.len()) {
            return Err(Code::BadArgument);
        }
        let references = references.iter().map(|one| u64::from_le_bytes(*one));
        Ok(Selector::References(references.collect()))
    }
}
