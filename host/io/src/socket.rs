//! WebSocket (RFC 6455): the handshake, and then messages between the client and the process that has accepted.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use exuvia_process::Payload;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{Either, Full};
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use crate::answer::{Answer, plain};
use crate::connection::{Connection, Kept, PortEvent};
use crate::drain::Drained;
use crate::head::{self, Accept};
use crate::keyed::Use;
use crate::patience::{NEVER, STOPPING, linger};
use crate::port::Outgoing;
use crate::settings::ConnectionLimits;
use exuvia_abi::io::{SOCKET_CLOSE, SOCKET_DATA, SOCKET_END, SOCKET_TEXT};

/// Bytes that are read at once. A socket at rest keeps a buffer of this size.
const READ: usize = 512;
/// For how long a socket is quiet before memory is given back that it needs only for messages.
const REST: Duration = Duration::from_secs(1);
/// Bytes of a reason in a frame that closes (RFC 6455, section 5.5).
const REASON: usize = 123;

/// Returns whether a request asks for a WebSocket.
pub(crate) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let has = |name, word: &str| {
        let values = request.headers().get_all(name).iter();
        let mut words = values.filter_map(|value| value.to_str().ok());
        words.any(|value| {
            value
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(word))
        })
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has(CONNECTION, "upgrade")
        && has(UPGRADE, "websocket")
}

/// Refuses a handshake, before any process is asked, if its version, its key or its origin is wrong. A page of another host may
/// connect only if its origin is among `origins` (or that has a `*`): otherwise it could act as whoever looks at it.
pub(crate) fn refused(headers: &HeaderMap, origins: &[String]) -> Option<Answer> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(SEC_WEBSOCKET_VERSION) != Some("13") {
        let mut answer = plain(StatusCode::UPGRADE_REQUIRED, "WebSocket has version 13");
        let version = HeaderValue::from_static("13");
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        return Some(answer);
    }
    // 16 bytes in base64.
    let is_key = |key: &str| key.len() == 24 && key.ends_with("==");
    if !text(SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        let why = "the key of the WebSocket is invalid";
        return Some(plain(StatusCode::BAD_REQUEST, why));
    }
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.split_once("://").map(|(_, host)| host);
        let is_own = host.is_some() && host == text(HOST);
        let is_listed = origins.iter().any(|known| known == "*" || known == origin);
        if !is_own && !is_listed {
            let why = "a page of this origin may not connect: see `origins`";
            return Some(plain(StatusCode::FORBIDDEN, why));
        }
    }
    None
}

/// Makes the response that ends the handshake.
pub(crate) fn accepted(accept: Accept, headers: &HeaderMap) -> Result<Answer, String> {
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    *answer.body_mut() = Either::Left(Full::default());
    *answer.headers_mut() = accept.headers;
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let accepted = HeaderValue::from_str(&derive_accept_key(key.unwrap_or_default()));
    let to = answer.headers_mut();
    to.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    to.insert(UPGRADE, HeaderValue::from_static("websocket"));
    to.insert(
        SEC_WEBSOCKET_ACCEPT,
        accepted.map_err(|error| error.to_string())?,
    );
    if let Some(protocol) = accept.protocol {
        let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = offered.filter_map(|value| value.to_str().ok());
        let mut offered = offered.flat_map(|value| value.split(',').map(str::trim));
        if !offered.any(|known| known == protocol) {
            return Err(format!(
                "the client has not offered the protocol `{protocol}`"
            ));
        }
        let protocol = HeaderValue::from_str(&protocol).map_err(|error| error.to_string())?;
        to.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(answer)
}

/// What a socket has as long as it is open.
pub(crate) struct Socket<G: 'static> {
    pub(crate) connection: Arc<Connection<G>>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) drained: Drained,
    /// The process that was started for it.
    pub(crate) kept: Option<Kept<G>>,
    pub(crate) used: Option<Arc<Use>>,
}

