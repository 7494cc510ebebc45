//! How many of the kernel's mappings frames take. The kernel limits them (`vm.max_map_count`).

use exuvia_image::{Extent, mappings_of_stack};

use crate::module::stack_policy::Stack;

/// A wide memory: what is before the file of its base, the file, what is behind it, and a guard.
const WIDE: usize = 4;
/// A packed memory that shares the file of its base: the file, and the part of the arena behind it. One
/// with a copy of the base takes none.
pub(crate) const SHARED: usize = 2;

/// What a memory takes more when it has left the arena, at most.
pub(crate) const MOVED_OUT: usize = WIDE;

/// The most pages of a base that each packed frame copies, so that it takes no mapping.
const COPIED: usize = 2;
/// The same when mappings are short: a frame with so much memory of its own is better than none.
const COPIED_IF_SHORT: usize = 64;

/// Returns the most mappings of one frame.
pub(crate) fn most() -> usize {
    WIDE + mappings_of_stack()
}

/// Returns the most mappings of a frame with this memory and stack. If its memory has left the arena,
/// what it takes more is counted elsewhere: see [`MOVED_OUT`].
pub(crate) fn of(memory: &Extent, stack: Stack) -> usize {
    let packed = memory.is_packed() || memory.has_moved_out();
    let memory = match (packed, memory.has_file()) {
        (true, true) => SHARED,
        (true, false) => 0,
        (false, _) => WIDE,
    };
    match stack {
        Stack::Fiber => memory + mappings_of_stack(),
        Stack::Thread => memory,
    }
}

/// Returns the most pages of a base that a packed frame copies.
pub(crate) const fn copied_pages(short: bool) -> usize {
    if short { COPIED_IF_SHORT } else { COPIED }
}
