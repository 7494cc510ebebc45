//! The client of the API. Its parts:
//!
//! - `connection`: one connection for each request, and why none can be made.
//! - `remote`: connections to other machines.
//! - `events`: streams of events, which continue when their connection breaks.

mod connection;
mod events;
mod remote;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::events::EventStream;
pub use self::remote::{RemoteNode, fingerprint_of};
use crate::error::ClientError;
use crate::limits::MAX_REASON_BYTES;
use crate::message::{CallRequest, MessageRequest, Reply, Sent};
use crate::multipart;
use crate::node::{Info, StopOptions, StopReport};
use crate::problem::{Problem, reason_too_large};
use crate::process::{
    Description, Inspection, Killed, ProcessPage, Restarted, SupervisionTree, Suspended,
};
use crate::release::{DeployOptions, Pinned, ReleaseList, RollbackOptions, Swap, Upload};
use crate::socket_path;
use crate::token::{NewToken, Token, TokenCreated, TokenList};
use crate::top::{Sort, Top};

/// The maximum size of a response: a listing of 100,000 processes has about 30 MiB.
const MAX_RESPONSE_BYTES: usize = 128 * 1024 * 1024;

/// HTTP requires a host; over a unix socket it has no meaning.
const HOST: &str = "exuvia";

/// The media type of requests.
const JSON: &str = "application/json";

/// The path of the node's events.
const EVENTS: &str = "/v1/events";

/// A node, seen from a client.
#[derive(Clone, Debug)]
pub struct Client {
    node: Target,
}

/// Where a node is.
#[derive(Clone, Debug)]
enum Target {
    /// Its control socket.
    Socket(PathBuf),
    Remote(Arc<RemoteNode>),
}

/// A response: the fields that this client knows, and the JSON as it was received.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The fields that the client knows.
    pub value: T,
    /// The complete JSON.
    pub json: Value,
}

/// A request's body and its media type.
struct Body {
    content_type: String,
    bytes: Vec<u8>,
}

