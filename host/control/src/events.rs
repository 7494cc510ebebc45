//! `GET /v1/events`: one line of JSON per event, until the client disconnects, the node stops
//! or the server closes. A client that reads too slowly is told how many events it missed; it
//! never delays the node or other clients.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use exuvia_api::EventLine;
use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Lines that are buffered for the client. Few: what waits longer belongs in the node's own
/// queue, which can drop events.
const WAITING_LINES: usize = 16;

/// The maximum number of concurrent event streams: the same as of requests.
pub const MAX_STREAMS: usize = crate::routes::MAX_REQUESTS;

/// The lines as the body of a response.
pub(crate) struct Lines {
    receiver: mpsc::Receiver<Bytes>,
    /// Released when the body is dropped.
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
        format!("lagged: {missed} events were dropped, this reader is too slow"),
        json!({ "event": "lagged", "missed": missed }),
    )
}

pub(crate) fn encode(line: &EventLine) -> Bytes {
    // A string and a value that is already JSON: serialization cannot fail.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}
