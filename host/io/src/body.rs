//! Bodies that arrive in parts: of requests to processes, and of responses to theirs.
//!
//! A body has a process of its own, a port (`port`), and a task here that reads a part of it when somebody has asked for one.
//! So as much is in memory as was asked for, and a process that reads slowly slows the other side. Nobody sees a body as complete
//! that is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exuvia_process::Payload;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::answer::{Answer, plain};
use crate::connection::{CLOSING, Connection, PortEvent};
use crate::head;
use exuvia_abi::io::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END};
use hyper::StatusCode;

/// Bytes of a part.
const PART: usize = 64 << 10;
/// Bytes that are read and dropped of a body that nobody wants, so that its client, which is still sending, gets the
/// response.
const DISCARDED: usize = 1 << 20;

/// Why a body is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It has more bytes than it may have.
    TooLarge,
    /// The other side was too slow.
    Slow,
    /// The other side has gone, or has sent something that is no body.
    Broken,
    /// Nobody has asked for the next part for too long.
    Unread,
    /// A part is larger than the mailbox of the process.
    Mailbox,
}

impl Failure {
    /// Returns how whoever reads it is told: the code and the reason.
    fn end(self) -> (u16, &'static str) {
        match self {
            Failure::TooLarge => (1009, "the body is too large"),
            Failure::Slow => (1006, "timeout"),
            Failure::Broken => (1006, "reset"),
            Failure::Unread => (1006, "the process has not read the body in time"),
            Failure::Mailbox => (
                1009,
                "a part of the body is larger than the mailbox of the process",
            ),
        }
    }

    /// Returns the response to a request with such a body.
    pub(crate) fn answer(self) -> Answer {
        match self {
            Failure::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, ""),
            Failure::Slow => plain(StatusCode::REQUEST_TIMEOUT, ""),
            Failure::Broken => plain(StatusCode::BAD_REQUEST, "the body is incomplete"),
            Failure::Unread => plain(
                StatusCode::GATEWAY_TIMEOUT,
                "the process has not read the body in time",
            ),
            // Not to be tried again: it does not fit.
            Failure::Mailbox => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the mailbox of the process is too small for the body",
            ),
        }
    }
}

/// Why a body is read no further.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Failed(Failure),
    /// Nobody wants more of it.
    Unwanted,
}

/// A body that is read.
pub(crate) struct Reader<G: 'static> {
    /// Its port: [`Connection::open_body`].
    pub(crate) port: Arc<Connection<G>>,
    pub(crate) body: Incoming,
    /// The bytes that it may have.
    pub(crate) most: u64,
    /// How long the other side may take for each part.
    pub(crate) reading: Duration,
    /// How long a process may take to ask for each part.
    pub(crate) timeout: Duration,
    /// If another task takes what happens to the port: becomes true when a part is larger than the mailbox of the process, and
    /// is closed when nobody wants more.
    pub(crate) too_large: Option<watch::Receiver<bool>>,
}

