//! `GET /v1/events`: a line of JSON for each event, until the client goes, the
//! node ends or the server closes. A client that reads too slowly is told how
//! many events it missed; it holds up nobody.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::wire::EventLine;

/// Lines that wait for the client. Few: what waits longer belongs into the
/// node's own queue, which knows how to drop.
const WAITING_LINES: usize = 16;

/// How many event streams there may be at a time: as many as requests.
pub const MAX_STREAMS: usize = crate::routes::MAX_REQUESTS;

/// The lines as the body of a response.
pub(crate) struct Lines {
    receiver: mpsc::Receiver<Bytes>,
    /// Free again when the body is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Lines {
    pub(crate) fn new(receiver: mpsc::Receiver<Bytes>) -> Lines {
        Lines {
            receiver,
            _place: None,
        }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.receiver
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

pub(crate) fn lines<E>(
    mut events: broadcast::Receiver<E>,
    place: OwnedSemaphorePermit,
    at: fn(&E) -> SystemTime,
    closed: impl Future<Output = ()> + Send + 'static,
) -> Lines
where
    E: Serialize + Display + Clone + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_LINES);
    tokio::spawn(async move {
        tokio::pin!(closed);
        loop {
            let received = tokio::select! {
                received = events.recv() => received,
                () = sender.closed() => return,
                () = &mut closed => return,
            };
            let line = match received {
                Ok(event) => line(&event, at(&event)),
                Err(RecvError::Lagged(missed)) => missed_line(missed),
                Err(RecvError::Closed) => return,
            };
            tokio::select! {
                sent = sender.send(encode(&line)) => if sent.is_err() { return },
                () = &mut closed => return,
            }
        }
    });
    Lines {
        receiver,
        _place: Some(place),
    }
}

fn line<E: Serialize + Display>(event: &E, at: SystemTime) -> EventLine {
    let value = serde_json::to_value(event).unwrap_or(Value::Null);
    EventLine::at(at, event.to_string(), value)
}

fn missed_line(missed: u64) -> EventLine {
    EventLine::now(
        format!("missed {missed} events: this reader is too slow"),
        json!({ "event": "missed", "missed": missed }),
    )
}

pub(crate) fn encode(line: &EventLine) -> Bytes {
    // Text and a value that is one already: this cannot fail.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}
