//! Sockets to the outside: bytes over TCP or TLS, messages of a WebSocket, and datagrams. An open one is served by what
//! serves those that were accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exuvia_abi::Pid;
use exuvia_process::Grants;
use hyper::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::{HeaderMap, Uri};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::connector::{Connector, SOCKETS, permitted};
use super::lookups::asker;
use super::{MOST_TIME, Place, Shared, TIMEOUT};
use crate::connection::Connection;
use crate::drain::Drain;
use crate::gateway::{Guests, NewProcess, NoProcess};
use crate::head;
use crate::listener::Peer;
use crate::patience::Patient;
use crate::port::Port;
use crate::settings::ConnectionLimits;
use crate::socket::{self, Socket};
use crate::tls::Stream;
use crate::{tcp, udp};
use exuvia_abi::io::SOCKET_OPEN;

/// Bytes of a message of a WebSocket that arrives, unless its process says otherwise.
const MESSAGE: u64 = 1 << 20;
/// After which time the other side of a WebSocket is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(75);
/// The least of it.
const LEAST_QUIET: Duration = Duration::from_secs(1);

/// What a process wants to be connected to.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) uri: Uri,
    /// Of the request for a WebSocket.
    pub(crate) headers: HeaderMap,
    pub(crate) protocols: Vec<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) message_bytes: Option<u64>,
    /// Whether what arrives waits until it is read.
    pub(crate) passive: bool,
}

impl Wanted {
    /// Returns how long it may take until it is open.
    fn time(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT).min(MOST_TIME)
    }
}

/// Connections that have no processes of their own.
pub(super) struct NoGuests;

impl<G> Guests<G> for NoGuests {
    fn new_process(&self, module: &str) -> Result<NewProcess<G>, NoProcess> {
        Err(NoProcess::NoModule(module.to_owned()))
    }
}

/// What has been opened.
enum Opened {
    Bytes(Stream),
    WebSocket(Box<WebSocketStream<Patient<Stream>>>),
    Datagrams(UdpSocket),
}

/// A socket that is open, and has not been told to its owner.
pub(super) struct Open {
    opened: Opened,
    kind: &'static str,
    peer: SocketAddr,
    protocol: Option<String>,
    limits: ConnectionLimits,
    is_passive: bool,
}

impl<G: Send + 'static> Shared<G> {
    /// Connects. `most`: bytes of a message that the process may get. Returns why that is not possible.
    async fn open(&self, wanted: Wanted, grants: &Grants, most: usize) -> Result<Open, String> {
        permitted(&wanted.uri, SOCKETS, grants)?;
        let limits = limits(&wanted, most);
        let connector = Connector {
            grants: Arc::new(grants.clone()),
            tls: self.tls_of_sockets.clone(),
            lookups: self.lookups.clone(),
        };
        let (uri, is_passive) = (wanted.uri.clone(), wanted.passive);
        let refused = |error: super::Refusal| error.to_string();
        let is_datagram = uri.scheme_str() == Some("udp");
        let (opened, kind, peer, protocol) = if is_datagram {
            let (socket, peer) = connector.datagrams(asker(), &uri).await.map_err(refused)?;
            (Opened::Datagrams(socket), "udp", peer, None)
        } else {
            let stream = connector.connect(asker(), &uri).await.map_err(refused)?;
            let peer = stream.peer();
            let peer = peer.map_err(|error| format!("reset: {error}"))?;
            match uri.scheme_str() {
                Some("ws" | "wss") => {
                    let (stream, protocol) = handshake(wanted, stream, &limits).await?;
                    let stream = Opened::WebSocket(Box::new(stream));
                    (stream, "websocket", peer, protocol)
                }
                _ => (Opened::Bytes(stream), "tcp", peer, None),
            }
        };
        Ok(Open {
            opened,
            kind,
            peer,
            protocol,
            limits,
            is_passive,
        })
    }

    /// Connects a process, and serves its socket until it ends. `most`: bytes of a message that it may get. Returns why that is
    /// not possible.
    pub(super) async fn socket(
        &self,
        wanted: Wanted,
        (grants, most): (&Grants, usize),
        (owner, reference): (Pid, u64),
        place: Place<G>,
    ) -> Result<(), String> {
        let opened = async {
            let open = within(wanted.time(), self.open(wanted, grants, most)).await?;
            let peer = Peer::Tcp(open.peer);
            let told = head::opened_outside(open.kind, peer, open.protocol.as_deref());
            let charge = self.charge(owner, told.len()).await?;
            Ok::<_, String>((open, told, charge))
        };
        let Some(opened) = place.unless_ended(opened).await else {
            return Ok(());
        };
        let (open, told, charge) = opened?;
        let connection = self.connection()?;
        let port = match open.is_passive {
            true => Port::passive(owner),
            false => Port::new(owner),
        };
        connection.open_as_reply(port, (owner, reference), (SOCKET_OPEN, told, charge));
        // When the node stops, they end with their owners: no turn of theirs comes.
        let drained = Drain::new().enter();
        match open.opened {
            Opened::Bytes(stream) => {
                tcp::serve(&connection, stream, &open.limits, &drained).await;
            }
            Opened::Datagrams(socket) => {
                udp::serve(&connection, socket, &open.limits).await;
            }
            Opened::WebSocket(stream) => {
                let socket = Socket {
                    connection: Arc::new(connection),
                    limits: open.limits,
                    drained,
                    kept: None,
                    used: None,
                };
                socket::run(socket, *stream).await;
            }
        }
        drop(place);
        Ok(())
    }

    /// Starts the process of a connection.
    pub(super) fn connection(&self) -> Result<Connection<G>, String> {
        let guests: Arc<dyn Guests<G>> = Arc::new(NoGuests);
        let started = Connection::start(&self.system, &guests, &self.limits);
        started.map_err(|_| "limit: the node has as many processes as it may have".to_owned())
    }
}

