//! What a module may cost to compile. `weight` counts, `guest-sdk/abi.md` section 17 has the table,
//! and `host/notes/compile-limits.md` says what was measured.

use exuvia_abi::limits;

/// The largest accepted module. Offsets in [`OffsetMap`](crate::OffsetMap) are 32 bits, and no
/// operator grows to more than fifteen times its size.
pub const MAX_MODULE_BYTES: usize = 256 << 20;
/// The compile size limit of one function: bytes of code once it is metered,
/// [`LOCAL_BYTES`] for each local, [`CALL_BYTES`] for each call and [`VALUE_BYTES`] for
/// each value that a call passes or returns. The time and memory that a compiler needs
/// for one function grow faster than its size.
pub const MAX_FUNCTION_BYTES: u64 = limits::FUNCTION_CODE as u64;
/// The compile size limit of all functions of a module together, with [`FUNCTION_BYTES`]
/// for each.
pub const MAX_CODE_BYTES: u64 = limits::MODULE_CODE as u64;
/// The most bytes of debugging information that are kept of a module; more are dropped, and backtraces have
/// no lines of source.
pub const MAX_DEBUG_BYTES: usize = 16 << 20;
/// The cost of a local to a compiler, in bytes of code. 50,000 locals can be declared in
/// five bytes.
pub const LOCAL_BYTES: u64 = 8;
/// What a call costs, of two bytes or more.
pub const CALL_BYTES: u64 = 16;
/// What it costs for each parameter and result: a type may have a thousand of both.
pub const VALUE_BYTES: u64 = 8;
/// What a function costs, beside its code: some kilobytes while it is compiled.
pub const FUNCTION_BYTES: u64 = 256;
/// The most functions that a module may have, with those that are added.
pub const MAX_FUNCTIONS: u64 = limits::FUNCTIONS as u64;
/// The most globals of a module, with those that are added. A compiled function can tell no more
/// than 65,534 things apart that it loads from or stores to, of which each import takes two.
pub const MAX_GLOBALS: u64 = limits::GLOBALS as u64;
/// The most imports of a module, for the same reason.
pub const MAX_IMPORTS: u64 = limits::IMPORTS as u64;
/// The most steps of a module's initialization (see `startup`): the compiler makes one function of
/// all of them.
pub const MAX_STARTUP: u64 = limits::STARTUP as u64;
/// The most blocks of one function, as the compiler will have them: a `block`, a
/// `br_if` and a target of a `br_table` count as one, an `if`, a `loop`, a
/// `call_indirect` and a `table.get` as three, a `table.copy` as eight, a `table.grow` as
/// five, a `table.init` as four, a `table.fill` as two.
pub const MAX_BLOCKS: u64 = limits::BLOCKS as u64;
/// The most that the variables of one function may be, times its blocks: the compiler
/// keeps a table of both, of about ten bytes for each. Variables are parameters,
/// results and locals, the parameters and results of each block, and the most values
/// on the operand stack.
pub const MAX_VARIABLES_BY_BLOCKS: u64 = limits::VARIABLES_BY_BLOCKS as u64;
/// So many of them count as one byte of code in the sum of all functions.
pub const VARIABLES_BY_BLOCKS_PER_BYTE: u64 = 64;
/// The most that the sets of locals in one function may be, times the blocks over which these
/// locals live (see `lifetimes`): the register allocator needs up to a nanosecond for each.
pub const MAX_SETS_BY_BLOCKS: u64 = limits::SETS_BY_BLOCKS;
/// So many of them count as one byte of code in the sum of all functions.
pub const SETS_BY_BLOCKS_PER_BYTE: u64 = 1_000;
/// The most values on the operand stack.
pub const MAX_OPERANDS: u64 = limits::OPERANDS as u64;
/// The most loops inside one another.
pub const MAX_NESTED_LOOPS: u64 = limits::NESTED_LOOPS as u64;
