//! Requests to the outside, which the process `exuvia.http` makes.

use std::fmt;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use exuvia_abi::io::HTTP_CLIENT;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BodyStream, Octets, Uploading, head_and_body};
use crate::socket::{Socket, millis};
use crate::task::Answer;
use crate::{Error, Message, Wait, address, tag};

/// A request to the outside. What it may reach is granted by `net.connect` of the manifest.
///
/// ```no_run
/// # use exuvia::http::Fetch;
/// # async fn example() -> Result<(), exuvia::http::FetchError> {
/// let response = Fetch::get("https://api.example.com/prices?of=books")
///     .header("accept", "application/json")
///     .send()?
///     .await?;
/// let prices: Vec<u32> = response.json()?;
/// # let _ = prices; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Fetch {
    head: FetchHead,
    body: Vec<u8>,
}

#[derive(Clone, Debug, Serialize)]
struct FetchHead {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirects: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    upload: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchError {
    /// This process may not connect there.
    Denied(String),
    /// The request is invalid.
    Invalid(String),
    /// The host is not found, or cannot be connected to.
    Connect(String),
    /// No response came in time.
    Timeout,
    /// The connection was lost, the response is too large, or it led elsewhere too often.
    Failed(String),
    /// No process of this node may connect, so that there is none that makes requests.
    Unavailable,
    /// The body is not what it was decoded as.
    Decode(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Denied(why)
            | FetchError::Invalid(why)
            | FetchError::Connect(why)
            | FetchError::Failed(why)
            | FetchError::Decode(why) => f.write_str(why),
            FetchError::Timeout => f.write_str("no response came in time"),
            FetchError::Unavailable => {
                f.write_str("no process of this node may connect: see `net.connect`")
            }
        }
    }
}

impl std::error::Error for FetchError {}

impl From<Error> for FetchError {
    fn from(error: Error) -> FetchError {
        let Error::Refused(text) = error else {
            return match error {
                Error::Timeout => FetchError::Timeout,
                Error::NoProc(_) => FetchError::Unavailable,
                error => FetchError::Failed(error.to_string()),
            };
        };
        match text.split_once(": ") {
            Some(("denied", why)) => FetchError::Denied(why.to_owned()),
            Some(("invalid", why)) => FetchError::Invalid(why.to_owned()),
            Some(("connect" | "resolve", why)) => FetchError::Connect(why.to_owned()),
            Some(("timeout", _)) => FetchError::Timeout,
            _ => FetchError::Failed(text),
        }
    }
}

/// A response from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The URL that it came from, after redirections.
    pub url: String,
    headers: Vec<(String, Octets)>,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct FetchedHead {
    status: u16,
    #[serde(default)]
    url: String,
    #[serde(default)]
    headers: Vec<(String, Octets)>,
}

impl Fetch {
    /// Begins a request.
    pub fn new(method: &str, url: &str) -> Fetch {
        Fetch {
            head: FetchHead {
                method: method.to_owned(),
                url: url.to_owned(),
                headers: Vec::new(),
                timeout_ms: None,
                redirects: None,
                stream: false,
                upload: false,
                length: None,
            },
            body: Vec::new(),
        }
    }

    /// Begins a request with `GET`.
    pub fn get(url: &str) -> Fetch {
        Fetch::new("GET", url)
    }

