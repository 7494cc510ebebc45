//! How requests and responses look to processes: the head in MessagePack, then the bytes of the body. Normative
//! for guests is `guest-sdk/io.md`; this is its implementation.

use std::fmt;
use std::io::Cursor;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Wanted;
use bytes::Bytes;
use exuvia_process::Payload;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri, Version};
use rmp::encode::{
    ValueWriteError, write_array_len, write_bin, write_bool, write_map_len, write_str, write_uint,
};
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::listener::Peer;
use exuvia_abi::io::HEADERS_OF_THE_HOST;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) version: Version,
    pub(crate) scheme: &'static str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) parameters: &'a [(String, String)],
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: Peer,
    /// Whether the body follows.
    pub(crate) stream: bool,
}

impl RequestHead<'_> {
    /// Encodes the head with a body behind it.
    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512 + body.len());
        // Writing to a vector does not fail.
        let _ = self.write(&mut bytes);
        bytes.extend_from_slice(body);
        bytes
    }

    fn write(&self, to: &mut Vec<u8>) -> Result<(), ValueWriteError> {
        let texts = [
            ("method", self.method.as_str()),
            ("version", version(self.version)),
            ("scheme", self.scheme),
            ("host", self.host),
            ("path", self.path),
            ("query", self.query),
        ];
        write_map_len(to, texts.len() as u32 + 3 + u32::from(self.stream))?;
        for (key, text) in texts {
            write_str(to, key)?;
            write_str(to, text)?;
        }
        write_str(to, "params")?;
        write_map_len(to, length(self.parameters.len()))?;
        for (name, value) in self.parameters {
            write_str(to, name)?;
            write_str(to, value)?;
        }
        write_headers(to, self.headers)?;
        write_str(to, "peer")?;
        write_str(to, &self.peer.to_string())?;
        if self.stream {
            write_str(to, "stream")?;
            write_bool(to, true).map_err(ValueWriteError::InvalidDataWrite)?;
        }
        Ok(())
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP",
    }
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// What a guest says when it accepts a WebSocket.
#[derive(Debug)]
pub(crate) struct Accept {
    /// The subprotocol.
    pub(crate) protocol: Option<String>,
    pub(crate) headers: HeaderMap,
}

#[derive(Deserialize)]
struct Sent {
    status: u16,
    #[serde(default)]
    headers: Vec<(Octets, Octets)>,
}

#[derive(Deserialize)]
struct SentAccept {
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    headers: Vec<(Octets, Octets)>,
}

#[derive(Deserialize)]
struct SentClose {
    code: u16,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct SentEnd {
    #[serde(default)]
    trailers: Vec<(Octets, Octets)>,
}

/// Text or bytes.
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Octets;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }
            fn visit_str<E>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
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

/// Reads a response. Returns its head and where its body begins.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn response(bytes: &[u8]) -> Result<(ResponseHead, usize), String> {
    let (sent, begins) = head_and_body::<Sent>(bytes)?;
    // Responses with 1xx are made by the host only.
    let status = StatusCode::from_u16(sent.status).ok();
    let status = status.filter(|status| !status.is_informational() && status.as_u16() < 600);
    let status = status.ok_or_else(|| format!("{} is no status of a response", sent.status))?;
    let headers = headers(sent.headers)?;
    Ok((ResponseHead { status, headers }, begins))
}

/// Reads the reply that accepts a WebSocket. Empty bytes are a map without keys.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn accept(bytes: &[u8]) -> Result<Accept, String> {
    let sent: SentAccept = or_empty(bytes).map_err(|error| error.to_string())?;
    Ok(Accept {
        protocol: sent.protocol,
        headers: headers(sent.headers)?,
    })
}

/// Reads how a WebSocket is to be closed: with 1000, unless a valid code is named.
pub(crate) fn close(bytes: &[u8]) -> (u16, String) {
    match rmp_serde::from_slice::<SentClose>(bytes) {
        // Codes that may be sent (RFC 6455, section 7.4).
        Ok(sent) if matches!(sent.code, 1000..=1003 | 1007..=1014 | 3000..=4999) => {
            (sent.code, sent.reason)
        }
        Ok(sent) => (1000, sent.reason),
        Err(_) => (1000, String::new()),
    }
}

