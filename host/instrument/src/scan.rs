//! Reads every function body once and plans the changes.
//!
//! The result is a list of edits per body, in file order, and the list of
//! functions to add. Nothing is written here.

use std::collections::BTreeMap;

use exuvia_abi::{HostCall, MODULE, exports, wasi};
use wasmparser::{BlockType, FunctionBody, Operator, TypeRef, ValType};

use crate::analyse::{self, Constant};
use crate::error::InstrumentError;
use crate::parse::{Parsed, internal};
use crate::weight::{
    LIBCALL_VALUES, TABLE_COPY, TABLE_FILL, TABLE_GROW, TABLE_INIT, THREE, Weight,
};
use crate::{BYTES_PER_REDUCTION, ENTRIES_PER_REDUCTION};

/// The most operators of a function that has no check at its entry, provided that it
/// contains neither a loop nor a call. Its caller has checks, and makes a limited
/// number of calls between two of them, so the work without a check is bounded by
/// the size of one function times this number.
const FREE_LEAF_OPERATORS: u32 = 64;

/// The most locals, parameters included, that a function may have for one more to be
/// added. wasmparser's limit is 50,000.
const MAX_LOCALS: u64 = 49_999;

/// The host call with a specific shim, and the parameters that the shim expects. The
/// loader rejects a module that imports the call with other parameters.
const RECEIVE: &str = "receive";
const RECEIVE_PARAMS: [ValType; 6] = [
    ValType::I32,
    ValType::I32,
    ValType::I32,
    ValType::I64,
    ValType::I32,
    ValType::I64,
];

/// One change to a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    /// Input offset at which the new code is inserted.
    pub(crate) at: u32,
    /// End of the operators that it replaces; `at` for a mere insertion.
    pub(crate) end: u32,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The check at the function's entry.
    Entry,
    /// The load of the counter into the function's local, before the loop with this number.
    Preload(u32),
    /// The check at the head of the loop with this number.
    LoopHead(u32),
    /// A call of this function.
    Call(u32),
    /// A tail call of this function.
    ReturnCall(u32),
    /// A reference to this function.
    RefFunc(u32),
}

/// The relevant facts about a loop.
#[derive(Clone, Copy, Debug)]
struct Loop {
    parent: Option<u32>,
    /// Whether code in the loop may call a function that returns, and so change the counter.
    calls: bool,
}

/// The planned changes to one body.
#[derive(Debug)]
pub(crate) struct BodyPlan {
    pub(crate) edits: Vec<Edit>,
    /// Input offset of the first operator.
    pub(crate) code: u32,
    /// Index of the local that is added for the counter.
    pub(crate) counter: Option<u32>,
    loops: Vec<Loop>,
    /// What it is to compile, beside its size.
    pub(crate) weight: Weight,
}

impl BodyPlan {
    /// Returns whether the counter is kept in the local while this loop runs.
    pub(crate) fn is_cached(&self, number: u32) -> bool {
        self.counter.is_some() && !self.loops[number as usize].calls
    }

    /// Returns whether the local must be loaded before this loop: the loop is cached,
    /// and the loop around it is not.
    pub(crate) fn is_preloaded(&self, number: u32) -> bool {
        let parent = self.loops[number as usize].parent;
        self.is_cached(number) && !parent.is_some_and(|parent| self.is_cached(parent))
    }
}

/// A function that the pass adds to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// Calls the host's yield function.
    Yield,
    /// Calls this blocking import until it returns something other than
    /// [`exuvia_abi::SUSPEND`].
    Blocking(u32),
    /// The same for `receive`, with a count of the known messages.
    Receive(u32),
    /// Calls this WASI import, and notifies the host before and after.
    Wasi {
        /// The import.
        import: u32,
        /// Its number, see `exuvia_abi::wasi::FUNCTIONS`.
        number: u32,
        /// The arguments that the host gets before the call: the first four and the
        /// last, if they are `i32`.
        told: [Option<u32>; 5],
    },
    /// `memory.fill` in chunks.
    Fill,
    /// `memory.copy` in chunks.
    Copy,
    /// `memory.grow`, charged, and for its pages if it succeeds.
    Grow,
    /// Charges for `table.grow` by a number of entries and returns the number.
    ChargeGrown,
    /// Charges for a number of bytes and returns the number.
    ChargeBytes,
    /// Charges for a number of table entries and returns the number.
    ChargeEntries,
    /// Enters this function, which is `run`.
    Enter(u32),
}