    /// Begins a request with `POST`.
    pub fn post(url: &str) -> Fetch {
        Fetch::new("POST", url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Fetch {
        self.head.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Fetch {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Fetch, FetchError> {
        let body =
            serde_json::to_vec(value).map_err(|error| FetchError::Invalid(error.to_string()));
        Ok(self
            .header("content-type", "application/json")
            .with_body(body?))
    }

    /// Sets how long it may take in all, ten minutes at most; 30 seconds otherwise.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Fetch {
        self.head.timeout_ms = Some(millis(limit));
        self
    }

    /// Sets how many redirections are followed, ten at most; ten otherwise.
    #[must_use]
    pub fn redirects(mut self, most: u32) -> Fetch {
        self.head.redirects = Some(most);
        self
    }

    /// Makes the request. The response comes with its head, and its body is read in parts: it may have any size, and the server
    /// waits when this process does. [`within`](Fetch::within) is the time until the head is there, and then that until the next
    /// part is, or is asked for.
    ///
    /// ```no_run
    /// # use exuvia::http::Fetch;
    /// # async fn example() -> Result<usize, Box<dyn std::error::Error>> {
    /// let mut response = Fetch::get("https://example.com/large").stream()?.await?;
    /// let mut bytes = 0;
    /// while let Some(part) = response.body.next().await? {
    ///     bytes += part.len();
    /// }
    /// # Ok(bytes) }
    /// ```
    pub fn stream(&self) -> Result<FetchingStream, FetchError> {
        let mut request = self.clone();
        request.head.stream = true;
        request.send().map(FetchingStream)
    }

    /// Begins the request, whose body is sent in parts: it may have any size, and this process waits when the server does. `length`
    /// is the number of its bytes, with those that were set with [`with_body`](Fetch::with_body) and come first. If it is not
    /// known, the server gets a body in chunks. The response is read in parts as well.
    ///
    /// A body is complete with [`Upload::finish`]. If this process ends before, or the body has another length, the request is cut
    /// off, and the server sees that. [`within`](Fetch::within) is the time for each part, and for the response when the body is
    /// complete. A redirection that asks for the body again (307, 308) is an error.
    ///
    /// ```no_run
    /// # use exuvia::http::{BodyStream, Fetch};
    /// /// Stores what arrives somewhere else, a part at a time.
    /// async fn pass_on(mut body: BodyStream, length: u64) -> Result<u16, Box<dyn std::error::Error>> {
    ///     let put = Fetch::new("PUT", "https://store.example.com/thing");
    ///     let upload = put.upload(Some(length))?.await?;
    ///     while let Some(part) = body.next().await? {
    ///         upload.write(&part)?.await?;
    ///     }
    ///     Ok(upload.finish()?.await?.status)
    /// }
    /// # let _ = pass_on;
    /// ```
    pub fn upload(&self, length: Option<u64>) -> Result<Uploading, FetchError> {
        let mut request = self.clone();
        request.head.upload = true;
        request.head.length = length;
        request.send().map(Uploading::new)
    }

    /// Makes the request. The response is awaited in an `async` handler, which takes no stack, or waited for with
    /// [`Fetching::wait`].
    pub fn send(&self) -> Result<Fetching, FetchError> {
        let client = crate::whereis(HTTP_CLIENT).map_err(|_| FetchError::Unavailable)?;
        let mut bytes = crate::encode(&self.head)?;
        bytes.extend_from_slice(&self.body);
        let reference = client.request_bytes(tag::HTTP_REQUEST, &bytes)?;
        Ok(Fetching(reference))
    }
}

/// A request that is under way.
#[must_use = "nothing waits for the response before it is awaited"]
#[derive(Clone, Copy, Debug)]
pub struct Fetching(pub(super) u64);

impl Fetching {
    /// Waits for the response on the stack of the handler.
    pub fn wait(self, limit: impl Into<Wait>) -> Result<Fetched, FetchError> {
        Fetched::of(&address::reply(self.0, limit.into())?)
    }
}

impl IntoFuture for Fetching {
    type Output = Result<Fetched, FetchError>;
    type IntoFuture = FetchAnswer;

    fn into_future(self) -> FetchAnswer {
        FetchAnswer(Answer::new(self.0))
    }
}

/// The response to a request, awaited. If it is dropped before, the request is given up.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct FetchAnswer(Answer<()>);

impl Future for FetchAnswer {
    type Output = Result<Fetched, FetchError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll_message().map(|reply| Fetched::of(&reply))
    }
}

/// A request that is under way, whose response comes in parts.
#[must_use = "nothing waits for the response before it is awaited"]
#[derive(Clone, Copy, Debug)]
pub struct FetchingStream(pub(super) Fetching);

impl FetchingStream {
    /// Waits for the head of the response on the stack of the handler.
    pub fn wait(self, limit: impl Into<Wait>) -> Result<FetchedStream, FetchError> {
        FetchedStream::of(&address::reply(self.0.0, limit.into())?)
    }
}

impl IntoFuture for FetchingStream {
    type Output = Result<FetchedStream, FetchError>;
    type IntoFuture = StreamAnswer;

    fn into_future(self) -> StreamAnswer {
        StreamAnswer(Answer::new(self.0.0))
    }
}

/// The head of a response, awaited. If it is dropped before, the request is given up.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct StreamAnswer(Answer<()>);

impl Future for StreamAnswer {
    type Output = Result<FetchedStream, FetchError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll_message().map(|reply| FetchedStream::of(&reply))
    }
}

/// A response from outside whose body is read in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedStream {
    /// The status.
    pub status: u16,
    /// The URL that it came from, after redirections.
    pub url: String,
    headers: Vec<(String, Octets)>,
    /// The body.
    pub body: BodyStream,
}

impl FetchedStream {
    fn of(reply: &Message<'_>) -> Result<FetchedStream, FetchError> {
        let head = Fetched::of(reply)?;
        let rest = (reply.tag == tag::HTTP_STREAM).then(|| Socket::from_pid(reply.sender));
        Ok(FetchedStream {
            status: head.status,
            url: head.url,
            headers: head.headers,
            body: BodyStream::new(head.body, rest),
        })
    }

    /// Returns the first header with this name, in any case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, Octets)], name: &str) -> Option<&'a str> {
    let found = (headers.iter()).find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.and_then(|(_, value)| std::str::from_utf8(&value.0).ok())
}

impl Fetched {
    fn of(reply: &Message<'_>) -> Result<Fetched, FetchError> {
        reply.accepted()?;
        let (head, body) = head_and_body::<FetchedHead>(&reply.payload)?;
        Ok(Fetched {
            status: head.status,
            url: head.url,
            headers: head.headers,
            body: body.to_vec(),
        })
    }

    /// Returns the first header with this name, in any case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Returns the body, if it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    /// Decodes the body, which is JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, FetchError> {
        serde_json::from_slice(&self.body).map_err(|error| FetchError::Decode(error.to_string()))
    }
}
