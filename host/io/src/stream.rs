//! Bodies that a process sends in parts: of responses, and what those of requests to the outside (`client/upload.rs`) share with them.

use std::fmt;
use std::future::{pending, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use exuvia_abi::{Pid, Reason};
use exuvia_process::SpawnError;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::{Connection, Kept, PortEvent};
use crate::drain::Drained;
use crate::gateway::Shared;
use crate::head;
use crate::keyed::Use;
use crate::listener::Peer;
use crate::pollers;
use crate::settings::ConnectionLimits;
use exuvia_abi::io::{SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// A body that ends too early: who gets it must notice.
#[derive(Debug)]
pub(crate) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process has ended before its body")
    }
}

impl std::error::Error for Aborted {}

/// A body whose parts arrive one after another.
#[derive(Debug)]
pub(crate) struct Streamed {
    parts: mpsc::Receiver<Frame<Bytes>>,
    /// Set before the last part is there, unless the body is cut off.
    is_complete: Arc<AtomicBool>,
    /// The bytes that are missing, if their number was stated.
    missing: Option<u64>,
}

/// Where the parts of a body are put. Dropped before [`Parts::complete`], it cuts the body off.
#[derive(Debug)]
pub(crate) struct Parts {
    sender: mpsc::Sender<Frame<Bytes>>,
    is_complete: Arc<AtomicBool>,
}

impl Streamed {
    /// Returns a body and where its parts are put. `length`: the number of its bytes, which whoever puts them there keeps to.
    pub(crate) fn new(length: Option<u64>) -> (Parts, Streamed) {
        // One part is written while the next one waits: all others wait with the process.
        let (sender, parts) = mpsc::channel(1);
        let is_complete = Arc::new(AtomicBool::new(false));
        let body = Streamed {
            parts,
            is_complete: is_complete.clone(),
            missing: length,
        };
        let parts = Parts {
            sender,
            is_complete,
        };
        (parts, body)
    }
}

/// Why a part is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// The other side has gone, or wants no more.
    Gone,
    /// It takes nothing.
    Slow,
}

