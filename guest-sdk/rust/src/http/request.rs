//! Requests, and what is read from them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BodyStream, Octets, Response, head_and_body};
use crate::socket::Socket;
use crate::{Error, Pid};

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

    /// Decodes the payload of a request with the tag [`tag::HTTP_REQUEST`](crate::tag::HTTP_REQUEST). `sender` is that of the message: a body in parts
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

    /// Encodes the request as the payload of a request with the tag [`tag::HTTP_REQUEST`](crate::tag::HTTP_REQUEST).
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

    /// Decodes the body, which is JSON. Otherwise returns the response that says why it is none: status 415 without a
    /// `content-type` of JSON, 400 if it is not JSON, and 422 if it is other JSON.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("POST", "/").with_body("[1, 2]");
    /// assert_eq!(request.json::<Vec<u8>>().unwrap_err().status, 415);
    /// let request = request.with_header("content-type", "application/json");
    /// assert_eq!(request.json(), Ok(vec![1, 2]));
    /// assert_eq!(request.json::<String>().unwrap_err().status, 422);
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Response> {
        let is_json = |kind: &str| {
            let part = kind.strip_prefix("application/");
            part.is_some_and(|part| part == "json" || part.ends_with("+json"))
        };
        let body = self.body_of(is_json, "application/json")?;
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Response::error(422, format!("the body: {error}")),
            _ => Response::error(400, format!("the body is not JSON: {error}")),
        })
    }

    /// Decodes the body, which is a form as browsers send it (`application/x-www-form-urlencoded`). Otherwise returns
    /// the response that says why it is none: status 415 for another `content-type`, 422 for another form.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// let request = exuvia::http::Request::new("POST", "/")
    ///     .with_header("content-type", "application/x-www-form-urlencoded")
    ///     .with_body("name=J%C3%BCrgen&age=7");
    /// let form: BTreeMap<String, String> = request.form().unwrap();
    /// assert_eq!(form["name"], "Jürgen");
    /// ```
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Response> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let body = self.body_of(|kind| kind == FORM, FORM)?;
        serde_urlencoded::from_bytes(body)
            .map_err(|error| Response::error(422, format!("the form: {error}")))
    }

    /// Returns the body, if it is all there and its type is one of these. A page of another origin may send some types without
    /// being asked whether it may (CORS), but not JSON: so the type counts, and not only what the body looks like.
    fn body_of(&self, fits: impl Fn(&str) -> bool, wanted: &str) -> Result<&[u8], Response> {
        if self.rest.is_some() {
            crate::error!(
                "the route of {} has `stream = true`: read `body_stream`",
                self.path
            );
            return Err(Response::error(500, "the body was not read"));
        }
        let kind = self.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if fits(&kind.to_ascii_lowercase()) {
            return Ok(&self.body);
        }
        let is = match kind {
            "" => "has no `content-type`".to_owned(),
            kind => format!("is `{kind}`"),
        };
        let why = format!("the body {is}; send it as `content-type: {wanted}`");
        Err(Response::error(415, why))
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
        serde_urlencoded::from_str(&self.query)
            .map_err(|error| Response::error(400, format!("the query: {error}")))
    }

    /// Reads a parameter of the path. Otherwise returns the response that says why it is none, with status 404, as there is
    /// nothing at such a path.
    ///
    /// ```
    /// let request = exuvia::http::Request::new("GET", "/things/7").with_param("id", "7");
    /// assert_eq!(request.param("id"), Ok(7));
    /// assert_eq!(request.param::<bool>("id").unwrap_err().status, 404);
    /// ```
    pub fn param<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Response> {
        let Some(value) = self.params.get(name) else {
            return Err(Response::error(404, format!("the path has no `{name}`")));
        };
        value
            .parse()
            .map_err(|error| Response::error(404, format!("`{name}` of the path: {error}")))
    }
}
