//! The tags of messages between connections and guests, as `guest-sdk/io.md` has them.

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
/// A reply of the host that refuses what was asked; the payload is text. The same as that of the Rust SDK.
pub const REFUSED: u32 = u32::MAX;
