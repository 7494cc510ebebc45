//! Host calls: what guests import. A file per family; here is what they share:
//! how a call suspends its guest, and how the instrumented code yields.
//!
//! A call that must wait is an ordinary, cheap host function. It notes in
//! `Guest::wait` what it waits for and answers SUSPEND; the shim around it (see
//! `instrument`) then calls `wait`, which suspends the guest, and afterwards
//! the same call again with the same arguments, which finds its note.

mod groups;
mod message;
mod misc;
mod open;
mod process;
mod tables;
pub(crate) mod wasi;

use exuvia_abi::{Code, Pid, SUSPEND};
use exuvia_process::{Charge, Due, Payload};
use wasmtime::{AsContextMut, Caller, Func, Global, Linker, Store, Val};

use crate::aside::{self, Aside, Ending, Here};
use crate::baton::{self, Ask, Asked};
use crate::data::{FrameData, Mode, Restricted, View, bytes, bytes_mut, view};
use crate::executor::Executor;
use crate::guest::{Guest, GuestOwn, Wait, Want};
use crate::image::Image;
use crate::instrument::{MAIL_UNKNOWN, SLICE};
use crate::setup::set_reductions;
use crate::stack::Stack;
use crate::transaction::{close_transaction, transaction};

/// Defines every host call of `exuvia_abi::HOST_CALLS`.
pub(crate) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    message::define(linker)?;
    process::define(linker)?;
    groups::define(linker)?;
    tables::define(linker)?;
    wasi::define(linker)?;
    misc::define(linker)
}

/// What a call answers: a code, or a number that is 0 or above.
type Answer = Result<i32, Code>;

fn answer(answer: Answer) -> i32 {
    answer.unwrap_or_else(|code| code as i32)
}

/// Writes what was found, if it fits; answers its length in any case.
fn answer_with(view: &mut View<'_>, found: Option<&[u8]>, buffer: i32, capacity: i32) -> Answer {
    let found = found.ok_or(Code::Empty)?;
    let length = i32::try_from(found.len()).map_err(|_| Code::Limit)?;
    if found.len() <= capacity.cast_unsigned() as usize {
        bytes_mut(view.memory, buffer, length)
            .ok_or(Code::BadPointer)?
            .copy_from_slice(found);
        view.toll.copied(found.len());
    }
    Ok(length)
}

/// Makes a call that only a running process may make, and has it pay for it.
#[inline]
fn served(
    caller: &mut Caller<'_, FrameData>,
    call: &'static str,
    act: impl FnOnce(&mut View<'_>) -> wasmtime::Result<Answer>,
) -> wasmtime::Result<i32> {
    let answered = act(&mut view(caller, call)?)?;
    settle(caller)?;
    Ok(answer(answered))
}

/// Takes what a call has cost beyond itself from the slice. Whoever has sent to
/// a process that is far behind has no more of it.
#[inline]
fn settle(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data();
    // What a process sends itself, and what others send meanwhile, is found by
    // the next `receive`.
    if data.mail_known
        && let (Some(shared), Some(own)) = (&data.shared, &data.own)
        && own.has_news(&shared.system)
    {
        forget_mail(&mut *caller);
    }
    let toll = &caller.data().toll;
    if toll.reductions == 0 && toll.crowd.is_none() {
        return Ok(());
    }
    pay(caller)
}

/// From now on the guest asks for its mail.
#[cold]
pub(crate) fn forget_mail(mut store: impl AsContextMut<Data = FrameData>) {
    let mut store = store.as_context_mut();
    store.data_mut().mail_known = false;
    if let Some(mail) = store.data().mail {
        // It is a mutable `i32` of this store.
        let _ = mail.set(store, Val::I32(MAIL_UNKNOWN));
    }
}

#[cold]
fn pay(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let reductions = std::mem::take(&mut data.toll.reductions);
    let crowded = data.toll.crowd.is_some();
    let Some(counter) = data.reductions else {
        return Ok(());
    };
    let left = counter.get(&mut *caller).i32().unwrap_or(0);
    let left = if crowded { left.min(0) } else { left };
    let reductions = i32::try_from(reductions).unwrap_or(i32::MAX);
    set_reductions(&counter, caller, left.saturating_sub(reductions))
}

/// Why the guest calls to be suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The instrumented code ran out of reductions.
    Yield,
    /// A call answered SUSPEND.
    Wait,
}

