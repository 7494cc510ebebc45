//! Requests of HTTP, and responses to them, as `guest-sdk/io.md` defines them.
//!
//! A route of `[[listen]]` in the manifest sends requests to a process; an actor gets them in
//! [`Actor::handle_http`](crate::Actor::handle_http).
//!
//! ```
//! use exuvia::http::{Request, Responder, Response};
//! use exuvia::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Cart {
//!     things: Vec<String>,
//! }
//!
//! #[exuvia::actor(schema = 1)]
//! impl Actor for Cart {
//!     type Args = String;
//!
//!     fn init(_key: String, _: &mut Context) -> Result<Self, String> {
//!         Ok(Cart { things: Vec::new() })
//!     }
//!
//!     fn handle_http(
//!         &mut self,
//!         request: Request,
//!         _: Responder,
//!         _: &mut Context,
//!     ) -> Option<Response> {
//!         Some(match request.method.as_str() {
//!             "GET" => Response::text(self.things.join("\n")),
//!             "POST" => match request.text() {
//!                 Some(thing) => {
//!                     self.things.push(thing.to_owned());
//!                     Response::new(204)
//!                 }
//!                 None => Response::new(400),
//!             },
//!             _ => Response::new(405),
//!         })
//!     }
//! }
//! ```

mod body;
mod fetch;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::str::FromStr;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::body::{BodyError, BodyStream};
pub use self::fetch::{
    Fetch, FetchAnswer, FetchError, Fetched, FetchedStream, Fetching, FetchingStream, StreamAnswer,
};
use crate::socket::Socket;
use crate::{Error, Message, Pid, tag};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// The version: `HTTP/1.1`.
    pub version: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The host that the client has asked for, with its port; empty if it has not said.
    pub host: String,
    /// The path as it was sent, without the query.
    pub path: String,
    /// What follows the `?`, as it was sent.
    pub query: String,
    /// The parameters of the route's path, decoded.
    pub params: BTreeMap<String, String>,
    /// The address of the client; of a Unix socket, `unix:` and the number of its user.
    pub peer: String,
    /// The headers in their order; names are in small letters.
    headers: Vec<(String, Octets)>,
    /// The body; empty if it arrives in parts: [`Request::body_stream`].
    pub body: Vec<u8>,
    /// The process from which the body comes, if it arrives in parts.
    rest: Option<Socket>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    method: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    host: String,
    path: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    params: BTreeMap<String, String>,
    #[serde(default)]
    headers: Vec<(String, Octets)>,
    #[serde(default)]
    peer: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

/// The value of a header: text, or bytes that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Octets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Octets, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Octets(bytes))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Decodes the head; what follows it is the body.
fn head_and_body<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, &[u8]), Error> {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(payload));
    let head = T::deserialize(&mut deserializer);
    let head = head.map_err(|error| Error::Decode(error.to_string()))?;
    let begins = usize::try_from(deserializer.position()).unwrap_or(payload.len());
    Ok((head, payload.get(begins..).unwrap_or_default()))
}

