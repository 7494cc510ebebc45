//! The host calls as they are imported. Together with a module's exports and the allocator,
//! this is all of the SDK's code with `unsafe` in it. Everything here is safe to call.
//!
//! Off Wasm the same functions are provided by the in-memory host of
//! [`testing`](crate::testing).

use std::mem::MaybeUninit;

use exuvia_abi::HEADER_SIZE;

use crate::{Match, Pid, Reason};

mod exports;
#[cfg(target_arch = "wasm32")]
mod host;

/// The header as it is laid out in memory; `exuvia_abi::Header` documents the fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawHeader {
    size: u32,
    pub(crate) kind: u32,
    pub(crate) node: u64,
    pub(crate) local: u64,
    pub(crate) reference: u64,
    pub(crate) tag: u32,
    pub(crate) length: u32,
    pub(crate) reason: i32,
    reserved: u32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_SIZE as usize);

impl RawHeader {
    /// Creates a header that tells the host its own size.
    #[inline]
    pub(crate) fn new() -> RawHeader {
        RawHeader {
            size: HEADER_SIZE,
            kind: 0,
            node: 0,
            local: 0,
            reference: 0,
            tag: 0,
            length: 0,
            // The reason of a failed call if the host does not set one.
            reason: Reason::NOPROC.0,
            reserved: 0,
        }
    }
}

/// Space for one message on the stack. It is not cleared, neither when it is created nor
/// between messages, since that would cost more than the message; only what was written is
/// readable.
///
/// A larger message is stored on the heap automatically. Keep a buffer on the stack: memory
/// below the stack pointer at rest is not part of a process's image.
///
/// ```
/// use exuvia::{Buffer, Match, Wait};
/// let mut buffer = Buffer::new();
/// assert!(buffer.receive(Match::Any, Wait::No).is_err());
/// ```
pub struct Buffer {
    bytes: [MaybeUninit<u8>; Buffer::SIZE],
    /// The number of bytes from the start that have been written.
    filled: usize,
}

impl Buffer {
    /// The maximum payload that fits, in bytes.
    pub const SIZE: usize = 1024;

    /// Creates an empty buffer.
    ///
    /// ```
    /// let buffer = exuvia::Buffer::new();
    /// ```
    #[inline]
    pub const fn new() -> Buffer {
        Buffer {
            bytes: [MaybeUninit::uninit(); Buffer::SIZE],
            filled: 0,
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `filled` bytes were written, by `push` or by the host (see
        // `written`).
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.filled) }
    }

    /// Appends the data and returns true, or returns false if it does not fit.
    #[inline]
    pub(crate) fn push(&mut self, data: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(self.filled..self.filled + data.len()) else {
            return false;
        };
        for (slot, byte) in room.iter_mut().zip(data) {
            slot.write(*byte);
        }
        self.filled += data.len();
        true
    }

    #[inline]
    pub(crate) fn receive_raw(
        &mut self,
        header: &mut RawHeader,
        millis: i64,
        wanted: Match<'_>,
        flags: i32,
    ) -> i32 {
        let answer = host::receive(header, &mut self.bytes, millis, wanted, flags);
        self.written(answer, header);
        answer
    }

    #[inline]
    pub(crate) fn call_raw(
        &mut self,
        to: Pid,
        tag: u32,
        data: &[u8],
        header: &mut RawHeader,
        millis: i64,
    ) -> i32 {
        let answer = host::call(to, tag, data, header, &mut self.bytes, millis);
        self.written(answer, header);
        answer
    }

    /// Records how much the host has written: it returns 0 only when the whole
    /// payload was written, and `length` is its size.
    #[inline]
    fn written(&mut self, answer: i32, header: &RawHeader) {
        self.filled = 0;
        if answer == 0 {
            let length = header.length as usize;
            assert!(length <= Buffer::SIZE, "the host wrote too much");
            self.filled = length;
        }
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.filled)
    }
}

/// Receives into the capacity of a vector, which has no bytes yet; afterwards it has those that the host wrote.
pub(crate) fn receive_into(
    header: &mut RawHeader,
    payload: &mut Vec<u8>,
    millis: i64,
    wanted: Match<'_>,
    flags: i32,
) -> i32 {
    let room = payload.spare_capacity_mut();
    let (capacity, answer) = (
        room.len(),
        host::receive(header, room, millis, wanted, flags),
    );
    if answer == 0 {
        let written = capacity.min(header.length as usize);
        // SAFETY: the host has written as many bytes as the payload has, and fit; `length` is its size.
        unsafe { payload.set_len(written) };
    }
    answer
}

/// The options of `spawn` as they are laid out in memory; see `exuvia_abi::spawn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawSpawn {
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) memory: u64,
    pub(crate) mailbox_bytes: u64,
    pub(crate) mailbox_messages: u32,
    pub(crate) message_bytes: u32,
    pub(crate) children: u32,
    pub(crate) start_timeout: u32,
    pub(crate) tables: u64,
    pub(crate) priority: u32,
    pub(crate) files: u32,
    /// The address of the grants, and their size in bytes.
    pub(crate) grants: [u32; 2],
    pub(crate) descendants: u32,
    pub(crate) reserved: u32,
}

const _: () = assert!(size_of::<RawSpawn>() == exuvia_abi::spawn::OPTIONS_KNOWN as usize);

#[cfg(not(target_arch = "wasm32"))]
impl RawSpawn {
    /// Returns the options as a host reads them, without the grants.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let words = |number: u64| [number as u32, (number >> 32) as u32];
        let mut bytes = vec![self.size, self.flags];
        bytes.extend(words(self.memory));
        bytes.extend(words(self.mailbox_bytes));
        bytes.extend([self.mailbox_messages, self.message_bytes]);
        bytes.extend([self.children, self.start_timeout]);
        bytes.extend(words(self.tables));
        bytes.extend([self.priority, self.files, 0, 0, self.descendants, 0]);
        bytes.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// Holds an actor's state between two entries.
///
/// A static rather than a `thread_local!`, so that its address can be part of the data segments
/// (see `module!`).
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub struct StateCell<A>(pub std::cell::RefCell<crate::__Slot<A>>);

// SAFETY: a module of this target without atomics has one thread, and the ABI rejects shared
// memories.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl<A> Sync for StateCell<A> {}

#[cfg(target_arch = "wasm32")]
pub(crate) use host::{
    cancel_timer, clock, config, demonitor, discard, exit, exit_process, group_join, group_leave,
    group_members, info, init_ack, kill, link, log, monitor, monitor_name, publish, random,
    register, reply, request, self_pid, send, send_after, set_priority, sleep, spawn, state_get,
    state_put, supervisor_start, table_add, table_delete, table_end, table_find, table_get,
    table_give, table_heir, table_info, table_new, table_next, table_put, trap_exit, unlink,
    unregister, whereis,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::host::{self, *};

#[cfg(not(target_arch = "wasm32"))]
impl RawHeader {
    /// Fills in the header of a message from the in-memory host, as the real host would.
    pub(crate) fn fill(&mut self, header: exuvia_abi::Header) {
        self.kind = header.kind as u32;
        self.node = header.sender.node;
        self.local = header.sender.local;
        self.reference = header.reference;
        self.tag = header.tag;
        self.length = header.length;
        self.reason = header.reason;
    }
}
