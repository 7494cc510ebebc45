//! The client. It opens one connection per request, so it holds nothing while idle and needs no
//! pool.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::error::{ClientError, Failure};
use crate::framing;
use crate::socket_path;
use crate::wire::{
    Branch, CallRequest, DeployOptions, Description, EventLine, Info, KillRequest, Killed, Process,
    Reply, Restarted, SendRequest, Sent, Sort, StopTimeout, Suspended, Swap, Target, Top, Upload,
};

/// The maximum size of a response: a listing of 100,000 processes has about 30 MiB.
const MAX_RESPONSE_BYTES: usize = 128 * 1024 * 1024;

/// The maximum length of one line of the event stream.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// How long to retry while the node's listen backlog is full.
const CONNECTING: Duration = Duration::from_secs(5);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// HTTP requires a host; over a unix socket it has no meaning.
const HOST: &str = "exuvia";

/// The control socket of a node, seen from a client.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A response: the fields that this client knows, and the JSON as it was received.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The fields that the client knows.
    pub value: T,
    /// The complete JSON.
    pub json: Value,
}

impl Client {
    /// Returns a client for this socket without connecting. Fails if the path is too long.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        socket_path::check_path(&socket)?;
        Ok(Self { socket })
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns information about the node as a whole.
    pub async fn info(&self) -> Result<Answer<Info>, ClientError> {
        self.get("/v1/info").await
    }

    /// Returns the node's metrics in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.request(Method::GET, "/metrics", Vec::new()).await?;
        let fine = response.status().is_success();
        let bytes = collect(response).await?;
        if fine {
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        } else {
            Err(failure(&bytes))
        }
    }

    /// Lists at most `limit` processes, only those of `module` if one is given.
    pub async fn processes(
        &self,
        module: Option<&str>,
        limit: usize,
    ) -> Result<Answer<Vec<Process>>, ClientError> {
        let mut path = format!("/v1/processes?limit={limit}");
        if let Some(module) = module {
            path.push_str("&module=");
            path.push_str(&percent_encoded(module));
        }
        self.get(&path).await
    }

    /// Returns all that is known of a process.
    pub async fn inspect(&self, target: &str) -> Result<Answer<Process>, ClientError> {
        let target = percent_encoded(target);
        self.get(&format!("/v1/process?target={target}")).await
    }

    /// Returns the first `limit` processes in the order of `sort`.
    pub async fn top(&self, sort: Sort, limit: usize) -> Result<Answer<Top>, ClientError> {
        let sort = match sort {
            Sort::Reductions => "reductions",
            Sort::Mailbox => "mailbox",
            Sort::Memory => "memory",
        };
        self.get(&format!("/v1/top?sort={sort}&limit={limit}"))
            .await
    }

    /// Streams the messages that a process receives and sends, at most `limit` of them.
    pub async fn trace(&self, target: &str, limit: u64) -> Result<EventStream, ClientError> {
        let target = percent_encoded(target);
        self.stream(&format!("/v1/trace?target={target}&limit={limit}"))
            .await
    }

    /// Sends a message.
    pub async fn send(&self, request: &SendRequest) -> Result<Answer<Sent>, ClientError> {
        self.post("/v1/send", encode(request)?).await
    }

    /// Kills a process.
    pub async fn kill(
        &self,
        target: &str,
        reason: Option<String>,
    ) -> Result<Answer<Killed>, ClientError> {
        let target = target.to_owned();
        self.post("/v1/kill", encode(&KillRequest { target, reason })?)
            .await
    }

    /// Makes a process's supervisor restart it.
    pub async fn restart(&self, target: &str) -> Result<Answer<Restarted>, ClientError> {
        let target = target.to_owned();
        self.post("/v1/restart", encode(&Target { target })?).await
    }

    /// Returns the functions that a process accepts.
    pub async fn describe(&self, target: &str) -> Result<Answer<Description>, ClientError> {
        let target = percent_encoded(target);
        self.get(&format!("/v1/describe?target={target}")).await
    }

    /// Returns the supervision tree with at most `limit` processes.
    pub async fn tree(&self, limit: usize) -> Result<Answer<Vec<Branch>>, ClientError> {
        self.get(&format!("/v1/tree?limit={limit}")).await
    }

    /// Sends a request and waits for the reply.
    pub async fn call(&self, request: &CallRequest) -> Result<Answer<Reply>, ClientError> {
        self.post("/v1/call", encode(request)?).await
    }

    /// Swaps modules, all or none.
    pub async fn deploy(
        &self,
        modules: &[Upload],
        options: DeployOptions,
    ) -> Result<Answer<Swap>, ClientError> {
        let body = framing::write(modules, options)?;
        self.post("/v1/deploy", body).await
    }

    /// Suspends a process, which then takes no messages, or resumes it.
    pub async fn suspend(&self, target: &str, on: bool) -> Result<Answer<Suspended>, ClientError> {
        let route = if on { "/v1/suspend" } else { "/v1/resume" };
        let target = target.to_owned();
        self.post(route, encode(&Target { target })?).await
    }

    /// Rolls back to the previous release.
    pub async fn rollback(&self) -> Result<Answer<Swap>, ClientError> {
        self.post("/v1/rollback", Vec::new()).await
    }

    /// Stops the node and returns its final report.
    pub async fn stop(&self, timeout: Option<Duration>) -> Result<Value, ClientError> {
        let request = StopTimeout {
            timeout_ms: timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        let answer = self.post::<Value>("/v1/stop", encode(&request)?).await?;
        Ok(answer.json)
    }

    /// Streams the events of the node from now on.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        self.stream("/v1/events").await
    }

    async fn stream(&self, path: &str) -> Result<EventStream, ClientError> {
        let response = self.request(Method::GET, path, Vec::new()).await?;
        if response.status().is_success() {
            Ok(EventStream {
                body: response.into_body(),
                waiting: Vec::new(),
            })
        } else {
            Err(failure(&collect(response).await?))
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer<T>, ClientError> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer<T>, ClientError> {
        let response = self.request(method, path, body).await?;
        let good = response.status().is_success();
        let bytes = collect(response).await?;
        if !good {
            return Err(failure(&bytes));
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
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await.map_err(|error| {
            let (why, help) = why(&error, &self.socket);
            ClientError::NoNode {
                socket: self.socket.clone(),
                why,
                help,
            }
        })?;
        let broken = |error: hyper::Error| ClientError::Broken(with_causes(&error));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The task ends when `sender` and the response's body have been dropped. Errors of the
        // connection are reported through those two.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Nonsense(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }
}

impl Client {
    /// Connects to the socket. A unix socket refuses at once while its backlog is full; the
    /// node accepts soon, so this retries for [`CONNECTING`].
    async fn connect(&self) -> std::io::Result<UnixStream> {
        let mut left = CONNECTING;
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !left.is_zero() => {
                    tokio::time::sleep(RETRY).await;
                    left = left.saturating_sub(RETRY);
                }
                connected => return connected,
            }
        }
    }
}

/// The event stream of a node.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    /// Bytes of an incomplete line.
    waiting: Vec<u8>,
}