impl Request {
    /// Makes a request, for tests.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("GET", "/cart/7?all=1").with_param("id", "7");
    /// assert_eq!((request.path.as_str(), request.query.as_str()), ("/cart/7", "all=1"));
    /// assert_eq!(request.params["id"], "7");
    /// ```
    pub fn new(method: &str, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method: method.to_owned(),
            version: "HTTP/1.1".to_owned(),
            scheme: "http".to_owned(),
            host: "localhost".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            params: BTreeMap::new(),
            peer: "127.0.0.1:1".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            rest: None,
        }
    }

    /// Adds a parameter of the path, for tests.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Request {
        self.params.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Request {
        let value = Octets(value.as_bytes().to_vec());
        self.headers.push((name.to_lowercase(), value));
        self
    }

    /// Sets the body, for tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Decodes the payload of a request with the tag [`tag::HTTP_REQUEST`]. `sender` is that of the message: a body in parts
    /// comes from there.
    pub fn decode(sender: Pid, payload: &[u8]) -> Result<Request, Error> {
        let (head, body) = head_and_body::<Head>(payload)?;
        Ok(Request {
            method: head.method,
            version: head.version,
            scheme: head.scheme,
            host: head.host,
            path: head.path,
            query: head.query,
            params: head.params,
            peer: head.peer,
            headers: head.headers,
            body: body.to_vec(),
            rest: head.stream.then(|| Socket::from_pid(sender)),
        })
    }

    /// Encodes the request as the payload of a request with the tag [`tag::HTTP_REQUEST`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let request = self.clone();
        let mut bytes = crate::encode(&Head {
            method: request.method,
            version: request.version,
            scheme: request.scheme,
            host: request.host,
            path: request.path,
            query: request.query,
            params: request.params,
            headers: request.headers,
            peer: request.peer,
            stream: request.rest.is_some(),
        })?;
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// Returns the body to be read in parts, as they arrive. A body that has arrived whole is one part.
    ///
    /// A route with `stream = true` has bodies arrive in parts. The client sends no more than is asked for; one that waits for
    /// `100 Continue` sends nothing before. The response may be sent before the end of the body.
    pub fn body_stream(&self) -> BodyStream {
        BodyStream::new(self.body.clone(), self.rest)
    }

    /// Has the body come from this process in parts, for tests.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub(crate) fn with_rest(mut self, rest: Socket) -> Request {
        self.rest = Some(rest);
        self
    }

    /// Returns the first header with this name, in any case, if it is text.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("GET", "/").with_header("Accept", "text/html");
    /// assert_eq!(request.header("ACCEPT"), Some("text/html"));
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Returns whether the client asks for a WebSocket.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("GET", "/").with_header("upgrade", "websocket");
    /// assert!(request.wants_websocket());
    /// ```
    pub fn wants_websocket(&self) -> bool {
        self.header("upgrade")
            .is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
    }

    /// Returns all headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.0.as_slice()))
    }

    /// Returns the body, if it is text.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("POST", "/").with_body("hello");
    /// assert_eq!(request.text(), Some("hello"));
    /// ```
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    /// Decodes the body, which is JSON. Otherwise returns the response that says why it is none, with status 400.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("POST", "/").with_body("[1, 2]");
    /// assert_eq!(request.json(), Ok(vec![1, 2]));
    /// assert_eq!(request.json::<String>().unwrap_err().status, 400);
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Response> {
        serde_json::from_slice(&self.body).map_err(|error| bad("the body", &error))
    }

    /// Decodes the body, which is a form as browsers send it (`application/x-www-form-urlencoded`). Otherwise returns
    /// the response that says why it is none, with status 400.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// let request = exuvia::http::Request::new("POST", "/").with_body("name=J%C3%BCrgen&age=7");
    /// let form: BTreeMap<String, String> = request.form().unwrap();
    /// assert_eq!(form["name"], "Jürgen");
    /// ```
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Response> {
        serde_urlencoded::from_bytes(&self.body).map_err(|error| bad("the form", &error))
    }

    /// Decodes the query. Otherwise returns the response that says why it cannot be, with status 400.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct Page {
    ///     number: u32,
    /// }
    /// let request = exuvia::http::Request::new("GET", "/things?number=3");
    /// assert_eq!(request.query::<Page>().unwrap().number, 3);
    /// ```
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Response> {
        serde_urlencoded::from_str(&self.query).map_err(|error| bad("the query", &error))
    }

    /// Reads a parameter of the path. Otherwise returns the response that says that there is none, with status 404, as
    /// there is nothing at such a path.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("GET", "/things/7").with_param("id", "7");
    /// assert_eq!(request.param("id"), Ok(7));
    /// assert_eq!(request.param::<bool>("id").unwrap_err().status, 404);
    /// ```
    pub fn param<T: FromStr>(&self, name: &str) -> Result<T, Response> {
        let value = self.params.get(name).and_then(|value| value.parse().ok());
        value.ok_or_else(|| Response::new(404).with_body("404 Not Found\n"))
    }
}

fn bad(what: &str, error: &dyn fmt::Display) -> Response {
    Response::text(format!("400 Bad Request: {what}: {error}\n")).with_status(400)
}

/// A response.
///
/// ```
/// use exuvia::http::Response;
/// let response = Response::html("<h1>Hello</h1>").header("cache-control", "no-store");
/// assert_eq!(response.status, 200);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, from 200 to 599.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body; what of it is sent with the head, if more follows.
    pub body: Vec<u8>,
    kind: Kind,
}

/// What follows a response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Whole,
    /// More of the body.
    Stream,
    /// A WebSocket, with this subprotocol.
    WebSocket(Option<String>),
}

#[derive(Serialize)]
struct Accept<'a> {
    protocol: Option<&'a str>,
    headers: &'a [(String, String)],
}

#[derive(Serialize)]
struct ResponseHead<'a> {
    status: u16,
    headers: &'a [(String, String)],
}

