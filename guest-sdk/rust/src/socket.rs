//! WebSockets, bodies in parts, and connections of TCP and UDP, accepted or made, as `guest-sdk/io.md` defines them.
//!
//! A socket is a process of the host. What arrives there reaches its owner in
//! [`Actor::handle_socket`](crate::Actor::handle_socket); what the owner sends to the [`Socket`] is written. The owner is
//! the actor that has accepted a WebSocket ([`Response::websocket`](crate::http::Response::websocket)), that sends a
//! response in parts ([`Response::stream`](crate::http::Response::stream)), or that a route of the manifest names.
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use exuvia::http::{Request, Responder, Response};
//! use exuvia::prelude::*;
//! use exuvia::socket::{Event, Socket};
//!
//! /// A room: what one says, all hear.
//! #[derive(Serialize, Deserialize)]
//! struct Room {
//!     sockets: BTreeSet<Socket>,
//! }
//!
//! #[exuvia::actor(schema = 1)]
//! impl Actor for Room {
//!     type Args = String;
//!
//!     fn init(_key: String, _: &mut Context) -> Result<Self, String> {
//!         Ok(Room { sockets: BTreeSet::new() })
//!     }
//!
//!     fn handle_http(
//!         &mut self,
//!         request: Request,
//!         _: Responder,
//!         _: &mut Context,
//!     ) -> Option<Response> {
//!         Some(Response::websocket())
//!     }
//!
//!     fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
//!         match event {
//!             Event::Open(_) => {
//!                 self.sockets.insert(socket);
//!             }
//!             Event::Text(text) => {
//!                 for socket in &self.sockets {
//!                     let _ = socket.send(&text);
//!                 }
//!             }
//!             Event::Closed { .. } => {
//!                 self.sockets.remove(&socket);
//!             }
//!             Event::Data(_) | Event::Datagram { .. } | Event::End => {}
//!         }
//!     }
//! }
//! ```
//!
//! **Credit.** An event is acknowledged when the handler has returned. A socket has at most eight events under way that are
//! not acknowledged; its client waits meanwhile. What is sent waits in the mailbox of the socket: when that is full, because
//! the client is slow, [`Socket::send`] fails with [`Error::MailboxFull`].

mod connect;

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{self, Poll};

use serde::{Deserialize, Serialize};

pub(crate) use self::connect::millis;
pub use self::connect::{Connect, ConnectAnswer, Connected, Connecting, connect};
use crate::task::Answer;
use crate::{Error, Message, Pending, Pid, Saved, Wait, address, tag};

/// A socket, or the body of a response that is sent in parts. It may be kept in the state and sent to other processes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Saved,
)]
pub struct Socket(Pid);

/// What happens to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is open.
    Open(Opened),
    /// The client of a WebSocket has sent text.
    Text(String),
    /// The client has sent bytes.
    Data(Vec<u8>),
    /// A datagram has arrived at an address of UDP: [`Socket::send_to`] answers it.
    Datagram {
        /// Who has sent it.
        peer: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The client sends no more; it still reads (TCP).
    End,
    /// It has been closed; nothing more comes. For TCP and responses in parts: 1000 in order, 1006 otherwise.
    Closed {
        /// The code (RFC 6455, section 7.4).
        code: u16,
        /// Why, as the other side says it.
        reason: String,
    },
}

/// What has been opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// `websocket`, `response`, `tcp` or `udp`.
    pub kind: String,
    /// The address of the client; of a Unix socket, `unix:` and the number of its user. Empty at an address of UDP, where each
    /// datagram has its own.
    pub peer: String,
    /// The reference of the request that it belongs to: [`Responder::reference`](crate::http::Responder::reference).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Close {
    code: u16,
    reason: String,
}

/// What is before the bytes of a datagram.
#[derive(Serialize, Deserialize)]
struct DatagramHead {
    /// As text, which is one for all codecs.
    peer: String,
}

/// Encodes a datagram to or from an address.
pub(crate) fn encode_datagram(peer: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, Error> {
    let peer = peer.to_string();
    let mut bytes = crate::encode(&DatagramHead { peer })?;
    bytes.extend_from_slice(datagram);
    Ok(bytes)
}

/// Decodes a datagram: its other side, and its bytes.
pub(crate) fn decode_datagram(payload: &[u8]) -> Result<(SocketAddr, Vec<u8>), Error> {
    let (DatagramHead { peer }, bytes) = crate::http::head_and_body(payload)?;
    let parsed = peer.parse();
    let parsed =
        parsed.map_err(|_| Error::Decode(format!("`{peer}` is no address with a port")))?;
    Ok((parsed, bytes.to_vec()))
}

#[derive(Serialize)]
struct Trailers<'a> {
    trailers: &'a [(&'a str, &'a str)],
}

