//! The routes that stream server-sent events: the events of the node, and the messages of one
//! process as they are received and sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use exuvia_api::{DEFAULT_TRACED, EventLine, MAX_TRACED, TraceQuery};
use exuvia_node::{Direction, Traced};
use futures_util::Stream;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Answered, App, MAX_REQUESTS, Named, Params, blocking, busy, limit};
use crate::event_log;
use crate::host::{Host, rendered};
use crate::server::closed;

/// The maximum number of concurrent event streams: the same as of requests.
pub const MAX_STREAMS: usize = MAX_REQUESTS;
/// The maximum number of concurrent traces. Each occupies a thread.
pub const MAX_TRACES: usize = 16;

/// The header in which a client says which event was the last that it has got.
const LAST_EVENT_ID: &str = "last-event-id";

/// How often an idle trace checks whether its client is still connected.
const CHECK: Duration = Duration::from_millis(250);

/// Messages of a trace that are buffered for the client.
const WAITING_MESSAGES: usize = 16;

pub(super) async fn events<H: Host>(State(shared): App<H>, headers: HeaderMap) -> Answered {
    let permit = Arc::clone(&shared.streams)
        .try_acquire_owned()
        .map_err(|_| {
            busy(format!(
                "{MAX_STREAMS} clients follow the events, which is the limit"
            ))
            .help("end one of them; each `exuvia events` and `exuvia top` is one")
        })?;
    // An empty ID means none, as in a stream. One that is not ASCII is as unknown as any other.
    let last = (headers.get(LAST_EVENT_ID))
        .map(|id| String::from_utf8_lossy(id.as_bytes()))
        .filter(|id| !id.is_empty());
    let events = event_log::follow(&shared.events, last.as_deref(), permit);
    Ok(response(events, shared.bounds.heartbeat))
}

pub(super) async fn trace<H: Host>(
    State(shared): App<H>,
    Named(target): Named,
    Params(query): Params<TraceQuery>,
) -> Answered {
    let limit = limit(
        query.limit,
        DEFAULT_TRACED,
        MAX_TRACED,
        "messages in one trace",
    )?;
    let permit = Arc::clone(&shared.traces)
        .try_acquire_owned()
        .map_err(|_| {
            busy(format!(
                "{MAX_TRACES} traces are running, which is the limit"
            ))
            .help("end one of them")
        })?;
    let traced = blocking(&shared, move |host| host.trace(&target, limit)).await?;
    let host = shared.host.clone();
    let render = move |traced: &Traced| message(&host, traced);
    let messages = follow(traced, render, permit, closed(shared.closing.clone()));
    Ok(response(messages, shared.bounds.heartbeat))
}

/// A stream as a response. Comments keep an idle connection from looking dead.
fn response(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    heartbeat: Duration,
) -> Response {
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(heartbeat))
        .into_response()
}

/// Forwards traced messages until the trace ends or the client disconnects. Runs on a thread of
/// tokio's blocking pool.
fn follow(
    traced: std::sync::mpsc::Receiver<Traced>,
    render: impl Fn(&Traced) -> EventLine + Send + 'static,
    permit: OwnedSemaphorePermit,
    closed: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    let (sender, receiver) = mpsc::channel::<Event>(WAITING_MESSAGES);
    let closing = Arc::new(AtomicBool::new(false));
    let (ended, end) = oneshot::channel::<Infallible>();
    let close = closing.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = closed => close.store(true, Ordering::Relaxed),
            _ = end => {}
        }
    });
    tokio::task::spawn_blocking(move || {
        let _until_here = (permit, ended);
        while !sender.is_closed() && !closing.load(Ordering::Relaxed) {
            match traced.recv_timeout(CHECK) {
                Ok(traced) => {
                    let data = event_log::encode(&render(&traced));
                    if sender.blocking_send(Event::default().data(data)).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    stream::unfold(receiver, async |mut receiver| {
        let event = receiver.recv().await?;
        Some((Ok(event), receiver))
    })
}

/// Returns a traced message as it is sent: one line for people, and its parts.
fn message<H: Host>(host: &H, traced: &Traced) -> EventLine {
    let direction = match traced.direction {
        Direction::Received => "received",
        Direction::Sent => "sent",
    };
    let kind = traced.kind.name();
    let whole = traced.payload.len() == traced.bytes;
    let payload = whole.then(|| rendered(traced.tag, &traced.payload));
    let line = host.message_line(traced, payload.as_ref());
    let mut event = json!({
        "event": "message",
        "at_ms": traced.at as f64 / 1e6,
        "direction": direction,
        "kind": kind,
        "peer": traced.peer.to_string(),
        "tag": traced.tag,
        "reference": traced.reference,
        "bytes": traced.bytes,
        "missed": traced.missed,
    });
    if let (Some(Value::Object(payload)), Some(event)) =
        (payload.map(|payload| json!(payload)), event.as_object_mut())
    {
        event.extend(payload);
    }
    EventLine::now(line, event)
}