/// Returns the limits of a socket. `most`: bytes of a message that its process may get.
fn limits(wanted: &Wanted, most: usize) -> ConnectionLimits {
    let is_websocket = matches!(wanted.uri.scheme_str(), Some("ws" | "wss"));
    let message = wanted.message_bytes.unwrap_or(MESSAGE);
    ConnectionLimits {
        // There is room for all of it as soon as its length has arrived.
        body: usize::try_from(message).unwrap_or(usize::MAX).min(most),
        timeout: wanted.time(),
        idle: match wanted.idle {
            None if is_websocket => Some(QUIET),
            // The other side is pinged then.
            Some(idle) if is_websocket => Some(idle.max(LEAST_QUIET)),
            idle => idle,
        },
        ..ConnectionLimits::default()
    }
}

type WebSocket = WebSocketStream<Patient<Stream>>;

/// Asks for a WebSocket. Returns it, and the subprotocol that the server has chosen.
async fn handshake(
    wanted: Wanted,
    stream: Stream,
    limits: &ConnectionLimits,
) -> Result<(WebSocket, Option<String>), String> {
    let mut request = wanted
        .uri
        .into_client_request()
        .map_err(|error| format!("invalid: {error}"))?;
    let is_of_the_host = |name: &HeaderName| name.as_str().starts_with("sec-websocket-");
    let headers = request.headers_mut();
    for (name, value) in wanted
        .headers
        .iter()
        .filter(|(name, _)| !is_of_the_host(name))
    {
        headers.append(name, value.clone());
    }
    if !wanted.protocols.is_empty() {
        let offered = HeaderValue::from_str(&wanted.protocols.join(", "));
        let offered = offered.map_err(|error| format!("invalid: a subprotocol: {error}"))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    let stream = Patient::new(stream, limits.timeout);
    let config = Some(socket::config(limits));
    let asked = tokio_tungstenite::client_async_with_config(request, stream, config);
    match asked.await {
        Ok((stream, response)) => {
            let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            let chosen = chosen.and_then(|chosen| chosen.to_str().ok());
            Ok((stream, chosen.map(str::to_owned)))
        }
        Err(Error::Http(response)) => Err(format!(
            "connect: the server opens no WebSocket: it has responded with {}",
            response.status()
        )),
        Err(Error::Io(error)) => Err(format!("reset: {error}")),
        Err(error) => Err(format!("connect: the server opens no WebSocket: {error}")),
    }
}

/// Waits for something for so long.
pub(super) async fn within<T>(
    time: Duration,
    what: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = || Err("timeout: it took too long".to_owned());
    timeout(time, what).await.unwrap_or_else(|_| late())
}
