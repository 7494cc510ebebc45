//! Messages from outside the node: whoever sends one is no process, and for a request a process
//! stands in for the caller.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use exuvia_abi::{Kind, Pid};
use exuvia_engine::Guest;
use exuvia_process::{Context, Envelope, ExitReason, Native, Payload, SendError, Signal};
use parking_lot::Mutex;

use super::Node;
use crate::error::{CallFailed, SendFailed};

/// A reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The tag that the replier chose.
    pub tag: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Node {
    /// Sends a message from outside the node.
    ///
    /// # Errors
    ///
    /// If it was not accepted.
    pub fn send(&self, to: Pid, tag: u32, payload: Vec<u8>) -> Result<(), SendFailed> {
        self.fits(&payload)?;
        let envelope = Envelope::message(Pid::NONE, tag, payload.into());
        self.0
            .system
            .send(to, envelope)
            .map_err(|error| send_failed(to, error))
    }

    /// Sends a request and waits for the reply. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// If the process has exited, exits, or does not reply in time, if the request was not
    /// accepted, or if the process table is full.
    pub fn call(
        &self,
        to: Pid,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, CallFailed> {
        self.fits(&payload)?;
        let (sender, receiver) = sync_channel(1);
        let asker = CallClient {
            to,
            tag,
            payload: Some(payload.into()),
            sender,
            operator: Operator::of(&self.0.operators),
        };
        let pid = self
            .spawn_native(Box::new(asker))
            .ok_or(CallFailed::TableFull)?;
        match receiver.recv_timeout(timeout) {
            Ok(answer) => answer,
            Err(_) => {
                let _ = self.0.system.signal(pid, Signal::Kill { from: Pid::NONE });
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(match self.suspended_with_messages(to) {
                    Some(queued) => CallFailed::Suspended {
                        pid: to,
                        timeout_ms,
                        queued,
                    },
                    None => CallFailed::Timeout {
                        pid: to,
                        timeout_ms,
                    },
                })
            }
        }
    }

    /// Applies the node's message limit to callers outside it, as a process has its own.
    fn fits(&self, payload: &[u8]) -> Result<(), SendFailed> {
        let limit = self.0.limits.message_bytes;
        if payload.len() as u64 > u64::from(limit) {
            return Err(SendFailed::TooLarge {
                bytes: payload.len(),
                limit,
            });
        }
        Ok(())
    }
}

fn send_failed(to: Pid, error: SendError) -> SendFailed {
    match error {
        SendError::Dead => SendFailed::Dead(to),
        SendError::Full => SendFailed::Full(to),
        SendError::Unknown => SendFailed::Unknown(to),
    }
}

/// A process that makes one request for a caller outside the node.
struct CallClient {
    to: Pid,
    tag: u32,
    payload: Option<Payload>,
    sender: SyncSender<Result<Reply, CallFailed>>,
    operator: Operator,
}

/// The pids that stand for callers outside the node.
pub(crate) type Operators = Arc<Mutex<HashSet<Pid>>>;

/// The entry of one process in [`Operators`], from when it first runs until it ends.
struct Operator {
    all: Operators,
    pid: Pid,
}

impl Operator {
    fn of(all: &Operators) -> Operator {
        Operator {
            all: all.clone(),
            pid: Pid::NONE,
        }
    }

    fn is(&mut self, pid: Pid) {
        self.pid = pid;
        self.all.lock().insert(pid);
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pid);
    }
}

impl Native<Guest> for CallClient {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        let answer = match message.kind {
            Kind::Init => {
                self.operator.is(context.pid());
                let reference = context.process.new_reference();
                let payload = self.payload.take().unwrap_or_else(Payload::empty);
                let sent =
                    context
                        .process
                        .request(context.system, self.to, reference, self.tag, payload);
                match sent {
                    Ok(()) => return,
                    Err(error) => Err(send_failed(self.to, error).into()),
                }
            }
            Kind::Reply => Ok(Reply {
                tag: message.tag,
                payload: message.payload.as_slice().to_vec(),
            }),
            Kind::Down => Err(CallFailed::Down {
                pid: self.to,
                reason: ExitReason::with(message.reason, message.payload.as_slice()).to_string(),
            }),
            _ => return,
        };
        // The caller may have given up.
        let _ = self.sender.try_send(answer);
        context.exit(ExitReason::new(exuvia_abi::Reason::NORMAL));
    }
}
