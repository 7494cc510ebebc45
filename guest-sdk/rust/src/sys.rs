//! The host calls as they are imported, and what a module exports: the one file
//! of the SDK with `unsafe` in it. Everything here is safe to call.
//!
//! Off Wasm the same functions are served by the host in memory of
//! [`testing`](crate::testing).

use std::mem::MaybeUninit;

use exuvia_abi::HEADER_SIZE;

use crate::{Pid, Reason};

/// The header as it lies in memory; see `exuvia_abi::Header` for the table.
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
    /// A header that tells the host how much room it has.
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
            // What a failed call means if the host does not say more.
            reason: Reason::NOPROC.0,
            reserved: 0,
        }
    }
}

/// Room for one message on the stack. It is not cleared, neither when it is
/// made nor between messages, since that would cost more than the message; only
/// what was written is readable.
///
/// A larger message goes to the heap by itself. Keep a buffer on the stack: what
/// lies below the stack pointer at rest is not part of a process's image.
///
/// ```
/// use exuvia::{Buffer, Match, Wait};
/// let mut buffer = Buffer::new();
/// assert!(buffer.receive(Match::Any, Wait::No).is_err());
/// ```
pub struct Buffer {
    bytes: [MaybeUninit<u8>; Buffer::SIZE],
    /// So many bytes from the start have been written.
    filled: usize,
}

impl Buffer {
    /// Bytes of payload that fit.
    pub const SIZE: usize = 1024;

    /// An empty buffer.
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
        // SAFETY: the first `filled` bytes were written, by `push` or by the
        // host (see `written`).
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.filled) }
    }

    /// Appends, or does nothing and answers `false` if there is no room.
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
        mode: i32,
        key: i64,
    ) -> i32 {
        let answer = host::receive(header, &mut self.bytes, millis, mode, key);
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

    /// Notes how much the host has written: it answers 0 only when the whole
    /// payload was, and `length` says how much that is.
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

/// Receives into bytes that are there already.
pub(crate) fn receive_slice(
    header: &mut RawHeader,
    room: &mut [u8],
    millis: i64,
    mode: i32,
    key: i64,
) -> i32 {
    // SAFETY: `u8` and `MaybeUninit<u8>` have one layout, and the host only
    // ever writes bytes, so that none becomes uninitialised.
    let room = unsafe {
        std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<MaybeUninit<u8>>(), room.len())
    };
    host::receive(header, room, millis, mode, key)
}

/// Options of `spawn` as they lie in memory; see `exuvia_abi::spawn`.
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
}

const _: () = assert!(size_of::<RawSpawn>() == exuvia_abi::spawn::OPTIONS_SIZE as usize);

/// Where an actor's state lives between two entries.
///
/// A static of its own, rather than a `thread_local!`, so that its address can
/// stand in the data segments (see `module!`).
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub struct StateCell<A>(pub std::cell::RefCell<Option<A>>);

// SAFETY: a module of this target without atomics has one thread, and the ABI
// refuses shared memories.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl<A> Sync for StateCell<A> {}

#[cfg(target_arch = "wasm32")]
pub(crate) use host::{
    cancel_timer, clock, demonitor, exit, exit_process, info, init_ack, kill, link, log, monitor,
    random, register, reply, request, self_pid, send, send_after, sleep, spawn, state_get,
    state_put, supervisor_start, trap_exit, unlink, unregister, whereis,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::host::{self, *};

#[cfg(not(target_arch = "wasm32"))]
impl RawHeader {
    /// Writes what the host in memory says, as the real host would.
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

/// The imports. Lengths of slices are below 4 GiB on this target, so that the
/// casts to `u32` lose nothing.
#[cfg(target_arch = "wasm32")]
#[allow(
    clippy::cast_possible_truncation,
    reason = "a pointer of this target has 32 bits"
)]
mod host {
    use std::mem::MaybeUninit;

    use super::{Pid, RawHeader, RawSpawn, Reason};
    use crate::{Error, Wait};

