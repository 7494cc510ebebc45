//! The port of a connection: what a socket or a streamed body and its owner send each other, with credit.
//!
//! What arrives from outside goes to the owner as requests, of which some may be unanswered at a time: a reply is the
//! credit for one more. What the owner sends waits in a queue until it is written; while the queue is full the process
//! takes no more messages, so that its mailbox fills up and senders are told.

use std::collections::VecDeque;

use exuvia_abi::{Kind, Pid};
use exuvia_process::{Envelope, ExitReason, Payload, Process, SendError, System};

use exuvia_abi::io::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// Requests to the owner that may be unanswered.
const WINDOW: usize = 8;
/// Bytes of these requests; one request may be larger.
const WINDOW_BYTES: usize = 256 << 10;
/// What may wait until it is written.
const QUEUE: usize = 64;
/// Bytes of it; more may come with the last.
const QUEUE_BYTES: usize = 64 << 10;

/// The state of a port.
#[derive(Debug)]
pub(crate) struct Port {
    owner: Pid,
    /// The monitor of the owner; 0 until the process has had its turn.
    monitor: u64,
    /// What has arrived and is no request yet, in order.
    arrived: VecDeque<(u32, Payload)>,
    /// The requests to the owner that are unanswered, and their bytes.
    unanswered: Vec<(u64, usize)>,
    /// The owner's mailbox was full: it is tried again later.
    pub(crate) is_retried: bool,
    /// What is to be written.
    queue: VecDeque<Outgoing>,
    queue_bytes: usize,
    /// Why the owner has ended.
    owner_ended: Option<ExitReason>,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) tag: u32,
    pub(crate) payload: Payload,
    /// Who is told when it has been written.
    pub(crate) acknowledged: Option<(Pid, u64)>,
}

impl Port {
    pub(crate) fn new(owner: Pid) -> Port {
        Port {
            owner,
            monitor: 0,
            arrived: VecDeque::new(),
            unanswered: Vec::new(),
            is_retried: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            owner_ended: None,
        }
    }

    /// Monitors the owner.
    pub(crate) fn watch<G: 'static>(&mut self, process: &mut Process<G>, system: &System<G>) {
        self.monitor = process.new_reference();
        process.monitor(system, self.owner, self.monitor);
    }

    /// Returns why the owner has ended, if it has.
    pub(crate) fn owner_ended(&self) -> Option<&ExitReason> {
        self.owner_ended.as_ref()
    }

    /// Returns whether more may be put here for the owner.
    pub(crate) fn has_credit(&self) -> bool {
        let arrived: usize = self.arrived.iter().map(|(_, payload)| payload.len()).sum();
        let unanswered: usize = self.unanswered.iter().map(|(_, bytes)| bytes).sum();
        let under_way = self.arrived.len() + self.unanswered.len();
        under_way == 0 || (under_way < WINDOW && arrived + unanswered < WINDOW_BYTES)
    }

    /// Returns whether the owner has got everything.
    pub(crate) fn is_delivered(&self) -> bool {
        self.arrived.is_empty()
    }

    /// Returns whether the owner has answered everything.
    pub(crate) fn is_answered(&self) -> bool {
        self.arrived.is_empty() && self.unanswered.is_empty()
    }

    /// Puts here what has arrived.
    pub(crate) fn put(&mut self, tag: u32, payload: Payload) {
        self.arrived.push_back((tag, payload));
    }

    /// Requests the owner to take what has arrived. Returns whether it has got all of it; its mailbox may be full.
    pub(crate) fn deliver<G: 'static>(
        &mut self,
        process: &mut Process<G>,
        system: &System<G>,
    ) -> bool {
        if self.owner_ended.is_some() {
            self.arrived.clear();
        }
        while let Some((tag, payload)) = self.arrived.pop_front() {
            let (reference, bytes) = (process.new_reference(), payload.len());
            match process.request(system, self.owner, reference, tag, payload.clone()) {
                Ok(()) => self.unanswered.push((reference, bytes)),
                Err(SendError::Full) => {
                    self.arrived.push_front((tag, payload));
                    return false;
                }
                // Its monitor says so too.
                Err(SendError::Dead | SendError::Unknown) => {}
            }
        }
        true
    }

    /// Takes a REPLY or a DOWN, if it is one of this port.
    pub(crate) fn answered(&mut self, message: &Envelope) -> bool {
        if message.reference == self.monitor {
            let reason = ExitReason::with(message.reason, message.payload.as_slice());
            self.owner_ended = Some(reason);
            self.arrived.clear();
            return true;
        }
        let at = (self.unanswered.iter()).position(|(known, _)| *known == message.reference);
        let Some(at) = at else { return false };
        self.unanswered.remove(at);
        true
    }

    /// Returns whether the queue has no room for more.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE || self.queue_bytes >= QUEUE_BYTES
    }

    /// Puts into the queue what somebody has sent, if it is something to be written.
    pub(crate) fn queue(&mut self, message: Envelope) -> Result<(), Envelope> {
        if !matches!(
            message.tag,
            SOCKET_TEXT | SOCKET_DATA | SOCKET_END | SOCKET_CLOSE
        ) {
            return Err(message);
        }
        self.queue_bytes += message.payload.len();
        self.queue.push_back(Outgoing {
            tag: message.tag,
            acknowledged: (message.kind == Kind::Request)
                .then_some((message.sender, message.reference)),
            payload: message.payload,
        });
        Ok(())
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.arrived.shrink_to_fit();
        self.unanswered.shrink_to_fit();
        self.queue.shrink_to_fit();
    }

    /// Takes all that is to be written.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Outgoing> {
        self.queue_bytes = 0;
        std::mem::take(&mut self.queue)
    }
}
