//! The client: one connection for each request, so that it holds nothing while
//! idle and needs no pool.

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
use crate::host::Upload;
use crate::socket;
use crate::wire::{
    Branch, CallRequest, DeployOptions, Description, EventLine, Info, KillRequest, Killed, Process,
    Reply, Restarted, SendRequest, Sent, Sort, StopTimeout, Suspended, Swap, Target, Top,
};

/// How large an answer may be: a listing of 100,000 processes has about 30 MiB.
const MAX_RESPONSE_BYTES: usize = 128 * 1024 * 1024;

/// How long one line of the event stream may be.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// How long to try while others wait for the node to take their connections.
const CONNECTING: Duration = Duration::from_secs(5);

/// How long to wait between two tries.
const RETRY: Duration = Duration::from_millis(10);

/// HTTP wants a host; over a unix socket it means nothing.
const HOST: &str = "exuvia";

/// A node's control socket, from outside.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// An answer, in the fields that this client knows, and as it came.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What the client knows of it.
    pub value: T,
    /// All of it.
    pub json: Value,
}

impl Client {
    /// A client for this socket. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        socket::check_path(&socket)?;
        Ok(Self { socket })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The node as a whole.
    pub async fn info(&self) -> Result<Answer<Info>, ClientError> {
        self.get("/v1/info").await
    }

    /// The node's numbers, as Prometheus reads them.
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

    /// At most `limit` processes, of one module if one is named.
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

    /// All that is known of a process.
    pub async fn inspect(&self, target: &str) -> Result<Answer<Process>, ClientError> {
        let target = percent_encoded(target);
        self.get(&format!("/v1/process?target={target}")).await
    }

    /// The `limit` processes that come first.
    pub async fn top(&self, sort: Sort, limit: usize) -> Result<Answer<Top>, ClientError> {
        let sort = match sort {
            Sort::Reductions => "reductions",
            Sort::Mailbox => "mailbox",
            Sort::Memory => "memory",
        };
        self.get(&format!("/v1/top?sort={sort}&limit={limit}"))
            .await
    }

    /// What a process receives and sends, `limit` messages at most.
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

    /// Has a process's supervisor start it again.
    pub async fn restart(&self, target: &str) -> Result<Answer<Restarted>, ClientError> {
        let target = target.to_owned();
        self.post("/v1/restart", encode(&Target { target })?).await
    }

    /// What a process understands.
    pub async fn describe(&self, target: &str) -> Result<Answer<Description>, ClientError> {
        let target = percent_encoded(target);
        self.get(&format!("/v1/describe?target={target}")).await
    }

    /// The supervision tree, at most so many processes of it.
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

    /// Has a process take no messages, or take them again.
    pub async fn suspend(&self, target: &str, on: bool) -> Result<Answer<Suspended>, ClientError> {
        let route = if on { "/v1/suspend" } else { "/v1/resume" };
        let target = target.to_owned();
        self.post(route, encode(&Target { target })?).await
    }

    /// Goes back to the release before.
    pub async fn rollback(&self) -> Result<Answer<Swap>, ClientError> {
        self.post("/v1/rollback", Vec::new()).await
    }

    /// Stops the node; the answer is its report.
    pub async fn stop(&self, timeout: Option<Duration>) -> Result<Value, ClientError> {
        let request = StopTimeout {
            timeout_ms: timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        let answer = self.post::<Value>("/v1/stop", encode(&request)?).await?;
        Ok(answer.json)
    }

    /// What happens from now on.
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
        // It ends with the last of `sender` and the response's body; what goes
        // wrong with it shows in those.
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
    /// A unix socket refuses at once while as many wait as may wait; the node
    /// takes them soon.
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

/// The events of a node, one after another.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    /// Bytes that are no whole line yet.
    waiting: Vec<u8>,
}

impl EventStream {
    /// The next event; none when the node has ended.
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

/// The refusals that people meet, in words, and what to do.
fn why(error: &std::io::Error, socket: &Path) -> (String, &'static str) {
    const START: &str = "start one with `exuvia dev` or `exuvia run APP`";
    let no_socket = || {
        let kind = std::fs::metadata(socket).map(|metadata| metadata.file_type());
        kind.is_ok_and(|kind| !kind.is_socket())
    };
    let (why, help) = match error.kind() {
        std::io::ErrorKind::NotFound => ("there is no such socket", START),
        std::io::ErrorKind::ConnectionRefused if no_socket() => (
            "this is no socket",
            "name the node's socket with `--socket PATH` or EXUVIA_SOCKET",
        ),
        std::io::ErrorKind::ConnectionRefused => {
            ("nobody listens at the socket, its node is gone", START)
        }
        std::io::ErrorKind::PermissionDenied => (
            "it belongs to another user",
            "only the user who runs a node may talk to it: become that user",
        ),
        std::io::ErrorKind::WouldBlock => (
            "the node takes no connections, too many wait already",
            "try again; if that does not help, see what the node printed",
        ),
        _ => return (error.to_string(), START),
    };
    (why.to_owned(), help)
}

/// hyper's own text is short; what happened is in its sources.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A value for a query: everything but letters, digits and a few marks escaped.
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