    mod import {
        use super::{MaybeUninit, RawHeader, RawSpawn};

        #[link(wasm_import_module = "exuvia")]
        unsafe extern "C" {
            pub(super) fn receive(
                header: *mut RawHeader,
                buffer: *mut MaybeUninit<u8>,
                capacity: u32,
                millis: i64,
                mode: i32,
                key: i64,
            ) -> i32;
            pub(super) fn send(to: *const u8, tag: u32, data: *const u8, length: u32) -> i32;
            pub(super) fn request(
                to: *const u8,
                tag: u32,
                data: *const u8,
                length: u32,
                reference: *mut u64,
            ) -> i32;
            pub(super) fn call(
                to: *const u8,
                tag: u32,
                data: *const u8,
                length: u32,
                header: *mut RawHeader,
                buffer: *mut MaybeUninit<u8>,
                capacity: u32,
                millis: i64,
            ) -> i32;
            pub(super) fn reply(
                to: *const u8,
                reference: u64,
                tag: u32,
                data: *const u8,
                length: u32,
            ) -> i32;
            pub(super) fn spawn(
                module: *const u8,
                module_length: u32,
                arguments: *const u8,
                arguments_length: u32,
                options: *const RawSpawn,
                pid: *mut u8,
                reference: *mut u64,
            ) -> i32;
            pub(super) fn init_ack(status: i32, data: *const u8, length: u32) -> i32;
            pub(super) fn exit(code: i32, data: *const u8, length: u32);
            pub(super) fn exit_process(
                pid: *const u8,
                code: i32,
                data: *const u8,
                length: u32,
            ) -> i32;
            pub(super) fn kill(pid: *const u8) -> i32;
            pub(super) fn link(pid: *const u8) -> i32;
            pub(super) fn unlink(pid: *const u8) -> i32;
            pub(super) fn monitor(pid: *const u8, reference: *mut u64) -> i32;
            pub(super) safe fn demonitor(reference: u64, flags: i32) -> i32;
            pub(super) safe fn trap_exit(on: i32) -> i32;
            pub(super) fn register(name: *const u8, length: u32, pid: *const u8) -> i32;
            pub(super) fn unregister(name: *const u8, length: u32) -> i32;
            pub(super) fn whereis(name: *const u8, length: u32, pid: *mut u8) -> i32;
            #[link_name = "self"]
            pub(super) fn self_pid(pid: *mut u8) -> i32;
            pub(super) fn send_after(
                to: *const u8,
                tag: u32,
                data: *const u8,
                length: u32,
                millis: i64,
                reference: *mut u64,
            ) -> i32;
            pub(super) safe fn cancel_timer(reference: u64) -> i64;
            pub(super) safe fn sleep(millis: i64) -> i32;
            pub(super) fn log(level: i32, text: *const u8, length: u32) -> i32;
            pub(super) fn random(buffer: *mut u8, length: u32) -> i32;
            pub(super) safe fn clock(which: i32) -> i64;
            pub(super) safe fn info(what: i32) -> i64;
            pub(super) fn state_put(data: *const u8, length: u32) -> i32;
            pub(super) fn state_get(buffer: *mut u8, capacity: u32) -> i32;
            pub(super) fn supervisor_start(
                specification: *const u8,
                length: u32,
                pid: *mut u8,
            ) -> i32;
        }
    }

    // SAFETY of all calls below: every pointer comes from a reference or a slice
    // that lives across the call, its length goes with it or is fixed by the
    // ABI (16 bytes for a pid, 8 for a reference, 48 for a header, 40 for the
    // options of spawn), and the host neither keeps it nor writes beyond it.

    #[inline]
    pub(crate) fn receive(
        header: &mut RawHeader,
        room: &mut [MaybeUninit<u8>],
        millis: i64,
        mode: i32,
        key: i64,
    ) -> i32 {
        // SAFETY: see above.
        unsafe {
            import::receive(
                header,
                room.as_mut_ptr(),
                room.len() as u32,
                millis,
                mode,
                key,
            )
        }
    }

