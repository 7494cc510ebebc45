//! The port of a connection: what a socket or a streamed body and its owner send each other, with credit.
//!
//! What arrives from outside goes to the owner as requests, of which some may be unanswered at a time: a reply is the
//! credit for one more. What the owner sends waits in a queue until it is written; while the queue is full the process
//! takes no more messages, so that its mailbox fills up and senders are told.

use std::collections::VecDeque;

use exuvia_abi::{Kind, Pid};
use exuvia_process::{Envelope, ExitReason, Payload, Process, SendError, System};

use crate::tags::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

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
    /// The monitor of the owner.
    monitor: u64,
    /// The requests to the owner that are unanswered, and their bytes.
    unanswered: Vec<(u64, usize)>,
    unanswered_bytes: usize,
    /// Requests that the process is about to make, and their bytes.
    promised: usize,
    promised_bytes: usize,
    /// What the owner's mailbox had no room for, in order.
    refused: VecDeque<(u32, Payload)>,
    refused_bytes: usize,
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
    /// Opens a port: its owner is monitored.
    pub(crate) fn open<G: 'static>(
        process: &mut Process<G>,
        system: &System<G>,
        owner: Pid,
    ) -> Port {
        let monitor = process.new_reference();
        process.monitor(system, owner, monitor);
        Port {
            owner,
            monitor,
            unanswered: Vec::new(),
            unanswered_bytes: 0,
            promised: 0,
            promised_bytes: 0,
            refused: VecDeque::new(),
            refused_bytes: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            owner_ended: None,
        }
    }

    /// Returns why the owner has ended, if it has.
    pub(crate) fn owner_ended(&self) -> Option<&ExitReason> {
        self.owner_ended.as_ref()
    }

    /// Returns whether the owner may get one more request.
    pub(crate) fn has_credit(&self) -> bool {
        let under_way = self.unanswered.len() + self.refused.len() + self.promised;
        let bytes = self.unanswered_bytes + self.refused_bytes + self.promised_bytes;
        under_way == 0 || (under_way < WINDOW && bytes < WINDOW_BYTES)
    }

    /// Takes the credit for a request that the process will make in its next turn.
    pub(crate) fn promise(&mut self, bytes: usize) {
        self.promised += 1;
        self.promised_bytes += bytes;
    }

    /// Returns whether the owner has got everything.
    pub(crate) fn is_delivered(&self) -> bool {
        self.refused.is_empty() && self.promised == 0
    }

    /// Returns whether the owner has answered everything.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered.is_empty() && self.is_delivered()
    }

    /// Has the owner get a request, after all before it. Returns whether its mailbox has room.
    pub(crate) fn deliver<G: 'static>(
        &mut self,
        process: &mut Process<G>,
        system: &System<G>,
        tag: u32,
        payload: Payload,
    ) -> bool {
        // What arrived before the port was open was promised to nobody.
        self.promised = self.promised.saturating_sub(1);
        self.promised_bytes = self.promised_bytes.saturating_sub(payload.len());
        self.refused_bytes += payload.len();
        self.refused.push_back((tag, payload));
        self.deliver_refused(process, system)
    }

    /// Tries again what the owner's mailbox had no room for. Returns whether it has room now.
    pub(crate) fn deliver_refused<G: 'static>(
        &mut self,
        process: &mut Process<G>,
        system: &System<G>,
    ) -> bool {
        while let Some((tag, payload)) = self.refused.pop_front() {
            let (reference, bytes) = (process.new_reference(), payload.len());
            self.refused_bytes -= bytes;
            if self.owner_ended.is_some() {
                continue;
            }
            match process.request(system, self.owner, reference, tag, payload.clone()) {
                Ok(()) => {
                    self.unanswered.push((reference, bytes));
                    self.unanswered_bytes += bytes;
                }
                Err(SendError::Full) => {
                    self.refused_bytes += bytes;
                    self.refused.push_front((tag, payload));
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
            self.refused.clear();
            self.refused_bytes = 0;
            return true;
        }
        let at = (self.unanswered.iter()).position(|(known, _)| *known == message.reference);
        let Some(at) = at else { return false };
        let (_, bytes) = self.unanswered.remove(at);
        self.unanswered_bytes -= bytes;
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

    /// Takes all that is to be written.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Outgoing> {
        self.queue_bytes = 0;
        std::mem::take(&mut self.queue)
    }
}
