//! Responses, and who waits for them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::head_and_body;
use crate::{Error, Message, Pid, Saved, tag};

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

    /// Makes a response with a status of an error, which is said as text with its cause.
    ///
    /// ```
    /// let response = exuvia::http::Response::error(409, "the cart is full");
    /// assert_eq!(response.body, b"409 Conflict: the cart is full\n");
    /// ```
    pub fn error(status: u16, why: impl fmt::Display) -> Response {
        let words = match status {
            400 => " Bad Request",
            401 => " Unauthorized",
            403 => " Forbidden",
            404 => " Not Found",
            405 => " Method Not Allowed",
            408 => " Request Timeout",
            409 => " Conflict",
            413 => " Payload Too Large",
            415 => " Unsupported Media Type",
            422 => " Unprocessable Entity",
            500 => " Internal Server Error",
            _ => "",
        };
        Response::text(format!("{status}{words}: {why}\n")).with_status(status)
    }

    /// Accepts a WebSocket. What happens to it arrives in
    /// [`Actor::handle_socket`](crate::Actor::handle_socket); see [`socket`](crate::socket). For a request that does not
    /// ask for one, [`Request::wants_websocket`](super::Request::wants_websocket), the client gets an error.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Saved)]
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