/// What suspends the guest, on the stack that the store is for.
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

/// Hands the process back to whoever runs it, until it is resumed.
async fn pause(mut caller: Caller<'_, FrameData>, why: Pause) -> wasmtime::Result<()> {
    let Some((own, slice)) = take_out(&mut caller, why)? else {
        return Ok(());
    };
    baton::put_suspended(own);
    let own = loop {
        match Asked.await {
            Ask::Resume(own) => break own,
            Ask::Copy => baton::put_copy(copy(&mut caller)?),
        }
    };
    put_in(caller, why, own, slice)
}

/// The same for a guest on the stack of a scheduler's thread. That steps aside,
/// unless the guest has only not quite finished.
fn pause_here(mut caller: Caller<'_, FrameData>, why: Pause) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let stays = why == Pause::Yield && data.toll.crowd.is_none() && data.slices < SLICES;
    data.slices += 1;
    let first = data.slices == 1;
    let Some((own, slice)) = take_out(&mut caller, why)? else {
        return Ok(());
    };
    if stays {
        let shared = caller.data().shared.as_ref();
        if first && let Some(threads) = shared.and_then(|shared| shared.threads.get()) {
            // Nobody who could run elsewhere waits for the end of it.
            threads.turn_gets_long();
        }
        return put_in(caller, why, own, slice);
    }
    let shared = caller.data().shared.clone();
    let stand_in = shared
        .as_ref()
        .and_then(|shared| shared.threads.get()?.stand_in());
    let (Some(shared), Some(stand_in)) = (shared, stand_in) else {
        // A bug: whoever has entered it has asked before.
        caller.data_mut().own = Some(own);
        return Err(wasmtime::Error::msg(
            "too many processes wait on threads' stacks, and this one has to",
        ));
    };
    let Some(Here::Seated(mut seated)) = aside::take() else {
        caller.data_mut().own = Some(own);
        return Err(wasmtime::Error::msg("the process has no seat"));
    };
    let aside = Aside::new(stand_in.way_back());
    // Whatever happens here, nobody waits for this guest in vain.
    let ending = Ending::new(aside.clone());
    seated.frame.step_aside(aside.clone());
    let index = own.pid().slot();
    let executor = Executor(shared);
    stand_in.take_over(index, Box::new(move || executor.stepped_aside(own, seated)));
    let own = loop {
        match aside.asked() {
            aside::Ask::Resume(own, seated) => {
                ending.not();
                aside::put(Here::Seated(seated));
                break own;
            }
            aside::Ask::Copy => aside.copied(copy(&mut caller)?),
            aside::Ask::End => {
                aside::put(Here::Ending(ending));
                return Err(wasmtime::Error::msg("the call was ended"));
            }
        }
    };
    aside.come_back();
    caller.data_mut().slices = 0;
    put_in(caller, why, own, slice)
}

/// Slices in a row that a guest on a thread's stack may have: to step aside is
/// dearer than a few of them, and who is done after some need not.
const SLICES: u32 = 8;