impl Client {
    /// Returns a client for this socket without connecting. Fails if the path is too long.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        socket_path::check_path(&socket)?;
        Ok(Self {
            node: Target::Socket(socket),
        })
    }

    /// Returns a client for a node on another machine without connecting.
    pub fn remote(node: RemoteNode) -> Self {
        Self {
            node: Target::Remote(Arc::new(node)),
        }
    }

    /// Returns the path of the socket, if it is on this machine.
    pub fn socket(&self) -> Option<&Path> {
        match &self.node {
            Target::Socket(socket) => Some(socket),
            Target::Remote(_) => None,
        }
    }

    /// Returns where the node is, for people: the path of its socket, or its address.
    pub fn place(&self) -> String {
        match &self.node {
            Target::Socket(socket) => socket.display().to_string(),
            Target::Remote(node) => node.address.clone(),
        }
    }

    /// Returns the state of the node.
    pub async fn info(&self) -> Result<Answer<Info>, ClientError> {
        self.get("/v1/node").await
    }

    /// Stops the node and returns how it stopped.
    pub async fn stop(&self, timeout: Option<Duration>) -> Result<Answer<StopReport>, ClientError> {
        let options = StopOptions {
            timeout_ms: timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        self.post("/v1/node/stop", json_of(&options)?).await
    }

    /// Returns the node's metrics in the format of OpenMetrics.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.text("/metrics").await
    }

    /// Fails if the app is not up; the problem says why.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.text("/readyz").await.map(drop)
    }

    /// Lists at most `limit` processes, only those of `module` if one is given. The page says
    /// whether there are more.
    pub async fn processes(
        &self,
        module: Option<&str>,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Answer<ProcessPage>, ClientError> {
        let mut path = format!("/v1/processes?limit={limit}");
        for (name, value) in [("module", module), ("after", after)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", percent_encoded(value));
            }
        }
        self.get(&path).await
    }

    /// Returns all that is known of a pid or name.
    pub async fn inspect(&self, target: &str) -> Result<Answer<Inspection>, ClientError> {
        self.get(&process(target, "")).await
    }

    /// Kills a process.
    pub async fn kill(
        &self,
        target: &str,
        reason: Option<&str>,
    ) -> Result<Answer<Killed>, ClientError> {
        let mut path = process(target, "");
        if let Some(reason) = reason {
            // A request line that is longer still could not even be sent.
            if reason.len() > MAX_REASON_BYTES {
                return Err(ClientError::Node(reason_too_large()));
            }
            path += &format!("?reason={}", percent_encoded(reason));
        }
        self.ask(Method::DELETE, &path, None).await
    }

    /// Makes a process's supervisor restart it.
    pub async fn restart(&self, target: &str) -> Result<Answer<Restarted>, ClientError> {
        self.ask(Method::POST, &process(target, "/restart"), None)
            .await
    }

    /// Suspends a process, which then takes no messages, or resumes it.
    pub async fn suspend(&self, target: &str, on: bool) -> Result<Answer<Suspended>, ClientError> {
        let action = if on { "/suspend" } else { "/resume" };
        self.ask(Method::POST, &process(target, action), None).await
    }

    /// Returns the functions that a process accepts.
    pub async fn describe(&self, target: &str) -> Result<Answer<Description>, ClientError> {
        self.get(&process(target, "/functions")).await
    }

    /// Sends a message to a process.
    pub async fn send(
        &self,
        target: &str,
        message: &MessageRequest,
    ) -> Result<Answer<Sent>, ClientError> {
        self.post(&process(target, "/messages"), json_of(message)?)
            .await
    }

    /// Sends a request to a process and waits for the reply.
    pub async fn call(
        &self,
        target: &str,
        request: &CallRequest,
    ) -> Result<Answer<Reply>, ClientError> {
        self.post(&process(target, "/calls"), json_of(request)?)
            .await
    }

    /// Streams the messages that a process receives and sends, at most `limit` of them.
    pub async fn trace(&self, target: &str, limit: u64) -> Result<EventStream, ClientError> {
        let path = process(target, &format!("/trace?limit={limit}"));
        let response = self.open(&path, None).await?;
        Ok(EventStream::new(self.clone(), response, None))
    }

    /// Returns the first `limit` processes in the order of `sort`.
    pub async fn top(&self, sort: Sort, limit: usize) -> Result<Answer<Top>, ClientError> {
        let sort = sort.name();
        self.get(&format!("/v1/top?sort={sort}&limit={limit}"))
            .await
    }

    /// Returns the supervision tree with at most `limit` processes.
    pub async fn tree(&self, limit: usize) -> Result<Answer<SupervisionTree>, ClientError> {
        self.get(&format!("/v1/supervision-tree?limit={limit}"))
            .await
    }

    /// Returns the current release, and those that can be rolled back to.
    pub async fn releases(&self) -> Result<Answer<ReleaseList>, ClientError> {
        self.get("/v1/releases").await
    }

    /// Swaps modules, all or none.
    pub async fn deploy(
        &self,
        modules: &[Upload],
        options: DeployOptions,
    ) -> Result<Answer<Swap>, ClientError> {
        let form = multipart::form(modules)?;
        let (loops, message) = (options.loops.name(), percent_encoded(&options.message));
        let path = format!(
            "/v1/releases?fresh={}&plan={}&loops={loops}&message={message}",
            options.fresh, options.plan
        );
        let body = Body {
            content_type: form.content_type,
            bytes: form.body,
        };
        self.post(&path, body).await
    }

    /// Rolls back to the previous release, or to one that is named.
    pub async fn rollback(&self, options: RollbackOptions) -> Result<Answer<Swap>, ClientError> {
        let (loops, message) = (options.loops.name(), percent_encoded(&options.message));
        let to = options.to.map(|to| format!("&to={to}")).unwrap_or_default();
        let path = format!(
            "/v1/releases/rollback?fresh={}&loops={loops}&message={message}{to}",
            options.fresh
        );
        self.ask(Method::POST, &path, None).await
    }

    /// Pins a release, or no longer.
    pub async fn pin(&self, release: u64, on: bool) -> Result<Answer<Pinned>, ClientError> {
        let method = match on {
            true => Method::PUT,
            false => Method::DELETE,
        };
        self.ask(method, &format!("/v1/releases/{release}/pin"), None)
            .await
    }

    /// Returns the bytes of a module of a release.
    pub async fn module_of(&self, release: u64, module: &str) -> Result<Vec<u8>, ClientError> {
        let module = percent_encoded(module);
        let path = format!("/v1/releases/{release}/modules/{module}");
        let response = self.open(&path, None).await?;
        Ok(collect(response).await?.to_vec())
    }

    /// Makes a token.
    pub async fn new_token(&self, token: &NewToken) -> Result<Answer<TokenCreated>, ClientError> {
        self.post("/v1/tokens", json_of(token)?).await
    }

    /// Returns all tokens, without their secrets.
    pub async fn tokens(&self) -> Result<Answer<TokenList>, ClientError> {
        self.get("/v1/tokens").await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: &str) -> Result<Answer<Token>, ClientError> {
        let path = format!("/v1/tokens/{}", percent_encoded(id));
        self.ask(Method::DELETE, &path, None).await
    }

    /// Streams the events of the node from now on. The stream survives a broken connection.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        let response = self.open(EVENTS, None).await?;
        Ok(EventStream::new(self.clone(), response, Some(EVENTS)))
    }

    /// Opens a stream, after the event with this ID if one is given.
    async fn open(
        &self,
        path: &str,
        last_id: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.request(Method::GET, path, None, last_id).await?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(problem(&collect(response).await?))
        }
    }

    async fn text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.open(path, None).await?;
        let bytes = collect(response).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        self.ask(Method::GET, path, None).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Body,
    ) -> Result<Answer<T>, ClientError> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<Answer<T>, ClientError> {
        let response = self.request(method, path, body, None).await?;
        let good = response.status().is_success();
        let bytes = collect(response).await?;
        if !good {
            return Err(problem(&bytes));
        }
        let nonsense = |error: serde_json::Error| ClientError::Nonsense(error.to_string());
        let json: Value = serde_json::from_slice(&bytes).map_err(nonsense)?;
        let value = T::deserialize(&json).map_err(nonsense)?;
        Ok(Answer { value, json })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
        last_id: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let bytes = match body {
            None => Vec::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, body.content_type);
                body.bytes
            }
        };
        if let Target::Remote(node) = &self.node {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", node.token));
        }
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| ClientError::Nonsense(error.to_string()))?;
        match &self.node {
            Target::Socket(socket) => connection::request(socket, request).await,
            Target::Remote(node) => remote::request(node, request).await,
        }
    }
}

/// Returns the path of a process, or of what belongs to it.
fn process(target: &str, rest: &str) -> String {
    format!("/v1/processes/{}{rest}", percent_encoded(target))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    Limited::new(response.into_body(), MAX_RESPONSE_BYTES)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| ClientError::Broken(error.to_string()))
}

fn problem(body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Node(problem),
        Err(_) => ClientError::Nonsense(
            json!(String::from_utf8_lossy(&body[..body.len().min(200)])).to_string(),
        ),
    }
}

fn json_of<T: Serialize>(request: &T) -> Result<Body, ClientError> {
    let bytes =
        serde_json::to_vec(request).map_err(|error| ClientError::Nonsense(error.to_string()))?;
    Ok(Body {
        content_type: JSON.to_owned(),
        bytes,
    })
}

/// Encodes a value for a path or a query: escapes all bytes but letters, digits and `-._~`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