/// An effect of an operator that decides whether a frame can be reused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact {
    /// Changes this table.
    WritesTable(u32),
    /// Drops this data segment.
    DropsData(u32),
    /// Drops this element segment.
    DropsElements(u32),
}

/// All decisions that precede the writing of the output.
#[derive(Debug)]
pub(crate) struct Plan {
    /// One plan for each defined function.
    pub(crate) bodies: Vec<BodyPlan>,
    /// Added functions in index order; the first index is the input's number of functions.
    pub(crate) added: Vec<Added>,
    /// Index of [`Added::Yield`].
    pub(crate) yield_function: u32,
    /// The shim of each import that has one.
    pub(crate) shims: BTreeMap<u32, u32>,
    /// Function, offset of the operator, and its effect, for code that may run after start.
    pub(crate) facts: Vec<(u32, u32, Fact)>,
    /// The same for code that only start runs.
    pub(crate) start_facts: Vec<(u32, u32, Fact)>,
}

impl Plan {
    /// Returns whether the module imports WASI functions that return.
    pub(crate) fn uses_wasi(&self) -> bool {
        (self.added.iter()).any(|added| matches!(added, Added::Wasi { .. }))
    }

    /// Returns the index in the output for a function index of the input: its shim, or
    /// the function itself.
    pub(crate) fn redirect(&self, function: u32) -> u32 {
        self.shims.get(&function).copied().unwrap_or(function)
    }
}

