//! What wasmtime sees of the memories of frames: it creates and grows them through these
//! adapters. The memories themselves are in `exuvia-image`.
//!
//! `unsafe` because wasmtime's compiled code accesses a memory at the address that is returned
//! here, without further checks.

use std::sync::Arc;

use exuvia_image::{Extent, Memories, Reserve};
use rustix::io::Errno;
use wasmtime::{LinearMemory, Memory, MemoryCreator, MemoryType, Store};

/// Bytes of a frame's heap of exceptions, if its module has any. One half is in use at a time, and one
/// exception takes some 30 bytes beside what it carries; it is garbage as soon as it has been handled.
pub(crate) const EXCEPTIONS: usize = 64 << 10;

/// Prefix of the error for a memory that cannot be mapped: wasmtime accepts only a text from a
/// memory creator.
const NO_ADDRESSES: &str = "no address space for a memory";

/// Returns whether the system has refused mappings, addresses or memory.
pub(crate) fn is_out_of_resources(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>().copied();
        let io = cause.downcast_ref::<std::io::Error>();
        let errno = errno.or_else(|| io.and_then(Errno::from_io_error));
        matches!(errno, Some(Errno::NOMEM | Errno::AGAIN))
            || cause.to_string().starts_with(NO_ADDRESSES)
    })
}

/// Creates the memories of an engine's instances.
pub(crate) struct Creator(pub(crate) Arc<Memories>);

// SAFETY: each memory has addresses of its own, of which the first `minimum` bytes are accessible and
// zero, with the requested reservation and guards (`Memories::wide`) or, if none were requested,
// without (`Memories::packed`); it is written only through the store that owns it.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let (made, fixed) = match reserved {
            Some(0) => (self.0.packed(minimum), false),
            // A heap of exceptions, all of which is there from the beginning.
            Some(EXCEPTIONS) if minimum == EXCEPTIONS => (self.0.packed(minimum), true),
            Some(reserved) => (self.0.wide(minimum, reserved, guard), false),
            None => return Err("a memory whose reservation is not known".into()),
        };
        match made {
            Ok(reserve) => Ok(Box::new(FrameMemory { reserve, fixed })),
            Err(error) => Err(format!("{NO_ADDRESSES}: {error}")),
        }
    }
}

struct FrameMemory {
    reserve: Reserve,
    /// It does not grow.
    fixed: bool,
}

// SAFETY: the first `byte_size` bytes at `as_ptr` are readable and writable, and for code that relies
// on a reservation the rest of it is not accessible, up to the end of the second guard. The memory
// moves only in `grow_to`, and only beyond `byte_capacity` (`Reserve::grow`).
unsafe impl LinearMemory for FrameMemory {
    fn byte_size(&self) -> usize {
        self.reserve.bytes()
    }

    fn byte_capacity(&self) -> usize {
        self.reserve.capacity()
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.fixed {
            return Err(wasmtime::Error::msg("a heap of exceptions does not grow"));
        }
        self.reserve.grow(bytes).map_err(wasmtime::Error::from)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.reserve.as_ptr()
    }
}

/// Shrinks a memory in which no guest is running; see [`Extent::shrink`]. `extent` is that memory's.
/// Returns whether the pages behind its end stay where they are, or `None` if the system is out of memory
/// or mappings; the memory is then unchanged.
///
/// # Errors
///
/// Returns an error if wasmtime does not see its new length. The memory must not be used any more.
pub(crate) fn shrink<T: 'static>(
    extent: &Extent,
    store: &mut Store<T>,
    memory: &Memory,
    bytes: usize,
    stays: bool,
) -> wasmtime::Result<Option<bool>> {
    if memory.data_ptr(&*store) as usize != extent.address() {
        return Err(wasmtime::Error::msg("its memory is another one"));
    }
    // SAFETY: the store owns the memory, so it exists. No reference to its contents exists: it
    // would borrow the store, which is borrowed mutably here. Guests and the host see the new
    // length below, before anything else can run in the store.
    let Ok(stays) = (unsafe { extent.shrink(bytes, stays) }) else {
        return Ok(None);
    };
    // Growing by 0 pages makes the instance read the length of its memory again.
    memory.grow(&mut *store, 0)?;
    match memory.data_size(&*store) == bytes {
        true => Ok(Some(stays)),
        false => Err(wasmtime::Error::msg("its memory could not be made smaller")),
    }
}
