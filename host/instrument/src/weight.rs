//! What a function is to compile, beside its size. A few bytes of Wasm can stand for
//! a thousand values, and what a compiler needs grows with the product of some counts.
//! So these are bounded before anything is compiled: a compilation cannot be ended, and
//! one that takes all memory takes the node with it.

use crate::error::InstrumentError;
use crate::parse::Parsed;
use crate::{
    CALL_BYTES, FUNCTION_BYTES, LOCAL_BYTES, MAX_BLOCKS, MAX_NESTED_LOOPS, MAX_OPERANDS,
    MAX_VARIABLES_BY_BLOCKS, VALUE_BYTES, VARIABLES_BY_BLOCKS_PER_BYTE,
};

/// Blocks that the compiler makes of a `loop` (with its check), an `if`, and of what
/// looks a function up in a table.
pub(crate) const THREE: u64 = 3;

/// Parameters of the runtime's functions that bulk instructions call.
pub(crate) const LIBCALL_VALUES: u64 = 3;
/// Blocks that the compiler makes of the instructions that walk over table entries.
pub(crate) const TABLE_COPY: u64 = 8;
pub(crate) const TABLE_GROW: u64 = 5;
pub(crate) const TABLE_INIT: u64 = 4;
pub(crate) const TABLE_FILL: u64 = 2;

/// The counts of one body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weight {
    /// Declared locals, without parameters.
    pub(crate) locals: u64,
    /// Parameters and results of the function: also of the trampoline through which the host
    /// calls it.
    pub(crate) signature: u64,
    /// Parameters and results of the function and of its blocks.
    pub(crate) passed: u64,
    pub(crate) blocks: u64,
    pub(crate) calls: u64,
    /// Parameters and results of all calls.
    pub(crate) values: u64,
    /// The most values on the operand stack.
    pub(crate) operands: u64,
    /// The most loops inside one another.
    pub(crate) nested_loops: u64,
}

impl Weight {
    /// Bytes of code that it counts for, beside its own.
    pub(crate) fn bytes(&self) -> u64 {
        self.locals * LOCAL_BYTES + self.calls * CALL_BYTES + self.values * VALUE_BYTES
    }

    /// Bytes of code that it counts for in the module, beside these.
    pub(crate) fn module_bytes(&self) -> u64 {
        FUNCTION_BYTES
            + self.signature * VALUE_BYTES
            + self.variables() * self.blocks / VARIABLES_BY_BLOCKS_PER_BYTE
    }

    fn variables(&self) -> u64 {
        self.locals + self.passed + self.operands
    }

    /// Refuses what is more than a function may have.
    pub(crate) fn check(&self, parsed: &Parsed<'_>, function: u32) -> Result<(), InstrumentError> {
        let variables = self.variables();
        let bounds = [
            (
                "blocks (`block`, `br_if` and a target of `br_table` count as one, `loop`, `if`, \
                 `call_indirect` and `table.get` as three, `table.copy` as eight, `table.grow` as \
                 five, `table.init` as four, `table.fill` as two)",
                self.blocks,
                MAX_BLOCKS,
            ),
            ("values on its operand stack", self.operands, MAX_OPERANDS),
            (
                "loops inside one another",
                self.nested_loops,
                MAX_NESTED_LOOPS,
            ),
            (
                "variables times blocks (parameters, results, locals, operands and the values \
                 that blocks pass, for each block)",
                variables.saturating_mul(self.blocks),
                MAX_VARIABLES_BY_BLOCKS,
            ),
        ];
        for (what, count, limit) in bounds {
            if count > limit {
                return Err(InstrumentError::FunctionTooComplex {
                    function: parsed.function_name(function),
                    what,
                    count,
                    limit,
                });
            }
        }
        Ok(())
    }
}
