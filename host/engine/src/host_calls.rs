//! Host calls: the functions that guests import. Each family has its own file; this one has what
//! they share: how a call suspends its guest, and how the instrumented code yields.
//!
//! A call that must wait is an ordinary, inexpensive host function. It stores in `Guest::wait` what
//! it waits for and returns SUSPEND. The shim around it (see `instrument`) then calls `wait`, which
//! suspends the guest. When the guest is resumed, the shim repeats the call with the same
//! arguments, and the call finds the stored wait.

mod groups;
mod message;
mod misc;
mod open;
mod process;
mod tables;
pub(crate) mod wasi;

use exuvia_abi::{Code, Pid, SUSPEND};
use exuvia_image::Image;
use exuvia_instrument::{MAIL_UNKNOWN, SLICE};
use exuvia_process::{Charge, Due, Payload};
use wasmtime::{AsContextMut, Caller, Func, Global, Linker, Store, Val};

use crate::frames::blocked::{self, BlockedGuest, Ending, OnThisStack};
use crate::guest::{Guest, GuestProcess, Wait, WaitReason};
use crate::instance::setup::set_reductions;
use crate::instance::store::{FrameData, Mode, Restricted, View, bytes, bytes_mut, view};
use crate::module::stack_policy::Stack;
use crate::suspend::fiber::{self, FiberRequest, NextRequest};
use crate::transaction::{commit_transaction, transaction};

/// Defines every host call of `exuvia_abi::HOST_CALLS`.
pub(crate) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    message::define(linker)?;
    process::define(linker)?;
    groups::define(linker)?;
    tables::define(linker)?;
    wasi::define(linker)?;
    misc::define(linker)
}

/// The result of a host call: an error code, or a number that is 0 or greater.
type Answer = Result<i32, Code>;

fn answer(answer: Answer) -> i32 {
    answer.unwrap_or_else(|code| code as i32)
}

/// Copies what was found into the guest's buffer if it fits, and returns its length in bytes in any
/// case. Returns [`Code::Empty`] if nothing was found.
fn answer_with(view: &mut View<'_>, found: Option<&[u8]>, buffer: i32, capacity: i32) -> Answer {
    let found = found.ok_or(Code::Empty)?;
    let length = i32::try_from(found.len()).map_err(|_| Code::Limit)?;
    if found.len() <= capacity.cast_unsigned() as usize {
        bytes_mut(view.memory, buffer, length)
            .ok_or(Code::BadPointer)?
            .copy_from_slice(found);
        view.debt.copied(found.len());
    }
    Ok(length)
}

