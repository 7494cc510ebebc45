//! The tags that have a meaning to the SDK. All others are free.

use exuvia_abi::io;

/// The payload is MessagePack of the type that the receiver declares.
///
/// ```
/// assert_eq!(exuvia::tag::TYPED, 0);
/// ```
pub const TYPED: u32 = 0;

/// A request of HTTP, from the process of a connection; see [`http`](mod@crate::http).
///
/// ```
/// assert_eq!(exuvia::tag::HTTP_REQUEST, 0xffff_ff10);
/// ```
pub const HTTP_REQUEST: u32 = io::HTTP_REQUEST;

/// A reply that is a response of HTTP; see [`http`](mod@crate::http).
///
/// ```
/// assert_eq!(exuvia::tag::HTTP_RESPONSE, 0xffff_ff11);
/// ```
pub const HTTP_RESPONSE: u32 = io::HTTP_RESPONSE;

/// A reply that is a response whose body is sent in parts; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::HTTP_STREAM, 0xffff_ff12);
/// ```
pub const HTTP_STREAM: u32 = io::HTTP_STREAM;

/// A reply that accepts a WebSocket; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_ACCEPT, 0xffff_ff13);
/// ```
pub const SOCKET_ACCEPT: u32 = io::SOCKET_ACCEPT;

/// A socket is open; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_OPEN, 0xffff_ff14);
/// ```
pub const SOCKET_OPEN: u32 = io::SOCKET_OPEN;

/// Text to or from a socket; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_TEXT, 0xffff_ff15);
/// ```
pub const SOCKET_TEXT: u32 = io::SOCKET_TEXT;

/// Bytes to or from a socket; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_DATA, 0xffff_ff16);
/// ```
pub const SOCKET_DATA: u32 = io::SOCKET_DATA;

/// One side of a socket sends no more; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_END, 0xffff_ff17);
/// ```
pub const SOCKET_END: u32 = io::SOCKET_END;

/// A socket is to be closed, or has been; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_CLOSE, 0xffff_ff18);
/// ```
pub const SOCKET_CLOSE: u32 = io::SOCKET_CLOSE;

/// What arrives at a socket, or of a body, is wanted; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_READ, 0xffff_ff19);
/// ```
pub const SOCKET_READ: u32 = io::SOCKET_READ;

/// A datagram to or from an address of UDP; see [`socket`](crate::socket).
///
/// ```
/// assert_eq!(exuvia::tag::SOCKET_DATAGRAM, 0xffff_ff1a);
/// ```
pub const SOCKET_DATAGRAM: u32 = io::SOCKET_DATAGRAM;

/// An event of a channel, for all who have joined its topic or for one of them; see [`channel`](crate::channel).
///
/// ```
/// assert_eq!(exuvia::tag::CHANNEL_EVENT, 0xffff_ff40);
/// ```
pub const CHANNEL_EVENT: u32 = 0xffff_ff40;

/// A session is present in a topic, or is not any more; see [`channel::Presence`](crate::channel::Presence).
///
/// ```
/// assert_eq!(exuvia::tag::CHANNEL_TRACK, 0xffff_ff41);
/// ```
pub const CHANNEL_TRACK: u32 = 0xffff_ff41;

/// A timer of a session: it asks to be present once more; see [`channel`](crate::channel).
///
/// ```
/// assert_eq!(exuvia::tag::CHANNEL_RETRY, 0xffff_ff42);
/// ```
pub const CHANNEL_RETRY: u32 = 0xffff_ff42;

/// A timer of the process that has a [`channel::Presence`](crate::channel::Presence): all get the whole list once more.
///
/// ```
/// assert_eq!(exuvia::tag::CHANNEL_REPEAT, 0xffff_ff43);
/// ```
pub const CHANNEL_REPEAT: u32 = 0xffff_ff43;

/// The tag of a timer that an `async` handler awaits; not visible elsewhere.
pub(crate) const AWAITED: u32 = u32::MAX - 1;

/// In a reply: the request was rejected, and the payload gives the reason as UTF-8.
///
/// ```
/// assert_eq!(exuvia::tag::REFUSED, u32::MAX);
/// ```
pub const REFUSED: u32 = io::REFUSED;
