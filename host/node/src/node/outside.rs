//! Messages from outside the node. Their sender is no process; a request is made by a process for the
//! caller.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use exuvia_abi::{Kind, Pid};
use exuvia_engine::Guest;
use exuvia_process::{Context, Envelope, ExitReason, Native, Payload, SendError};

use super::Node;
use crate::error::{CallFailed, SendFailed};
use crate::supervision::Operator;

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
        (self.core().system)
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
        let client = CallClient {
            to,
            tag,
            payload: Some(payload.into()),
            sender,
            operator: self.0.supervision.operator(),
        };
        let pid = self
            .spawn_native(Box::new(client))
            .ok_or(CallFailed::TableFull)?;
        match receiver.recv_timeout(timeout) {
            Ok(reply) => reply,
            Err(_) => {
                self.kill(pid);
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(match self.core().suspended_with_messages(to) {
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
        let limit = self.core().limits.of_node().message_bytes;
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

impl Native<Guest> for CallClient {
    fn handle(&mut self, context: &mut Context<'_, Guest>, message: Envelope) {
        let reply = match message.kind {
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
        let _ = self.sender.try_send(reply);
        context.exit(ExitReason::new(exuvia_abi::Reason::NORMAL));
    }
}
