//! Bodies of responses that a process sends in parts.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use exuvia_abi::Pid;
use exuvia_process::SpawnError;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::connection::{Connection, Kept, PortEvent};
use crate::gateway::Shared;
use crate::head;
use crate::keyed::Use;
use crate::settings::ConnectionLimits;
use crate::tags::{SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// The body of a response that ends too early: its client must notice.
#[derive(Debug)]
pub(crate) struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process has ended before its response")
    }
}

impl std::error::Error for Aborted {}

/// A body whose parts arrive one after another.
#[derive(Debug)]
pub(crate) struct Streamed(mpsc::Receiver<Result<Frame<Bytes>, Aborted>>);

impl Body for Streamed {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.0.poll_recv(cx)
    }
}

/// What a body has as long as it is sent.
pub(crate) struct Sending<G: 'static> {
    pub(crate) owner: Pid,
    /// The reference of the request.
    pub(crate) reference: u64,
    pub(crate) peer: SocketAddr,
    /// What was sent with the head.
    pub(crate) first: Bytes,
    pub(crate) limits: ConnectionLimits,
    pub(crate) kept: Kept<G>,
    pub(crate) used: Option<Use>,
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
    // One part is written while the next one waits: all others wait with the process.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let (reason, is_told) = send(&port, &sending, &sender).await;
        drop(sender);
        port.set_reason(reason);
        if !is_told {
            let closed = head::closed(1006, reason);
            port.close(closed).await;
        }
        // The process that was started for the request may end now.
        drop((sending.kept, sending.used));
    });
    Ok(Streamed(receiver))
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, Aborted>>;

/// Sends all parts. Returns why it ended, and whether the owner knows it.
async fn send<G: Send + 'static>(
    port: &Connection<G>,
    sending: &Sending<G>,
    sender: &Sender,
) -> (&'static str, bool) {
    let write = async |bytes: Bytes| {
        let sent = sender.send(Ok(Frame::data(bytes)));
        match timeout(sending.limits.timeout, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(("reset", false)),
            Err(_) => Err(("timeout", false)),
        }
    };
    if !sending.first.is_empty()
        && let Err(end) = write(sending.first.clone()).await
    {
        return end;
    }
    loop {
        let event = tokio::select! {
            event = port.port_event() => event,
            () = sender.closed() => return ("reset", false),
        };
        let queue = match event {
            PortEvent::Write(queue) => queue,
            PortEvent::OwnerEnded(reason) => {
                if !reason.is_orderly() {
                    let _ = sender.send(Err(Aborted)).await;
                }
                return ("closed", true);
            }
            PortEvent::Closed => {
                let _ = sender.send(Err(Aborted)).await;
                return ("closed", true);
            }
        };
        for outgoing in queue {
            let bytes = Bytes::copy_from_slice(outgoing.payload.as_slice());
            match outgoing.tag {
                SOCKET_DATA | SOCKET_TEXT if bytes.is_empty() => {}
                SOCKET_DATA | SOCKET_TEXT => {
                    if let Err(end) = write(bytes).await {
                        return end;
                    }
                }
                SOCKET_END => {
                    match head::trailers(&bytes) {
                        Ok(trailers) if trailers.is_empty() => {}
                        Ok(trailers) => {
                            let _ = sender.send(Ok(Frame::trailers(trailers))).await;
                        }
                        Err(error) => tracing::warn!("trailers are dropped: {error}"),
                    }
                    port.acknowledge(outgoing.acknowledged.into_iter().collect());
                    return ("closed", true);
                }
                _ => {
                    let _ = sender.send(Err(Aborted)).await;
                    return ("closed", true);
                }
            }
            port.acknowledge(outgoing.acknowledged.into_iter().collect());
        }
    }
}