    #[inline]
    pub(crate) fn send(to: Pid, tag: u32, data: &[u8]) -> i32 {
        let to = to.to_bytes();
        // SAFETY: see above.
        unsafe { import::send(to.as_ptr(), tag, data.as_ptr(), data.len() as u32) }
    }

    #[inline]
    pub(crate) fn request(to: Pid, tag: u32, data: &[u8]) -> Result<u64, Error> {
        let to = to.to_bytes();
        let mut reference = 0;
        // SAFETY: see above.
        let answer = unsafe {
            import::request(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                &mut reference,
            )
        };
        Error::check(answer).map(|()| reference)
    }

    #[inline]
    pub(crate) fn call(
        to: Pid,
        tag: u32,
        data: &[u8],
        header: &mut RawHeader,
        room: &mut [MaybeUninit<u8>],
        millis: i64,
    ) -> i32 {
        let to = to.to_bytes();
        // SAFETY: see above.
        unsafe {
            import::call(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                header,
                room.as_mut_ptr(),
                room.len() as u32,
                millis,
            )
        }
    }

    #[inline]
    pub(crate) fn reply(to: Pid, reference: u64, tag: u32, data: &[u8]) -> i32 {
        let to = to.to_bytes();
        // SAFETY: see above.
        unsafe {
            import::reply(
                to.as_ptr(),
                reference,
                tag,
                data.as_ptr(),
                data.len() as u32,
            )
        }
    }

    #[inline]
    pub(crate) fn spawn(
        module: &str,
        arguments: &[u8],
        options: &RawSpawn,
    ) -> Result<(Pid, u64), Error> {
        let mut pid = [0; 16];
        let mut reference = 0;
        // SAFETY: see above.
        let answer = unsafe {
            import::spawn(
                module.as_ptr(),
                module.len() as u32,
                arguments.as_ptr(),
                arguments.len() as u32,
                options,
                pid.as_mut_ptr(),
                &mut reference,
            )
        };
        Error::check(answer).map(|()| (Pid::from_bytes(pid), reference))
    }

    pub(crate) fn init_ack(status: i32, data: &[u8]) -> i32 {
        // SAFETY: see above.
        unsafe { import::init_ack(status, data.as_ptr(), data.len() as u32) }
    }

    pub(crate) fn exit(reason: Reason, data: &[u8]) -> ! {
        // SAFETY: see above.
        unsafe { import::exit(reason.0, data.as_ptr(), data.len() as u32) };
        unreachable!("exit does not return")
    }

    pub(crate) fn exit_process(pid: Pid, reason: Reason, data: &[u8]) -> i32 {
        let pid = pid.to_bytes();
        // SAFETY: see above.
        unsafe { import::exit_process(pid.as_ptr(), reason.0, data.as_ptr(), data.len() as u32) }
    }

    pub(crate) fn kill(pid: Pid) -> i32 {
        let pid = pid.to_bytes();
        // SAFETY: see above.
        unsafe { import::kill(pid.as_ptr()) }
    }

    pub(crate) fn link(pid: Pid) -> i32 {
        let pid = pid.to_bytes();
        // SAFETY: see above.
        unsafe { import::link(pid.as_ptr()) }
    }

    pub(crate) fn unlink(pid: Pid) -> i32 {
        let pid = pid.to_bytes();
        // SAFETY: see above.
        unsafe { import::unlink(pid.as_ptr()) }
    }

    pub(crate) fn monitor(pid: Pid) -> Result<u64, Error> {
        let pid = pid.to_bytes();
        let mut reference = 0;
        // SAFETY: see above.
        let answer = unsafe { import::monitor(pid.as_ptr(), &mut reference) };
        Error::check(answer).map(|()| reference)
    }

    pub(crate) fn demonitor(reference: u64, flags: i32) -> i32 {
        import::demonitor(reference, flags)
    }

