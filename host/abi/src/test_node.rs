//! The protocol between a test and `exuvia test-node`, over the standard input and output
//! of the latter.
//!
//! A request is its length (`u32`, without itself), one of the numbers below, and its arguments.
//! Those of a host call are what the SDK's functions have: bytes instead of a pointer and a
//! length, the options of `spawn` as in memory, with the grants behind them. A response is its
//! length, a code (`i64`; for a host call its return value), and its content. Numbers are `i64`,
//! pids are 16 bytes, and bytes are preceded by their length (`u32`); everything is
//! little-endian. A code below 0 is that of a host call, or [`FAILED`] with a text.
//!
//! A node and its tests belong to the same release of Exuvia: these numbers may change in
//! the next release.

/// The code of a failed request; the content of the response says why.
pub const FAILED: i64 = i64::MIN;
/// The largest request or response, bytes.
pub const MOST: u32 = 64 << 20;

/// Boots the app of a folder or manifest, after its build commands. Argument: the path.
/// Returns the test's own pid.
pub const START: u8 = 1;
/// Starts a node without an app. Returns the test's own pid.
pub const EMPTY: u8 = 2;
/// Loads or swaps a module. Arguments: name, path. Returns the line about the swap.
pub const LOAD: u8 = 3;
/// Rolls back to the previous release. Returns the line about it.
pub const ROLLBACK: u8 = 4;
/// Advances the clock. Argument: milliseconds.
pub const ADVANCE: u8 = 5;
/// Returns the state of a process as its `save` writes it. Argument: pid.
pub const STATE: u8 = 6;
/// Returns `module@version` of a process. Argument: pid.
pub const VERSION: u8 = 7;
/// Returns the events since the previous request, one per line.
pub const EVENTS: u8 = 8;

/// The number of the first host call. The number of a host call is this plus its index in
/// [`HOST_CALLS`](crate::HOST_CALLS).
pub const CALLS: u8 = 64;
