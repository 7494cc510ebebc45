//! Traces: what single processes receive and send, for whoever looks on.
//!
//! A process that is traced has a mark in its own half, so that all others pay
//! for one test of a byte. A trace is bounded: it ends by itself after so many
//! messages, and what a slow reader has not taken is counted, not kept.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use exuvia_abi::{Kind, Pid};
use exuvia_process::{Envelope, Payload};
use parking_lot::Mutex;

use crate::executor::{Executor, Shared};
use crate::guest::GuestOwn;

/// How many messages a reader may be behind.
const BACKLOG: usize = 1024;
/// Bytes of a payload that a trace shows.
const SHOWN: usize = 256;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The process took it from its mailbox.
    Received,
    /// The process sent it.
    Sent,
}

/// A message that a traced process took or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Nanoseconds of the node's clock.
    pub at: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The other end.
    pub peer: Pid,
    /// What it is.
    pub kind: Kind,
    /// Its tag.
    pub tag: u32,
    /// Of a request and its reply.
    pub reference: u64,
    /// Bytes of the payload.
    pub bytes: usize,
    /// At most the first 256 of them.
    pub payload: Vec<u8>,
    /// Messages before it that the reader was too slow for.
    pub missed: u64,
}

#[derive(Debug)]
struct Tracer {
    sender: SyncSender<Traced>,
    /// Messages until it ends.
    left: u64,
    missed: u64,
}

/// The traces under way, by process.
#[derive(Debug, Default)]
pub(crate) struct Tracers(Mutex<HashMap<Pid, Tracer>>);

impl Tracers {
    /// Notes a message; takes the mark away when nobody looks on any more.
    #[cold]
    fn note(&self, own: &mut GuestOwn, mut traced: Traced) {
        let mut tracers = self.0.lock();
        let Some(tracer) = tracers.get_mut(&own.pid()) else {
            own.traced = false;
            return;
        };
        traced.missed = tracer.missed;
        let gone = match tracer.sender.try_send(traced) {
            Ok(()) => {
                tracer.missed = 0;
                false
            }
            Err(TrySendError::Full(_)) => {
                tracer.missed += 1;
                false
            }
            Err(TrySendError::Disconnected(_)) => true,
        };
        tracer.left = tracer.left.saturating_sub(1);
        if gone || tracer.left == 0 {
            tracers.remove(&own.pid());
            own.traced = false;
        }
    }

    /// A process has ended.
    #[cold]
    pub(crate) fn ended(&self, pid: Pid) {
        self.0.lock().remove(&pid);
    }
}

/// What is said of a message.
pub(crate) struct Told<'a> {
    pub(crate) kind: Kind,
    pub(crate) tag: u32,
    pub(crate) reference: u64,
    pub(crate) payload: &'a Payload,
}

impl Shared {
    /// A guest has taken a message from its mailbox.
    #[inline]
    pub(crate) fn trace_received(&self, own: &mut GuestOwn, message: &Envelope) {
        if own.traced {
            let told = Told {
                kind: message.kind,
                tag: message.tag,
                reference: message.reference,
                payload: &message.payload,
            };
            self.trace(own, Direction::Received, message.sender, &told);
        }
    }

    /// A guest sends a message.
    #[inline]
    pub(crate) fn trace_sent(&self, own: &mut GuestOwn, to: Pid, told: &Told<'_>) {
        if own.traced {
            self.trace(own, Direction::Sent, to, told);
        }
    }

    #[cold]
    fn trace(&self, own: &mut GuestOwn, direction: Direction, peer: Pid, told: &Told<'_>) {
        let payload = told.payload.as_slice();
        let traced = Traced {
            at: self.system.clock.now(),
            direction,
            peer,
            kind: told.kind,
            tag: told.tag,
            reference: told.reference,
            bytes: payload.len(),
            payload: payload[..payload.len().min(SHOWN)].to_vec(),
            missed: 0,
        };
        self.tracers.note(own, traced);
    }
}

impl Executor {
    /// Begins to trace a process, `limit` messages at most; a trace of it that is
    /// under way ends. The process still has to be marked, by
    /// [`exuvia_process::Own::traced`]. When the receiver is dropped the trace
    /// ends at the next message.
    pub fn trace(&self, pid: Pid, limit: u64) -> Receiver<Traced> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let tracer = Tracer {
            sender,
            left: limit.max(1),
            missed: 0,
        };
        self.0.tracers.0.lock().insert(pid, tracer);
        receiver
    }

    /// Ends the trace of a process.
    pub fn end_trace(&self, pid: Pid) {
        self.0.tracers.ended(pid);
    }
}