    pub(crate) fn trap_exit(on: bool) -> bool {
        import::trap_exit(i32::from(on)) != 0
    }

    pub(crate) fn register(name: &str, pid: Pid) -> i32 {
        let pid = pid.to_bytes();
        // SAFETY: see above.
        unsafe { import::register(name.as_ptr(), name.len() as u32, pid.as_ptr()) }
    }

    pub(crate) fn unregister(name: &str) -> i32 {
        // SAFETY: see above.
        unsafe { import::unregister(name.as_ptr(), name.len() as u32) }
    }

    pub(crate) fn whereis(name: &str) -> Result<Pid, Error> {
        let mut pid = [0; 16];
        // SAFETY: see above.
        let answer = unsafe { import::whereis(name.as_ptr(), name.len() as u32, pid.as_mut_ptr()) };
        Error::check(answer).map(|()| Pid::from_bytes(pid))
    }

    pub(crate) fn self_pid() -> Pid {
        let mut pid = [0; 16];
        // SAFETY: see above.
        unsafe { import::self_pid(pid.as_mut_ptr()) };
        Pid::from_bytes(pid)
    }

    pub(crate) fn send_after(to: Pid, tag: u32, data: &[u8], millis: i64) -> Result<u64, Error> {
        let to = to.to_bytes();
        let mut reference = 0;
        // SAFETY: see above.
        let answer = unsafe {
            import::send_after(
                to.as_ptr(),
                tag,
                data.as_ptr(),
                data.len() as u32,
                millis,
                &mut reference,
            )
        };
        Error::check(answer).map(|()| reference)
    }

    pub(crate) fn cancel_timer(reference: u64) -> i64 {
        import::cancel_timer(reference)
    }

    pub(crate) fn sleep(wait: Wait) -> i32 {
        import::sleep(wait.millis())
    }

    pub(crate) fn log(level: i32, text: &[u8]) {
        // SAFETY: see above.
        unsafe { import::log(level, text.as_ptr(), text.len() as u32) };
    }

    pub(crate) fn random(buffer: &mut [u8]) -> i32 {
        // SAFETY: see above.
        unsafe { import::random(buffer.as_mut_ptr(), buffer.len() as u32) }
    }

    pub(crate) fn clock(which: i32) -> i64 {
        import::clock(which)
    }

    pub(crate) fn info(what: i32) -> i64 {
        import::info(what)
    }

    pub(crate) fn state_put(data: &[u8]) -> i32 {
        // SAFETY: see above.
        unsafe { import::state_put(data.as_ptr(), data.len() as u32) }
    }

    pub(crate) fn state_get(buffer: &mut [u8]) -> i32 {
        // SAFETY: see above.
        unsafe { import::state_get(buffer.as_mut_ptr(), buffer.len() as u32) }
    }

    pub(crate) fn supervisor_start(specification: &[u8]) -> Result<Pid, Error> {
        let mut pid = [0; 16];
        // SAFETY: see above.
        let answer = unsafe {
            import::supervisor_start(
                specification.as_ptr(),
                specification.len() as u32,
                pid.as_mut_ptr(),
            )
        };
        Error::check(answer).map(|()| Pid::from_bytes(pid))
    }
}

