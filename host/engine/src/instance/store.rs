//! What a frame's store holds beside the instance: the process in the frame, the mode it
//! runs in, and the handles that host calls need.

use std::any::Any;
use std::sync::Arc;

use exuvia_image::Faults;
use exuvia_instrument::MAIL_UNKNOWN;
use exuvia_process::call::{Ending, ReductionDebt};
use exuvia_process::resource::Resource;
use wasmtime::{AsContextMut, Global, Memory, ResourceLimiter, RootScope, ThrownException, Val};

use crate::guest::GuestProcess;
use crate::host::Host;
use crate::instance::InstanceHandles;
use crate::instance::fixed::Fixed;
use crate::instance::linear_memory::is_out_of_resources;
use crate::module::stack_policy::Stack;

/// A guest and the host charge the same for the bytes that they copy.
const _: () = assert!(
    exuvia_instrument::BYTES_PER_REDUCTION == exuvia_process::call::BYTES_PER_REDUCTION,
    "one price"
);

/// What runs in the frame.
#[derive(Debug)]
pub(crate) enum Mode {
    /// A process.
    Run,
    /// Initialization, `save` or `load`: nearly all host calls are refused.
    Restricted(Box<Restricted>),
}

impl Mode {
    /// Returns what a run gets instead of values that differ between processes, if it gets no such values.
    pub(crate) fn fixed(&mut self) -> Option<&mut Fixed> {
        match self {
            Mode::Run => None,
            Mode::Restricted(restricted) => restricted.fixed.as_mut(),
        }
    }
}

/// State of a restricted run.
#[derive(Debug)]
pub(crate) struct Restricted {
    /// What runs, for messages.
    pub(crate) what: &'static str,
    /// Reductions it may use in total.
    pub(crate) limit: u64,
    /// Reductions it may still use.
    pub(crate) reductions: u64,
    /// The state that `state_put` handed over, or that `state_get` hands out.
    pub(crate) state: Option<Vec<u8>>,
    /// The first call by which the run has asked for values that differ between processes, such as
    /// clocks or random numbers.
    pub(crate) impure: Option<&'static str>,
    /// What it gets instead of such values, if its result is for all processes whatever it asks for.
    pub(crate) fixed: Option<Fixed>,
}

/// A store's data.
#[derive(Debug)]
pub(crate) struct FrameData {
    pub(crate) host: Option<Arc<Host>>,
    pub(crate) process: Option<Box<GuestProcess>>,
    pub(crate) mode: Mode,
    pub(crate) memory: Option<Memory>,
    pub(crate) reductions: Option<Global>,
    /// The guest's count of waiting messages, and whether the guest knows it: see
    /// `instrument::MAIL_UNKNOWN`.
    pub(crate) mail: Option<Global>,
    pub(crate) mail_known: bool,
    pub(crate) limiter: MemoryLimiter,
    /// Why the process exits, set by the host call that ends it.
    pub(crate) exit: Option<Ending>,
    /// The last line logged at error level since the entry: a panic's message.
    pub(crate) last_error: Option<String>,
    /// The number of messages that the current entry has taken.
    pub(crate) taken: u32,
    /// What [`Process::arrivals`](exuvia_process::Process::arrivals) was when the entry began.
    pub(crate) arrivals: u64,
    /// A `receive` of the current entry has returned EMPTY or UPGRADE because of an upgrade, though there
    /// may be messages.
    pub(crate) withheld: bool,
    /// Whether the process was WAITING when it was entered.
    pub(crate) continues: bool,
    pub(crate) debt: ReductionDebt,
    /// The handles to copy the state of the process while it is suspended.
    pub(crate) inside: Option<Arc<InstanceHandles>>,
    /// The resource that the function of the host which is under way works with: that of its process, or, as long
    /// as a restricted run lasts, what that run gets instead.
    pub(crate) lent: Option<Box<dyn Resource>>,
    /// The stack that the guest runs on: on [`Stack::Thread`] the store's functions may be
    /// called without a fiber.
    pub(crate) stack: Stack,
    /// Slices in a row that a guest on a thread's stack has had.
    pub(crate) slices: u32,
    /// The page fault count of the thread that last found out which pages are written, or
    /// `None` if another thread has used the memory since.
    pub(crate) faults: Option<Faults>,
}