/// What is read from a socket or of a body.
pub(crate) enum Part {
    Text(Vec<u8>),
    Data(Vec<u8>),
    /// With the trailers of a body, encoded.
    End(Vec<u8>),
    Closed {
        code: u16,
        reason: String,
    },
}

impl Part {
    /// Reads the reply to a request with [`tag::SOCKET_READ`].
    fn of(reply: &Message<'_>) -> Result<Part, Error> {
        reply.accepted()?;
        let bytes = || reply.payload.to_vec();
        Ok(match reply.tag {
            tag::SOCKET_TEXT => Part::Text(bytes()),
            tag::SOCKET_DATA => Part::Data(bytes()),
            tag::SOCKET_END => Part::End(bytes()),
            tag::SOCKET_CLOSE => {
                let Close { code, reason } = crate::decode(&reply.payload)?;
                Part::Closed { code, reason }
            }
            tag => return Err(Error::Decode(format!("a reply with the tag {tag}"))),
        })
    }
}

impl From<Part> for Event {
    fn from(part: Part) -> Event {
        match part {
            Part::Text(text) => Event::Text(String::from_utf8_lossy(&text).into_owned()),
            Part::Data(bytes) => Event::Data(bytes),
            Part::End(_) => Event::End,
            Part::Closed { code, reason } => Event::Closed { code, reason },
        }
    }
}

/// A request for what arrives next; from [`Socket::read`].
#[must_use = "nothing waits before it is awaited"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading(u64);

impl Reading {
    /// Returns the reference with which it arrives, if nobody waits for it.
    pub fn reference(self) -> u64 {
        self.0
    }

    /// Waits for it on the stack of the handler.
    pub fn wait(self, limit: impl Into<Wait>) -> Result<Event, Error> {
        self.wait_for_part(limit.into()).map(Event::from)
    }

    pub(crate) fn wait_for_part(self, limit: Wait) -> Result<Part, Error> {
        Part::of(&address::reply(self.0, limit)?)
    }

    pub(crate) async fn part(self) -> Result<Part, Error> {
        let mut answer = Answer::<()>::new(self.0);
        let reply = std::future::poll_fn(|_| answer.poll_message()).await;
        Part::of(&reply)
    }
}

impl IntoFuture for Reading {
    type Output = Result<Event, Error>;
    type IntoFuture = Read;

    fn into_future(self) -> Read {
        Read(Answer::new(self.0))
    }
}

/// What arrives next, awaited; created from [`Reading`] by `.await`.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct Read(Answer<()>);

impl Future for Read {
    type Output = Result<Event, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        let reply = std::task::ready!(self.0.poll_message());
        Poll::Ready(Part::of(&reply).map(Event::from))
    }
}

impl Socket {
    /// Returns its process, to monitor it or to link to it.
    pub fn pid(self) -> Pid {
        self.0
    }

    /// Returns the socket with this process, for tests.
    pub fn from_pid(pid: Pid) -> Socket {
        Socket(pid)
    }

    /// Sends text. To a socket that has been closed it is lost, as a message to a process that has ended is.
    pub fn send(self, text: &str) -> Result<(), Error> {
        self.0.send_bytes(tag::SOCKET_TEXT, text.as_bytes())
    }

