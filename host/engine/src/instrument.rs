//! The one rewriting pass that every guest module goes through.
//!
//! It validates a module, adds the reduction counter and the ways in that the
//! engine needs, and reports what the engine must know about it. The engine's
//! loader is its only caller; nothing here runs Wasm or knows wasmtime.
//!
//! What the output guarantees:
//! - No function, global, table or type of the input changes its index. What
//!   is new is appended.
//! - Operators are copied byte for byte; only what must change is replaced. So
//!   [`OffsetMap`] needs one entry per change.
//! - The output of a module that is accepted always validates.
//! - Arbitrary bytes give an error and never a panic.
//!
//! What is added, with its reserved names:
//!
//! | export | what |
//! | --- | --- |
//! | `exuvia:g<index>` | a mutable global that the module did not export |
//! | `exuvia:t<index>` | a table of the module |
//! | `exuvia:reductions` | the counter; below zero means "yield" |
//! | `exuvia:mail` | messages that are known to wait and not yet taken in this entry; below zero if that is not known |
//! | `exuvia:host` | functions of the host: [`SLOT_YIELD`], [`SLOT_WAIT`]; for a module that uses WASI also [`SLOT_WASI_BEGIN`], [`SLOT_WASI_END`] |
//! | `exuvia:enter` | `(i32) -> (i32, i32)`, if there is a `run: () -> i32`: sets `exuvia:mail` to its argument and the counter to [`SLICE`], calls `run`, answers its answer and the counter |
//! | `exuvia:start` | the start function, which no longer runs by itself |
//!
//! The host fills `exuvia:host` right after instantiation, before any guest
//! code runs. The yield function must set the counter again; the wait function
//! returns when the call that answered [`exuvia_abi::SUSPEND`] is worth another try.
//!
//! Deliberately absent: checks of the ABI (which exports there must be, which
//! host calls exist). The loader makes them from the lists in [`Instrumented`].

mod analyse;
mod emit;
mod error;
mod helpers;
mod offsets;
mod parse;
mod report;
mod rewrite;
mod scan;

pub use error::{FunctionName, InstrumentError};
pub use offsets::OffsetMap;
pub use report::{
    ExportInfo, ExternKind, ExternType, FunctionType, ImportInfo, Instrumented, MemoryInfo,
    MutableGlobal, StackPointer, TableInfo, TableSlot, ValueType,
};

/// Prefix of the names that this pass adds. A module that uses it is refused.
pub const RESERVED_PREFIX: &str = "exuvia:";
/// Export of the reduction counter, a mutable `i32` global.
pub const EXPORT_REDUCTIONS: &str = "exuvia:reductions";
/// Export of how many messages are known to wait and not yet taken, a mutable
/// `i32` global: see [`MAIL_UNKNOWN`].
pub const EXPORT_MAIL: &str = "exuvia:mail";
/// In [`EXPORT_MAIL`], as anything below zero: ask the host. At 0 a `receive` that
/// would take any message and not wait is answered EMPTY without asking: most
/// entries end so, and a host call costs a good part of an entry.
pub const MAIL_UNKNOWN: i32 = -1;
/// Export of what enters `run`, `(i32) -> (i32, i32)`: it takes what
/// [`EXPORT_MAIL`] is to be, sets the counter to a slice, and answers what `run`
/// did and the counter.
pub const EXPORT_ENTER: &str = "exuvia:enter";
/// Reductions of one slice, as in Erlang.
pub const SLICE: i32 = 4_000;
/// Export of the table of the host's functions.
pub const EXPORT_HOST: &str = "exuvia:host";
/// Export of what was the start function.
pub const EXPORT_START: &str = "exuvia:start";
/// Slot of the yield function in [`EXPORT_HOST`].
pub const SLOT_YIELD: u32 = 0;
/// Slot of the wait function in [`EXPORT_HOST`], like the first `() -> ()`.
pub const SLOT_WAIT: u32 = 1;
/// Slot of what is called before a function of WASI: `(number, its first four
/// arguments, its last) -> error`; 0: go on.
pub const SLOT_WASI_BEGIN: u32 = 2;
/// Slot of what is called after it: `(answer, number) -> answer`.
pub const SLOT_WASI_END: u32 = 3;
/// Functions in [`EXPORT_HOST`], and of a module that uses WASI.
const SLOTS: u64 = 2;
const SLOTS_WITH_WASI: u64 = 4;
/// A bulk memory operation costs one reduction for this many bytes.
pub const BYTES_PER_REDUCTION: u32 = 1024;
/// A bulk table operation costs one reduction for this many entries.
pub const ENTRIES_PER_REDUCTION: u32 = 64;
/// A fill or copy of more bytes than this is split, with a yield check between the pieces.
pub const BULK_CHUNK: u32 = 64 * 1024;
/// The largest module that is taken. Offsets in [`OffsetMap`] are 32 bits, and no
/// operator grows to more than fifteen times its size.
pub const MAX_MODULE_BYTES: usize = 256 << 20;
/// The most that one function may be to compile: bytes of code once it is metered,
/// and [`LOCAL_BYTES`] for each local. What a compiler needs for one function grows
/// faster than its size; so much is some seconds and a gigabyte.
pub const MAX_FUNCTION_BYTES: u64 = 2 << 20;
/// The most that all functions of a module may be together.
pub const MAX_CODE_BYTES: u64 = 64 << 20;
/// What a local costs a compiler, though 50,000 of them are declared in five bytes:
/// so many bytes of code.
pub const LOCAL_BYTES: u64 = 8;

/// Validates and rewrites one core Wasm module.
///
/// # Errors
///
/// Anything that is not a valid core module of the supported features, or that
/// uses a reserved name, is refused with the place and the fix.
pub fn instrument(wasm: &[u8]) -> Result<Instrumented, InstrumentError> {
    let parsed = parse::parse(wasm)?;
    let plan = scan::scan(&parsed)?;
    let output = emit::emit(&parsed, &plan)?;
    analyse::report(&parsed, &plan, output)
}