impl FrameData {
    pub(crate) fn new(host: Option<Arc<Host>>, stack: Stack) -> FrameData {
        FrameData {
            host,
            process: None,
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
            arrivals: 0,
            withheld: false,
            continues: false,
            debt: ReductionDebt::default(),
            inside: None,
            lent: None,
            stack,
            slices: 0,
            faults: None,
        }
    }
}

impl FrameData {
    /// Returns the resource that is lent, if it is of this type.
    pub(crate) fn lent<R: Resource>(&mut self) -> Option<&mut R> {
        let lent: &mut dyn Any = &mut **self.lent.as_mut()?;
        lent.downcast_mut()
    }

    /// Gives the resource that is lent back to the process. A restricted run keeps its own.
    pub(crate) fn give_back(&mut self) {
        if let Some(guest) = self.process.as_mut().and_then(|process| process.guest())
            && let Some(lent) = self.lent.take()
        {
            guest.resources().put(lent);
        }
    }
}

/// Makes the guest ask the host for its mail from now on.
#[cold]
pub(crate) fn forget_mail(mut store: impl AsContextMut<Data = FrameData>) {
    let mut store = store.as_context_mut();
    store.data_mut().mail_known = false;
    if let Some(mail) = store.data().mail {
        // Cannot fail: the global is a mutable `i32` of this store.
        let _ = mail.set(store, Val::I32(MAIL_UNKNOWN));
    }
}

/// Sets the guest's count of the reductions that are left.
pub(crate) fn set_reductions(
    counter: &Global,
    store: impl AsContextMut,
    value: i32,
) -> wasmtime::Result<()> {
    counter.set(store, Val::I32(value))
}

/// Forgets an exception that nothing has caught, if this error is one: the next process in the frame has
/// nothing to do with it.
pub(crate) fn forget_exception(
    store: impl AsContextMut<Data = FrameData>,
    error: &wasmtime::Error,
) {
    if error.is::<ThrownException>() {
        let mut scope = RootScope::new(store);
        scope.as_context_mut().take_pending_exception();
    }
}

impl Restricted {
    /// Deducts reductions from those that the run may still use, or returns the error that ends it.
    pub(crate) fn pay(&mut self, reductions: u64) -> wasmtime::Result<()> {
        match self.reductions.checked_sub(reductions) {
            Some(left) => self.reductions = left,
            None => {
                let Restricted { what, limit, .. } = self;
                return Err(wasmtime::Error::msg(format!(
                    "{what} did not end within {limit} reductions (calls and loop iterations), which is a fixed limit: fix an endless loop, or do less here and the rest in a message handler"
                )));
            }
        }
        Ok(())
    }
}

/// Holds a process to its memory limit.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    pub(crate) bytes: u64,
    /// Why growth was denied, if since then the guest has neither grown by less nor called
    /// the host for anything but logging. In that case a trap is taken to be caused by the
    /// lack of memory.
    pub(crate) denied: Denied,
}

/// What has denied growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    No,
    /// The process's limit.
    Limit,
    /// The system, which has no memory left.
    System,
}

/// The maximum number of entries of each table of a process. Tables do not count towards
/// its memory limit, so they have a limit of their own. The entries that all tables of a
/// module begin with are limited when it is loaded.
const TABLE_ENTRIES: usize = exuvia_abi::limits::TABLE_ENTRIES as usize;

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
        // Also called when the module's own maximum is reached.
        if is_out_of_resources(&error) {
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

/// The error that a host call which ends the process returns to wasmtime; the reason itself
/// is in [`FrameData::exit`].
#[derive(Debug, thiserror::Error)]
#[error("the process ends")]
pub(crate) struct ProcessEnds;

/// The error of a host call that a restricted run may not make.
#[derive(Debug, thiserror::Error)]
#[error("`{call}` is not available while {what} runs; only log, clock and random are")]
pub(crate) struct RefusedCall {
    pub(crate) call: &'static str,
    pub(crate) what: &'static str,
}

/// The error of a call that `warm_up` may not make.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{call}` is not available while `warm_up` runs: all processes start with the memory that it leaves; call it in `_initialize`, which then runs for each process, or after the process has started"
)]
pub(crate) struct RefusedInWarmUp {
    pub(crate) call: &'static str,
}