/// Exports a module written as functions. Write it once, at the top level.
///
/// - `run = path`: `fn() -> RunResult`, called whenever there is something to do.
/// - `schema = number, save = path, load = path`: `fn() -> bool` and
///   `fn(from_schema: i32, length: usize) -> bool`, with [`state::put`] and
///   [`state::get`] inside them; `false` refuses. Optional.
/// - `warm_up = path`: `fn()`, called once a version before the base is taken.
///   It may log and nothing else. Optional.
/// - `layout = Type`: see [`Layout`]. Optional.
///
/// ```
/// use exuvia::{Buffer, Match, RunResult, Wait};
///
/// fn run() -> RunResult {
///     let mut buffer = Buffer::new();
///     while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
///         message.sender.send_bytes(message.tag, &message.payload).ok();
///     }
///     RunResult::Rest
/// }
///
/// exuvia::module!(run = run);
/// ```
///
/// [`state::put`]: crate::state::put
/// [`state::get`]: crate::state::get()
/// [`Layout`]: crate::Layout
#[macro_export]
macro_rules! module {
    (
        run = $run:path
        $(, schema = $schema:expr, save = $save:path, load = $load:path)?
        $(, warm_up = $warm_up:path)?
        $(, layout = $layout:ty)?
        $(,)?
    ) => {
        // Never called: off Wasm it keeps the functions from being unused.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            const _: fn() -> $crate::RunResult = $run;
            $(
                const _: i32 = $schema;
                const _: fn() -> bool = $save;
                const _: fn(i32, usize) -> bool = $load;
            )?
            $(const _: fn() = $warm_up;)?
            $(const _: u64 = <$layout as $crate::Layout>::HASH;)?
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(export_name = "exuvia_abi")]
            extern "C" fn __exuvia_abi() -> i32 {
                $crate::ABI_VERSION
            }
            #[unsafe(export_name = "run")]
            extern "C" fn __exuvia_run() -> i32 {
                $run() as i32
            }
            #[unsafe(export_name = "warm_up")]
            extern "C" fn __exuvia_warm_up() {
                $crate::runtime::install_panic_hook();
                $($warm_up();)?
            }
            $(
                #[unsafe(export_name = "exuvia_schema")]
                extern "C" fn __exuvia_schema() -> i32 {
                    $schema
                }
                #[unsafe(export_name = "save")]
                extern "C" fn __exuvia_save() -> i32 {
                    if $save() { 0 } else { 1 }
                }
                #[unsafe(export_name = "load")]
                extern "C" fn __exuvia_load(from_schema: i32, length: u32) -> i32 {
                    if $load(from_schema, length as usize) { 0 } else { 1 }
                }
            )?
            $(
                #[used]
                #[unsafe(link_section = "exuvia.layout")]
                static __EXUVIA_LAYOUT: [u8; $crate::layout::SECTION_SIZE] =
                    $crate::layout::section::<$layout>();
            )?
        };
    };
}

/// Exports an actor; `#[exuvia::actor]` writes it.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor {
    ($actor:ty, $schema:expr $(, $layout:ident)?) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            static STATE: $crate::sys::StateCell<$actor> =
                $crate::sys::StateCell(::std::cell::RefCell::new(None));
            // The state's address stands in the data segments, so that two
            // versions with equal data keep it in the same place. What is zero
            // at the start is in no segment: its moving would not show else.
            #[cfg(target_arch = "wasm32")]
            #[used]
            static STATE_IS_AT: &$crate::sys::StateCell<$actor> = &STATE;

            #[cfg(target_arch = "wasm32")]
            fn run() -> $crate::RunResult {
                $crate::runtime::run(&STATE.0)
            }
            #[cfg(target_arch = "wasm32")]
            fn save() -> bool {
                $crate::runtime::save(&STATE.0)
            }
            #[cfg(target_arch = "wasm32")]
            fn load(from_schema: i32, length: usize) -> bool {
                $crate::runtime::load(&STATE.0, from_schema, length)
            }

            // Off Wasm an actor has no process of its own: `testing` makes one.
            #[cfg(not(target_arch = "wasm32"))]
            fn run() -> $crate::RunResult {
                $crate::RunResult::Rest
            }
            #[cfg(not(target_arch = "wasm32"))]
            fn save() -> bool {
                false
            }
            #[cfg(not(target_arch = "wasm32"))]
            fn load(_: i32, _: usize) -> bool {
                false
            }

            fn warm_up() {
                $crate::runtime::warm_up::<$actor>();
            }

            $crate::module!(
                run = run,
                schema = $schema,
                save = save,
                load = load,
                warm_up = warm_up
                $(, layout = $crate::__actor!(@$layout $actor))?
            );
        };
    };
    (@layout $actor:ty) => { $actor };
}