/// Takes the process out of the store of a guest that is to be suspended; with
/// it the slice that it gets next. `None`: no process runs here, and it goes on.
fn take_out(
    caller: &mut Caller<'_, FrameData>,
    why: Pause,
) -> wasmtime::Result<Option<(Box<GuestOwn>, i32)>> {
    let counter = counter(caller)?;
    let left = counter.get(&mut *caller).i32().unwrap_or(0);
    // What is below zero is owed: a large copy takes several slices.
    let slice = SLICE.saturating_add(left.min(0));
    if let Mode::Restricted(restricted) = &mut caller.data_mut().mode {
        let used = u64::from(SLICE.cast_unsigned());
        if restricted.reductions < used {
            let Restricted { what, limit, .. } = restricted;
            return Err(wasmtime::Error::msg(format!(
                "{what} did not end within {limit} reductions (calls and loop turns), which is a fixed limit: mend a loop that does not end, or let it do less and leave the rest to the handler of a message"
            )));
        }
        restricted.reductions -= used;
        set_reductions(&counter, caller, slice)?;
        return Ok(None);
    }
    let crowd = caller.data_mut().toll.crowd.take();
    let Some(mut own) = caller.data_mut().own.take() else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    own.reductions += u64::try_from(SLICE - left.max(0)).unwrap_or(0);
    if let Some(wasi) = caller.data_mut().wasi.take()
        && let Some(guest) = own.guest()
    {
        guest.put_wasi(wasi);
    }
    if why == Pause::Yield
        && let Some(guest) = own.guest()
    {
        guest.wait.set(Wait::turn(crowd));
    }
    Ok(Some((own, slice)))
}

/// Puts the process back into the store of its guest, which goes on.
fn put_in(
    mut caller: Caller<'_, FrameData>,
    why: Pause,
    mut own: Box<GuestOwn>,
    slice: i32,
) -> wasmtime::Result<()> {
    if why == Pause::Yield
        && let Some(guest) = own.guest()
    {
        guest.wait.take();
    }
    let data = caller.data_mut();
    data.wasi = own.guest().and_then(|guest| guest.take_wasi());
    // It may be another thread's that goes on.
    data.faults = None;
    data.limiter.bytes = own.limits().memory;
    // The shim has forgotten it.
    data.mail_known = false;
    data.own = Some(own);
    let counter = counter(&caller)?;
    set_reductions(&counter, caller.as_context_mut(), slice)
}

fn counter(caller: &Caller<'_, FrameData>) -> wasmtime::Result<Global> {
    let counter = caller.data().reductions;
    counter.ok_or_else(|| wasmtime::Error::msg("the frame has no reduction counter"))
}