/// Why a socket ends: what the client gets, and what the owner is told.
struct End {
    /// The frame for the client; `None`: it has sent one, or is gone.
    frame: Option<(u16, String)>,
    code: u16,
    reason: String,
    /// The exit reason of the connection.
    exit: &'static str,
}

impl End {
    fn of_host(code: u16, reason: impl Into<String>, exit: &'static str) -> End {
        let reason = reason.into();
        End {
            frame: Some((code, reason.clone())),
            code,
            reason,
            exit,
        }
    }

    fn lost(exit: &'static str) -> End {
        End {
            frame: None,
            code: 1006,
            reason: String::new(),
            exit,
        }
    }

    fn of_error(error: &Error) -> End {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                End::of_host(1009, "the message is too large", "reset")
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::lost("reset"),
            Error::Protocol(error) => End::of_host(1002, error.to_string(), "reset"),
            Error::Utf8(_) => End::of_host(1007, "text is not UTF-8", "reset"),
            Error::ConnectionClosed | Error::AlreadyClosed => End::lost("closed"),
            Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => End::lost("timeout"),
            _ => End::lost("reset"),
        }
    }
}

/// What follows when a socket is quiet.
struct Quiet {
    idle: Duration,
    /// When the client is asked whether it is still there, or has not answered.
    until: Instant,
    is_asked: bool,
    /// When memory is given back; `None`: it has been.
    rests_at: Option<Instant>,
}

impl Quiet {
    fn new(idle: Duration) -> Quiet {
        let now = Instant::now();
        Quiet {
            idle,
            until: now + idle,
            is_asked: false,
            rests_at: Some(now + REST),
        }
    }

    /// The client was heard.
    fn begins(&mut self) {
        *self = Quiet::new(self.idle);
    }

    /// Something was written to the client.
    fn is_interrupted(&mut self) {
        self.rests_at = Some(Instant::now() + REST);
    }

    /// Returns when something is to be done.
    fn next(&self) -> Instant {
        self.rests_at.map_or(self.until, |at| at.min(self.until))
    }

    /// Returns whether this is to give memory back.
    fn rests(&mut self) -> bool {
        let is_due = |at: &mut Instant| *at <= self.until && *at <= Instant::now();
        self.rests_at.take_if(is_due).is_some()
    }
}

/// Serves a WebSocket until it ends. `owner` gets its messages.
pub(crate) async fn serve<G: Send + 'static>(socket: Socket<G>, stream: Upgraded) {
    let (stream, config) = (TokioIo::new(stream), config(&socket.limits));
    let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    run(socket, stream).await;
}

pub(crate) fn config(limits: &ConnectionLimits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(limits.body))
        .max_frame_size(Some(limits.body))
}

/// Serves an open WebSocket, whichever side has asked for it, until it ends.
pub(crate) async fn run<G, S>(socket: Socket<G>, mut stream: WebSocketStream<S>)
where
    G: Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end = socket.run(&mut stream).await;
    // Not part of the task as long as the socket is open.
    Box::pin(finish(socket, stream, end)).await;
}

/// Closes a socket, and tells its owner.
async fn finish<G, S>(socket: Socket<G>, mut stream: WebSocketStream<S>, end: End)
where
    G: Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let is_stopping = socket.drained.is_stopping();
    let reading = if is_stopping {
        STOPPING
    } else {
        socket.limits.reading
    };
    if let Some((code, reason)) = &end.frame {
        let frame = CloseFrame {
            code: CloseCode::from(*code),
            reason: cut(reason).into(),
        };
        let closed = async {
            stream.close(Some(frame)).await?;
            // Its answer, after all that is under way.
            while stream.next().await.transpose()?.is_some() {}
            Ok::<(), Error>(())
        };
        let is_closed = matches!(timeout(reading, closed).await, Ok(Ok(())));
        if !is_closed {
            linger(stream.get_mut(), reading).await;
        }
    }
    drop(stream);
    socket.ended(&end).await;
}

