//! How a test talks to `exuvia test-node`, over its standard input and output.
//!
//! A question is its length (`u32`, without itself), a number below, and its
//! arguments; the answer is its length, a code (`i64`: a host call's answer), and what it
//! has to say. Numbers are `i64`, pids 16 bytes, and bytes have their length (`u32`) before them;
//! all of it is little-endian. A code below 0 is that of a host call, or [`FAILED`] with a text.
//!
//! The node and its tests are of one release of Exuvia: these numbers may change with
//! the next.

/// The code of what failed; the answer says why.
pub const FAILED: i64 = i64::MIN;
/// The largest question or answer, bytes.
pub const MOST: u32 = 64 << 20;

/// Boots the app of a folder or manifest, after its build commands: path. Answers the
/// test's own pid.
pub const START: u8 = 1;
/// The same without an app.
pub const EMPTY: u8 = 2;
/// Loads a module, or swaps it: name, path. Answers the swap's line.
pub const LOAD: u8 = 3;
/// Goes back to the release before. Answers the line.
pub const ROLLBACK: u8 = 4;
/// Moves the clock: milliseconds.
pub const ADVANCE: u8 = 5;
/// The state of a process as its `save` hands it over: pid.
pub const STATE: u8 = 6;
/// `module@version` of a process: pid.
pub const VERSION: u8 = 7;
/// What has happened since the last time, a line each.
pub const EVENTS: u8 = 8;

/// The first of the host calls: this and their place in the table.
pub const CALLS: u8 = 64;
