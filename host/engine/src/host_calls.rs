//! Host calls: the functions that guests import. Each family has its own file; this one has what
//! they share: how a call suspends its guest, and how the instrumented code yields.
//!
//! A call that must wait is an ordinary, inexpensive host function. It stores in `Guest::wait` what
//! it waits for and returns SUSPEND. The shim around it (see `instrument`) then calls `wait`, which
//! suspends the guest. When the guest is resumed, the shim repeats the call with the same
//! arguments, and the call finds the stored wait.

mod charge;
mod groups;
mod info;
mod memory;
mod messages;
mod names;
mod open;
mod relations;
mod services;
mod spawn;
mod state;
mod tables;
mod timers;
mod view;
pub(crate) mod wasi;

use exuvia_abi::{Code, HostCall, MODULE};
use exuvia_image::Image;
use exuvia_instrument::SLICE;
use exuvia_process::call::{CallError, CallResult};
use wasmtime::{AsContextMut, Caller, Func, Global, Linker, Store};

use self::charge::charge_call;
pub(crate) use self::charge::forget_mail;
pub(crate) use self::memory::bytes;
pub use self::services::{HostCaller, HostServices};
use crate::frames::blocked::{self, BlockedGuest, Ending, OnThisStack};
use crate::guest::{GuestProcess, Wait};
use crate::instance::setup::set_reductions;
use crate::instance::store::{FrameData, Mode, ProcessEnds};
use crate::module::stack_policy::Stack;
use crate::suspend::fiber::{self, FiberRequest, NextRequest};

/// Links the functions of `exuvia_abi::with_host_calls` to their decoders: the function of that
/// name in the module of the family. A call that the table marks as restricted gets a
/// [`view::RestrictedView`]; all others are refused in restricted runs.
macro_rules! link {
    ($(
        $name:literal $family:ident::$function:ident($($param:ident: $type:ident),*) -> $result:tt,
        $probation:ident, [$($flag:ident)*], $docs:literal;
    )*) => {
        fn link(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
            $({
                const CALL: &HostCall = HostCall::named($name);
                linker.func_wrap(
                    MODULE,
                    $name,
                    |mut caller: Caller<'_, FrameData>, $($param: $type),*| -> wasmtime::Result<$result> {
                        let mut view = enter!([$($flag)*] caller, CALL);
                        let returned = $family::$function(&mut view, $($param),*);
                        finish(&mut caller, returned)
                    },
                )?;
            })*
            Ok(())
        }
    };
}

macro_rules! enter {
    ([restricted $($flag:ident)*] $caller:ident, $call:ident) => {
        view::enter_restricted(&mut $caller, $call)?
    };
    ([$($flag:ident)*] $caller:ident, $call:ident) => {
        view::enter(&mut $caller, $call)?
    };
}

exuvia_abi::with_host_calls!(link);

/// Defines every host call of `exuvia_abi::HOST_CALLS`, and the functions of WASI.
pub(crate) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    link(linker)?;
    wasi::define(linker)
}

/// The Wasm result of a host call.
trait Returned {
    /// Returns a code as this type.
    fn of(code: Code) -> Self;
}

impl Returned for i32 {
    fn of(code: Code) -> i32 {
        code as i32
    }
}

impl Returned for i64 {
    fn of(code: Code) -> i64 {
        i64::from(code as i32)
    }
}

impl Returned for () {
    fn of(_: Code) {}
}

/// Charges for a call, and returns its result to the guest or ends the process.
#[inline]
fn finish<T: Returned>(
    caller: &mut Caller<'_, FrameData>,
    returned: CallResult<T>,
) -> wasmtime::Result<T> {
    let returned = match returned {
        Ok(value) => value,
        Err(CallError::Code(code)) => T::of(code),
        Err(CallError::Ends(ending)) => {
            caller.data_mut().exit = Some(ending);
            return Err(wasmtime::Error::new(ProcessEnds));
        }
    };
    charge_call(caller)?;
    Ok(returned)
}

/// Why the guest calls to be suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The instrumented code ran out of reductions.
    Yield,
    /// A call returned SUSPEND.
    Wait,
}

/// Returns the function that suspends the guest on the kind of stack that the store is for.
pub(crate) fn pause_function(store: &mut Store<FrameData>, why: Pause) -> Func {
    match store.data().stack {
        Stack::Fiber => Func::wrap_async(store, move |caller: Caller<'_, FrameData>, (): ()| {
            Box::new(pause(caller, why))
        }),
        Stack::Thread => Func::wrap(store, move |caller: Caller<'_, FrameData>| {
            pause_here(caller, why)
        }),
    }
}

/// Hands the process back to the scheduler, and returns when the guest is resumed.
async fn pause(mut caller: Caller<'_, FrameData>, why: Pause) -> wasmtime::Result<()> {
    let Some((process, slice)) = take_out(&mut caller, why)? else {
        return Ok(());
    };
    fiber::put_suspended(process);
    let process = loop {
        match NextRequest.await {
            FiberRequest::Resume(process) => break process,
            FiberRequest::Copy => fiber::put_copy(copy(&mut caller)?),
        }
    };
    put_in(caller, why, process, slice)
}

