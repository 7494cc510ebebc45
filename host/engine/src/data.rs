//! What a frame's store holds beside the instance: the process that is in it,
//! the mode it runs in, and the handles that host calls need.

use std::sync::Arc;

use exuvia_process::{ExitReason, Pid};
use wasmtime::{Caller, Global, Memory, ResourceLimiter};

use crate::body::Inside;
use crate::executor::Shared;
use crate::guest::GuestOwn;
use crate::instrument::BYTES_PER_REDUCTION;
use crate::pagemap::Faults;
use crate::room::is_no_room;
use crate::stack::Stack;
use crate::wasi::Wasi;

/// What runs in the frame.
#[derive(Debug)]
pub(crate) enum Mode {
    /// A process.
    Run,
    /// Initialization, `save` or `load`: nearly all host calls are refused.
    Restricted(Restricted),
}

/// State of a restricted run.
#[derive(Debug)]
pub(crate) struct Restricted {
    /// What runs, for messages.
    pub(crate) what: &'static str,
    /// Reductions it may use in all.
    pub(crate) limit: u64,
    /// Of these, those it may still use.
    pub(crate) reductions: u64,
    /// What `state_put` handed over, or what `state_get` hands out.
    pub(crate) state: Option<Vec<u8>>,
    /// Whether clocks and random numbers were asked for.
    pub(crate) impure: bool,
}

/// A store's data.
#[derive(Debug)]
pub(crate) struct FrameData {
    pub(crate) shared: Option<Arc<Shared>>,
    pub(crate) own: Option<Box<GuestOwn>>,
    pub(crate) mode: Mode,
    pub(crate) memory: Option<Memory>,
    pub(crate) reductions: Option<Global>,
    /// What the guest knows of its mail, and whether it does: see
    /// `instrument::MAIL_UNKNOWN`.
    pub(crate) mail: Option<Global>,
    pub(crate) mail_known: bool,
    pub(crate) limiter: MemoryLimiter,
    /// Why the process ends, set by the host call that ends it.
    pub(crate) exit: Option<Exit>,
    /// The last line logged at error level since the entry: a panic's message.
    pub(crate) last_error: Option<String>,
    /// Messages that the current entry has taken.
    pub(crate) taken: u32,
    /// The process was WAITING when it was entered.
    pub(crate) continues: bool,
    pub(crate) toll: Toll,
    /// What it takes to copy the state of the process that is suspended.
    pub(crate) inside: Option<Arc<Inside>>,
    /// The part of the system of the process that runs, or what a restricted run
    /// gets for one.
    pub(crate) wasi: Option<Box<Wasi>>,
    /// Whether the store's functions may be called without a fiber.
    pub(crate) stack: Stack,
    /// Slices that a guest on a thread's stack has had in a row.
    pub(crate) slices: u32,
    /// The faults of the thread that has found out which pages are written. `None`
    /// if another has used the memory since.
    pub(crate) faults: Option<Faults>,
}

impl FrameData {
    pub(crate) fn new(shared: Option<Arc<Shared>>, stack: Stack) -> FrameData {
        FrameData {
            shared,
            own: None,
            mode: Mode::Run,
            memory: None,
            reductions: None,
            mail: None,
            mail_known: false,
            limiter: MemoryLimiter {
                bytes: u64::MAX,
                denied: Denied::No,
            },
            exit: None,
            last_error: None,
            taken: 0,
            continues: false,
            toll: Toll::default(),
            inside: None,
            wasi: None,
            stack,
            slices: 0,
            faults: None,
        }
    }
}

/// What the guest has still to pay for its host calls; see `calls::settle`.
#[derive(Debug, Default)]
pub(crate) struct Toll {
    /// Reductions.
    pub(crate) reductions: u32,
    /// It has sent to this process, which is far behind: it goes on when that
    /// one has caught up.
    pub(crate) crowd: Option<Pid>,
}

/// Fewest bytes that a host call charges for: what is less costs about as much
/// as the call itself.
const LARGE: usize = 4 * 1024;

impl Toll {
    /// For bytes that the host copies, as for those that the guest does.
    #[inline]
    pub(crate) fn copied(&mut self, bytes: usize) {
        if bytes >= LARGE {
            let reductions = bytes / BYTES_PER_REDUCTION as usize;
            let reductions = u32::try_from(reductions).unwrap_or(u32::MAX);
            self.reductions = self.reductions.saturating_add(reductions);
        }
    }

    /// For messages that the host has looked at to find one.
    #[inline]
    pub(crate) fn looked_at(&mut self, messages: u32) {
        self.reductions = (self.reductions).saturating_add(messages / LOOKS_PER_REDUCTION);
    }
}