/// Reads all bodies and returns the plan.
pub(crate) fn scan(parsed: &Parsed<'_>) -> Result<Plan, InstrumentError> {
    let first = parsed.functions.len() as u32;
    let mut plan = Plan {
        bodies: Vec::with_capacity(parsed.bodies.len()),
        added: vec![Added::Yield],
        yield_function: first,
        shims: BTreeMap::new(),
        facts: Vec::new(),
        start_facts: Vec::new(),
    };
    find_shims(parsed, &mut plan)?;
    find_run(parsed, &mut plan)?;
    let mut edges: Vec<Vec<u32>> = Vec::new();
    for (number, body) in parsed.bodies.iter().enumerate() {
        let index = parsed.imported_functions + number as u32;
        let mut scanner = Scanner::new(&mut plan, index, first);
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

/// Adds a shim for each import that may return [`exuvia_abi::SUSPEND`], and for each
/// WASI import that returns.
fn find_shims(parsed: &Parsed<'_>, plan: &mut Plan) -> Result<(), InstrumentError> {
    let functions = parsed
        .imports
        .iter()
        .filter(|import| matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
    for (import, index) in functions.zip(0u32..) {
        let ty = parsed.function_type(index)?;
        let added = match import.module {
            MODULE if HostCall::find(import.name).is_some_and(|call| call.blocks) => {
                if import.name == RECEIVE && ty.params() == RECEIVE_PARAMS {
                    Added::Receive(index)
                } else {
                    Added::Blocking(index)
                }
            }
            wasi::MODULE => match wasi::find(import.name) {
                Some(number) if wasi::FUNCTIONS[number].act != wasi::Act::Ends => Added::Wasi {
                    import: index,
                    number: number as u32,
                    told: told(ty.params()),
                },
                _ => continue,
            },
            _ => continue,
        };
        if ty.results() != [ValType::I32] {
            return Err(InstrumentError::BlockingSignature {
                module: import.module.to_owned(),
                name: import.name.to_owned(),
                found: analyse::function_type(ty)?.to_string(),
            });
        }
        plan.shims
            .insert(index, plan.yield_function + plan.added.len() as u32);
        plan.added.push(added);
    }
    Ok(())
}

/// Returns the arguments that the host gets, see [`Added::Wasi`].
fn told(params: &[ValType]) -> [Option<u32>; 5] {
    let last = params.len().checked_sub(1);
    [Some(0), Some(1), Some(2), Some(3), last].map(|at| {
        let at = at.filter(|at| params.get(*at) == Some(&ValType::I32))?;
        u32::try_from(at).ok()
    })
}

/// Adds the function that enters `run`. A wrong type of the export is reported by the
/// loader, not by this pass.
fn find_run(parsed: &Parsed<'_>, plan: &mut Plan) -> Result<(), InstrumentError> {
    let run = parsed.exports.iter().find(|export| {
        export.name == exports::RUN && export.kind == wasmparser::ExternalKind::Func
    });
    if let Some(run) = run {
        let ty = parsed.function_type(run.index)?;
        if ty.params().is_empty() && ty.results() == [ValType::I32] {
            plan.added.push(Added::Enter(plan.redirect(run.index)));
        }
    }
    Ok(())
}

/// Returns, for each function, whether it may run after start has ended: all that can
/// be reached from an export, an element segment or a global. A function that takes a
/// reference to another counts as its caller. The start section itself is no root,
/// since it runs once.
fn reachable(parsed: &Parsed<'_>, edges: &[Vec<u32>]) -> Result<Vec<bool>, InstrumentError> {
    let mut later = vec![false; parsed.functions.len()];
    let mut work: Vec<u32> = Vec::new();
    for export in &parsed.exports {
        if matches!(
            export.kind,
            wasmparser::ExternalKind::Func | wasmparser::ExternalKind::FuncExact
        ) {
            work.push(export.index);
        }
    }
    for element in &parsed.elements {
        analyse::element_functions(element, |_, item| {
            if let Constant::Function(function) = item {
                work.push(function);
            }
        })?;
    }
    for global in &parsed.globals {
        work.extend(analyse::constant_functions(&global.init_expr)?);
    }
    while let Some(function) = work.pop() {
        let seen = &mut later[function as usize];
        if std::mem::replace(seen, true) {
            continue;
        }
        if let Some(body) = function.checked_sub(parsed.imported_functions) {
            work.extend(&edges[body as usize]);
        }
    }
    Ok(later)
}

/// An entry of the control stack.
struct Block {
    /// The number of the loop; `None` for other blocks.
    number: Option<u32>,
    /// Whether code in the block calls a function that returns.
    calls: bool,
}

struct Scanner<'p> {
    weight: Weight,
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
    fn new(plan: &'p mut Plan, function: u32, first_added: u32) -> Self {
        Self {
            weight: Weight::default(),
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
        let mut reader = body.get_operators_reader()?;
        let code = reader.original_position() as u32;
        self.push(code, code, What::Entry);
        while !reader.eof() {
            let at = reader.original_position() as u32;
            let operator = reader.read()?;
            self.weigh(parsed, &operator);
            self.operator(&operator, at, reader.original_position() as u32);
        }
        let is_free = self.loops.is_empty() && !self.calls && self.operators <= FREE_LEAF_OPERATORS;
        if is_free {
            self.edits.remove(0);
        }
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

    fn push(&mut self, at: u32, end: u32, what: What) {
        self.edits.push(Edit { at, end, what });
    }

    /// Returns the index of an added function. Adds it at its first use.
    fn added(&mut self, wanted: Added) -> u32 {
        let known = self.plan.added.iter().position(|added| *added == wanted);
        let position = known.unwrap_or_else(|| {
            self.plan.added.push(wanted);
            self.plan.added.len() - 1
        });
        self.first_added + position as u32
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
        // call never returns to the loop around it.
        if std::mem::take(&mut self.open_call) && !matches!(operator, Operator::Unreachable) {
            self.note_call();
        }
        let constant = self.constant.take();
        match operator {
            Operator::I32Const { value } => self.constant = Some(*value as u32),
            Operator::Block { .. }
            | Operator::If { .. }
            | Operator::Loop { .. }
            | Operator::End => self.structure(operator, at, end),
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::RefFunc { .. } => self.reference(operator, at, end),
            _ => self.bulk(operator, at, end, constant),
        }
    }

    /// Counts what an operator is to compile.
    fn weigh(&mut self, parsed: &Parsed<'_>, operator: &Operator<'_>) {
        let arity = |ty: u32| {
            let ty = parsed.types.get(ty as usize);
            ty.map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64)
        };
        let weight = &mut self.weight;
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } | Operator::Loop { blockty } => {
                weight.passed += match blockty {
                    BlockType::Empty => 0,
                    BlockType::Type(_) => 1,
                    BlockType::FuncType(ty) => arity(*ty),
                };
                weight.blocks += match operator {
                    Operator::Block { .. } => 1,
                    _ => THREE,
                };
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
                weight.calls += 1;
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
                weight.calls += 1;
                weight.values += LIBCALL_VALUES;
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                let ty = parsed.functions.get(*function_index as usize);
                weight.calls += 1;
                weight.values += ty.map_or(0, |ty| arity(*ty));
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. } => {
                weight.blocks += THREE;
                weight.calls += 1;
                weight.values += arity(*type_index);
            }
            _ => {}
        }
    }

    fn structure(&mut self, operator: &Operator<'_>, at: u32, end: u32) {
        let mut number = None;
        match operator {
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
        });
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