    /// Sends bytes: to a WebSocket a binary message.
    pub fn send_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        self.0.send_bytes(tag::SOCKET_DATA, bytes)
    }

    /// Sends bytes. The reply comes when they have been handed to the system: await it to be no faster than the client.
    pub fn write(self, bytes: &[u8]) -> Result<Pending<()>, Error> {
        let reference = self.0.request_bytes(tag::SOCKET_DATA, bytes)?;
        Ok(Pending::new(reference))
    }

    /// Sends a datagram from an address of UDP to one that has sent something there. It may be lost on its way.
    pub fn send_to(self, peer: SocketAddr, bytes: &[u8]) -> Result<(), Error> {
        self.0
            .send_bytes(tag::SOCKET_DATAGRAM, &encode_datagram(peer, bytes)?)
    }

    /// Does the same. The reply comes when the datagram has been handed to the system, or says why it has not: nothing has come from
    /// that address, or it is too large.
    pub fn write_to(self, peer: SocketAddr, bytes: &[u8]) -> Result<Pending<()>, Error> {
        let datagram = encode_datagram(peer, bytes)?;
        let reference = self.0.request_bytes(tag::SOCKET_DATAGRAM, &datagram)?;
        Ok(Pending::new(reference))
    }

    /// Asks for what arrives next, where it does not arrive by itself: of a body in parts, and of a socket that was opened so
    /// ([`Connect::passive`]). Await it: an `async` handler that waits takes no stack. What arrives is lost if the future is
    /// dropped before.
    pub fn read(self) -> Result<Reading, Error> {
        let reference = self.0.request_bytes(tag::SOCKET_READ, b"")?;
        Ok(Reading(reference))
    }

    /// Has all that arrives come to [`Actor::handle_socket`](crate::Actor::handle_socket) of the owner from now on.
    pub fn activate(self) -> Result<(), Error> {
        self.0.send_bytes(tag::SOCKET_READ, b"")
    }

    /// Sends one event of `text/event-stream`; see [`Response::events`](crate::http::Response::events). Without a name it
    /// is a `message`.
    pub fn send_event(self, name: Option<&str>, data: &str) -> Result<(), Error> {
        let mut text = String::with_capacity(data.len() + 16);
        if let Some(name) = name {
            // A name is one line.
            let name = name.split(['\r', '\n']).next().unwrap_or_default();
            text.push_str("event: ");
            text.push_str(name);
            text.push('\n');
        }
        for line in data.split('\n') {
            text.push_str("data: ");
            text.push_str(line.trim_end_matches('\r'));
            text.push('\n');
        }
        text.push('\n');
        self.send(&text)
    }

    /// Says that nothing more is sent. It ends a response in parts, and one direction of TCP.
    pub fn end(self) -> Result<(), Error> {
        self.0.send_bytes(tag::SOCKET_END, b"")
    }

    /// Ends a response in parts with trailers.
    pub fn end_with(self, trailers: &[(&str, &str)]) -> Result<(), Error> {
        let bytes = crate::encode(&Trailers { trailers })?;
        self.0.send_bytes(tag::SOCKET_END, &bytes)
    }

    /// Closes it, after all that was sent before. The client of a WebSocket gets the code, 1000 or from 3000 to 4999, and
    /// the reason; a response in parts is cut off.
    pub fn close(self, code: u16, reason: &str) -> Result<(), Error> {
        let reason = reason.to_owned();
        let bytes = crate::encode(&Close { code, reason })?;
        self.0.send_bytes(tag::SOCKET_CLOSE, &bytes)
    }
}

/// Reads what happened to a socket from a message that is about one.
pub(crate) fn event(message: &Message<'_>) -> Result<(Socket, Event), Error> {
    let bytes = || message.payload.to_vec();
    let event = match message.tag {
        tag::SOCKET_OPEN => Event::Open(crate::decode(&message.payload)?),
        tag::SOCKET_TEXT => Event::Text(String::from_utf8_lossy(&message.payload).into_owned()),
        tag::SOCKET_DATAGRAM => {
            let (peer, bytes) = decode_datagram(&message.payload)?;
            Event::Datagram { peer, bytes }
        }
        tag::SOCKET_END => Event::End,
        tag::SOCKET_CLOSE => {
            let Close { code, reason } = crate::decode(&message.payload)?;
            Event::Closed { code, reason }
        }
        _ => Event::Data(bytes()),
    };
    Ok((Socket(message.sender), event))
}

/// Encodes an event as a socket sends it: the tag and the payload.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn encode(event: Event) -> (u32, Vec<u8>) {
    // Numbers and text can be encoded.
    match event {
        Event::Open(opened) => (tag::SOCKET_OPEN, crate::encode(&opened).unwrap_or_default()),
        Event::Text(text) => (tag::SOCKET_TEXT, text.into_bytes()),
        Event::Data(bytes) => (tag::SOCKET_DATA, bytes),
        Event::Datagram { peer, bytes } => {
            let datagram = encode_datagram(peer, &bytes).unwrap_or_default();
            (tag::SOCKET_DATAGRAM, datagram)
        }
        Event::End => (tag::SOCKET_END, Vec::new()),
        Event::Closed { code, reason } => {
            let closed = crate::encode(&Close { code, reason }).unwrap_or_default();
            (tag::SOCKET_CLOSE, closed)
        }
    }
}

/// Encodes the end of a body.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn encode_trailers(trailers: &[(&str, &str)]) -> Vec<u8> {
    crate::encode(&Trailers { trailers }).unwrap_or_default()
}

/// Says that an event was handled: the credit for another one.
pub(crate) fn acknowledge(to: Pid, reference: u64) {
    if reference != 0 {
        // A socket that has ended wants no acknowledgement.
        let _ = to.reply_bytes(reference, 0, b"");
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Effect, effects};
    use crate::{Pid, tag};

    use super::Socket;

    #[test]
    fn an_event_has_a_line_for_each_of_the_data() {
        let socket = Socket::from_pid(Pid::from_parts(1, 9));
        socket
            .send_event(Some("news\nx: y"), "one\r\ntwo")
            .expect("sent");
        socket.send_event(None, "").expect("sent");
        let sent: Vec<String> = effects()
            .into_iter()
            .map(|effect| match effect {
                Effect::Send {
                    tag: tag::SOCKET_TEXT,
                    payload,
                    ..
                } => String::from_utf8(payload).expect("text"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            sent,
            ["event: news\ndata: one\ndata: two\n\n", "data: \n\n"]
        );
    }
}
