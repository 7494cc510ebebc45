//! The contract between the host and its guests, version 1, as plain numbers.
//!
//! Everything here is normative together with `guest-sdk/abi.md`, which says
//! what the numbers mean. The host's crates and tests read them from here, so
//! that no number is written twice. Nothing in this crate allocates, and it
//! depends on nothing.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calls;
mod codes;
mod header;
mod pid;
pub mod test_node;
pub mod wasi;

pub use calls::{HOST_CALLS, HostCall, MODULE, Probation, WasmType};
pub use codes::{Code, Kind, Priority, Reason, RunResult, SUSPEND};
pub use header::{HEADER_SIZE, Header};
pub use pid::Pid;

/// The version a module states in its exported global `exuvia_abi`.
pub const ABI_VERSION: i32 = 1;

/// Names of what a module exports.
pub mod exports {
    /// The linear memory. Required.
    pub const MEMORY: &str = "memory";
    /// Immutable `i32` global: the ABI version. Required.
    pub const ABI: &str = "exuvia_abi";
    /// `run: () -> i32`, the one entry. Required.
    pub const RUN: &str = "run";
    /// `save: () -> i32`, hands the state over with `state_put`. Optional.
    pub const SAVE: &str = "save";
    /// `load: (from_schema: i32, length: i32) -> i32`, takes it back with `state_get`. Optional.
    pub const LOAD: &str = "load";
    /// Immutable `i32` global: the number of the state's schema. Optional, 0 if absent.
    pub const SCHEMA: &str = "exuvia_schema";
    /// `_initialize: () -> ()`, run once before anything else. Optional.
    pub const INITIALIZE: &str = "_initialize";
    /// `warm_up: () -> ()`, run for a version before its base is taken. Optional.
    pub const WARM_UP: &str = "warm_up";
    /// Name of the custom section with the layout fingerprint. Optional.
    pub const LAYOUT_SECTION: &str = "exuvia.layout";
    /// Name of the custom section that says what a process understands. Optional.
    pub const PROTOCOL_SECTION: &str = "exuvia.protocol";
}

/// Modes of `receive`: which message is wanted. The low byte is the mode, the
/// rest are flags.
pub mod receive {
    /// The first message, whichever it is.
    pub const ANY: i32 = 0;
    /// The first message whose tag is the key.
    pub const TAG: i32 = 1;
    /// The first message whose reference is the key.
    pub const REFERENCE: i32 = 2;
    /// Flag: this is the outermost receive and all state is in memory; it may
    /// answer `UPGRADE`, after which the guest returns `REST`.
    pub const UPGRADE: i32 = 1 << 8;
    /// The timeout that never passes.
    pub const FOREVER: i64 = -1;
}

/// Flags of `spawn`, the second word of its options.
pub mod spawn {
    /// Link the child to the parent before it runs.
    pub const LINK: u32 = 1;
    /// Monitor the child before it runs; the reference is written to `ref_out`.
    pub const MONITOR: u32 = 2;
    /// Wait for the child's `init_ack`; a failed start answers `START_FAILED`.
    pub const SYNC: u32 = 4;

    /// Fewest bytes of the options structure.
    ///
    /// | offset | type | field (0 = as the parent) |
    /// | --- | --- | --- |
    /// | 0 | u32 | size of the structure |
    /// | 4 | u32 | flags |
    /// | 8 | u64 | memory, bytes |
    /// | 16 | u64 | mailbox, bytes |
    /// | 24 | u32 | mailbox, messages |
    /// | 28 | u32 | message, bytes |
    /// | 32 | u32 | children |
    /// | 36 | u32 | start timeout of `SYNC`, milliseconds (0 = 5,000) |
    ///
    /// Those who know more say so by the size:
    ///
    /// | offset | type | field (0 = as the parent) |
    /// | --- | --- | --- |
    /// | 40 | u64 | tables, bytes |
    /// | 48 | u32 | the highest priority that it may have |
    /// | 52 | u32 | open files |
    /// | 56 | u32 | what it may use through WASI: where in memory, in MessagePack |
    /// | 60 | u32 | the same: bytes (0: all that the parent may) |
    /// | 64 | u32 | descendants |
    /// | 68 | u32 | 0 |
    pub const OPTIONS_SIZE: u32 = 40;
    /// Bytes of the options structure that this host knows.
    pub const OPTIONS_KNOWN: u32 = 72;
    /// The largest options structure that is looked at; what a later version
    /// adds is zero, or is refused.
    pub const OPTIONS_MOST: u32 = 1024;
}

/// Flags of `table_new`: who may use the table beside its owner.
pub mod table {
    /// Everybody reads it, its owner writes.
    pub const PROTECTED: i32 = 0;
    /// Nobody else.
    pub const PRIVATE: i32 = 1;
    /// Everybody reads and writes it.
    pub const PUBLIC: i32 = 2;
    /// Flag of `table_put`: only if there is no such row yet.
    pub const NEW: i32 = 1;
    /// What `table_info` answers: rows.
    pub const ROWS: i32 = 0;
    /// What `table_info` answers: the bytes that they count.
    pub const BYTES: i32 = 1;
}

/// Flags of `demonitor`.
pub mod demonitor {
    /// Also drop the `DOWN` or `REPLY` of this reference if it has arrived.
    pub const FLUSH: i32 = 1;
}

/// What `clock` reads.
pub mod clock {
    /// Nanoseconds since some fixed point, never going back.
    pub const MONOTONIC: i32 = 0;
    /// Nanoseconds since 1970-01-01 UTC.
    pub const REALTIME: i32 = 1;
}

/// What `info` answers about the calling process.
pub mod info {
    /// Reductions so far.
    pub const REDUCTIONS: i32 = 0;
    /// Messages waiting in the mailbox.
    pub const MAILBOX: i32 = 1;
    /// Crossings to new code so far.
    pub const CROSSINGS: i32 = 2;
}

/// Levels of `log`.
pub mod log {
    /// Something failed.
    pub const ERROR: i32 = 1;
    /// Something is odd.
    pub const WARN: i32 = 2;
    /// Worth knowing.
    pub const INFO: i32 = 3;
    /// For the author of the module.
    pub const DEBUG: i32 = 4;
}

/// Limits that hold for every guest, whatever its own limits are.
pub mod limits {
    /// Longest registered name, bytes.
    pub const NAME: u32 = 255;
    /// Longest log line, bytes; what is longer is cut.
    pub const LOG_LINE: u32 = 8 * 1024;
    /// Longest list of what a child may use through WASI, bytes.
    pub const GRANTS: u32 = 64 * 1024;
    /// Longest payload of an exit reason, bytes; what is longer is cut.
    pub const REASON: u32 = 64 * 1024;
    /// Most bytes one `random` fills.
    pub const RANDOM: u32 = 64 * 1024;
    /// Largest state that `save` hands over, bytes.
    pub const STATE: u32 = 256 * 1024 * 1024;
    /// Most links with which a process may take up another. A supervisor that
    /// needs more children has supervisors as children.
    pub const LINKS: u32 = 100_000;
    /// Most monitors and open requests of a process, together.
    pub const MONITORS: u32 = 100_000;
    /// Most registered names of a process.
    pub const NAMES: u32 = 1_000;
    /// Most groups that a process is in.
    pub const GROUPS: u32 = 1_000;
    /// Most tables of a process.
    pub const TABLES: u32 = 1_000;
    /// Longest key of a table's row, bytes.
    pub const TABLE_KEY: u32 = 1_024;
    /// Most timers of a process that have still to fire.
    pub const TIMERS: u32 = 100_000;
}