/// Does the same for a guest on the stack of a scheduler's thread, by blocking the thread in place.
/// Does not block if the guest has merely used up a slice and may have another one.
fn pause_here(mut caller: Caller<'_, FrameData>, why: Pause) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let stays = why == Pause::Yield && data.debt.congested.is_none() && data.slices < SLICES;
    data.slices += 1;
    let first = data.slices == 1;
    let Some((mut process, slice)) = take_out(&mut caller, why)? else {
        return Ok(());
    };
    if stays {
        let host = caller.data().host.as_ref();
        if first && let Some(threads) = host.and_then(|host| host.threads.get()) {
            // A long turn: let other schedulers run the processes that wait behind this one.
            threads.turn_gets_long();
        }
        return put_in(caller, why, process, slice);
    }
    let host = caller.data().host.clone();
    let turns = (host.as_ref()).and_then(|host| host.turns.get()?.upgrade());
    let spare = host.and_then(|host| host.threads.get()?.spare_thread());
    let (Some(turns), Some(spare)) = (turns, spare) else {
        // A bug of the host: `Threads::may_block_in_place` was checked before the entry.
        caller.data_mut().process = Some(process);
        return Err(wasmtime::Error::msg(
            "too many processes block in place already",
        ));
    };
    let Some(OnThisStack::Running(mut lease)) = blocked::take() else {
        caller.data_mut().process = Some(process);
        return Err(wasmtime::Error::msg("the process has no frame"));
    };
    let aside = BlockedGuest::new(spare.resume_handle());
    // Whatever happens here, no other thread waits for this guest in vain.
    let ending = Ending::new(aside.clone());
    lease.frame.block_in_place(aside.clone());
    let index = process.pid().slot();
    if let (Some(guest), Some(location)) = (process.guest(), lease.put_back_suspended()) {
        guest.set_location(location);
    }
    spare.take_over(index, Box::new(move || turns.continue_after_block(process)));
    let process = loop {
        match aside.next_request() {
            blocked::BlockedRequest::Resume(process, lease) => {
                ending.not();
                blocked::put(OnThisStack::Running(lease));
                break process;
            }
            blocked::BlockedRequest::Copy => aside.copied(copy(&mut caller)?),
            blocked::BlockedRequest::End => {
                blocked::put(OnThisStack::Ending(ending));
                return Err(wasmtime::Error::msg("the call was aborted"));
            }
        }
    };
    aside.come_back();
    caller.data_mut().slices = 0;
    put_in(caller, why, process, slice)
}

/// Maximum number of slices in a row for a guest on a thread's stack. Blocking in place is more
/// expensive than a few of them, and a guest that finishes within them need not block.
const SLICES: u32 = 8;

/// Takes the process out of the store of a guest that is about to be suspended. Returns it with its
/// next slice, in reductions. Returns `None` if no process runs here (a restricted run): the guest
/// continues at once.
fn take_out(
    caller: &mut Caller<'_, FrameData>,
    why: Pause,
) -> wasmtime::Result<Option<(Box<GuestProcess>, i32)>> {
    let counter = counter(caller)?;
    let left = counter.get(&mut *caller).i32().unwrap_or(0);
    // A negative remainder is a debt: a large copy takes several slices.
    let slice = SLICE.saturating_add(left.min(0));
    if let Mode::Restricted(restricted) = &mut caller.data_mut().mode {
        restricted.pay(u64::try_from(i64::from(SLICE) - i64::from(left.min(0))).unwrap_or(0))?;
        set_reductions(&counter, caller, SLICE)?;
        return Ok(None);
    }
    let crowd = caller.data_mut().debt.congested.take();
    let Some(mut process) = caller.data_mut().process.take() else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    process.reductions += u64::try_from(SLICE - left.max(0)).unwrap_or(0);
    if let Some(wasi) = caller.data_mut().wasi.take()
        && let Some(guest) = process.guest()
    {
        guest.put_wasi(wasi);
    }
    if why == Pause::Yield
        && let Some(guest) = process.guest()
    {
        guest.wait.set(Wait::turn(crowd));
    }
    Ok(Some((process, slice)))
}

/// Puts the process back into the store of its guest, which then continues.
fn put_in(
    mut caller: Caller<'_, FrameData>,
    why: Pause,
    mut process: Box<GuestProcess>,
    slice: i32,
) -> wasmtime::Result<()> {
    if why == Pause::Yield
        && let Some(guest) = process.guest()
    {
        guest.wait.take();
    }
    let data = caller.data_mut();
    data.wasi = process.guest().and_then(|guest| guest.take_wasi());
    // The guest may continue on another thread.
    data.faults = None;
    data.limiter.bytes = process.limits().memory;
    // The shim has lost the count.
    data.mail_known = false;
    data.process = Some(process);
    let counter = counter(&caller)?;
    set_reductions(&counter, caller.as_context_mut(), slice)
}

fn counter(caller: &Caller<'_, FrameData>) -> wasmtime::Result<Global> {
    let counter = caller.data().reductions;
    counter.ok_or_else(|| wasmtime::Error::msg("the frame has no reduction counter"))
}

/// Copies the state of the calling guest.
fn copy(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<Image> {
    let inside = caller.data().inside.clone();
    let inside = inside.ok_or_else(|| wasmtime::Error::msg("the frame is empty"))?;
    Ok(inside.copy(caller))
}
