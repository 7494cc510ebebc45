//! The limits of requests and responses, which are part of the API.

use std::time::Duration;

/// The maximum number of bytes of what is said of a deployment.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// The maximum size of a request that is not a deployment: a message of the largest default
/// size, 16 MiB, written as hex.
pub const MAX_REQUEST_BYTES: usize = 34 * 1024 * 1024;

/// The maximum number of processes in one listing.
pub const MAX_LISTED: usize = 100_000;

/// The number of processes in a listing that names no limit.
pub const DEFAULT_LISTED: usize = 1_000;

/// The maximum length of the reason of a kill.
pub const MAX_REASON_BYTES: usize = 4 << 10;

/// The maximum timeout of a call.
pub const MAX_CALL_TIMEOUT: Duration = Duration::from_secs(600);

/// The maximum number of messages in a trace.
pub const MAX_TRACED: u64 = 1_000_000;

/// The number of messages in a trace that names no limit.
pub const DEFAULT_TRACED: u64 = 100;

/// The maximum number of processes in a sample.
pub const MAX_TOP: usize = 1_000;

/// The number of processes in a sample that names no limit.
pub const DEFAULT_TOP: usize = 50;

/// The maximum size of the body, all modules together. A module of a language with a large
/// runtime has some ten megabytes.
pub const MAX_DEPLOY_BYTES: usize = 256 * 1024 * 1024;

/// The maximum number of modules in one swap.
pub const MAX_DEPLOY_MODULES: usize = 1_024;

/// The maximum number of bytes between the bytes of two modules: the heads of parts.
pub const MAX_PART_HEAD_BYTES: usize = 1024 * 1024;
