//! The tags that have a meaning to the SDK. All others are free.

/// The payload is MessagePack of the type that the receiver declares.
///
/// ```
/// assert_eq!(exuvia::tag::TYPED, 0);
/// ```
pub const TYPED: u32 = 0;

/// The tag of a timer that an `async` handler awaits; not visible elsewhere.
pub(crate) const AWAITED: u32 = u32::MAX - 1;

/// In a reply: the request was rejected, and the payload gives the reason as UTF-8.
///
/// ```
/// assert_eq!(exuvia::tag::REFUSED, u32::MAX);
/// ```
pub const REFUSED: u32 = u32::MAX;