/// Messages that are looked at for the price of one call of the guest's own.
const LOOKS_PER_REDUCTION: u32 = 8;

/// Holds a process to its memory limit.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    pub(crate) bytes: u64,
    /// Growth was denied, and since then the guest has neither grown by less
    /// nor asked the host for anything but to log: a trap now is for want of
    /// memory, as far as anybody can tell.
    pub(crate) denied: Denied,
}

/// Who has denied growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    No,
    /// The process's limit.
    Limit,
    /// The system, which has no memory left.
    System,
}

/// Entries of all tables of a process: a table is not part of its memory
/// limit, so it has one of its own.
const TABLE_ENTRIES: usize = 1 << 20;

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired as u64 <= self.bytes;
        self.denied = if allowed { Denied::No } else { Denied::Limit };
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Also called when the module's own maximum is met.
        if is_no_room(&error) {
            self.denied = Denied::System;
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ENTRIES)
    }
}

/// Why a host call does not return to its guest.
#[derive(Debug)]
pub(crate) enum Exit {
    /// It has called `exit`: it is done with what it did.
    Itself(ExitReason),
    /// A signal has ended it, in the middle of what it did.
    Signal(ExitReason),
    /// Its fault, as a trap is.
    Fault(ExitReason),
}

/// What a host call that ends the process answers to the engine; the reason
/// itself is in [`FrameData::exit`].
#[derive(Debug, thiserror::Error)]
#[error("the process ends")]
pub(crate) struct Ends;

/// What a host call answers that a restricted run may not use.
#[derive(Debug, thiserror::Error)]
#[error("`{call}` is not served while {what} runs; only log, clock and random are")]
pub(crate) struct Refused {
    pub(crate) call: &'static str,
    pub(crate) what: &'static str,
}

/// The same of a function of WASI.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{call}` is not served while {what} runs: files are for handlers; what is served is to print, and to ask for arguments, environment, clocks, random numbers and folders"
)]
pub(crate) struct NotHere {
    pub(crate) call: &'static str,
    pub(crate) what: &'static str,
}

/// What `warm_up` may not ask for.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{call}` is not served while `warm_up` runs: all processes begin with what it leaves in memory; ask in `_initialize`, which then runs for each process, or when the process has started"
)]
pub(crate) struct NotInWarmUp {
    pub(crate) call: &'static str,
}

/// A host call's view: guest memory, the shared half, the process.
pub(crate) struct View<'a> {
    pub(crate) memory: &'a mut [u8],
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) own: &'a mut GuestOwn,
    pub(crate) exit: &'a mut Option<Exit>,
    pub(crate) taken: &'a mut u32,
    pub(crate) continues: bool,
    pub(crate) toll: &'a mut Toll,
}

/// The view of a host call that only a running process may make.
#[inline]
pub(crate) fn view<'a>(
    caller: &'a mut Caller<'_, FrameData>,
    call: &'static str,
) -> wasmtime::Result<View<'a>> {
    let memory = caller.data().memory;
    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the frame has no memory"))?;
    let (memory, data) = memory.data_and_store_mut(caller);
    if let Mode::Restricted(restricted) = &data.mode {
        return Err(wasmtime::Error::new(Refused {
            call,
            what: restricted.what,
        }));
    }
    data.limiter.denied = Denied::No;
    match (&data.shared, &mut data.own) {
        (Some(shared), Some(own)) => Ok(View {
            memory,
            shared,
            own,
            exit: &mut data.exit,
            taken: &mut data.taken,
            continues: data.continues,
            toll: &mut data.toll,
        }),
        _ => Err(wasmtime::Error::msg("no process is in the frame")),
    }
}

/// The bytes at a guest's pointer, if they lie in its memory. No bytes lie
/// anywhere.
#[inline]
pub(crate) fn bytes(memory: &[u8], pointer: i32, length: i32) -> Option<&[u8]> {
    if length == 0 {
        return Some(&[]);
    }
    let start = pointer.cast_unsigned() as usize;
    memory.get(start..start.checked_add(length.cast_unsigned() as usize)?)
}

/// The same, to write to.
#[inline]
pub(crate) fn bytes_mut(memory: &mut [u8], pointer: i32, length: i32) -> Option<&mut [u8]> {
    if length == 0 {
        return Some(&mut []);
    }
    let start = pointer.cast_unsigned() as usize;
    memory.get_mut(start..start.checked_add(length.cast_unsigned() as usize)?)
}