/// Reads the trailers with which a body ends.
pub(crate) fn trailers(bytes: &[u8]) -> Result<HeaderMap, String> {
    let sent: SentEnd = or_empty(bytes).map_err(|error| error.to_string())?;
    headers(sent.trailers)
}

/// Reads a map, behind which a body may follow. Returns it, and where the body begins.
fn head_and_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), String> {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
    let head = T::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    let begins = usize::try_from(deserializer.position()).unwrap_or(bytes.len());
    Ok((head, begins))
}

fn or_empty<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, rmp_serde::decode::Error> {
    const EMPTY: &[u8] = &[0x80];
    rmp_serde::from_slice(if bytes.is_empty() { EMPTY } else { bytes })
}

fn headers(sent: Vec<(Octets, Octets)>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(sent.len());
    for (name, value) in sent {
        let shown = String::from_utf8_lossy(&name.0).into_owned();
        let name = HeaderName::from_bytes(&name.0);
        let name = name.map_err(|_| format!("`{shown}` is no name of a header"))?;
        let value = HeaderValue::from_bytes(&value.0);
        let value = value.map_err(|_| format!("the header `{shown}` has an invalid value"))?;
        // What concerns one connection is the host's matter (RFC 9110, section 7.6.1), and so is the length.
        if !HEADERS_OF_THE_HOST.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

#[derive(Serialize)]
struct Closed<'a> {
    code: u16,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

#[derive(Serialize)]
struct Opened<'a> {
    kind: &'a str,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
}

/// A request of a guest to the outside.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How long it may take.
    pub(crate) timeout: Option<Duration>,
    /// How many redirections are followed.
    pub(crate) redirects: Option<usize>,
    /// Whether the body of the response is read in parts.
    pub(crate) stream: bool,
    /// Whether more of the body is sent in parts.
    pub(crate) upload: bool,
    /// The number of its bytes, if that is known.
    pub(crate) length: Option<u64>,
}

#[derive(Deserialize)]
struct SentOutbound {
    #[serde(default)]
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: Vec<(Octets, Octets)>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    redirects: Option<usize>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    upload: bool,
    #[serde(default)]
    length: Option<u64>,
}

#[derive(Deserialize)]
struct SentConnect {
    url: String,
    #[serde(default)]
    headers: Vec<(Octets, Octets)>,
    #[serde(default)]
    protocols: Vec<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    idle_ms: Option<u64>,
    #[serde(default)]
    message_bytes: Option<u64>,
    #[serde(default)]
    passive: bool,
}

#[derive(Deserialize)]
struct SentDatagram {
    peer: String,
}

/// Reads what a process wants to be connected to.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn connect(bytes: &[u8]) -> Result<Wanted, String> {
    let sent: SentConnect = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
    let uri = sent.url.parse();
    let uri = uri.map_err(|error| format!("`{}` is no URL: {error}", sent.url))?;
    Ok(Wanted {
        uri,
        headers: headers(sent.headers)?,
        protocols: sent.protocols,
        timeout: sent.timeout_ms.map(Duration::from_millis),
        idle: sent.idle_ms.map(Duration::from_millis),
        message_bytes: sent.message_bytes,
        passive: sent.passive,
    })
}

/// Reads a request to the outside.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn outbound(bytes: &[u8]) -> Result<Outbound, String> {
    let (sent, begins) = head_and_body::<SentOutbound>(bytes)?;
    let method = sent.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes())
        .ok()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| format!("`{method}` is no method"))?;
    let uri = sent.url.parse();
    let uri = uri.map_err(|error| format!("`{}` is no URL: {error}", sent.url))?;
    if sent.length.is_some() && !sent.upload {
        return Err("`length` is of a body that is sent in parts (`upload`)".to_owned());
    }
    Ok(Outbound {
        upload: sent.upload,
        length: sent.length,
        method,
        uri,
        headers: headers(sent.headers)?,
        body: Bytes::copy_from_slice(&bytes[begins..]),
        timeout: sent.timeout_ms.map(Duration::from_millis),
        redirects: sent.redirects,
        stream: sent.stream,
    })
}

