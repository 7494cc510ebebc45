//! The memory of a guest as its host calls see it: pointers and lengths of a guest claim nothing
//! until they have been checked here.

use exuvia_abi::{Code, Pid};

/// The linear memory of a guest, while one of its host calls runs.
pub(crate) struct GuestMemory<'a>(pub(super) &'a mut [u8]);

impl GuestMemory<'_> {
    /// Returns the bytes at a guest's pointer, or [`Code::BadPointer`] if they are not all in its
    /// memory. If `length` is 0, any pointer is valid.
    #[inline]
    pub(super) fn read(&self, pointer: i32, length: i32) -> Result<&[u8], Code> {
        bytes(self.0, pointer, length).ok_or(Code::BadPointer)
    }

    /// The same, for writing.
    #[inline]
    pub(super) fn read_mut(&mut self, pointer: i32, length: i32) -> Result<&mut [u8], Code> {
        if length == 0 {
            return Ok(&mut []);
        }
        let start = pointer.cast_unsigned() as usize;
        let end = start.checked_add(length.cast_unsigned() as usize);
        let bytes = end.and_then(|end| self.0.get_mut(start..end));
        bytes.ok_or(Code::BadPointer)
    }

    /// Returns `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&self, pointer: i32) -> Result<[u8; N], Code> {
        let start = pointer.cast_unsigned() as usize;
        let bytes = self.0.get(start..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(Code::BadPointer)
    }

    /// Returns the pid at a guest's pointer.
    #[inline]
    pub(super) fn pid(&self, pointer: i32) -> Result<Pid, Code> {
        self.array(pointer).map(Pid::from_bytes)
    }

    /// Checks that `length` bytes at `pointer` can be written.
    #[inline]
    pub(super) fn check(&self, pointer: i32, length: u32) -> Result<(), Code> {
        self.read(pointer, length.cast_signed()).map(drop)
    }

    /// Writes all of `data`, or nothing and returns [`Code::BadPointer`].
    #[inline]
    pub(super) fn write(&mut self, pointer: i32, data: &[u8]) -> Result<(), Code> {
        let length = i32::try_from(data.len()).map_err(|_| Code::BadPointer)?;
        self.read_mut(pointer, length)?.copy_from_slice(data);
        Ok(())
    }
}

/// Returns the bytes at a guest's pointer, or `None` if they are not all in its memory. If
/// `length` is 0, any pointer is valid.
#[inline]
pub(crate) fn bytes(memory: &[u8], pointer: i32, length: i32) -> Option<&[u8]> {
    if length == 0 {
        return Some(&[]);
    }
    let start = pointer.cast_unsigned() as usize;
    memory.get(start..start.checked_add(length.cast_unsigned() as usize)?)
}
