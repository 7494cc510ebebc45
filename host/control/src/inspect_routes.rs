//! The routes that inspect: one process, the busiest processes, the supervision tree, and the
//! messages of one process as they are sent and received.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use exuvia_api::{
    DEFAULT_LISTED, DEFAULT_TOP, DEFAULT_TRACED, EventLine, Failure, MAX_LISTED, MAX_TOP,
    MAX_TRACED, Sort, code,
};
use exuvia_node::{Direction, Rendered, TYPED_TAG, Traced};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::events::{Lines, encode};
use crate::host::Host;
use crate::refusal::Refusal;
use crate::routes::{App, blocking};
use crate::server::closed;

/// The maximum number of concurrent traces. Each occupies a thread.
pub const MAX_TRACES: usize = 16;
/// How often an idle trace checks whether its client is still connected.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    target: String,
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
}

fn bad(error: &QueryRejection) -> Failure {
    Failure::new(code::BAD_REQUEST, error.body_text())
}

pub(crate) async fn process<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Target>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| bad(&error))?;
    let looked = blocking(&shared, move |host| host.inspect(&asked.target)).await?;
    let (inspection, state) = looked;
    let mut value = serde_json::to_value(inspection).map_err(|error| {
        Failure::new(
            code::INTERNAL,
            format!("the inspection cannot be encoded: {error}"),
        )
    })?;
    if let Some(state) = state {
        value["data"] = json!(Rendered::new(TYPED_TAG, &state));
    }
    Ok(Json(value).into_response())
}

pub(crate) async fn top<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Sample>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| bad(&error))?;
    let limit = asked.limit.unwrap_or(DEFAULT_TOP);
    if limit > MAX_TOP {
        return Err(Failure::new(
            code::TOO_LARGE,
            format!("{limit} processes in one sample, the limit is {MAX_TOP}"),
        )
        .into());
    }
    let top = blocking(&shared, move |host| Ok(host.top(asked.sort, limit))).await?;
    Ok(Json(top).into_response())
}

pub(crate) async fn describe<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Target>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| bad(&error))?;
    let described = blocking(&shared, move |host| host.describe(&asked.target)).await?;
    Ok(Json(described).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    limit: Option<usize>,
}

pub(crate) async fn tree<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Limit>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| bad(&error))?;
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED);
    if limit > MAX_LISTED {
        return Err(Failure::new(
            code::TOO_LARGE,
            format!("{limit} processes in one tree, the limit is {MAX_LISTED}"),
        )
        .into());
    }
    let tree = blocking(&shared, move |host| Ok(host.tree(limit))).await?;
    Ok(Json(tree).into_response())
}

pub(crate) async fn trace<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Target>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| bad(&error))?;
    let limit = asked.limit.unwrap_or(DEFAULT_TRACED);
    if limit > MAX_TRACED {
        return Err(Failure::new(
            code::TOO_LARGE,
            format!("{limit} messages in one trace, the limit is {MAX_TRACED}"),
        )
        .into());
    }
    let place = Arc::clone(&shared.traces)
        .try_acquire_owned()
        .map_err(|_| {
            Failure::new(
                code::BUSY,
                format!("{MAX_TRACES} traces are running, which is the limit"),
            )
            .help("end one of them")
        })?;
    let traced = blocking(&shared, move |host| host.trace(&asked.target, limit)).await?;
    let lines = follow(traced, place, closed(shared.closing.clone()));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(lines)).into_response())
}

/// Forwards traced messages until the trace ends or the client disconnects. Runs on a thread of
/// tokio's blocking pool.
fn follow(
    traced: std::sync::mpsc::Receiver<Traced>,
    place: OwnedSemaphorePermit,
    closed: impl Future<Output = ()> + Send + 'static,
) -> Lines {
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
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
        let _until_here = (place, ended);
        while !sender.is_closed() && !closing.load(Ordering::Relaxed) {
            match traced.recv_timeout(LOOK) {
                Ok(traced) => {
                    if sender.blocking_send(encode(&line(&traced))).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    Lines::new(receiver)
}

/// Renders a traced message: one line for people, and its parts.
fn line(traced: &Traced) -> EventLine {
    let direction = match traced.direction {
        Direction::Received => "received",
        Direction::Sent => "sent",
    };
    let kind = format!("{:?}", traced.kind).to_lowercase();
    let whole = traced.payload.len() == traced.bytes;
    let shown = whole.then(|| Rendered::new(traced.tag, &traced.payload));
    let mut line = match traced.direction {
        Direction::Received => format!("received {kind} from {}", traced.peer),
        Direction::Sent => format!("sent {kind} to {}", traced.peer),
    };
    // Writing to a String cannot fail.
    let _ = write!(line, "  tag {}  {} B", traced.tag, traced.bytes);
    let text = match &shown {
        Some(Rendered::Empty) => String::new(),
        Some(Rendered::Msgpack(value)) => value.to_string(),
        Some(Rendered::Text(text)) => json!(text).to_string(),
        Some(Rendered::Hex(hex)) => format!("0x{hex}"),
        None => "(too long to be shown)".to_owned(),
    };
    if !text.is_empty() {
        line += "  ";
        line += &text;
    }
    if traced.missed > 0 {
        let _ = write!(line, "  ({} before it were dropped)", traced.missed);
    }
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
    if let (Some(Value::Object(shown)), Some(event)) =
        (shown.map(|shown| json!(shown)), event.as_object_mut())
    {
        event.extend(shown);
    }
    EventLine::now(line, event)
}