impl<G: Send + 'static> Socket<G> {
    /// The client went before the handshake was complete.
    pub(crate) async fn lost(self) {
        self.ended(&End::lost("reset")).await;
    }

    /// Tells the owner that the socket has ended.
    async fn ended(self, end: &End) {
        self.connection.set_reason(end.exit);
        let closed = head::closed(end.code, &end.reason);
        self.connection.close(closed).await;
        drop((self.kept, self.used));
    }

    async fn run<S>(&self, stream: &mut WebSocketStream<S>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.limits;
        let mut turn = pin!(self.drained.turn());
        // What has arrived and waits for credit.
        let mut arrived: Option<(u32, Payload)> = None;
        let mut quiet = Quiet::new(limits.idle.unwrap_or(NEVER));
        loop {
            let waits = arrived.is_some();
            tokio::select! {
                event = self.connection.port_event() => match event {
                    PortEvent::Write(queue) => {
                        let written = tokio::select! {
                            written = self.write(stream, queue) => written,
                            () = self.connection.ended() => return End::lost("closed"),
                        };
                        match written {
                            Ok(None) => quiet.is_interrupted(),
                            Ok(Some(end)) => return end,
                            Err(error) => return End::of_error(&error),
                        }
                    }
                    PortEvent::OwnerEnded(reason) => return match reason.is_orderly() {
                        true => End::of_host(1001, "the process has ended", "closed"),
                        false => End::of_host(1011, "the process has failed", "closed"),
                    },
                    PortEvent::TooLarge => {
                        let why = "the message is larger than the mailbox of the process";
                        return End::of_host(1009, why, "reset");
                    }
                    // It was killed.
                    PortEvent::Closed | PortEvent::Unread => return End::lost("closed"),
                },
                has_credit = self.connection.credit(), if waits => {
                    if has_credit && let Some((tag, payload)) = arrived.take() {
                        self.connection.deliver(tag, payload);
                        quiet.begins();
                    } else if !has_credit {
                        // The other branch says why.
                        arrived = None;
                    }
                }
                message = stream.next(), if !waits => {
                    quiet.begins();
                    match message {
                        // The answer is written before more is read: a flood of pings would pile answers up.
                        Some(Ok(Message::Ping(_))) => {
                            if let Err(error) = stream.flush().await {
                                return End::of_error(&error);
                            }
                        }
                        Some(Ok(Message::Text(text))) => {
                            arrived = Some((SOCKET_TEXT, Payload::new(text.as_bytes())));
                        }
                        Some(Ok(Message::Binary(bytes))) => {
                            arrived = Some((SOCKET_DATA, Payload::new(&bytes)));
                        }
                        Some(Ok(Message::Close(frame))) => return self.closed(stream, frame).await,
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return End::of_error(&error),
                        None => return End::lost("reset"),
                    }
                }
                () = sleep_until(quiet.next()), if !waits => {
                    if quiet.rests() {
                        self.connection.rest();
                        continue;
                    }
                    if quiet.is_asked {
                        // To the owner it is a connection that was lost: 1001 would be a page that was left.
                        return End {
                            code: 1006,
                            ..End::of_host(1001, "the other side does not answer", "timeout")
                        };
                    }
                    // It is still there if it answers.
                    quiet.is_asked = true;
                    quiet.until = Instant::now() + limits.reading;
                    let ping = stream.send(Message::Ping(Bytes::new()));
                    if !matches!(timeout(limits.reading, ping).await, Ok(Ok(()))) {
                        return End::lost("timeout");
                    }
                }
                () = &mut turn => {
                    return End::of_host(1001, "the node stops", "closed");
                }
            }
        }
    }

    /// Writes what the process has sent. Returns the end if it wants one.
    async fn write<S>(
        &self,
        stream: &mut WebSocketStream<S>,
        queue: VecDeque<Outgoing>,
    ) -> Result<Option<End>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut writes = self.connection.writes(queue);
        while let Some((tag, payload)) = writes.next() {
            let bytes = payload.as_slice();
            let message = match tag {
                SOCKET_DATA => Message::Binary(Bytes::copy_from_slice(bytes)),
                SOCKET_TEXT => match Utf8Bytes::try_from(Bytes::copy_from_slice(bytes)) {
                    Ok(text) => Message::Text(text),
                    Err(_) => {
                        tracing::warn!("text for a WebSocket is dropped: it is not UTF-8");
                        writes.refuse("the text is not UTF-8");
                        continue;
                    }
                },
                SOCKET_CLOSE | SOCKET_END => {
                    stream.flush().await?;
                    writes.written();
                    let (code, reason) = head::close(bytes);
                    return Ok(Some(End::of_host(code, reason, "closed")));
                }
                _ => continue,
            };
            stream.feed(message).await?;
        }
        stream.flush().await?;
        writes.written();
        Ok(None)
    }

    /// Answers a frame that closes.
    async fn closed<S>(&self, stream: &mut WebSocketStream<S>, frame: Option<CloseFrame>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The crate has queued the answer, and returns `None` when it is written.
        let answered = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = timeout(self.limits.reading, answered).await;
        let (code, reason) = match frame {
            Some(frame) => (u16::from(frame.code), frame.reason.to_string()),
            // No code (RFC 6455, section 7.1.5).
            None => (1005, String::new()),
        };
        End {
            frame: None,
            code,
            reason,
            exit: "closed",
        }
    }
}

