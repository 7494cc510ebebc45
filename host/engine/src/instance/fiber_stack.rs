//! What wasmtime sees of the stacks of fibers. The stacks themselves are in `exuvia-image`.
//!
//! `unsafe` because wasmtime runs code on the addresses that are returned here.

use std::ops::Range;
use std::sync::Arc;

use exuvia_image::{FiberStack, Stacks};
use wasmtime::{StackCreator, StackMemory};

/// Creates the stacks of an engine's fibers.
pub(crate) struct Creator(pub(crate) Arc<Stacks>);

// SAFETY: each stack belongs to its taker alone until it is dropped, is zero, and has an inaccessible
// page below it (`Stacks::take`).
unsafe impl StackCreator for Creator {
    fn new_stack(&self, size: usize, _: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        if size > self.0.size() {
            return Err(wasmtime::Error::msg("a stack is larger than configured"));
        }
        Ok(Box::new(Stack(self.0.take()?)))
    }
}

struct Stack(FiberStack);

// SAFETY: the range is whole pages, readable and writable as long as the stack exists; the guard is the
// inaccessible page below it.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.0.range().end as *mut u8
    }

    fn range(&self) -> Range<usize> {
        self.0.range()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let guard = self.0.guard();
        guard.start as *mut u8..guard.end as *mut u8
    }
}
