//! The tags that the SDK gives a meaning to. All others are free.

/// The payload is MessagePack of the type that the receiver declares.
///
/// ```
/// assert_eq!(exuvia::tag::TYPED, 0);
/// ```
pub const TYPED: u32 = 0;

/// Of a timer that an `async` handler awaits; nothing else sees it.
pub(crate) const AWAITED: u32 = u32::MAX - 1;

/// In a reply: the request was refused, and the payload says why as UTF-8.
///
/// ```
/// assert_eq!(exuvia::tag::REFUSED, u32::MAX);
/// ```
pub const REFUSED: u32 = u32::MAX;
