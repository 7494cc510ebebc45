//! What a function is to compile, beside its size. A few bytes of Wasm can stand for
//! a thousand values, and what a compiler needs grows with the product of some counts.
//! So these are bounded before anything is compiled: a compilation cannot be ended, and
//! one that takes all memory takes the node with it.

use wasmparser::{BlockType, Catch, Operator};

use crate::error::InstrumentError;
use crate::parse::Parsed;
use crate::{
    CALL_BYTES, FUNCTION_BYTES, LOCAL_BYTES, MAX_BLOCKS, MAX_NESTED_LOOPS, MAX_OPERANDS,
    MAX_SETS_BY_BLOCKS, MAX_VARIABLES_BY_BLOCKS, SETS_BY_BLOCKS_PER_BYTE, VALUE_BYTES,
    VARIABLES_BY_BLOCKS_PER_BYTE,
};

/// Blocks that the compiler makes of a `loop` (with its check), an `if`, and of what
/// looks a function up in a table.
const THREE: u64 = 3;

/// Parameters of the runtime's functions that bulk instructions call.
const LIBCALL_VALUES: u64 = 3;
/// Blocks that the compiler makes of the instructions that walk over table entries.
const TABLE_COPY: u64 = 8;
const TABLE_GROW: u64 = 5;
const TABLE_INIT: u64 = 4;
const TABLE_FILL: u64 = 2;

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
    /// The clauses of all `try_table` around the current operator: each call in them has as many ways to go
    /// on.
    pub(crate) open_catches: u64,
    /// The most loops inside one another.
    pub(crate) nested_loops: u64,
    /// Sets of locals, times the blocks over which these live.
    pub(crate) sets_by_blocks: u64,
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
            + self.sets_by_blocks / SETS_BY_BLOCKS_PER_BYTE
    }

    /// Counts an operator.
    pub(crate) fn add(&mut self, parsed: &Parsed<'_>, operator: &Operator<'_>) {
        let arity = |ty: u32| {
            let ty = parsed.types.get(ty as usize);
            ty.map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64)
        };
        let passed = |ty: BlockType| match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(ty) => arity(ty),
        };
        let tag_arity = |tag: u32| parsed.tags.get(tag as usize).map_or(0, |ty| arity(*ty));
        let weight = self;
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } | Operator::Loop { blockty } => {
                weight.passed += passed(*blockty);
                weight.blocks += match operator {
                    Operator::Block { .. } => 1,
                    _ => THREE,
                };
            }
            Operator::TryTable { try_table } => {
                weight.passed += passed(try_table.ty);
                weight.blocks += 1 + THREE * try_table.catches.len() as u64;
                for catch in &try_table.catches {
                    weight.passed += 1 + match catch {
                        Catch::One { tag, .. } | Catch::OneRef { tag, .. } => tag_arity(*tag),
                        Catch::All { .. } | Catch::AllRef { .. } => 0,
                    };
                }
            }
            Operator::Throw { tag_index } => {
                weight.call();
                weight.values += tag_arity(*tag_index);
            }
            Operator::ThrowRef => {
                weight.call();
                weight.values += 1;
            }
            Operator::BrIf { .. } => weight.blocks += 1,
            Operator::BrTable { targets } => weight.blocks += u64::from(targets.len()) + 1,
            Operator::TableGet { .. } => weight.blocks += THREE,
            Operator::TableCopy { .. }
            | Operator::TableGrow { .. }
            | Operator::TableInit { .. }
            | Operator::TableFill { .. } => {
                weight.blocks += match operator {
                    Operator::TableCopy { .. } => TABLE_COPY,
                    Operator::TableGrow { .. } => TABLE_GROW,
                    Operator::TableInit { .. } => TABLE_INIT,
                    _ => TABLE_FILL,
                };
                weight.call();
                weight.values += LIBCALL_VALUES;
            }
            // Calls into the runtime.
            Operator::RefFunc { .. }
            | Operator::MemoryGrow { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
            | Operator::ElemDrop { .. } => {
                weight.call();
                weight.values += LIBCALL_VALUES;
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                let ty = parsed.functions.get(*function_index as usize);
                weight.call();
                weight.values += ty.map_or(0, |ty| arity(*ty));
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. } => {
                weight.blocks += THREE;
                weight.call();
                weight.values += arity(*type_index);
            }
            _ => {}
        }
    }

    /// Counts a call. Within `try_table` it ends a block of the compiler.
    fn call(&mut self) {
        self.calls += 1;
        if self.open_catches > 0 {
            self.blocks += 1 + self.open_catches;
        }
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
                 five, `table.init` as four, `table.fill` as two, a `catch` as three, a call within \
                 `try_table` as one and one for each `catch` around it)",
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
            (
                "sets of locals times blocks (the blocks are those over which the locals live, \
                 from their first use to their last, all together)",
                self.sets_by_blocks,
                MAX_SETS_BY_BLOCKS,
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
