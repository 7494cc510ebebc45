//! The routes. A handler checks its request, calls the host on a thread that may block, and
//! responds with JSON. `api`'s OpenAPI document describes each route; a test compares both.
//!
//! - `node`: the node, its modules, health and metrics, and the document.
//! - `processes`: listings, and what is done with one process.
//! - `releases`: deployments and rollbacks.
//! - `streams`: events and traces.
//! - `tokens`: those of the remote API.

mod node;
mod processes;
mod releases;
mod streams;
mod tokens;

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use exuvia_api::{Problem, Role, code};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, watch};

pub use self::streams::{MAX_STREAMS, MAX_TRACES};
use crate::access;
use crate::bodies::Bodies;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::host::Host;
use crate::problem::{Refusal, panicked};
use crate::server::{Bounds, StopRequest};
use crate::tokens::Tokens;

/// The maximum number of concurrent requests. Each may occupy a thread of tokio's blocking
/// pool, which has 512.
pub const MAX_REQUESTS: usize = 128;

/// The maximum number of calls among them, which wait for as long as their process takes. The
/// other requests stay available for commands.
pub const MAX_CALLS: usize = MAX_REQUESTS - 32;

/// The state shared by all handlers.
pub(crate) struct Shared<H> {
    pub(crate) host: H,
    pub(crate) health: Health<H>,
    pub(crate) stop: mpsc::Sender<StopRequest>,
    pub(crate) closing: watch::Receiver<bool>,
    /// Permits for requests, see [`MAX_REQUESTS`].
    pub(crate) requests: Arc<Semaphore>,
    /// Permits for calls, see [`MAX_CALLS`].
    pub(crate) calls: Arc<Semaphore>,
    /// Permits for event streams, see [`MAX_STREAMS`].
    pub(crate) streams: Arc<Semaphore>,
    /// Permits for traces, see [`MAX_TRACES`].
    pub(crate) traces: Arc<Semaphore>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) bounds: Bounds,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) tokens: Arc<Tokens>,
}

pub(crate) type App<H> = State<Arc<Shared<H>>>;
type Answered = Result<Response, Refusal>;

/// The router, and the routes in it.
struct Table<H: Host> {
    router: Router<Arc<Shared<H>>>,
    listed: Vec<(Method, &'static str)>,
}

impl<H: Host> Table<H> {
    fn new() -> Self {
        let empty = Self {
            router: Router::new(),
            listed: Vec::new(),
        };
        empty
            .get("/healthz", node::alive)
            .get("/readyz", node::ready::<H>)
            .get("/metrics", node::metrics::<H>)
            .get(exuvia_api::openapi::PATH, node::document)
            .get("/v1/node", node::info::<H>)
            .post("/v1/node/stop", node::stop::<H>)
            .get("/v1/modules", node::modules::<H>)
            .get("/v1/modules/{module}", node::module::<H>)
            .get("/v1/events", streams::events::<H>)
            .get("/v1/top", processes::top::<H>)
            .get("/v1/supervision-tree", processes::tree::<H>)
            .get("/v1/processes", processes::list::<H>)
            .get("/v1/processes/{process}", processes::inspect::<H>)
            .delete("/v1/processes/{process}", processes::kill::<H>)
            .post("/v1/processes/{process}/messages", processes::send::<H>)
            .post("/v1/processes/{process}/calls", processes::call::<H>)
            .get(
                "/v1/processes/{process}/functions",
                processes::describe::<H>,
            )
            .post("/v1/processes/{process}/suspend", processes::suspend::<H>)
            .post("/v1/processes/{process}/resume", processes::resume::<H>)
            .post("/v1/processes/{process}/restart", processes::restart::<H>)
            .get("/v1/processes/{process}/trace", streams::trace::<H>)
            .get("/v1/releases", releases::list::<H>)
            .post("/v1/releases", releases::deploy::<H>)
            .get("/v1/releases/{release}", releases::release::<H>)
            .post("/v1/releases/rollback", releases::rollback::<H>)
            .get("/v1/tokens", tokens::list::<H>)
            .post("/v1/tokens", tokens::create::<H>)
            .delete("/v1/tokens/{token}", tokens::revoke::<H>)
            .put("/v1/releases/{release}/pin", releases::pin::<H>)
            .delete("/v1/releases/{release}/pin", releases::unpin::<H>)
            .get(
                "/v1/releases/{release}/modules/{module}",
                releases::module::<H>,
            )
    }

    fn get<X: Handler<T, Arc<Shared<H>>>, T: 'static>(self, path: &'static str, to: X) -> Self {
        self.route(Method::GET, path, routing::get(to))
    }

