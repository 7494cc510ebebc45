//! Reads every function body once, and plans the changes: a list of edits per body, in file
//! order, and the list of functions to add. Nothing is written here.

use wasmparser::{FunctionBody, Operator};

use crate::error::InstrumentError;
use crate::lifetimes::Lifetimes;
use crate::parse::{Parsed, internal};
use crate::plan::{Added, BodyPlan, Edit, Fact, Loop, Plan, What};
use crate::reach::reachable;
use crate::shims::{find_run, find_shims};
use crate::weight::Weight;
use crate::{BYTES_PER_REDUCTION, ENTRIES_PER_REDUCTION};

/// The most operators of a function that has no check at its entry, provided that it
/// contains neither a loop nor a call. Its caller has checks, and makes a limited
/// number of calls between two of them, so the work without a check is bounded by
/// the size of one function times this number.
const FREE_LEAF_OPERATORS: u32 = 64;

/// The most locals, parameters included, that a function may have for one more to be
/// added. wasmparser's limit is 50,000.
const MAX_LOCALS: u64 = 49_999;

/// Reads all bodies and returns the plan.
pub(crate) fn scan(parsed: &Parsed<'_>) -> Result<Plan, InstrumentError> {
    let first = parsed.functions.len() as u32;
    let mut plan = Plan {
        bodies: Vec::with_capacity(parsed.bodies.len()),
        added: vec![Added::Yield],
        yield_function: first,
        first_helper: 1,
        shims: Default::default(),
        facts: Vec::new(),
        start_facts: Vec::new(),
    };
    find_shims(parsed, &mut plan)?;
    find_run(parsed, &mut plan)?;
    plan.first_helper = plan.added.len();
    let mut edges: Vec<Vec<u32>> = Vec::new();
    let mut lifetimes = Lifetimes::default();
    for (number, body) in parsed.bodies.iter().enumerate() {
        let index = parsed.imported_functions + number as u32;
        let mut scanner = Scanner::new(&mut plan, &mut lifetimes, index, first);
        let body_plan = scanner.body(parsed, body).map_err(internal)?;
        body_plan.weight.check(parsed, index)?;
        let mut calls = scanner.mentions;
        plan.bodies.push(body_plan);
        if parsed.start.is_some() {
            calls.sort_unstable();
            calls.dedup();
            edges.push(calls);
        }
    }
    if parsed.start.is_some() {
        let later = reachable(parsed, &edges)?;
        (plan.facts, plan.start_facts) = std::mem::take(&mut plan.facts)
            .into_iter()
            .partition(|(function, ..)| later[*function as usize]);
    }
    Ok(plan)
}

/// An entry of the control stack.
struct Block {
    /// The number of the loop; `None` for other blocks.
    number: Option<u32>,
    /// Whether code in the block calls a function that returns.
    calls: bool,
    /// The clauses by which it catches exceptions, if it is a `try_table`.
    catches: u64,
}

struct Scanner<'p> {
    weight: Weight,
    lifetimes: &'p mut Lifetimes,
    /// Loops that are open.
    open_loops: u64,
    plan: &'p mut Plan,
    function: u32,
    first_added: u32,
    edits: Vec<Edit>,
    loops: Vec<Loop>,
    blocks: Vec<Block>,
    /// Functions that the body calls or takes a reference to.
    mentions: Vec<u32>,
    operators: u32,
    /// Whether the body calls anything, tail calls included.
    calls: bool,
    /// Whether the previous operator is a call. The next operator says whether it returns.
    open_call: bool,
    /// The value of the previous operator, if that is an `i32.const`.
    constant: Option<u32>,
}

impl<'p> Scanner<'p> {
    fn new(
        plan: &'p mut Plan,
        lifetimes: &'p mut Lifetimes,
        function: u32,
        first_added: u32,
    ) -> Self {
        Self {
            weight: Weight::default(),
            lifetimes,
            open_loops: 0,
            plan,
            function,
            first_added,
            edits: Vec::new(),
            loops: Vec::new(),
            blocks: Vec::new(),
            mentions: Vec::new(),
            operators: 0,
            calls: false,
            open_call: false,
            constant: None,
        }
    }