impl Response {
    /// Makes an empty response.
    pub fn new(status: u16) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            kind: Kind::Whole,
        }
    }

    /// Accepts a WebSocket. What happens to it arrives in
    /// [`Actor::handle_socket`](crate::Actor::handle_socket); see [`socket`](crate::socket). For a request that does not
    /// ask for one, [`Request::wants_websocket`], the client gets an error.
    pub fn websocket() -> Response {
        Response {
            kind: Kind::WebSocket(None),
            ..Response::new(101)
        }
    }

    /// Accepts a WebSocket with one of the subprotocols that the client has offered.
    pub fn websocket_with(protocol: &str) -> Response {
        Response {
            kind: Kind::WebSocket(Some(protocol.to_owned())),
            ..Response::new(101)
        }
    }

    /// Makes a response whose body is sent in parts: when it has begun, [`Event::Open`](crate::socket::Event::Open)
    /// arrives with the socket to which the parts are sent, and which ends the body.
    pub fn stream(status: u16) -> Response {
        Response {
            kind: Kind::Stream,
            ..Response::new(status)
        }
    }

    /// Makes a response in parts that is a stream of events (`text/event-stream`): send them with
    /// [`Socket::send_event`](crate::socket::Socket::send_event).
    pub fn events() -> Response {
        let response = Response::stream(200).header("content-type", "text/event-stream");
        response.header("cache-control", "no-store")
    }

    /// Makes a response with a text.
    pub fn text(text: impl Into<String>) -> Response {
        let response = Response::new(200).header("content-type", "text/plain; charset=utf-8");
        response.with_body(text.into())
    }

    /// Makes a response with a page.
    pub fn html(page: impl Into<String>) -> Response {
        let response = Response::new(200).header("content-type", "text/html; charset=utf-8");
        response.with_body(page.into())
    }

    /// Makes a response with a value as JSON. What cannot be JSON, such as a map whose keys are no text, becomes a
    /// response with status 500.
    ///
    /// ```
    /// let response = exuvia::http::Response::json(&[1, 2]);
    /// assert_eq!(response.body, b"[1,2]");
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Response {
        match serde_json::to_vec(value) {
            Ok(body) => {
                let response = Response::new(200).header("content-type", "application/json");
                response.with_body(body)
            }
            Err(error) => {
                crate::error!("a response cannot be JSON: {error}");
                Response::new(500)
            }
        }
    }

    /// Makes a response that leads to another address.
    pub fn redirect(to: &str) -> Response {
        Response::new(303).header("location", to)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Response {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Response {
        self.status = status;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    /// Decodes a reply with this tag.
    pub fn decode(tag: u32, payload: &[u8]) -> Result<Response, Error> {
        #[derive(Deserialize)]
        struct Head {
            status: u16,
            headers: Vec<(String, String)>,
        }
        #[derive(Deserialize)]
        struct Accept {
            protocol: Option<String>,
            headers: Vec<(String, String)>,
        }
        let kind = match tag {
            tag::HTTP_RESPONSE => Kind::Whole,
            tag::HTTP_STREAM => Kind::Stream,
            tag::SOCKET_ACCEPT => {
                let accept: Accept = crate::decode(payload)?;
                return Ok(Response {
                    headers: accept.headers,
                    kind: Kind::WebSocket(accept.protocol),
                    ..Response::new(101)
                });
            }
            tag => return Err(Error::Decode(format!("a reply with the tag {tag}"))),
        };
        let (head, body) = head_and_body::<Head>(payload)?;
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: body.to_vec(),
            kind,
        })
    }

    /// Encodes the response: the tag and the payload of a reply.
    pub fn encode(&self) -> Result<(u32, Vec<u8>), Error> {
        let tag = match &self.kind {
            Kind::WebSocket(protocol) => {
                let accept = crate::encode(&Accept {
                    protocol: protocol.as_deref(),
                    headers: &self.headers,
                })?;
                return Ok((tag::SOCKET_ACCEPT, accept));
            }
            Kind::Stream => tag::HTTP_STREAM,
            Kind::Whole => tag::HTTP_RESPONSE,
        };
        let mut bytes = crate::encode(&ResponseHead {
            status: self.status,
            headers: &self.headers,
        })?;
        bytes.extend_from_slice(&self.body);
        Ok((tag, bytes))
    }
}

/// Who waits for a response. Keep it in the state to respond later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responder {
    /// The process of the client's connection.
    pub connection: Pid,
    /// The reference of the request.
    pub reference: u64,
}

impl Responder {
    pub(crate) fn of(request: &Message<'_>) -> Responder {
        Responder {
            connection: request.sender,
            reference: request.reference,
        }
    }

    /// Sends the response.
    pub fn respond(self, response: &Response) -> Result<(), Error> {
        let (tag, bytes) = response.encode()?;
        (self.connection).reply_bytes(self.reference, tag, &bytes)
    }
}

/// Sends a response, or one that says that it could not be sent.
pub(crate) fn answer(to: Responder, response: &Response) {
    match to.respond(response) {
        Ok(()) => {}
        Err(error @ (Error::Encode(_) | Error::MessageTooLarge)) => {
            crate::error!("the response to {}: {error}", to.connection);
            // The client must receive some response.
            let _ = to.respond(&Response::new(500));
        }
        Err(error) => crate::warn!("the response to {}: {error}", to.connection),
    }
}