    fn post<X: Handler<T, Arc<Shared<H>>>, T: 'static>(self, path: &'static str, to: X) -> Self {
        self.route(Method::POST, path, routing::post(to))
    }

    fn put<X: Handler<T, Arc<Shared<H>>>, T: 'static>(self, path: &'static str, to: X) -> Self {
        self.route(Method::PUT, path, routing::put(to))
    }

    fn delete<X: Handler<T, Arc<Shared<H>>>, T: 'static>(self, path: &'static str, to: X) -> Self {
        self.route(Method::DELETE, path, routing::delete(to))
    }

    fn route(
        mut self,
        method: Method,
        path: &'static str,
        to: MethodRouter<Arc<Shared<H>>>,
    ) -> Self {
        let needed = Role::needed(method.as_str(), path);
        let guard = move |request, next| access::guard(needed, path, request, next);
        let to = to.route_layer(middleware::from_fn(guard));
        self.router = self.router.route(path, to);
        self.listed.push((method, path));
        self
    }
}

/// Returns the routes that a server has, each with its method.
pub fn routes<H: Host>() -> Vec<(Method, &'static str)> {
    Table::<H>::new().listed
}

pub(crate) fn router<H: Host>(shared: Arc<Shared<H>>) -> Router {
    Table::new()
        .router
        // Each body has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shared)
}

async fn no_route(method: Method, uri: Uri) -> Refusal {
    Problem::new(
        code::NO_ROUTE,
        format!("no route `{method} {}`", uri.path()),
    )
    .help("`exuvia api` describes the routes; node and client may have different versions")
    .into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    Problem::new(
        code::METHOD_NOT_ALLOWED,
        format!("`{}` has no method {method}", uri.path()),
    )
    .help("the header `allow` lists its methods; `exuvia api` describes them")
    .into()
}

/// The parameters of a query.
struct Params<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::from_request_parts(parts, state).await;
        let Query(it) = query.map_err(|error: QueryRejection| bad_request(error.body_text()))?;
        Ok(Self(it))
    }
}

/// The part of the path that names a process, a module or a release.
struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|error: PathRejection| bad_request(error.body_text()))?;
        match String::is_empty(&name) {
            true => Err(bad_request("a part of the path is empty".to_owned()).into()),
            false => Ok(Self(name)),
        }
    }
}

/// Two names in the path.
struct NamedTwo(String, String);

impl<S: Send + Sync> FromRequestParts<S> for NamedTwo {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::from_request_parts(parts, state).await;
        let Path((one, two)): Path<(String, String)> =
            path.map_err(|error: PathRejection| bad_request(error.body_text()))?;
        match one.is_empty() || two.is_empty() {
            true => Err(bad_request("a part of the path is empty".to_owned()).into()),
            false => Ok(Self(one, two)),
        }
    }
}

fn bad_request(detail: String) -> Problem {
    Problem::new(code::BAD_REQUEST, detail)
}

/// Checks a limit that a request names.
fn limit<N: PartialOrd + std::fmt::Display>(
    asked: Option<N>,
    default: N,
    most: N,
    what: &str,
) -> Result<N, Problem> {
    match asked {
        None => Ok(default),
        Some(limit) if limit > most => Err(Problem::new(
            code::TOO_LARGE,
            format!("{limit} {what}, the limit is {most}"),
        )),
        Some(limit) => Ok(limit),
    }
}

/// Reads the body of a request.
fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| bad_request(format!("the request is invalid: {error}")))
}

fn json<T: Serialize>(value: T) -> Response {
    axum::response::IntoResponse::into_response(Json(value))
}

/// Returns the failure of a request that exceeds a limit on what is under way.
fn busy(detail: String) -> Problem {
    Problem::new(code::BUSY, detail).help("try again when some of them have ended")
}

/// Runs `work` on a thread that may block. Fails with `busy` at [`MAX_REQUESTS`].
async fn blocking<H: Host, T: Send + 'static>(
    shared: &Shared<H>,
    work: impl FnOnce(H) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let permit = Arc::clone(&shared.requests)
        .try_acquire_owned()
        .map_err(|_| {
            busy(format!(
                "{MAX_REQUESTS} requests are being served, which is the limit"
            ))
        })?;
    let host = shared.host.clone();
    let done = tokio::task::spawn_blocking(move || {
        // Kept until the work ends, even if the client disconnects before.
        let _permit = permit;
        work(host)
    });
    done.await.map_err(|error| panicked(&error))?
}
