//! What travels between processes. Messages are one kind of signal among
//! several (ERTS: `erl_proc_sig_queue.h`); between two processes signals never
//! overtake one another, because a receiver has one queue for all of them.

use std::fmt;

use exuvia_abi::{Header, Kind, Pid};

use crate::account::Charge;
use crate::own::Own;
use crate::system::System;
use crate::{ExitReason, Payload};

/// The tag of an `EXIT` or `DOWN` whose reason a release has caused.
pub const CAUSED_BY_RELEASE: u32 = 1;

/// A message in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it.
    pub sender: Pid,
    /// Of the request, monitor or timer; 0 for none.
    pub reference: u64,
    /// The bytes.
    pub payload: Payload,
    /// The sender's tag.
    pub tag: u32,
    /// Exit reason's code, for `EXIT` and `DOWN`.
    pub reason: i32,
    /// What kind of message.
    pub kind: Kind,
}

impl Envelope {
    /// A message as `send` makes it.
    pub fn message(sender: Pid, tag: u32, payload: Payload) -> Envelope {
        Envelope {
            sender,
            reference: 0,
            payload,
            tag,
            reason: 0,
            kind: Kind::Message,
        }
    }

    /// An `EXIT` or `DOWN`. Its tag is [`CAUSED_BY_RELEASE`] if that is so.
    pub fn obituary(kind: Kind, sender: Pid, reference: u64, reason: &ExitReason) -> Envelope {
        Envelope {
            sender,
            reference,
            payload: Payload::new(reason.bytes()),
            tag: if reason.is_caused_by_release() {
                CAUSED_BY_RELEASE
            } else {
                0
            },
            reason: reason.code(),
            kind,
        }
    }

    /// The header that a guest sees.
    pub fn header(&self) -> Header {
        Header {
            kind: self.kind,
            sender: self.sender,
            reference: self.reference,
            tag: self.tag,
            // A payload is never longer than the message limit, itself a u32.
            length: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            reason: self.reason,
        }
    }

    /// Whether it counts against the mailbox's limits. What a process asked
    /// for itself (replies, obituaries, timers) is always accepted.
    pub fn is_limited(&self) -> bool {
        matches!(self.kind, Kind::Message | Kind::Request)
    }

    /// What it counts against the mailbox's byte limit: payload and record.
    pub fn cost(&self) -> u64 {
        (self.payload.len() + size_of::<Envelope>()) as u64
    }
}

/// What one process, or the host, tells another.
pub enum Signal<G> {
    /// A message for the mailbox.
    Message(Envelope),
    /// `from` linked itself to the receiver.
    Link {
        /// Who linked.
        from: Pid,
    },
    /// `from` unlinked; answered with [`Signal::UnlinkAck`].
    Unlink {
        /// Who unlinked.
        from: Pid,
        /// Which unlink, for the answer.
        id: u64,
    },
    /// The answer to an unlink.
    UnlinkAck {
        /// Who answers.
        from: Pid,
        /// Which unlink.
        id: u64,
    },
    /// An exit signal.
    Exit {
        /// Who ended, or who sent it.
        from: Pid,
        /// Why.
        reason: ExitReason,
        /// It came along a link: ignored if the link is gone.
        linked: bool,
        /// What its sender answers for, if it is a guest.
        charge: Option<Charge>,
    },
    /// Ends the receiver, trapping or not.
    Kill {
        /// Who sent it.
        from: Pid,
    },
    /// `from` monitors the receiver.
    Monitor {
        /// Who monitors.
        from: Pid,
        /// Under which reference.
        reference: u64,
    },
    /// `from`, which was far behind, has taken over what was in transit to it.
    Room {
        /// Who was far behind.
        from: Pid,
    },
    /// `from` no longer monitors, or no longer waits for a reply.
    Demonitor {
        /// Who monitored.
        from: Pid,
        /// Under which reference.
        reference: u64,
    },
    /// A monitored process ended.
    Down {
        /// Who ended.
        from: Pid,
        /// Under which reference it was monitored.
        reference: u64,
        /// Why.
        reason: ExitReason,
    },
    /// The host looks at the process, or changes it, between two of its turns.
    Control(Control<G>),
}

/// What the host does with a process between two of its turns.
pub type Control<G> = Box<dyn FnOnce(&mut Own<G>, &System<G>) + Send>;

impl<G> Signal<G> {
    /// How much of a mailbox's room in transit it takes: one, and one more for
    /// each KiB.
    pub(crate) fn weight(&self) -> u32 {
        let bytes = match self {
            Signal::Message(envelope) => envelope.payload.len(),
            Signal::Exit { reason, .. } | Signal::Down { reason, .. } => reason.bytes().len(),
            _ => 0,
        };
        1 + u32::try_from(bytes / 1024).unwrap_or(u32::MAX - 1)
    }
}

impl<G> fmt::Debug for Signal<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signal::Message(envelope) => envelope.fmt(f),
            Signal::Link { from } => write!(f, "Link from {from}"),
            Signal::Unlink { from, id } => write!(f, "Unlink {id} from {from}"),
            Signal::UnlinkAck { from, id } => write!(f, "UnlinkAck {id} from {from}"),
            Signal::Exit { from, reason, .. } => write!(f, "Exit from {from}: {reason}"),
            Signal::Kill { from } => write!(f, "Kill from {from}"),
            Signal::Monitor { from, reference } => write!(f, "Monitor {reference} from {from}"),
            Signal::Demonitor { from, reference } => write!(f, "Demonitor {reference} from {from}"),
            Signal::Down {
                from,
                reference,
                reason,
            } => write!(f, "Down {reference} from {from}: {reason}"),
            Signal::Room { from } => write!(f, "Room at {from}"),
            Signal::Control(_) => f.write_str("Control"),
        }
    }
}