impl EventStream {
    /// Returns the next event, or `None` when the node has closed the stream.
    pub async fn next(&mut self) -> Result<Option<EventLine>, ClientError> {
        loop {
            if let Some(end) = self.waiting.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| ClientError::Nonsense(error.to_string()));
            }
            if self.waiting.len() > MAX_EVENT_BYTES {
                return Err(ClientError::Nonsense(format!(
                    "an event of more than {MAX_EVENT_BYTES} bytes"
                )));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.waiting.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(ClientError::Broken(with_causes(&error))),
            }
        }
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    Limited::new(response.into_body(), MAX_RESPONSE_BYTES)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| ClientError::Broken(error.to_string()))
}

fn failure(body: &[u8]) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Wrapped {
        error: Failure,
    }
    match serde_json::from_slice::<Wrapped>(body) {
        Ok(wrapped) => ClientError::Node(wrapped.error),
        Err(_) => ClientError::Nonsense(
            json!(String::from_utf8_lossy(&body[..body.len().min(200)])).to_string(),
        ),
    }
}

fn encode<T: Serialize>(request: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(request).map_err(|error| ClientError::Nonsense(error.to_string()))
}

/// Describes the common connection errors in plain words, with a hint for each.
fn why(error: &std::io::Error, socket: &Path) -> (String, &'static str) {
    const START: &str = "start one with `exuvia dev` or `exuvia run APP`";
    let no_socket = || {
        let kind = std::fs::metadata(socket).map(|metadata| metadata.file_type());
        kind.is_ok_and(|kind| !kind.is_socket())
    };
    let (why, help) = match error.kind() {
        std::io::ErrorKind::NotFound => ("there is no such socket", START),
        std::io::ErrorKind::ConnectionRefused if no_socket() => (
            "this is not a socket",
            "name the node's socket with `--socket PATH` or EXUVIA_SOCKET",
        ),
        std::io::ErrorKind::ConnectionRefused => {
            ("nothing listens on the socket: its node has exited", START)
        }
        std::io::ErrorKind::PermissionDenied => (
            "it belongs to another user",
            "only the user that runs a node can connect to it: run this as that user",
        ),
        std::io::ErrorKind::WouldBlock => (
            "the node accepts no connections: too many are waiting",
            "try again; if that does not help, see the node's output",
        ),
        _ => return (error.to_string(), START),
    };
    (why.to_owned(), help)
}

/// Appends the sources to the text of an error: hyper's own text is short, and the cause is in
/// its sources.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Encodes a value for a query string: escapes all bytes but letters, digits and `-._~`.
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