/// Encodes a response from outside: as one of a guest, and with the URL that it came from.
pub(crate) fn inbound(status: StatusCode, headers: &HeaderMap, uri: &Uri, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + body.len());
    let write = |to: &mut Vec<u8>| -> Result<(), ValueWriteError> {
        write_map_len(to, 3)?;
        write_str(to, "status")?;
        write_uint(to, status.as_u16().into())?;
        write_str(to, "url")?;
        write_str(to, &uri.to_string())?;
        write_headers(to, headers)
    };
    // Writing to a vector does not fail.
    let _ = write(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// Writes the key `headers` with all headers in their order.
fn write_headers(to: &mut Vec<u8>, headers: &HeaderMap) -> Result<(), ValueWriteError> {
    write_fields(to, "headers", headers)
}

fn write_fields(to: &mut Vec<u8>, key: &str, headers: &HeaderMap) -> Result<(), ValueWriteError> {
    write_str(to, key)?;
    write_array_len(to, length(headers.len()))?;
    for (name, value) in headers {
        write_array_len(to, 2)?;
        write_str(to, name.as_str())?;
        match value.to_str() {
            Ok(text) => write_str(to, text)?,
            Err(_) => write_bin(to, value.as_bytes())?,
        }
    }
    Ok(())
}

/// Encodes how a socket has been closed.
pub(crate) fn closed(code: u16, reason: &str) -> Payload {
    encode(&Closed {
        code,
        reason,
        lost: None,
    })
}

/// Encodes the same with the number of datagrams that were dropped.
pub(crate) fn closed_with(code: u16, reason: &str, lost: u64) -> Payload {
    encode(&Closed {
        code,
        reason,
        lost: Some(lost),
    })
}

/// Encodes the end of a body: its trailers, if it has any.
pub(crate) fn ended(trailers: &HeaderMap) -> Payload {
    if trailers.is_empty() {
        return Payload::empty();
    }
    let mut bytes = Vec::new();
    // Writing to a vector does not fail.
    let _ =
        write_map_len(&mut bytes, 1).and_then(|_| write_fields(&mut bytes, "trailers", trailers));
    Payload::from(bytes)
}

/// Encodes what has been opened: its kind, the reference of the request that it belongs to, and the client.
pub(crate) fn opened(kind: &str, reference: Option<u64>, peer: Peer) -> Payload {
    encode(&Opened {
        kind,
        peer: peer.to_string(),
        reference,
        protocol: None,
    })
}

/// Encodes what a process has been connected to: its kind, its address, and the subprotocol of a WebSocket.
pub(crate) fn opened_outside(kind: &str, peer: Peer, protocol: Option<&str>) -> Payload {
    encode(&Opened {
        kind,
        peer: peer.to_string(),
        reference: None,
        protocol,
    })
}

/// Encodes that the body of a request may be sent, to a host with its port.
pub(crate) fn opened_upload(host: &str) -> Payload {
    encode(&Opened {
        kind: "request",
        peer: host.to_owned(),
        reference: None,
        protocol: None,
    })
}

/// Encodes that an address of UDP is open for a process: each datagram has its own other side.
pub(crate) fn opened_address() -> Payload {
    encode(&Opened {
        kind: "udp",
        peer: String::new(),
        reference: None,
        protocol: None,
    })
}

/// Encodes a datagram: who has sent it, and its bytes.
pub(crate) fn datagram(peer: SocketAddr, datagram: &[u8]) -> Payload {
    let mut bytes = Vec::with_capacity(64 + datagram.len());
    // Writing to a vector does not fail.
    let _ = write_map_len(&mut bytes, 1)
        .and_then(|_| write_str(&mut bytes, "peer"))
        .and_then(|()| write_str(&mut bytes, &peer.to_string()));
    bytes.extend_from_slice(datagram);
    Payload::from(bytes)
}

/// Reads a datagram that a process sends: to whom, and its bytes.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn sent_datagram(bytes: &[u8]) -> Result<(SocketAddr, &[u8]), String> {
    let (sent, begins) = head_and_body::<SentDatagram>(bytes)?;
    let peer = sent.peer.parse();
    let peer = peer.map_err(|_| format!("`{}` is no address with a port", sent.peer))?;
    Ok((peer, &bytes[begins..]))
}

