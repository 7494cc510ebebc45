//! Signals: everything that one process sends to another. Messages are one kind of signal among
//! several (ERTS: `erl_proc_sig_queue.h`). Signals between two processes never overtake one
//! another, because a receiver has one queue for all of them.
//!
//! A signal is plain data: it can be copied, stored and sent to another node. What else lies in a
//! mailbox (charges, and functions of the host) is in [`Item`](crate::Item).

use std::fmt;

use exuvia_abi::{Header, Kind, Pid};

use crate::{ExitReason, Payload};

/// The tag of an `EXIT` or `DOWN` whose reason was caused by a release.
pub const CAUSED_BY_RELEASE: u32 = 1;

/// A message in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub sender: Pid,
    /// Reference of the request, monitor or timer; 0 for none.
    pub reference: u64,
    /// The bytes.
    pub payload: Payload,
    /// The sender's tag.
    pub tag: u32,
    /// The exit reason's code, for `EXIT` and `DOWN`.
    pub reason: i32,
    /// The kind of message.
    pub kind: Kind,
}

impl Envelope {
    /// Returns a message as `send` creates it.
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

    /// Returns an `EXIT` or `DOWN`. Its tag is [`CAUSED_BY_RELEASE`] if a release caused the
    /// reason.
    pub fn exit_notification(
        kind: Kind,
        sender: Pid,
        reference: u64,
        reason: &ExitReason,
    ) -> Envelope {
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

    /// Returns the header that a guest sees.
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

    /// Returns whether it counts against the mailbox's limits. Messages that a process asked for
    /// itself (replies, exit notifications, timers) are always accepted.
    pub fn is_limited(&self) -> bool {
        matches!(self.kind, Kind::Message | Kind::Request)
    }

    /// Returns the bytes that it counts against the mailbox's byte limit: payload and record.
    pub fn cost(&self) -> u64 {
        (self.payload.len() + size_of::<Envelope>()) as u64
    }
}

/// What one process, or the host, sends to another.
#[derive(Clone, PartialEq, Eq)]
pub enum Signal {
    /// A message for the mailbox.
    Message(Envelope),
    /// `from` linked itself to the receiver.
    Link {
        /// The process that linked.
        from: Pid,
    },
    /// `from` unlinked; acknowledged with [`Signal::UnlinkAck`].
    Unlink {
        /// The process that unlinked.
        from: Pid,
        /// Identifies the unlink, for the acknowledgement.
        id: u64,
    },
    /// Acknowledges an unlink.
    UnlinkAck {
        /// The process that acknowledges.
        from: Pid,
        /// Identifies the unlink.
        id: u64,
    },
    /// An exit signal.
    Exit {
        /// The process that terminated, or that sent the signal.
        from: Pid,
        /// The exit reason.
        reason: ExitReason,
        /// Whether it came along a link: it is ignored if the link no longer exists.
        linked: bool,
    },
    /// Terminates the receiver, whether or not it traps exits.
    Kill {
        /// The sender.
        from: Pid,
    },
    /// `from` monitors the receiver.
    Monitor {
        /// The process that monitors.
        from: Pid,
        /// The monitor's reference.
        reference: u64,
    },
    /// `from`, whose mailbox was congested, has taken over the signals in transit.
    Capacity {
        /// The process that was congested.
        from: Pid,
    },
    /// `from` no longer monitors the receiver, or no longer waits for its reply.
    Demonitor {
        /// The process that monitored.
        from: Pid,
        /// The monitor's reference.
        reference: u64,
    },
    /// `from` was restored from a snapshot and holds one half of a relation. If the receiver does not
    /// hold the other half any more, it lets `from` know.
    Confirm {
        /// The process that was restored.
        from: Pid,
        /// The reference of the monitor or request.
        reference: u64,
        /// The half that it holds.
        half: Half,
    },
    /// A monitored process terminated.
    Down {
        /// The process that terminated.
        from: Pid,
        /// The monitor's reference.
        reference: u64,
        /// The exit reason.
        reason: ExitReason,
    },
}

/// One half of a relation between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// It waits for the other's reply to a request.
    Waits,
    /// It is monitored by the other, or owes it a reply.
    IsWatched,
}

impl Signal {
    /// Returns the weight of the signal in transit, which counts against the backpressure limit:
    /// one, and one more for each full KiB of payload.
    pub(crate) fn weight(&self) -> u32 {
        let bytes = match self {
            Signal::Message(envelope) => envelope.payload.len(),
            Signal::Exit { reason, .. } | Signal::Down { reason, .. } => reason.bytes().len(),
            _ => 0,
        };
        1 + u32::try_from(bytes / 1024).unwrap_or(u32::MAX - 1)
    }
}

impl fmt::Debug for Signal {
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
            Signal::Confirm {
                from, reference, ..
            } => write!(f, "Confirm {reference} from {from}"),
            Signal::Capacity { from } => write!(f, "Capacity at {from}"),
        }
    }
}
