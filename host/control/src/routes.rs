//! The routes under `/v1`. A handler checks its request, calls the host on a thread that may
//! block, and responds with JSON; a failure is `{"error": {..}}` with a status that fits its
//! code.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use exuvia_api::{
    CallRequest, DEFAULT_LISTED, Failure, KillRequest, MAX_CALL_TIMEOUT, MAX_DEPLOY_BYTES,
    MAX_LISTED, MAX_REASON_BYTES, MAX_REQUEST_BYTES, Rendered, Reply, SendRequest, StopTimeout,
    Target, code, framing,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::bodies::{Bodies, Whole};
use crate::events;
use crate::host::Host;
use crate::inspect_routes;
use crate::metrics;
use crate::refusal::Refusal;
use crate::scrape;
use crate::server::{Bounds, StopRequest, closed};

/// The maximum number of concurrent requests. Each may occupy a thread of tokio's blocking
/// pool, which has 512.
pub const MAX_REQUESTS: usize = 128;

/// The maximum number of calls among them, which wait for as long as their process takes. The
/// other requests stay available for commands.
pub const MAX_CALLS: usize = MAX_REQUESTS - 32;

/// The state shared by all handlers.
pub(crate) struct Shared<H> {
    pub(crate) host: H,
    pub(crate) stop: mpsc::Sender<StopRequest>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) room: Arc<Semaphore>,
    /// Permits for calls, see [`MAX_CALLS`].
    pub(crate) calls: Arc<Semaphore>,
    /// Permits for event streams, see [`events::MAX_STREAMS`].
    pub(crate) streams: Arc<Semaphore>,
    /// Permits for traces, see [`inspect_routes::MAX_TRACES`].
    pub(crate) traces: Arc<Semaphore>,
    pub(crate) bounds: Bounds,
    pub(crate) bodies: Arc<Bodies>,
}

pub(crate) type App<H> = State<Arc<Shared<H>>>;
type Answered = Result<Response, Refusal>;

pub(crate) fn router<H: Host>(shared: Arc<Shared<H>>) -> Router {
    Router::new()
        .route("/v1/info", get(info::<H>))
        .route("/metrics", get(metrics::<H>))
        .route("/v1/processes", get(processes::<H>))
        .route("/v1/process", get(inspect_routes::process::<H>))
        .route("/v1/top", get(inspect_routes::top::<H>))
        .route("/v1/trace", get(inspect_routes::trace::<H>))
        .route("/v1/send", post(send::<H>))
        .route("/v1/call", post(call::<H>))
        .route("/v1/suspend", post(suspend::<H>))
        .route("/v1/resume", post(resume::<H>))
        .route("/v1/kill", post(kill::<H>))
        .route("/v1/restart", post(restart::<H>))
        .route("/v1/describe", get(inspect_routes::describe::<H>))
        .route("/v1/tree", get(inspect_routes::tree::<H>))
        .route("/v1/rollback", post(rollback::<H>))
        .route("/v1/stop", post(stop::<H>))
        .route("/v1/events", get(event_stream::<H>))
        .route("/v1/deploy", post(deploy::<H>))
        // `Whole` applies a limit of its own for each route.
        .layer(DefaultBodyLimit::disable())
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .with_state(shared)
}

async fn no_route(method: axum::http::Method, uri: axum::http::Uri) -> Refusal {
    Failure::new(
        code::NO_ROUTE,
        format!("no route `{method} {}`", uri.path()),
    )
    .help("docs/cli.md lists the routes; node and client may have different versions")
    .into()
}

async fn info<H: Host>(State(shared): App<H>) -> Answered {
    let info = blocking(&shared, |host| Ok(host.info())).await?;
    Ok(Json(info).into_response())
}

async fn metrics<H: Host>(State(shared): App<H>) -> Answered {
    let info = blocking(&shared, |host| scrape::info(&host)).await?;
    let text = metrics::text(&info);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    module: Option<String>,
    limit: Option<usize>,
}