impl<G: Send + 'static> Reader<G> {
    /// Reads the body of a request. If it fails, `failed` is told; otherwise it is dropped when nothing more comes of the body.
    /// `lingers`: the client sends the body without being asked, so that it gets no response before it is rid of it.
    pub(crate) async fn receive(mut self, failed: oneshot::Sender<Failure>, lingers: bool) {
        match self.read().await {
            Ok(()) => {}
            Err(Stop::Failed(failure)) => {
                // The response may have been sent before.
                let _ = failed.send(failure);
                tokio::join!(
                    tell(&self.port, failure),
                    discard(&mut self.body, failure == Failure::TooLarge, self.reading)
                );
            }
            Err(Stop::Unwanted) => {
                drop(failed);
                discard(&mut self.body, lingers, self.reading).await;
            }
        }
    }

    /// Reads the body of a response to a process.
    pub(crate) async fn fetch(mut self) {
        if let Err(Stop::Failed(failure)) = self.read().await {
            self.port.set_reason(match failure {
                Failure::Slow | Failure::Unread => "timeout",
                _ => "reset",
            });
            tell(&self.port, failure).await;
        }
    }

    async fn read(&mut self) -> Result<(), Stop> {
        let mut received: u64 = 0;
        let mut trailers = HeaderMap::new();
        loop {
            self.credit().await?;
            let Some(frame) = self.frame().await? else {
                break;
            };
            match frame.into_data() {
                Ok(mut data) => {
                    received += data.len() as u64;
                    if received > self.most {
                        return Err(Stop::Failed(Failure::TooLarge));
                    }
                    while !data.is_empty() {
                        self.credit().await?;
                        let part = data.split_to(data.len().min(PART));
                        self.port.deliver(SOCKET_DATA, Payload::new(&part));
                    }
                    // Who reads on request may know the length, and not ask for the end.
                    if self.port.is_passive() && self.body.is_end_stream() {
                        break;
                    }
                }
                Err(frame) => {
                    if let Ok(last) = frame.into_trailers() {
                        trailers = last;
                    }
                }
            }
        }
        let ended = head::ended(&trailers);
        let is_taken = tokio::select! {
            biased;
            stop = self.unwanted() => return Err(stop),
            is_taken = self.port.end_body(SOCKET_END, ended, self.timeout) => is_taken,
        };
        match is_taken {
            true => Ok(()),
            // Whoever takes what happens to the port has not said so yet.
            false if self.port.is_oversized() => Err(Stop::Failed(Failure::Mailbox)),
            // It has responded, and knows from the length that it has all.
            false if self.port.is_over() => Err(Stop::Unwanted),
            false => Err(Stop::Failed(Failure::Unread)),
        }
    }

    /// Waits until somebody asks for more.
    async fn credit(&self) -> Result<(), Stop> {
        let has_credit = async {
            tokio::select! {
                biased;
                stop = self.unwanted() => Err(stop),
                has_credit = self.port.credit() => has_credit.then_some(()).ok_or(Stop::Unwanted),
            }
        };
        let in_time = timeout(self.timeout, has_credit).await;
        in_time.unwrap_or(Err(Stop::Failed(Failure::Unread)))
    }

    /// Waits for a part.
    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Stop> {
        let Reader {
            port,
            body,
            too_large,
            ..
        } = self;
        let frame = tokio::select! {
            biased;
            stop = stopped(port, too_large.as_ref()) => return Err(stop),
            frame = timeout(self.reading, body.frame()) => frame,
        };
        match frame {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(_))) => Err(Stop::Failed(Failure::Broken)),
            Err(_) => Err(Stop::Failed(Failure::Slow)),
        }
    }

    async fn unwanted(&self) -> Stop {
        stopped(&self.port, self.too_large.as_ref()).await
    }
}

async fn stopped<G: Send + 'static>(
    port: &Connection<G>,
    too_large: Option<&watch::Receiver<bool>>,
) -> Stop {
    let Some(too_large) = too_large else {
        return unwanted(port).await;
    };
    match too_large.clone().wait_for(|is_so| *is_so).await {
        Ok(_) => Stop::Failed(Failure::Mailbox),
        Err(_) => Stop::Unwanted,
    }
}

/// Waits until nobody wants the body any more.
async fn unwanted<G: Send + 'static>(port: &Connection<G>) -> Stop {
    loop {
        match port.port_event().await {
            PortEvent::Write(queue) => {
                let mut writes = port.writes(queue);
                while let Some((tag, _)) = writes.next() {
                    writes.written();
                    if tag == SOCKET_CLOSE {
                        return Stop::Unwanted;
                    }
                }
            }
            PortEvent::TooLarge => return Stop::Failed(Failure::Mailbox),
            PortEvent::OwnerEnded(_) | PortEvent::Unread | PortEvent::Closed => {
                return Stop::Unwanted;
            }
        }
    }
}

/// Tells whoever reads it that it is not complete.
async fn tell<G: Send + 'static>(port: &Connection<G>, failure: Failure) {
    let (code, reason) = failure.end();
    let closed = head::closed(code, reason);
    port.end_body(SOCKET_CLOSE, closed, CLOSING).await;
}

/// Reads what its client is still sending, for some time and some bytes.
async fn discard(body: &mut Incoming, lingers: bool, time: Duration) {
    if !lingers {
        return;
    }
    let all = async {
        let mut bytes = 0;
        while bytes < DISCARDED
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = timeout(time, all).await;
}
