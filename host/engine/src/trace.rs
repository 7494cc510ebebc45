//! Traces: the messages that a process receives and sends, for an operator.
//!
//! A process that is traced is marked in its private half, so all other processes pay only for the
//! test of a byte. A trace is bounded: it ends by itself after a number of messages, and messages
//! for which the reader is too slow are counted, not kept.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use exuvia_abi::{Kind, Pid};
use exuvia_process::call::Sent;
use parking_lot::Mutex;

use crate::guest::GuestProcess;

/// Number of messages that a reader may lag behind.
const BACKLOG: usize = 1024;
/// Number of bytes of a payload that a trace shows.
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
    /// When, in nanoseconds of the node's clock.
    pub at: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The other process.
    pub peer: Pid,
    /// The kind of message.
    pub kind: Kind,
    /// Its tag.
    pub tag: u32,
    /// The reference of a request and its reply.
    pub reference: u64,
    /// Size of the payload in bytes.
    pub bytes: usize,
    /// The first bytes of it, at most 256.
    pub payload: Vec<u8>,
    /// Number of messages before this one that were dropped because the reader was too slow.
    pub missed: u64,
}

#[derive(Debug)]
struct Tracer {
    sender: SyncSender<Traced>,
    /// Number of messages until the trace ends.
    left: u64,
    missed: u64,
}

/// The traces under way, by process.
#[derive(Debug, Default)]
pub(crate) struct Tracers(Mutex<HashMap<Pid, Tracer>>);

impl Tracers {
    /// Records a message. Removes the mark when the trace has ended or its reader is gone.
    #[cold]
    pub(crate) fn note(&self, process: &mut GuestProcess, mut traced: Traced) {
        let mut tracers = self.0.lock();
        let Some(tracer) = tracers.get_mut(&process.pid()) else {
            process.traced = false;
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
            tracers.remove(&process.pid());
            process.traced = false;
        }
    }

    /// Begins to trace a process, for at most `limit` messages.
    pub(crate) fn begin(&self, pid: Pid, limit: u64) -> Receiver<Traced> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let tracer = Tracer {
            sender,
            left: limit.max(1),
            missed: 0,
        };
        self.0.lock().insert(pid, tracer);
        receiver
    }

    /// Removes the trace of a process that has exited.
    #[cold]
    pub(crate) fn ended(&self, pid: Pid) {
        self.0.lock().remove(&pid);
    }
}

impl Traced {
    /// Makes the record of a message that is taken or sent now.
    pub(crate) fn new(at: u64, direction: Direction, peer: Pid, sent: &Sent<'_>) -> Traced {
        let payload = sent.payload.as_slice();
        Traced {
            at,
            direction,
            peer,
            kind: sent.kind,
            tag: sent.tag,
            reference: sent.reference,
            bytes: payload.len(),
            payload: payload[..payload.len().min(SHOWN)].to_vec(),
            missed: 0,
        }
    }
}
