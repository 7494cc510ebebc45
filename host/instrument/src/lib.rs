//! The rewriting pass that instruments every guest module.
//!
//! It validates a module, adds the reduction counter and the entry points that
//! the engine needs, and reports what the engine must know about the module.
//! The engine's loader is the only caller. Nothing here runs Wasm, and nothing may
//! depend on wasmtime: the pass can be read, tested and fuzzed alone.
//!
//! Guarantees:
//! - No function, global, table or type of the input changes its index. New
//!   items are appended.
//! - Operators are copied byte for byte; only what must change is replaced. So
//!   [`OffsetMap`] needs one entry per change.
//! - The output of an accepted module always validates.
//! - Arbitrary bytes produce an error, never a panic.
//!
//! The added exports have reserved names:
//!
//! | export | meaning |
//! | --- | --- |
//! | `exuvia:g<index>` | a mutable global that the module did not export |
//! | `exuvia:t<index>` | a table of the module |
//! | `exuvia:reductions` | the reduction counter; below zero means "yield" |
//! | `exuvia:mail` | the number of messages known to wait and not yet taken in this entry; below zero if unknown |
//! | `exuvia:host` | table of host functions: [`SLOT_YIELD`], [`SLOT_WAIT`]; in a module that uses WASI also [`SLOT_WASI_BEGIN`], [`SLOT_WASI_END`] |
//! | `exuvia:enter` | `(i32) -> (i32, i32)`, if the module exports `run: () -> i32`: sets `exuvia:mail` to its argument and the counter to [`SLICE`], calls `run`, and returns the result of `run` and the counter |
//! | `exuvia:start` | the start function, which no longer runs by itself |
//!
//! The host fills `exuvia:host` right after instantiation, before any guest
//! code runs. The yield function must set the counter again. The wait function
//! returns when it is worth repeating the call that returned [`exuvia_abi::SUSPEND`].
//!
//! Deliberately absent: checks of the ABI (the required exports, the existing
//! host calls). The loader performs them on the lists in [`Instrumented`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod analyse;
mod data;
mod emit;
mod error;
mod helpers;
mod lifetimes;
mod limits;
mod offsets;
mod parse;
mod plan;
mod reach;
mod report;
mod rewrite;
mod scan;
mod shims;
mod startup;
mod weight;

pub use error::{FunctionName, InstrumentError};
pub use limits::{
    CALL_BYTES, FUNCTION_BYTES, LOCAL_BYTES, MAX_BLOCKS, MAX_CODE_BYTES, MAX_DEBUG_BYTES,
    MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS, MAX_IMPORTS, MAX_MODULE_BYTES,
    MAX_NESTED_LOOPS, MAX_OPERANDS, MAX_SETS_BY_BLOCKS, MAX_STARTUP, MAX_VARIABLES_BY_BLOCKS,
    SETS_BY_BLOCKS_PER_BYTE, VALUE_BYTES, VARIABLES_BY_BLOCKS_PER_BYTE,
};
pub use offsets::OffsetMap;
pub use report::{
    DebugInfo, ExportInfo, ExternKind, ExternType, FunctionType, ImportInfo, Instrumented,
    MemoryInfo, MutableGlobal, StackPointer, TableInfo, TableSlot, ValueType,
};

/// Prefix of the names that this pass adds. A module that uses the prefix is rejected.
pub const RESERVED_PREFIX: &str = "exuvia:";
/// Export of the reduction counter, a mutable `i32` global.
pub const EXPORT_REDUCTIONS: &str = "exuvia:reductions";
/// Export of the number of messages that are known to wait and not yet taken, a
/// mutable `i32` global: see [`MAIL_UNKNOWN`].
pub const EXPORT_MAIL: &str = "exuvia:mail";
/// Value of [`EXPORT_MAIL`], like any value below zero, that means "unknown, call
/// the host". At 0 a `receive` that takes any message and does not wait returns
/// EMPTY without a host call: most entries end this way, and a host call costs a
/// considerable part of an entry.
pub const MAIL_UNKNOWN: i32 = -1;
/// Export of the function that enters `run`, `(i32) -> (i32, i32)`: it takes the
/// new value of [`EXPORT_MAIL`], sets the counter to a slice, and returns the
/// result of `run` and the counter.
pub const EXPORT_ENTER: &str = "exuvia:enter";
/// Reductions of one slice, as in Erlang.
pub const SLICE: i32 = 4_000;
/// Export of the table of the host's functions.
pub const EXPORT_HOST: &str = "exuvia:host";
/// Export of the former start function.
pub const EXPORT_START: &str = "exuvia:start";
/// Slot of the yield function in [`EXPORT_HOST`].
pub const SLOT_YIELD: u32 = 0;
/// Slot of the wait function in [`EXPORT_HOST`]. Its type is `() -> ()`, as that of
/// the yield function.
pub const SLOT_WAIT: u32 = 1;
/// Slot of the function that is called before a WASI function: `(number, its first
/// four arguments, its last) -> error`; 0 means "continue".
pub const SLOT_WASI_BEGIN: u32 = 2;
/// Slot of the function that is called after it: `(result, number) -> result`.
pub const SLOT_WASI_END: u32 = 3;
/// Number of functions in [`EXPORT_HOST`], without and with WASI.
const SLOTS: u64 = 2;
const SLOTS_WITH_WASI: u64 = 4;
/// A bulk memory operation costs one reduction for this many bytes.
pub const BYTES_PER_REDUCTION: u32 = 1024;
/// A bulk table operation costs one reduction for this many entries.
pub const ENTRIES_PER_REDUCTION: u32 = 64;
/// What `memory.grow` and `table.grow` cost beside that, whether they grow or not: the
/// host is asked.
pub const GROW_COST: u32 = 32;
/// What throwing an exception costs: the host makes it, and looks for who catches it.
pub const THROW_COST: u32 = 32;
/// A fill or copy of more bytes than this is split, with a yield check between the pieces.
pub const BULK_CHUNK: u32 = 64 * 1024;
/// Validates and rewrites one core Wasm module.
///
/// # Errors
///
/// Returns an error with the location and the fix if the bytes are not a valid core
/// module of the supported features, exceed a limit, use a reserved name, or import a
/// blocking host call with a type that does not return `i32`.
pub fn instrument(wasm: &[u8]) -> Result<Instrumented, InstrumentError> {
    let parsed = parse::parse(wasm)?;
    let plan = scan::scan(&parsed)?;
    let output = emit::emit(&parsed, &plan)?;
    analyse::report(&parsed, &plan, output)
}