async fn processes<H: Host>(
    State(shared): App<H>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Answered {
    let Query(listing) =
        query.map_err(|error| Failure::new(code::BAD_REQUEST, error.body_text()))?;
    let limit = listing.limit.unwrap_or(DEFAULT_LISTED);
    if limit > MAX_LISTED {
        return Err(Failure::new(
            code::TOO_LARGE,
            format!("{limit} processes in one listing, the limit is {MAX_LISTED}"),
        )
        .into());
    }
    let list = blocking(&shared, move |host| {
        Ok(host.processes(listing.module, limit))
    })
    .await?;
    Ok(Json(list).into_response())
}

async fn send<H: Host>(State(shared): App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    let Whole { bytes, held } = body;
    let request: SendRequest = json(&bytes)?;
    drop(bytes);
    let payload = request.payload.into_bytes()?;
    let hear = request.hear;
    let warnings = blocking(&shared, move |host| {
        let _held = held;
        host.send(&request.to, request.tag, payload, hear)
    })
    .await?;
    Ok(Json(match hear {
        true => json!({ "warnings": warnings }),
        false => json!({}),
    })
    .into_response())
}

async fn call<H: Host>(State(shared): App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    let Whole { bytes, held } = body;
    let request: CallRequest = json(&bytes)?;
    drop(bytes);
    let payload = request.payload.into_bytes()?;
    let timeout = Duration::from_millis(request.timeout_ms);
    if timeout > MAX_CALL_TIMEOUT {
        return Err(Failure::new(
            code::BAD_REQUEST,
            format!(
                "a call can wait at most {} s, not {} ms",
                MAX_CALL_TIMEOUT.as_secs(),
                request.timeout_ms
            ),
        )
        .into());
    }
    let place = Arc::clone(&shared.calls).try_acquire_owned().map_err(|_| {
        Failure::new(
            code::BUSY,
            format!("{MAX_CALLS} calls wait for their replies, which is the limit"),
        )
        .help("try again when some of them have ended")
    })?;
    let (tag, payload) = blocking(&shared, move |host| {
        let _until_here = (held, place);
        host.call(&request.to, request.tag, payload, timeout)
    })
    .await?;
    let reply = Reply {
        tag,
        bytes: payload.len() as u64,
        payload: rendered(exuvia_node::Rendered::new(tag, &payload)),
    };
    Ok(Json(reply).into_response())
}

async fn deploy<H: Host>(State(shared): App<H>, body: Whole<MAX_DEPLOY_BYTES>) -> Answered {
    let Whole { bytes, held } = body;
    let (modules, options) = framing::read(&bytes)?;
    drop(bytes);
    let swap = blocking(&shared, move |host| {
        let _held = held;
        host.deploy(modules, options)
    })
    .await?;
    Ok(swapped(&swap))
}

async fn suspend<H: Host>(shared: App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    suspend_or_resume(&shared, &body.bytes, true).await
}

async fn resume<H: Host>(shared: App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    suspend_or_resume(&shared, &body.bytes, false).await
}

async fn suspend_or_resume<H: Host>(State(shared): &App<H>, body: &[u8], on: bool) -> Answered {
    let Target { target } = json(body)?;
    let done = blocking(shared, move |host| host.suspend(&target, on)).await?;
    Ok(Json(done).into_response())
}

async fn kill<H: Host>(State(shared): App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    let KillRequest { target, reason } = json(&body.bytes)?;
    if reason
        .as_ref()
        .is_some_and(|it| it.len() > MAX_REASON_BYTES)
    {
        return Err(Failure::new(
            code::TOO_LARGE,
            format!("the reason has more than {MAX_REASON_BYTES} bytes, which is the limit"),
        )
        .into());
    }
    let killed = blocking(&shared, move |host| host.kill(&target, reason.as_deref())).await?;
    let (pid, ended) = killed;
    Ok(Json(json!({ "pid": pid, "ended": ended })).into_response())
}

async fn restart<H: Host>(State(shared): App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    let Target { target } = json(&body.bytes)?;
    let (before, pid) = blocking(&shared, move |host| host.restart(&target)).await?;
    Ok(Json(json!({ "before": before, "pid": pid })).into_response())
}

async fn rollback<H: Host>(State(shared): App<H>) -> Answered {
    let swap = blocking(&shared, |host| host.rollback()).await?;
    Ok(swapped(&swap))
}

fn swapped<S: Serialize + std::fmt::Display>(swap: &S) -> Response {
    Json(json!({ "line": swap.to_string(), "report": swap })).into_response()
}

async fn stop<H: Host>(State(shared): App<H>, body: Whole<MAX_REQUEST_BYTES>) -> Answered {
    let stopping = || Failure::new(code::STOPPING, "the node is already stopping");
    let request: StopTimeout = if body.bytes.is_empty() {
        StopTimeout::default()
    } else {
        json(&body.bytes)?
    };
    let (answer, answered) = oneshot::channel();
    let request = StopRequest {
        timeout: request.timeout_ms.map(Duration::from_millis),
        answer,
    };
    shared.stop.try_send(request).map_err(|_| stopping())?;
    let report = answered.await.map_err(|_| stopping())?;
    Ok(Json(report).into_response())
}

async fn event_stream<H: Host>(State(shared): App<H>) -> Answered {
    let place = Arc::clone(&shared.streams)
        .try_acquire_owned()
        .map_err(|_| {
            Failure::new(
                code::BUSY,
                format!(
                    "{} clients follow the events, which is the limit",
                    events::MAX_STREAMS
                ),
            )
            .help("end one of them; each `exuvia events` and `exuvia top` is one")
        })?;
    let lines = events::lines(
        shared.host.events(),
        place,
        H::event_time,
        closed(shared.closing.clone()),
    );
    Ok((
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::new(lines),
    )
        .into_response())
}

/// Runs `work` on a thread that may block. Fails with `busy` at [`MAX_REQUESTS`].
pub(crate) async fn blocking<H: Host, T: Send + 'static>(
    shared: &Shared<H>,
    work: impl FnOnce(H) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let room = Arc::clone(&shared.room).try_acquire_owned().map_err(|_| {
        Failure::new(
            code::BUSY,
            format!("{MAX_REQUESTS} requests are being served, which is the limit"),
        )
        .help("try again when some of them have ended")
    })?;
    let host = shared.host.clone();
    let done = tokio::task::spawn_blocking(move || {
        // Kept until the work ends, even if the client disconnects before.
        let _room = room;
        work(host)
    });
    done.await.map_err(|error| {
        Failure::new(code::INTERNAL, format!("the request failed: {error}"))
            .help("this is a bug in Exuvia: please report it")
    })?
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(
            code::BAD_REQUEST,
            format!("the request is invalid: {error}"),
        )
    })
}

/// Converts what the node shows of a payload.
fn rendered(shown: exuvia_node::Rendered) -> Rendered {
    match shown {
        exuvia_node::Rendered::Empty => Rendered::Empty,
        exuvia_node::Rendered::Msgpack(value) => Rendered::Msgpack(value),
        exuvia_node::Rendered::Text(text) => Rendered::Text(text),
        exuvia_node::Rendered::Hex(digits) => Rendered::Hex(digits),
    }
}
