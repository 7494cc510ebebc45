//! The plan: all decisions that precede the writing of the output, as data. `scan` makes it,
//! `rewrite`, `helpers` and `emit` carry it out, and `analyse` reports on it.

use std::collections::BTreeMap;

use crate::weight::Weight;

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
pub(crate) struct Loop {
    pub(crate) parent: Option<u32>,
    /// Whether code in the loop may call a function that returns, and so change the counter.
    pub(crate) calls: bool,
}

/// The planned changes to one body.
#[derive(Debug)]
pub(crate) struct BodyPlan {
    pub(crate) edits: Vec<Edit>,
    /// Input offset of the first operator.
    pub(crate) code: u32,
    /// Index of the local that is added for the counter.
    pub(crate) counter: Option<u32>,
    pub(crate) loops: Vec<Loop>,
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
        shown: [Option<u32>; 5],
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
    /// Charges for an exception that is thrown.
    ChargeThrow,
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
    /// Where the functions begin in `added` that are added at their first use, a handful. Before
    /// them are shims, as many as there are imports.
    pub(crate) first_helper: usize,
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