    fn body(
        &mut self,
        parsed: &Parsed<'_>,
        body: &FunctionBody<'_>,
    ) -> wasmparser::Result<BodyPlan> {
        let type_index = parsed.functions[self.function as usize];
        let ty = &parsed.types[type_index as usize];
        self.weight.signature = (ty.params().len() + ty.results().len()) as u64;
        self.weight.passed = self.weight.signature;
        let number = (self.function - parsed.imported_functions) as usize;
        self.weight.operands = u64::from(parsed.operands[number]);
        for group in body.get_locals_reader()? {
            self.weight.locals += u64::from(group?.0);
        }
        let locals = ty.params().len() as u64 + self.weight.locals;
        self.lifetimes.begin(ty.params().len() as u32);
        let mut reader = body.get_operators_reader()?;
        let code = reader.original_position() as u32;
        self.push(code, code, What::Entry);
        while !reader.eof() {
            let at = reader.original_position() as u32;
            let operator = reader.read()?;
            self.live(&operator);
            self.weight.add(parsed, &operator);
            self.operator(&operator, at, reader.original_position() as u32);
        }
        let is_free = self.loops.is_empty() && !self.calls && self.operators <= FREE_LEAF_OPERATORS;
        if is_free {
            self.edits.remove(0);
        }
        self.weight.sets_by_blocks = self.lifetimes.sets_by_blocks();
        let mut plan = BodyPlan {
            edits: std::mem::take(&mut self.edits),
            code,
            counter: None,
            loops: std::mem::take(&mut self.loops),
            weight: self.weight,
        };
        if locals <= MAX_LOCALS && plan.loops.iter().any(|a_loop| !a_loop.calls) {
            plan.counter = Some(locals as u32);
        }
        Ok(plan)
    }

