//! How a guest is suspended in the middle of a host call, and how it continues: the instrumented code
//! calls these functions when its reductions are used up, and when a call has returned SUSPEND.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use exuvia_image::Image;
use exuvia_instrument::SLICE;
use parking_lot::Mutex;
use wasmtime::{AsContextMut, Caller, Func, Global, Store};

use crate::frames::blocked::{self, BlockedGuest, Ending, OnThisStack};
use crate::guest::{GuestProcess, Wait};
use crate::instance::factory::Pause;
use crate::instance::store::{FrameData, Mode, set_reductions};
use crate::module::stack_policy::Stack;
use crate::suspend::fiber::{self, FiberRequest, NextRequest};
use crate::suspend::thread::TurnResult;

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
    let Some((process, slice)) = detach_process(&mut caller, why)? else {
        return Ok(());
    };
    fiber::put_suspended(process);
    let process = loop {
        match NextRequest.await {
            FiberRequest::Resume(process) => break process,
            FiberRequest::Copy => fiber::put_copy(copy(&mut caller)?),
        }
    };
    attach_process(caller, why, process, slice)
}

/// Does the same for a guest on the stack of a scheduler's thread, by blocking the thread in place.
/// Does not block if the guest has merely used up a slice and may have another one.
fn pause_here(mut caller: Caller<'_, FrameData>, why: Pause) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let stays = why == Pause::Yield && data.debt.congested.is_none() && data.slices < SLICES;
    data.slices += 1;
    let first = data.slices == 1;
    let Some((process, slice)) = detach_process(&mut caller, why)? else {
        return Ok(());
    };
    if stays {
        let host = caller.data().host.as_ref();
        if first && let Some(threads) = host.and_then(|host| host.threads.get()) {
            // A long turn: let other schedulers run the processes that wait behind this one.
            threads.turn_gets_long();
        }
        return attach_process(caller, why, process, slice);
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
    let Some(OnThisStack::Running(lease)) = blocked::take() else {
        caller.data_mut().process = Some(process);
        return Err(wasmtime::Error::msg("the process has no frame"));
    };
    let blocked_guest = BlockedGuest::new(spare.resume_handle());
    // Whatever happens here, no other thread waits for this guest in vain.
    let ending = Ending::new(blocked_guest.clone());
    let index = process.pid().slot();
    // The thread that takes over puts the frame back: if none does, the guest is not blocked.
    let handover = Arc::new(Mutex::new(Some((process, lease))));
    let then = {
        let (handover, blocked_guest) = (handover.clone(), blocked_guest.clone());
        move || {
            let Some((mut process, mut lease)) = handover.lock().take() else {
                return TurnResult::Idle;
            };
            lease.frame.block_in_place(blocked_guest);
            if let (Some(guest), Some(location)) = (process.guest(), lease.put_back_suspended()) {
                guest.set_location(location);
            }
            turns.continue_after_block(process)
        }
    };
    let taken_over = catch_unwind(AssertUnwindSafe(|| {
        spare.take_over(index, Box::new(then));
    }));
    if let Err(panic) = taken_over {
        if let Some((process, lease)) = handover.lock().take() {
            ending.not();
            blocked::put(OnThisStack::Running(lease));
            caller.data_mut().process = Some(process);
        }
        resume_unwind(panic);
    }
    let process = loop {
        match blocked_guest.next_request() {
            blocked::BlockedRequest::Resume(process, lease) => {
                ending.not();
                blocked::put(OnThisStack::Running(lease));
                break process;
            }
            blocked::BlockedRequest::Copy => blocked_guest.copied(copy(&mut caller)?),
            blocked::BlockedRequest::End => {
                blocked::put(OnThisStack::Ending(ending));
                return Err(wasmtime::Error::msg("the call was aborted"));
            }
        }
    };
    blocked_guest.wait_for_scheduler();
    caller.data_mut().slices = 0;
    attach_process(caller, why, process, slice)
}

/// Maximum number of slices in a row for a guest on a thread's stack. Blocking in place is more
/// expensive than a few of them, and a guest that finishes within them need not block.
const SLICES: u32 = 8;

/// Takes the process out of the store of a guest that is about to be suspended. Returns it with its
/// next slice, in reductions. Returns `None` if no process runs here (a restricted run): the guest
/// continues at once.
fn detach_process(
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
    let congested = caller.data_mut().debt.congested.take();
    let Some(mut process) = caller.data_mut().process.take() else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    process.reductions += u64::try_from(SLICE - left.max(0)).unwrap_or(0);
    if why == Pause::Yield
        && let Some(guest) = process.guest()
    {
        guest.wait.set(Wait::turn(congested));
    }
    Ok(Some((process, slice)))
}

/// Puts the process back into the store of its guest, which then continues.
fn attach_process(
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
    // The guest may continue on another thread.
    data.faults = None;
    data.limiter.bytes = process.limits().memory;
    // The shim has lost the count.
    data.mail_known = false;
    data.process = Some(process);
    let counter = counter(&caller)?;
    set_reductions(&counter, caller.as_context_mut(), slice)
}

pub(crate) fn counter(caller: &Caller<'_, FrameData>) -> wasmtime::Result<Global> {
    let counter = caller.data().reductions;
    counter.ok_or_else(|| wasmtime::Error::msg("the frame has no reduction counter"))
}

/// Copies the state of the calling guest.
pub(crate) fn copy(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<Image> {
    let inside = caller.data().inside.clone();
    let inside = inside.ok_or_else(|| wasmtime::Error::msg("the frame is empty"))?;
    Ok(inside.copy(caller))
}
