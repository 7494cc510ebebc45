//! Over how many blocks the locals of a function live, as one pass over its operators sees it.
//!
//! The compiler's register allocator takes a variable that is set in several blocks as one
//! value that lives in all blocks between, splits it at each set, and compares the parts with
//! those of all other such variables. So what it needs grows with the product of the sets and
//! of the blocks over which the variables live; the number of locals alone says little, since
//! compilers without optimisation give each intermediate value a local.
//!
//! The result is an upper bound in nearly all cases: a local counts from its first mention to its
//! last, and over whole loops if its value may come from an iteration before.

use std::ops::Range;

/// A block of the function, or the function itself, that is open.
#[derive(Debug)]
struct Frame {
    /// No other block of the function has this number.
    id: u32,
    /// The locals that live to the end of this loop.
    extended: Vec<u32>,
}

/// A loop that is open: the number of its frame, and where it begins.
#[derive(Debug)]
struct OpenLoop {
    depth: usize,
    start: u64,
}

/// What is known of a local that the function has mentioned.
#[derive(Clone, Debug, Default)]
struct Local {
    /// The number of the function, so that nothing must be cleared between functions.
    function: u32,
    sets: u64,
    /// The blocks over which it lives.
    blocks: Range<u64>,
    /// Where the outermost loop around its first mention begins, or that mention.
    outer: u64,
    /// Depth and number of the frame with a set that comes before all that follows in the frame.
    set_in: Option<(usize, u32)>,
    /// The last loop to whose end it was extended.
    extended_in: u32,
}

/// The locals of one function after the other.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    function: u32,
    parameters: u32,
    locals: Vec<Local>,
    mentioned: Vec<u32>,
    frames: Vec<Frame>,
    loops: Vec<OpenLoop>,
    next_id: u32,
}

impl Lifetimes {
    /// Begins a function with so many parameters.
    pub(crate) fn begin(&mut self, parameters: u32) {
        self.function += 1;
        self.parameters = parameters;
        self.mentioned.clear();
        self.frames.clear();
        self.loops.clear();
        self.next_id = 0;
        self.open_frame();
    }

    fn open_frame(&mut self) {
        self.next_id += 1;
        self.frames.push(Frame {
            id: self.next_id,
            extended: Vec::new(),
        });
    }

    /// A block begins. `at` is the number of blocks before it, here and below.
    pub(crate) fn open(&mut self, is_loop: bool, at: u64) {
        self.open_frame();
        if is_loop {
            self.loops.push(OpenLoop {
                depth: self.frames.len() - 1,
                start: at,
            });
        }
    }

    /// The second arm of an `if` begins.
    pub(crate) fn otherwise(&mut self) {
        self.next_id += 1;
        if let Some(frame) = self.frames.last_mut() {
            frame.id = self.next_id;
        }
    }

    /// The innermost block ends.
    pub(crate) fn close(&mut self, at: u64) {
        let Some(frame) = self.frames.pop() else {
            return;
        };
        if (self.loops.last()).is_some_and(|open| open.depth == self.frames.len()) {
            self.loops.pop();
        }
        for local in frame.extended {
            self.locals[local as usize].blocks.end = at;
        }
    }

    /// A local is read.
    pub(crate) fn get(&mut self, index: u32, at: u64) {
        let known = self.mention(index, at).set_in;
        let set_in = known.filter(|known| self.is_open(*known));
        // The value is the same or another one in each iteration of a loop that does not set it
        // before.
        let inside = set_in.map_or(0, |(depth, _)| depth + 1);
        let first = self.loops.partition_point(|open| open.depth < inside);
        let open = self.loops.get(first).map(|open| (open.depth, open.start));
        let local = &mut self.locals[index as usize];
        if set_in.is_none() {
            local.blocks.start = local.blocks.start.min(local.outer);
        }
        let Some((depth, start)) = open else {
            return;
        };
        if set_in.is_none() {
            local.blocks.start = local.blocks.start.min(start);
        }
        let frame = &mut self.frames[depth];
        if std::mem::replace(&mut local.extended_in, frame.id) != frame.id {
            frame.extended.push(index);
        }
    }

    /// A local is set.
    pub(crate) fn set(&mut self, index: u32, at: u64) {
        let known = self.mention(index, at).set_in;
        let here = (self.frames.last()).map(|frame| (self.frames.len() - 1, frame.id));
        let set_in = known.filter(|known| self.is_open(*known)).or(here);
        let local = &mut self.locals[index as usize];
        local.set_in = set_in;
        local.sets += 1;
    }

    fn is_open(&self, (depth, id): (usize, u32)) -> bool {
        self.frames.get(depth).is_some_and(|frame| frame.id == id)
    }

    /// Notes that a local is mentioned here.
    fn mention(&mut self, index: u32, at: u64) -> &mut Local {
        let number = index as usize;
        if self.locals.len() <= number {
            self.locals.resize(number + 1, Local::default());
        }
        let local = &mut self.locals[number];
        if local.function != self.function {
            let parameter = index < self.parameters;
            let first = if parameter { 0 } else { at };
            *local = Local {
                function: self.function,
                blocks: first..at,
                outer: self
                    .loops
                    .first()
                    .map_or(first, |open| open.start.min(first)),
                // A parameter is set by the caller, in the function's own frame.
                set_in: parameter.then_some((0, 1)),
                ..Local::default()
            };
            self.mentioned.push(index);
        }
        local.blocks.end = local.blocks.end.max(at);
        local
    }

    /// Ends the function: returns how often its locals are set, times the blocks over which they
    /// live. Locals that live in one block only, or are never set, do not count.
    pub(crate) fn sets_by_blocks(&mut self) -> u64 {
        let (mut sets, mut blocks) = (0u64, 0u64);
        for local in &self.mentioned {
            let local = &self.locals[*local as usize];
            if local.sets > 0 && !local.blocks.is_empty() {
                sets += local.sets;
                blocks += local.blocks.end - local.blocks.start;
            }
        }
        sets.saturating_mul(blocks)
    }
}
