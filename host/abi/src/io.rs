//! Input and output: tags of the host, and names of its processes (`guest-sdk/io.md`).

/// A request of HTTP.
pub const HTTP_REQUEST: u32 = 0xffff_ff10;
/// A reply that is a response.
pub const HTTP_RESPONSE: u32 = 0xffff_ff11;
/// A reply that is a response whose body follows.
pub const HTTP_STREAM: u32 = 0xffff_ff12;
/// A reply that accepts a WebSocket.
pub const SOCKET_ACCEPT: u32 = 0xffff_ff13;
/// A socket or a stream is open.
pub const SOCKET_OPEN: u32 = 0xffff_ff14;
/// Text of a WebSocket.
pub const SOCKET_TEXT: u32 = 0xffff_ff15;
/// Bytes.
pub const SOCKET_DATA: u32 = 0xffff_ff16;
/// One side sends no more.
pub const SOCKET_END: u32 = 0xffff_ff17;
/// It is to be closed, or has been.
pub const SOCKET_CLOSE: u32 = 0xffff_ff18;
/// What has arrived is wanted.
pub const SOCKET_READ: u32 = 0xffff_ff19;
/// A datagram with the address of its other side.
pub const SOCKET_DATAGRAM: u32 = 0xffff_ff1a;
/// A reply that refuses what was asked; the payload is text.
pub const REFUSED: u32 = u32::MAX;

/// All of them with their names.
pub const ALL: [(u32, &str); 12] = [
    (HTTP_REQUEST, "HTTP_REQUEST"),
    (HTTP_RESPONSE, "HTTP_RESPONSE"),
    (HTTP_STREAM, "HTTP_STREAM"),
    (SOCKET_ACCEPT, "SOCKET_ACCEPT"),
    (SOCKET_OPEN, "SOCKET_OPEN"),
    (SOCKET_TEXT, "SOCKET_TEXT"),
    (SOCKET_DATA, "SOCKET_DATA"),
    (SOCKET_END, "SOCKET_END"),
    (SOCKET_CLOSE, "SOCKET_CLOSE"),
    (SOCKET_READ, "SOCKET_READ"),
    (SOCKET_DATAGRAM, "SOCKET_DATAGRAM"),
    (REFUSED, "REFUSED"),
];

/// The name of the process of the host that makes requests for guests.
pub const HTTP_CLIENT: &str = "exuvia.http";

/// Headers that the host sets itself, since they concern one connection (RFC 9110, section 7.6.1), the length of a body or the time:
/// those of guests are dropped.
pub const HEADERS_OF_THE_HOST: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Names of processes that begin so are of the host.
pub const NAMES_OF_THE_HOST: &str = "exuvia.";