/// A copy of the state of the guest that calls.
fn copy(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<Image> {
    let inside = caller.data().inside.clone();
    let inside = inside.ok_or_else(|| wasmtime::Error::msg("the frame is empty"))?;
    Ok(inside.copy(caller))
}

impl View<'_> {
    /// The wait of the call that is being made again, if this is a second try.
    fn waiting(&mut self) -> Option<&mut Wait> {
        self.own.guest()?.wait.get_mut()
    }

    /// The wait is over, whatever came of it.
    fn end_wait(&mut self) {
        let pid = self.own.pid();
        let wait = self.own.guest().and_then(|guest| guest.wait.take());
        if let Some(timer) = wait.and_then(|wait| wait.timer) {
            self.shared.system.timers.cancel(pid, timer);
        }
    }

    /// Whether the deadline of the wait has passed, and what it waits for was not
    /// among what had arrived by then.
    fn timed_out(&mut self) -> bool {
        if self.own.is_flooded() {
            return false;
        }
        let deadline = self.waiting().and_then(|wait| wait.deadline);
        deadline.is_some_and(|deadline| deadline <= self.shared.system.clock.now())
    }

    /// Suspends the guest until `what`, `timeout` milliseconds at most
    /// (negative: for ever). The transaction, if one is open, ends here.
    fn suspend(&mut self, what: Want, timeout: i64, upgrade: bool) -> Answer {
        if self.waiting().is_some() {
            return Ok(SUSPEND);
        }
        self.may_wait()?;
        Ok(self.wait(what, timeout, upgrade))
    }

    /// Suspends the guest for a turn, after which it makes the same call.
    fn look_again(&mut self) -> i32 {
        if let Some(guest) = self.own.guest()
            && guest.wait.get().is_none()
        {
            guest.wait.set(Wait::turn(None));
        }
        SUSPEND
    }

    /// Whether the process may wait, and keep its frame.
    fn may_wait(&mut self) -> Result<(), Code> {
        // One of a resident-only module keeps its frame in any case.
        let keeps = |guest: &mut Guest| !guest.tenancy.artifact.resident_only().is_empty();
        if self.shared.frames.may_block() || self.own.guest().is_some_and(keeps) {
            Ok(())
        } else {
            Err(Code::Limit)
        }
    }

    /// Suspends the guest in a call that has asked [`View::may_wait`] before it
    /// did anything: what it did is not taken back for want of a frame.
    fn wait(&mut self, what: Want, timeout: i64, upgrade: bool) -> i32 {
        self.close();
        let pid = self.own.pid();
        let system = &self.shared.system;
        let (mut deadline, mut timer) = (None, None);
        if let Ok(timeout) = u64::try_from(timeout) {
            let delay = timeout.saturating_mul(1_000_000);
            deadline = Some(system.clock.now().saturating_add(delay));
            timer = Some(system.set_timer(pid, delay, |_| Due::Wake(pid)));
        }
        if let Some(guest) = self.own.guest() {
            guest.wait.set(Wait {
                what,
                deadline,
                timer,
                upgrade,
                publication: None,
                in_host: None,
            });
        }
        SUSPEND
    }

    /// Whether the process may take up one more link; see `Own::may_link`.
    fn may_link(&mut self, to: Option<Pid>) -> Result<(), Code> {
        let promised = transaction(self.own).map_or(0, |t| t.links);
        if !self.own.may_link(to, promised) {
            return Err(Code::Limit);
        }
        Ok(())
    }

    /// Whether the process may have so many more monitors and open requests.
    fn may_monitor(&mut self, more: usize) -> Result<(), Code> {
        let promised = transaction(self.own).map_or(0, |t| t.monitors);
        if !self.own.may_monitor(promised + more) {
            return Err(Code::Limit);
        }
        Ok(())
    }

    /// Links and monitors that are made when the transaction ends, if one is
    /// open: counted from now on.
    fn promise(&mut self, links: usize, monitors: usize) {
        if let Some(transaction) = transaction(self.own) {
            transaction.links += links;
            transaction.monitors += monitors;
        }
    }

    /// Ends the transaction: what was held happens now.
    fn close(&mut self) {
        let sends = close_transaction(self.own, &self.shared.system);
        self.toll.reductions = self.toll.reductions.saturating_add(sends);
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

    /// Whether `length` bytes at `pointer` can be written.
    fn check(&self, pointer: i32, length: u32) -> Result<(), Code> {
        self.read(pointer, length.cast_signed()).map(|_| ())
    }

    fn pid(&self, pointer: i32) -> Result<Pid, Code> {
        let bytes = self.read(pointer, Pid::SIZE as i32)?;
        let bytes = bytes.try_into().map_err(|_| Code::BadPointer)?;
        let pid = Pid::from_bytes(bytes);
        // A pid that no process of this node can have had.
        let system = &self.shared.system;
        if pid.node != system.node() || system.table.slot(pid.slot()).is_none() {
            return Err(Code::BadArgument);
        }
        Ok(pid)
    }

    /// A payload that this process sends.
    fn payload(&mut self, pointer: i32, length: i32) -> Result<Payload, Code> {
        let bytes = self.read(pointer, length)?;
        let length = bytes.len() as u64;
        if length > u64::from(self.own.limits().message_bytes) {
            return Err(Code::MessageTooLarge);
        }
        let payload = Payload::new(bytes);
        self.toll.copied(payload.len());
        if let Some(transaction) = transaction(self.own) {
            transaction.bytes += length;
        }
        Ok(payload)
    }

    /// Charges the process for a timer or an exit signal; see `Own::charge`.
    fn charge(&mut self, bytes: u64) -> Result<Charge, Code> {
        let charge = self.own.charge(&self.shared.system, bytes);
        charge.ok_or(Code::Limit)
    }

    /// Gives up a request that the process itself has waited for.
    fn give_up(&mut self, reference: u64) {
        let to = self.own.monitored(reference);
        self.own.demonitor(&self.shared.system, reference, true);
        self.told(to.unwrap_or(Pid::NONE));
    }

    /// To be called when the process may have sent `to` what no limit counts.
    /// If that one is far behind, the guest goes on when it has caught up.
    fn told(&mut self, to: Pid) {
        if self.own.take_crowded() {
            self.toll.crowd = Some(to);
        }
    }
}
