//! The tags that have a meaning to the SDK. All others are free.

/// The payload is MessagePack of the type that the receiver declares.
///
/// ```
/// assert_eq!(exuvia::tag::TYPED, 0);
/// ```
pub const TYPED: u32 = 0;

/// A request of HTTP, from the process of a connection; see [`http`](crate::http).
///
/// ```
/// assert_eq!(exuvia::tag::HTTP_REQUEST, 0xffff_ff10);
/// ```
pub const HTTP_REQUEST: u32 = 0xffff_ff10;

/// A reply that is a response of HTTP; see [`http`](crate::http).
///
/// ```
/// assert_eq!(exuvia::tag::HTTP_RESPONSE, 0xffff_ff11);
/// ```
pub const HTTP_RESPONSE: u32 = 0xffff_ff11;

/// The tag of a timer that an `async` handler awaits; not visible elsewhere.
pub(crate) const AWAITED: u32 = u32::MAX - 1;

/// In a reply: the request was rejected, and the payload gives the reason as UTF-8.
///
/// ```
/// assert_eq!(exuvia::tag::REFUSED, u32::MAX);
/// ```
pub const REFUSED: u32 = u32::MAX;
