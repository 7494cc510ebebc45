//! The contract between the host and its guests, version 1, as plain numbers.
//!
//! Everything here is normative together with `guest-sdk/abi.md`, which explains
//! the numbers. The host's crates and tests take them from here, so that no number
//! is written twice. This crate does not allocate and has no dependencies.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calls;
mod codes;
mod header;
pub mod io;
mod pid;
pub mod test_node;
pub mod wasi;

pub use calls::{HOST_CALLS, HostCall, MODULE, OPTIONAL_MODULE, Probation, WasmType};
pub use codes::{Code, Kind, Priority, Reason, RunResult, SUSPEND};
pub use header::{HEADER_SIZE, Header};
pub use pid::Pid;

/// The version that a module states in its exported global `exuvia_abi`.
pub const ABI_VERSION: i32 = 1;
/// The minor version, which grows with what is added to the version.
pub const ABI_MINOR: u32 = 1;

/// Names of a module's exports and custom sections.
pub mod exports {
    /// The linear memory. Required.
    pub const MEMORY: &str = "memory";
    /// Immutable `i32` global: the ABI version. Required.
    pub const ABI: &str = "exuvia_abi";
    /// `run: () -> i32`, the entry point. Required.
    pub const RUN: &str = "run";
    /// `save: () -> i32`, saves the state with `state_put`. Optional.
    pub const SAVE: &str = "save";
    /// `load: (from_schema: i32, length: i32) -> i32`, loads it with `state_get`. Optional.
    pub const LOAD: &str = "load";
    /// Immutable `i32` global: the schema number of the state. Optional, 0 if absent.
    pub const SCHEMA: &str = "exuvia_schema";
    /// `_initialize: () -> ()`, called after `start`, before anything else. Optional.
    pub const INITIALIZE: &str = "_initialize";
    /// `warm_up: () -> ()`, called for a version before its base is taken. Optional.
    pub const WARM_UP: &str = "warm_up";
    /// A function or global of any type: the initialization is the same for all processes, so clocks
    /// and random numbers are not real while it runs. Optional, of minor version 1.
    pub const SHARED_START: &str = "exuvia_shared_start";
    /// Name of the custom section with the layout fingerprint. Optional.
    pub const LAYOUT_SECTION: &str = "exuvia.layout";
    /// Name of the custom section that lists the messages a process understands. Optional.
    pub const PROTOCOL_SECTION: &str = "exuvia.protocol";
    /// Name of the custom section that describes the saved state. Optional.
    pub const STATE_SECTION: &str = "exuvia.state";
    /// The most bytes that are read of each of the last two, over all sections of its name.
    pub const SECTION_BYTES: usize = 64 << 10;
}

/// Modes of `receive`, which select a message. The low byte is the mode, the rest
/// are flags. Those from [`receive::SENDER`] on came with minor version 1.
pub mod receive {
    /// The first message of any kind.
    pub const ANY: i32 = 0;
    /// The first message whose tag is the key.
    pub const TAG: i32 = 1;
    /// The first message whose reference is the key.
    pub const REFERENCE: i32 = 2;
    /// The first message from the process whose pid is at the key, a pointer.
    pub const SENDER: i32 = 3;
    /// The first message whose reference is one of several: the low half of the key is a pointer to
    /// them, the high half is their number.
    pub const REFERENCES: i32 = 4;
    /// The bits of the mode.
    pub const MODE: i32 = 0xff;
    /// Flag: this is the outermost receive and all state is in memory; it may
    /// return `UPGRADE`, after which the guest returns `REST`.
    pub const UPGRADE: i32 = 1 << 8;
    /// Flag: a message that does not fit is taken nevertheless; what does not fit of its payload is
    /// dropped.
    pub const TRUNCATE: i32 = 1 << 9;
    /// Flag: the message stays. What fits of its payload is written, beginning at the offset that the
    /// guest has put into the last field of the header.
    pub const PEEK: i32 = 1 << 10;
    /// What `receive` with [`PEEK`] returns for a message: not the 0 of one that was taken.
    pub const PEEKED: i32 = 1;
    /// The timeout that never expires.
    pub const FOREVER: i64 = -1;
}

/// Flags of `spawn`, the second word of its options.
pub mod spawn {
    /// Link the child to the parent before it runs.
    pub const LINK: u32 = 1;
    /// Monitor the child before it runs; the reference is written to `reference_out`.
    pub const MONITOR: u32 = 2;
    /// Wait for the child's `init_ack`; a failed start returns `START_FAILED`.
    pub const SYNC: u32 = 4;

    /// Minimum size of the options structure, bytes.
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
    /// A larger size announces further fields:
    ///
    /// | offset | type | field (0 = as the parent) |
    /// | --- | --- | --- |
    /// | 40 | u64 | tables, bytes |
    /// | 48 | u32 | the highest priority that it may have |
    /// | 52 | u32 | open files |
    /// | 56 | u32 | WASI grants: address of their MessagePack |
    /// | 60 | u32 | WASI grants: length, bytes (0: all that the parent has) |
    /// | 64 | u32 | descendants |
    /// | 68 | u32 | 0 |
    pub const OPTIONS_SIZE: u32 = 40;
    /// Size of the options structure that this host knows, bytes.
    pub const OPTIONS_KNOWN: u32 = 72;
    /// The largest options structure that is accepted, bytes. Fields that this host does not
    /// know must be zero.
    pub const OPTIONS_MOST: u32 = 1024;
}

