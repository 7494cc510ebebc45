//! Connections to the outside, which the process `exuvia.http` makes.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use exuvia_abi::io::HTTP_CLIENT;
use serde::{Deserialize, Serialize};

use super::Socket;
use crate::http::FetchError;
use crate::task::Answer;
use crate::{Info, Message, Wait, address, tag};

/// A connection to the outside: `tcp://`, `tls://`, `ws://`, `wss://` or `udp://`, a host and a port. Where a process may connect
/// is granted by `net.connect` of the manifest.
///
/// This process becomes the owner of the [`Socket`]. What arrives reaches its
/// [`handle_socket`](crate::Actor::handle_socket), as with a socket that was accepted; of a [`passive`](Connect::passive) one it
/// is read with [`Socket::read`].
///
/// ```no_run
/// use exuvia::http::FetchError;
/// use exuvia::socket::{Connect, Event};
/// async fn time(server: &str) -> Result<Vec<u8>, FetchError> {
///     let connected = Connect::to(&format!("tcp://{server}:37")).passive().send()?.await?;
///     let mut bytes = Vec::new();
///     while let Event::Data(more) = connected.socket.read()?.await? {
///         bytes.extend(more);
///     }
///     Ok(bytes)
/// }
/// # let _ = time;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connect {
    url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    protocols: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_bytes: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    passive: bool,
}

/// Connects to a URL; see [`Connect`]. The socket is awaited in an `async` handler, or waited for with [`Connecting::wait`].
///
/// ```no_run
/// # async fn example() -> Result<(), exuvia::http::FetchError> {
/// let connected = exuvia::socket::connect("wss://feed.example.com/prices")?.await?;
/// connected.socket.send("subscribe")?;
/// # Ok(()) }
/// ```
pub fn connect(url: &str) -> Result<Connecting, FetchError> {
    Connect::to(url).send()
}

impl Connect {
    /// Begins with the URL.
    pub fn to(url: &str) -> Connect {
        Connect {
            url: url.to_owned(),
            headers: Vec::new(),
            protocols: Vec::new(),
            timeout_ms: None,
            idle_ms: None,
            message_bytes: None,
            passive: false,
        }
    }

    /// Adds a header to the request of a WebSocket.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Connect {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offers a subprotocol of a WebSocket. The server chooses one: [`Connected::protocol`].
    #[must_use]
    pub fn protocol(mut self, name: &str) -> Connect {
        self.protocols.push(name.to_owned());
        self
    }

    /// Sets how long it may take until the socket is open, ten minutes at most; 30 seconds otherwise. As long may a write
    /// take.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Connect {
        self.timeout_ms = Some(millis(limit));
        self
    }

    /// Sets for how long nothing may be read or written; for ever otherwise, but a WebSocket is pinged after 75 seconds.
    #[must_use]
    pub fn idle(mut self, limit: Duration) -> Connect {
        self.idle_ms = Some(millis(limit));
        self
    }

    /// Sets how many bytes a message of the WebSocket may have that arrives; 1 MiB otherwise.
    #[must_use]
    pub fn message_bytes(mut self, most: u64) -> Connect {
        self.message_bytes = Some(most);
        self
    }

    /// Has what arrives wait until it is read: [`Socket::read`].
    #[must_use]
    pub fn passive(mut self) -> Connect {
        self.passive = true;
        self
    }

    /// Connects.
    pub fn send(&self) -> Result<Connecting, FetchError> {
        let client = crate::whereis(HTTP_CLIENT).map_err(|_| FetchError::Unavailable)?;
        let reference = client.request_bytes(tag::SOCKET_OPEN, &crate::encode(self)?)?;
        Ok(Connecting(reference))
    }
}

pub(crate) fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

/// A connection that is being made. It may be kept in the state: [`Connecting::answer`].
#[must_use = "nothing waits before it is awaited"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connecting(u64);

/// A connection that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its process. This one is its owner.
    pub socket: Socket,
    /// The address and the port of the other side.
    pub peer: String,
    /// The subprotocol of a WebSocket that the server has chosen.
    pub protocol: Option<String>,
}

#[derive(Deserialize)]
struct Opened {
    #[serde(default)]
    peer: String,
    #[serde(default)]
    protocol: Option<String>,
}

impl Connecting {
    /// Returns the socket if `info` brings it, or why there is none, and `None` for everything else.
    pub fn answer(self, info: &Info) -> Option<Result<Connected, FetchError>> {
        match info {
            Info::Reply(reply) if reply.reference == self.0 => Some(Connected::of(reply)),
            Info::Down { reference, .. } if *reference == self.0 => {
                Some(Err(FetchError::Unavailable))
            }
            _ => None,
        }
    }

    /// Waits for the socket on the stack of the handler.
    pub fn wait(self, limit: impl Into<Wait>) -> Result<Connected, FetchError> {
        Connected::of(&address::reply(self.0, limit.into())?)
    }
}

impl IntoFuture for Connecting {
    type Output = Result<Connected, FetchError>;
    type IntoFuture = ConnectAnswer;

    fn into_future(self) -> ConnectAnswer {
        ConnectAnswer(Answer::new(self.0))
    }
}

/// The socket, awaited.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct ConnectAnswer(Answer<()>);

impl Future for ConnectAnswer {
    type Output = Result<Connected, FetchError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll_message().map(|reply| Connected::of(&reply))
    }
}

impl Connected {
    fn of(reply: &Message<'_>) -> Result<Connected, FetchError> {
        reply.accepted()?;
        let opened: Opened = crate::decode(&reply.payload)?;
        Ok(Connected {
            socket: Socket::from_pid(reply.sender),
            peer: opened.peer,
            protocol: opened.protocol,
        })
    }
}