impl Parts {
    /// Puts a part there when there is room, within this time.
    pub(crate) async fn put(&self, part: Frame<Bytes>, time: Duration) -> Result<(), Unwritten> {
        match timeout(time, self.sender.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unwritten::Gone),
            Err(_) => Err(Unwritten::Slow),
        }
    }

    /// Waits until the other side wants no more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// The body is complete.
    pub(crate) fn complete(self) {
        self.is_complete.store(true, Ordering::Release);
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.parts.poll_recv(cx).map(|part| match part {
            Some(part) => {
                let bytes = part.data_ref().map_or(0, Bytes::len) as u64;
                self.missing = self.missing.map(|missing| missing.saturating_sub(bytes));
                Some(Ok(part))
            }
            None if self.is_complete.load(Ordering::Acquire) => None,
            None => Some(Err(Aborted)),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.missing
            .map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// What a body has as long as it is sent.
pub(crate) struct Sending<G: 'static> {
    pub(crate) owner: Pid,
    /// The reference of the request.
    pub(crate) reference: u64,
    pub(crate) peer: Peer,
    /// What was sent with the head.
    pub(crate) first: Bytes,
    /// Whether these are server-sent events: such a body is complete after any of its parts.
    pub(crate) is_events: bool,
    pub(crate) limits: ConnectionLimits,
    pub(crate) drained: Drained,
    pub(crate) kept: Kept<G>,
    pub(crate) used: Option<Arc<Use>>,
}

/// Begins a body. It has a process of its own, to which the owner sends the parts.
///
/// # Errors
///
/// The node has as many processes as it may have.
pub(crate) fn begin<G: Send + 'static>(
    shared: &Shared<G>,
    sending: Sending<G>,
) -> Result<Streamed, SpawnError> {
    let port = Connection::start(&shared.system, &shared.guests, &shared.limits)?;
    let port = Arc::new(port);
    let opened = head::opened("response", Some(sending.reference), sending.peer);
    port.open(sending.owner, opened);
    let (parts, body) = Streamed::new(None);
    pollers::spawn(async move {
        let End {
            reason,
            is_told,
            completes,
        } = send(&port, &sending, &parts).await;
        match completes {
            true => parts.complete(),
            false => drop(parts),
        }
        port.set_reason(reason);
        if !is_told {
            let closed = head::closed(if completes { 1001 } else { 1006 }, reason);
            port.close(closed).await;
        }
        // The process that was started for the request may end now.
        drop((sending.kept, sending.used));
    });
    Ok(body)
}

/// How a body ends.
struct End {
    reason: &'static str,
    /// Whether its owner knows it.
    is_told: bool,
    /// Whether it is complete.
    completes: bool,
}

impl End {
    /// The client has gone, or takes nothing.
    fn lost(reason: &'static str) -> End {
        End {
            reason,
            is_told: false,
            completes: false,
        }
    }

    /// The node stops. It would not end by itself; a client that wants more asks again.
    fn by_node() -> End {
        End {
            reason: "closed",
            is_told: false,
            completes: true,
        }
    }

    /// The owner wants it so, or has ended.
    fn by_owner(completes: bool) -> End {
        End {
            reason: "closed",
            is_told: true,
            completes,
        }
    }
}

/// Sends all parts.
async fn send<G: Send + 'static>(port: &Connection<G>, sending: &Sending<G>, parts: &Parts) -> End {
    // Another body would look complete and would not be: it runs on as long as the node has patience, and is cut off then.
    let mut turn = pin!(async {
        match sending.is_events {
            true => sending.drained.turn().await,
            false => pending().await,
        }
    });
    let mut is_turn = false;
    let write = async |part: Frame<Bytes>| {
        let put = parts.put(part, sending.limits.timeout).await;
        put.map_err(|why| match why {
            Unwritten::Gone => End::lost("reset"),
            Unwritten::Slow => End::lost("timeout"),
        })
    };
    if !sending.first.is_empty()
        && let Err(end) = write(Frame::data(sending.first.clone())).await
    {
        return end;
    }
    loop {
        let event = tokio::select! {
            biased;
            () = parts.closed() => return End::lost("reset"),
            () = &mut turn, if !is_turn => {
                is_turn = true;
                continue;
            }
            event = port.port_event() => event,
            // What was sent before is written.
            () = ready(()), if is_turn => return End::by_node(),
        };
        let queue = match event {
            PortEvent::Write(queue) => queue,
            // One that is told to end, as when the node stops, may not have been done.
            PortEvent::OwnerEnded(reason) => {
                let is_done = sending.is_events || reason.code() != Reason::SHUTDOWN.0;
                return End::by_owner(reason.is_orderly() && is_done);
            }
            PortEvent::TooLarge | PortEvent::Unread | PortEvent::Closed => {
                return End::by_owner(false);
            }
        };
        let mut writes = port.writes(queue);
        while let Some((tag, payload)) = writes.next() {
            let bytes = Bytes::copy_from_slice(payload.as_slice());
            match tag {
                SOCKET_DATA | SOCKET_TEXT if bytes.is_empty() => {}
                SOCKET_DATA | SOCKET_TEXT => {
                    if let Err(end) = write(Frame::data(bytes)).await {
                        return end;
                    }
                }
                SOCKET_END => {
                    match head::trailers(&bytes) {
                        Ok(trailers) if trailers.is_empty() => {}
                        Ok(trailers) => {
                            if let Err(end) = write(Frame::trailers(trailers)).await {
                                return end;
                            }
                        }
                        Err(error) => tracing::warn!("trailers are dropped: {error}"),
                    }
                    writes.written();
                    return End::by_owner(true);
                }
                _ => {
                    writes.written();
                    return End::by_owner(false);
                }
            }
            writes.written();
        }
        if is_turn {
            return End::by_node();
        }
    }
}