/// Numbers of the table calls. The first three are the access of `table_new`: which other
/// processes may use the table.
pub mod table {
    /// All processes may read it; only its owner may write it.
    pub const PROTECTED: i32 = 0;
    /// Only its owner may use it.
    pub const PRIVATE: i32 = 1;
    /// All processes may read and write it.
    pub const PUBLIC: i32 = 2;
    /// Flag of `table_put`: only if there is no such row yet.
    pub const NEW: i32 = 1;
    /// Argument of `table_info`: the number of rows.
    pub const ROWS: i32 = 0;
    /// Argument of `table_info`: the bytes that the rows count.
    pub const BYTES: i32 = 1;
}

/// Flags of `demonitor`.
pub mod demonitor {
    /// Also drop the `DOWN` or `REPLY` of this reference if it has arrived.
    pub const FLUSH: i32 = 1;
}

/// Clocks that `clock` reads.
pub mod clock {
    /// Nanoseconds since an arbitrary point; never goes back.
    pub const MONOTONIC: i32 = 0;
    /// Nanoseconds since 1970-01-01 UTC.
    pub const REALTIME: i32 = 1;
}

/// Facts about the calling process that `info` returns.
pub mod info {
    /// Number of reductions so far.
    pub const REDUCTIONS: i32 = 0;
    /// Number of messages that wait in the mailbox.
    pub const MAILBOX: i32 = 1;
    /// Number of upgrades to new code so far.
    pub const UPGRADES: i32 = 2;
    /// The minor version of the host's ABI, [`ABI_MINOR`](super::ABI_MINOR). A host of minor version 0
    /// returns `BAD_ARGUMENT`.
    pub const ABI_MINOR: i32 = 3;
    /// Most bytes of one message that it may send.
    pub const MESSAGE_BYTES: i32 = 4;
    /// Most bytes of messages that may wait in its mailbox.
    pub const MAILBOX_BYTES: i32 = 5;
    /// Most messages that may wait in its mailbox.
    pub const MAILBOX_MESSAGES: i32 = 6;
    /// Most bytes of its memory.
    pub const MEMORY_BYTES: i32 = 7;
}

/// Levels of `log`.
pub mod log {
    /// An error.
    pub const ERROR: i32 = 1;
    /// An unusual condition.
    pub const WARN: i32 = 2;
    /// A fact that is of interest in operation.
    pub const INFO: i32 = 3;
    /// A detail for the author of the module.
    pub const DEBUG: i32 = 4;
}

/// Limits that hold for every guest, whatever its own limits are.
pub mod limits {
    /// Longest registered name, bytes.
    pub const NAME: u32 = 255;
    /// Most references among which one `receive` selects.
    pub const REFERENCES: u32 = 64;
    /// Longest log line, bytes; a longer line is truncated.
    pub const LOG_LINE: u32 = 8 * 1024;
    /// Longest list of WASI grants of a `spawn`, bytes.
    pub const GRANTS: u32 = 64 * 1024;
    /// Longest payload of an exit reason, bytes; a longer payload is truncated.
    pub const REASON: u32 = 64 * 1024;
    /// Most bytes one `random` fills.
    pub const RANDOM: u32 = 64 * 1024;
    /// Largest state from `save`, bytes.
    pub const STATE: u32 = 256 * 1024 * 1024;
    /// Most links of a process: beyond them it can create no link. Links that other processes
    /// create are not refused, but count. A supervisor that needs more children must have
    /// supervisors as children.
    pub const LINKS: u32 = 100_000;
    /// Most monitors and open requests of a process, together.
    pub const MONITORS: u32 = 100_000;
    /// Most registered names of a process.
    pub const NAMES: u32 = 1_000;
    /// Most groups of which a process is a member.
    pub const GROUPS: u32 = 1_000;
    /// Most tables of a process.
    pub const TABLES: u32 = 1_000;
    /// Longest key of a table's row, bytes.
    pub const TABLE_KEY: u32 = 1_024;
    /// Most timers and sent exit signals of a process, together. Each counts until the
    /// receiver has taken the message or has ended, or the timer is cancelled.
    pub const TIMERS: u32 = 100_000;
    /// Bytes of a child's arguments that do not count for its parent; longer ones count as a
    /// whole.
    pub const ARGUMENTS_FREE: u32 = 1_024;
    /// Maximum compile size of one function of a module, bytes of code.
    pub const FUNCTION_CODE: u32 = 2 * 1024 * 1024;
    /// Maximum compile size of all functions of a module, bytes of code.
    pub const MODULE_CODE: u32 = 64 * 1024 * 1024;
    /// Most functions of a module.
    pub const FUNCTIONS: u32 = 100_000;
    /// Most globals of a module, with the two that the host adds.
    pub const GLOBALS: u32 = 30_000;
    /// Most imports of a module.
    pub const IMPORTS: u32 = 10_000;
    /// Most steps of a module's initialization: data segments that are more than 1,024 bytes
    /// apart, entries of passive element segments, operators of constant expressions.
    pub const STARTUP: u32 = 60_000;
    /// Most blocks of one function.
    pub const BLOCKS: u32 = 50_000;
    /// Most variables of one function times its blocks.
    pub const VARIABLES_BY_BLOCKS: u32 = 50_000_000;
    /// Most sets of locals of one function times the blocks over which these locals live.
    pub const SETS_BY_BLOCKS: u64 = 10_000_000_000;
    /// Most values on the operand stack of one function.
    pub const OPERANDS: u32 = 10_000;
    /// Most loops inside one another.
    pub const NESTED_LOOPS: u32 = 100;
    /// Most entries of all tables (of functions) that a module begins with, and of
    /// each when it grows.
    pub const TABLE_ENTRIES: u32 = 1_048_576;
}