/// Returns what fits into a frame that closes.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(*name, value);
        }
        request
    }

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn a_handshake_is_known_by_its_headers() {
        let plain = asked(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ]);
        assert!(is_asked_for(&plain));
        for headers in [
            &[("connection", "upgrade")][..],
            &[("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        ] {
            assert!(!is_asked_for(&asked(headers)), "{headers:?}");
        }
        let mut post = asked(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        *post.method_mut() = Method::POST;
        assert!(!is_asked_for(&post));
    }

    #[test]
    fn pages_of_other_hosts_do_not_connect() {
        let status = |headers: &[(&'static str, &str)], origins: &[String]| {
            let mut all = vec![("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];
            all.extend_from_slice(headers);
            let request = asked(&all);
            refused(request.headers(), origins).map(|answer| answer.status().as_u16())
        };
        let own = [("host", "a.com:80"), ("origin", "http://a.com:80")];
        assert_eq!(status(&own, &[]), None);
        assert_eq!(status(&[("host", "a.com")], &[]), None, "no browser");
        let other = [("host", "a.com"), ("origin", "https://b.com")];
        assert_eq!(status(&other, &[]), Some(403));
        assert_eq!(status(&other, &["https://b.com".into()]), None);
        assert_eq!(status(&other, &["*".into()]), None);
        assert_eq!(
            status(&[("host", "a.com"), ("origin", "null")], &[]),
            Some(403)
        );
    }

    #[test]
    fn a_handshake_without_version_or_key_is_refused() {
        let status = |headers: &[(&'static str, &str)]| {
            let request = asked(headers);
            refused(request.headers(), &[]).map(|answer| answer.status().as_u16())
        };
        assert_eq!(status(&[("sec-websocket-key", KEY)]), Some(426));
        assert_eq!(
            status(&[("sec-websocket-version", "8"), ("sec-websocket-key", KEY)]),
            Some(426)
        );
        assert_eq!(status(&[("sec-websocket-version", "13")]), Some(400));
        assert_eq!(
            status(&[("sec-websocket-version", "13"), ("sec-websocket-key", "x")]),
            Some(400)
        );
    }

    #[test]
    fn the_answer_has_the_key_of_the_rfc_and_only_an_offered_protocol() {
        let request = asked(&[
            ("sec-websocket-key", KEY),
            ("sec-websocket-protocol", "chat, json"),
        ]);
        let accept = |protocol: Option<&str>| Accept {
            protocol: protocol.map(str::to_owned),
            headers: HeaderMap::new(),
        };
        let answer = accepted(accept(Some("json")), request.headers()).unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(
            answer.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "json");
        assert!(accepted(accept(Some("xml")), request.headers()).is_err());
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "é".repeat(100);
        assert_eq!(cut(&long), "é".repeat(61));
    }
}