/// Runs a call that only a running process may make, and charges the process for it.
#[inline]
fn served(
    caller: &mut Caller<'_, FrameData>,
    call: &'static str,
    act: impl FnOnce(&mut View<'_>) -> wasmtime::Result<Answer>,
) -> wasmtime::Result<i32> {
    let answered = act(&mut view(caller, call)?)?;
    charge_call(caller)?;
    Ok(answer(answered))
}

/// Deducts what a call has cost beyond itself from the slice. A process that has sent to a
/// congested receiver loses the rest of its slice.
#[inline]
fn charge_call(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data();
    // The next `receive` must find what the process sends to itself, and what others send
    // in the meantime.
    if data.mail_known
        && let (Some(host), Some(process)) = (&data.host, &data.process)
        && process.has_new_signals(&host.system)
    {
        forget_mail(&mut *caller);
    }
    if let Mode::Restricted(_) = &caller.data().mode {
        let debt = &mut caller.data_mut().debt;
        debt.reductions = (debt.reductions.saturating_add(1)).saturating_mul(RESTRICTED_COST);
    }
    let debt = &caller.data().debt;
    if debt.reductions == 0 && debt.congested.is_none() {
        return Ok(());
    }
    charge_reductions(caller)
}

/// The factor by which host calls cost more in a restricted run. Such a run is limited by its
/// reductions alone, so they must reflect its time; a process is also limited by its turns.
const RESTRICTED_COST: u32 = 32;

/// Charges a restricted run for bytes that the host makes or reads.
fn charge_bytes_of_restricted(data: &mut FrameData, bytes: usize) {
    if let Mode::Restricted(_) = data.mode {
        let reductions = u32::try_from(bytes / 64).unwrap_or(u32::MAX);
        data.debt.reductions = data.debt.reductions.saturating_add(reductions);
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

#[cold]
fn charge_reductions(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let reductions = std::mem::take(&mut data.debt.reductions);
    let congested = data.debt.congested.is_some();
    let Some(counter) = data.reductions else {
        return Ok(());
    };
    let left = counter.get(&mut *caller).i32().unwrap_or(0);
    let left = if congested { left.min(0) } else { left };
    let reductions = i32::try_from(reductions).unwrap_or(i32::MAX);
    // Far from where the guest's own count would wrap before it looks.
    let left = left.saturating_sub(reductions).max(i32::MIN / 2);
    set_reductions(&counter, caller, left)
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
        // All of it at once: between two checks it may call the host once more, for
        // more than a slice.
        let used = u64::try_from(i64::from(SLICE) - i64::from(left.min(0))).unwrap_or(0);
        if restricted.reductions < used {
            let Restricted { what, limit, .. } = restricted;
            return Err(wasmtime::Error::msg(format!(
                "{what} did not end within {limit} reductions (calls and loop iterations), which is a fixed limit: fix an endless loop, or do less here and the rest in a message handler"
            )));
        }
        restricted.reductions -= used;
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

impl View<'_> {
    /// Returns the wait of the call that is being repeated, or `None` if this is the first attempt.
    fn waiting(&mut self) -> Option<&mut Wait> {
        self.process.guest()?.wait.get_mut()
    }

    /// Ends the wait, whatever its outcome, and cancels its timer.
    fn end_wait(&mut self) {
        let pid = self.process.pid();
        let wait = self.process.guest().and_then(|guest| guest.wait.take());
        if let Some(timer) = wait.and_then(|wait| wait.timer) {
            self.host.system.timers.cancel(pid, timer);
        }
    }

    /// Returns whether the deadline of the wait has passed. Returns false while signals that have
    /// arrived are not sorted yet: what it waits for may be among them.
    fn timed_out(&mut self) -> bool {
        if self.process.has_backlog() {
            return false;
        }
        let deadline = self.waiting().and_then(|wait| wait.deadline);
        deadline.is_some_and(|deadline| deadline <= self.host.system.clock.now())
    }

    /// Suspends the guest until `what` happens, for at most `timeout` milliseconds (negative: no
    /// limit). Commits the open transaction, if any. Returns [`Code::Limit`] if the process may not
    /// wait.
    fn suspend(&mut self, what: WaitReason, timeout: i64, upgrade: bool) -> Answer {
        if self.waiting().is_some() {
            return Ok(SUSPEND);
        }
        self.may_wait()?;
        Ok(self.wait(what, timeout, upgrade))
    }

    /// Suspends the guest until its next turn, in which it repeats the call.
    fn look_again(&mut self) -> i32 {
        if let Some(guest) = self.process.guest()
            && guest.wait.get().is_none()
        {
            guest.wait.set(Wait::turn(None));
        }
        SUSPEND
    }

    /// Checks whether the process may wait, and so keep its frame. Returns [`Code::Limit`] if
    /// blocked processes keep too many frames already.
    fn may_wait(&mut self) -> Result<(), Code> {
        // A process of a resident-only module keeps its frame in any case.
        let keeps = |guest: &mut Guest| !guest.version.artifact.resident_only().is_empty();
        if self.host.blocking.may_block() || self.process.guest().is_some_and(keeps) {
            Ok(())
        } else {
            Err(Code::Limit)
        }
    }

    /// Suspends the guest in a call that checked [`View::may_wait`] before it had any effect: its
    /// effects could not be undone if the wait were refused.
    fn wait(&mut self, what: WaitReason, timeout: i64, upgrade: bool) -> i32 {
        self.close();
        let pid = self.process.pid();
        let system = &self.host.system;
        let (mut deadline, mut timer) = (None, None);
        if let Ok(timeout) = u64::try_from(timeout) {
            let delay = timeout.saturating_mul(1_000_000);
            deadline = Some(system.clock.now().saturating_add(delay));
            timer = Some(system.set_timer(pid, delay, |_| Due::Wake(pid)));
        }
        if let Some(guest) = self.process.guest() {
            guest.wait.set(Wait {
                reason: what,
                deadline,
                timer,
                upgrade,
                publication: None,
                in_host: None,
            });
        }
        SUSPEND
    }

    /// Checks whether the process may create one more link; see `Process::may_link`.
    fn may_link(&mut self, to: Option<Pid>) -> Result<(), Code> {
        let promised = transaction(self.process).map_or(0, |t| t.links);
        if !self.process.may_link(to, promised) {
            return Err(Code::Limit);
        }
        Ok(())
    }

    /// Checks whether the process may have `more` additional monitors and open requests.
    fn may_monitor(&mut self, more: usize) -> Result<(), Code> {
        let promised = transaction(self.process).map_or(0, |t| t.monitors);
        if !self.process.may_monitor(promised + more) {
            return Err(Code::Limit);
        }
        Ok(())
    }

    /// Counts links and monitors that are created when the open transaction commits, if one is
    /// open, against the limits from now on.
    fn promise(&mut self, links: usize, monitors: usize) {
        if let Some(transaction) = transaction(self.process) {
            transaction.links += links;
            transaction.monitors += monitors;
        }
    }

    /// Commits the open transaction, if any: its deferred effects happen now.
    fn close(&mut self) {
        let sends = commit_transaction(self.process, &self.host.system);
        self.debt.reductions = self.debt.reductions.saturating_add(sends);
    }

    fn read(&self, pointer: i32, length: i32) -> Result<&[u8], Code> {
        bytes(self.memory, pointer, length).ok_or(Code::BadPointer)
    }

    fn write(&mut self, pointer: i32, data: &[u8]) -> Result<(), Code> {
        let length = i32::try_from(data.len()).map_err(|_| Code::BadPointer)?;
        bytes_mut(self.memory, pointer, length)
            .ok_or(Code::BadPointer)?
            .copy_from_slice(data);
        Ok(())
    }

    /// Checks that `length` bytes at `pointer` can be written.
    fn check(&self, pointer: i32, length: u32) -> Result<(), Code> {
        self.read(pointer, length.cast_signed()).map(|_| ())
    }

    fn pid(&self, pointer: i32) -> Result<Pid, Code> {
        let bytes = self.read(pointer, Pid::SIZE as i32)?;
        let bytes = bytes.try_into().map_err(|_| Code::BadPointer)?;
        let pid = Pid::from_bytes(bytes);
        // Reject a pid that no process of this node can have had.
        let system = &self.host.system;
        if pid.node != system.node() || system.table.slot(pid.slot()).is_none() {
            return Err(Code::BadArgument);
        }
        Ok(pid)
    }

    /// Reads a payload that this process sends. Returns [`Code::MessageTooLarge`] above its limit.
    fn payload(&mut self, pointer: i32, length: i32) -> Result<Payload, Code> {
        let bytes = self.read(pointer, length)?;
        let length = bytes.len() as u64;
        if length > u64::from(self.process.limits().message_bytes) {
            return Err(Code::MessageTooLarge);
        }
        let payload = Payload::new(bytes);
        self.debt.copied(payload.len());
        if let Some(transaction) = transaction(self.process) {
            transaction.bytes += length;
        }
        Ok(payload)
    }

    /// Charges the process for a timer or an exit signal; see `Process::charge`.
    fn charge(&mut self, bytes: u64) -> Result<Charge, Code> {
        let charge = self.process.charge(&self.host.system, bytes);
        charge.ok_or(Code::Limit)
    }

    /// Gives up a request that the process itself has been waiting for.
    fn give_up(&mut self, reference: u64) {
        let to = self.process.monitored(reference);
        self.process.demonitor(&self.host.system, reference, true);
        self.told(to.unwrap_or(Pid::NONE));
    }

    /// Notes the receiver of a signal that no limit counts; call it after sending one. If `to` is
    /// congested, the guest continues only after `to` has caught up.
    fn told(&mut self, to: Pid) {
        if self.process.take_backpressure() {
            self.debt.congested = Some(to);
        }
    }
}