fn encode(value: &impl Serialize) -> Payload {
    // Numbers and text can be encoded.
    Payload::new(&rmp_serde::to_vec_named(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: &rmpv::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    #[test]
    fn a_request_is_a_map_and_the_body() {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("text/html"));
        headers.append("x-raw", HeaderValue::from_bytes(b"\xff").unwrap());
        let parameters = [("id".to_owned(), "7".to_owned())];
        let head = RequestHead {
            method: &Method::PUT,
            version: Version::HTTP_11,
            scheme: "http",
            host: "example",
            path: "/room/7",
            query: "a=b",
            parameters: &parameters,
            headers: &headers,
            peer: Peer::Tcp("127.0.0.1:9".parse().unwrap()),
            stream: true,
        };
        let bytes = head.encode(b"body");
        let mut reader = &bytes[..];
        let value = rmpv::decode::read_value(&mut reader).unwrap();
        assert_eq!(reader, b"body");
        let expected = r#"{"method": "PUT", "version": "HTTP/1.1", "scheme": "http", "host": "example", "path": "/room/7", "query": "a=b", "params": {"id": "7"}, "headers": [["accept", "text/html"], ["x-raw", [255]]], "peer": "127.0.0.1:9", "stream": true}"#;
        assert_eq!(value.to_string().replace("b\"\\xff\"", "[255]"), expected);
    }

    #[test]
    fn trailers_are_read_as_they_are_written() {
        let mut headers = HeaderMap::new();
        assert!(ended(&headers).is_empty());
        headers.append("x-sum", HeaderValue::from_static("7"));
        headers.append("x-raw", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(trailers(ended(&headers).as_slice()), Ok(headers));
    }

    #[test]
    fn a_datagram_is_read_as_it_is_written() {
        for peer in ["127.0.0.1:9", "[2001:db8::1]:53"] {
            let peer = peer.parse().unwrap();
            let written = datagram(peer, b"hello");
            assert_eq!(sent_datagram(written.as_slice()), Ok((peer, &b"hello"[..])));
        }
        let nobody = packed(&rmpv::Value::Map(vec![("peer".into(), "a:1".into())]));
        let why = sent_datagram(&nobody).unwrap_err();
        assert_eq!(why, "`a:1` is no address with a port");
        assert!(sent_datagram(b"").is_err());
    }

    #[test]
    fn a_response_is_a_map_and_the_body() {
        use rmpv::Value;
        let headers = vec![
            Value::Array(vec!["Content-Type".into(), "text/plain".into()]),
            Value::Array(vec!["x-raw".into(), Value::Binary(vec![0xff])]),
            Value::Array(vec!["Content-Length".into(), "7".into()]),
            Value::Array(vec!["transfer-encoding".into(), "chunked".into()]),
        ];
        let map = Value::Map(vec![
            ("status".into(), 201.into()),
            ("headers".into(), Value::Array(headers)),
            ("later".into(), true.into()),
        ]);
        let mut bytes = packed(&map);
        let begins = bytes.len();
        bytes.extend_from_slice(b"hello");
        let (head, at) = response(&bytes).unwrap();
        assert_eq!((head.status.as_u16(), at), (201, begins));
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers["x-raw"].as_bytes(), b"\xff");
        assert_eq!(head.headers.len(), 2, "the host's own are dropped");
    }

    #[test]
    fn what_is_no_response_is_refused_with_the_reason() {
        use rmpv::Value;
        let with = |status: i64, name: &str, value: &str| {
            let header = Value::Array(vec![name.into(), value.into()]);
            packed(&Value::Map(vec![
                ("status".into(), status.into()),
                ("headers".into(), Value::Array(vec![header])),
            ]))
        };
        for (bytes, error) in [
            (with(99, "a", "b"), "99 is no status"),
            (with(101, "a", "b"), "101 is no status"),
            (with(200, "a b", "b"), "`a b` is no name"),
            (
                with(200, "a", "b\r\nx: y"),
                "the header `a` has an invalid value",
            ),
            (vec![0xc1], ""),
            (Vec::new(), ""),
            (packed(&"text".into()), ""),
        ] {
            let found = response(&bytes).unwrap_err();
            assert!(found.starts_with(error), "{found}");
        }
    }
}