    /// Notes where a block begins or ends, and where a local is used.
    fn live(&mut self, operator: &Operator<'_>) {
        let at = self.weight.blocks;
        match operator {
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                self.lifetimes.open(false, at);
            }
            Operator::Loop { .. } => self.lifetimes.open(true, at),
            Operator::Else => self.lifetimes.otherwise(),
            Operator::End => self.lifetimes.close(at),
            Operator::LocalGet { local_index } => self.lifetimes.get(*local_index, at),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                self.lifetimes.set(*local_index, at);
            }
            _ => {}
        }
    }

    fn push(&mut self, at: u32, end: u32, what: What) {
        self.edits.push(Edit { at, end, what });
    }

    /// Returns the index of an added function. Adds it at its first use.
    fn added(&mut self, wanted: Added) -> u32 {
        let helpers = self.plan.first_helper;
        let known = self.plan.added[helpers..]
            .iter()
            .position(|added| *added == wanted);
        let position = known.unwrap_or_else(|| {
            self.plan.added.push(wanted);
            self.plan.added.len() - 1 - helpers
        });
        self.first_added + (helpers + position) as u32
    }

    fn fact(&mut self, at: u32, fact: Fact) {
        self.plan.facts.push((self.function, at, fact));
    }

    /// Records a call that returns, after which the counter may have changed.
    fn note_call(&mut self) {
        self.calls = true;
        if let Some(block) = self.blocks.last_mut() {
            block.calls = true;
        }
    }

    fn operator(&mut self, operator: &Operator<'_>, at: u32, end: u32) {
        self.operators += 1;
        // Compilers end a path that panics with a call and `unreachable`. Such a
        // call never returns to the loop around it, unless by an exception that is caught.
        if std::mem::take(&mut self.open_call)
            && (self.may_catch() || !matches!(operator, Operator::Unreachable))
        {
            self.note_call();
        }
        let constant = self.constant.take();
        match operator {
            Operator::I32Const { value } => self.constant = Some(*value as u32),
            Operator::Block { .. }
            | Operator::If { .. }
            | Operator::Loop { .. }
            | Operator::TryTable { .. }
            | Operator::End => self.structure(operator, at, end),
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::RefFunc { .. } => self.reference(operator, at, end),
            Operator::Throw { .. } | Operator::ThrowRef => self.throw(at),
            _ => self.bulk(operator, at, end, constant),
        }
    }

    fn structure(&mut self, operator: &Operator<'_>, at: u32, end: u32) {
        let (mut number, mut catches) = (None, 0);
        match operator {
            Operator::TryTable { try_table } => {
                catches = try_table.catches.len() as u64;
                self.weight.open_catches += catches;
            }
            Operator::Loop { .. } => {
                let this = self.loops.len() as u32;
                let parent = self.blocks.iter().rev().find_map(|block| block.number);
                self.loops.push(Loop {
                    parent,
                    calls: false,
                });
                self.push(at, at, What::Preload(this));
                self.push(end, end, What::LoopHead(this));
                number = Some(this);
                self.open_loops += 1;
                self.weight.nested_loops = self.weight.nested_loops.max(self.open_loops);
            }
            Operator::End => {
                // The last `end` closes the body, which is not on the control stack.
                let Some(block) = self.blocks.pop() else {
                    return;
                };
                if let Some(number) = block.number {
                    self.loops[number as usize].calls = block.calls;
                    self.open_loops -= 1;
                }
                self.weight.open_catches -= block.catches;
                if block.calls
                    && let Some(outer) = self.blocks.last_mut()
                {
                    outer.calls = true;
                }
                return;
            }
            _ => {}
        }
        self.blocks.push(Block {
            number,
            calls: false,
            catches,
        });
    }

    /// Charges before an exception is thrown. The function goes on only if it catches it itself.
    fn throw(&mut self, at: u32) {
        let helper = self.added(Added::ChargeThrow);
        self.push(at, at, What::Call(helper));
        self.calls = true;
        if self.may_catch() {
            self.note_call();
        }
    }

    /// Returns whether what is thrown here may be caught in the function.
    fn may_catch(&self) -> bool {
        self.weight.open_catches > 0
    }

    fn reference(&mut self, operator: &Operator<'_>, at: u32, end: u32) {
        let (function, what): (_, fn(u32) -> What) = match operator {
            Operator::Call { function_index } => {
                self.open_call = true;
                (*function_index, What::Call)
            }
            Operator::ReturnCall { function_index } => (*function_index, What::ReturnCall),
            Operator::RefFunc { function_index } => (*function_index, What::RefFunc),
            Operator::CallIndirect { .. } => {
                self.calls = true;
                self.open_call = true;
                return;
            }
            _ => {
                self.calls = true;
                return;
            }
        };
        self.mentions.push(function);
        self.calls |= !matches!(operator, Operator::RefFunc { .. });
        if let Some(shim) = self.plan.shims.get(&function).copied() {
            self.push(at, end, what(shim));
        }
    }

    /// Handles bulk operations, and other operators that affect tables and segments.
    /// A bulk operation whose size is a small constant costs nothing and is copied
    /// unchanged.
    fn bulk(&mut self, operator: &Operator<'_>, at: u32, end: u32, size: Option<u32>) {
        let few_bytes = size.is_some_and(|size| size < BYTES_PER_REDUCTION);
        let few_entries = size.is_some_and(|size| size < ENTRIES_PER_REDUCTION);
        match operator {
            Operator::MemoryFill { .. } if !few_bytes => self.replace(at, end, Added::Fill),
            Operator::MemoryCopy { .. } if !few_bytes => self.replace(at, end, Added::Copy),
            Operator::MemoryGrow { .. } => self.replace(at, end, Added::Grow),
            Operator::MemoryInit { .. } if !few_bytes => self.replace(at, at, Added::ChargeBytes),
            Operator::DataDrop { data_index } => self.fact(at, Fact::DropsData(*data_index)),
            Operator::ElemDrop { elem_index } => self.fact(at, Fact::DropsElements(*elem_index)),
            Operator::TableSet { table } => self.fact(at, Fact::WritesTable(*table)),
            Operator::TableGrow { table } => {
                self.fact(at, Fact::WritesTable(*table));
                self.replace(at, at, Added::ChargeGrown);
            }
            Operator::TableFill { table }
            | Operator::TableInit { table, .. }
            | Operator::TableCopy {
                dst_table: table, ..
            } => {
                self.fact(at, Fact::WritesTable(*table));
                if !few_entries {
                    self.replace(at, at, Added::ChargeEntries);
                }
            }
            _ => {}
        }
    }

    fn replace(&mut self, at: u32, end: u32, added: Added) {
        let helper = self.added(added);
        self.push(at, end, What::Call(helper));
        self.note_call();
    }
}
