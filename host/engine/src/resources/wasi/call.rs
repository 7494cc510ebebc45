//! What happens before and after each function of WASI (see `wasi`).

use exuvia_abi::Reason;
use exuvia_abi::wasi::{Act, FUNCTIONS, Function, PATH, errno};
use exuvia_instrument::SLICE;
use exuvia_process::call::Ending;
use exuvia_process::{ExitReason, transaction};
use wasmtime::{Caller, Func, Store};

use super::output::Printed;
use super::price::{paths, price};
use super::{Called, Wasi};
use crate::guest::{Guest, GuestProcess, InHost, Wait};
use crate::host_calls::bytes;
use crate::host_calls::charge::charge_call;
use crate::host_calls::pause::{copy, counter};
use crate::host_calls::view::{impure, memory};
use crate::instance::store::{Denied, FrameData, Mode, ProcessEnds, forget_mail, set_reductions};
use crate::suspend::fiber::{self, FiberRequest, NextRequest};

/// What `ps` shows of a process that waits in one of these functions.
const STATE: &str = "wasi";

/// Reductions for each line that is logged.
const LINE: u32 = 8;

/// Returns the functions that the shim calls before and after, for a store whose guest runs on
/// fibers.
pub(crate) fn around(store: &mut Store<FrameData>) -> (Func, Func) {
    let before = Func::wrap(&mut *store, begin);
    let after = Func::wrap_async(
        store,
        |caller: Caller<'_, FrameData>, (answer, number): (i32, i32)| {
            Box::new(end(caller, answer, number))
        },
    );
    (before, after)
}

fn function(number: i32) -> wasmtime::Result<&'static Function> {
    let function = usize::try_from(number).ok().and_then(|n| FUNCTIONS.get(n));
    function.ok_or_else(|| wasmtime::Error::msg("the shim names no WASI function"))
}

/// Returns whether a function may wait, for the system or a slow terminal.
fn may_wait(function: &Function) -> bool {
    matches!(function.act, Act::Waits | Act::Writes)
}

/// What the shim takes for a call that the host has performed itself, without an error: more than an error
/// number has bits.
const DONE: i32 = 1 << 16;

/// Performs a `poll_oneoff` of one timer whose time is 0, and returns whether it was one. A runtime looks
/// with it whether there is something to do (Go, whenever it stops for a collection): that must end no
/// transaction, and be possible in restricted runs. There a timer of any time is over at once, so that a
/// runtime that waits for its threads before it says why it fails (Go) comes to say it.
fn looked(caller: &mut Caller<'_, FrameData>, function: &Function, arguments: [u32; 5]) -> bool {
    /// The bytes of a subscription, and in them what it is about, its time and its flags.
    const SUBSCRIPTION: i32 = 48;
    const KIND: usize = 8;
    const TIME: usize = 24;
    const FLAGS: usize = 40;
    /// The kind of a timer, and the flag of a time of day.
    const CLOCK: u8 = 0;
    const ABSOLUTE: u8 = 1;
    /// The bytes of an event: what the subscription began with, an error number, the kind, and what only
    /// files have.
    const EVENT: usize = 32;
    let [subscriptions, events, count, .., number_of_events] = arguments;
    if function.name != "poll_oneoff" || count != 1 {
        return false;
    }
    let Ok(memory) = memory(caller) else {
        return false;
    };
    let is_restricted = matches!(caller.data().mode, Mode::Restricted(_));
    let memory = memory.data_mut(caller);
    let Some(it) = bytes(memory, subscriptions.cast_signed(), SUBSCRIPTION) else {
        return false;
    };
    let is_timer = it[KIND] == CLOCK && it[FLAGS] & ABSOLUTE == 0;
    let is_look = is_timer && (is_restricted || it[TIME..TIME + 8] == [0; 8]);
    let mut event = [0; EVENT];
    event[..8].copy_from_slice(&it[..8]);
    let writes: [(u32, &[u8]); 2] = [(events, &event), (number_of_events, &1u32.to_le_bytes())];
    let places = writes.map(|(at, data)| at as usize..at as usize + data.len());
    if !is_look || places.iter().any(|place| place.end > memory.len()) {
        return false;
    }
    for ((_, data), place) in writes.into_iter().zip(places) {
        memory[place].copy_from_slice(data);
    }
    true
}

/// Prepares the call of function `number`, given its first four arguments and its last one. Returns
/// 0 to proceed; any other error number is the result of the call, and [`DONE`] its success.
fn begin(
    mut caller: Caller<'_, FrameData>,
    number: i32,
    first: i32,
    second: i32,
    third: i32,
    fourth: i32,
    last: i32,
) -> wasmtime::Result<i32> {
    let function = function(number)?;
    let data = caller.data_mut();
    data.limiter.denied = Denied::No;
    if function.act == Act::Tells {
        impure(data, function.name)?;
    }
    let arguments = [first, second, third, fourth, last].map(i32::cast_unsigned);
    if paths(function, arguments).any(|length| length > PATH) {
        charge_call(&mut caller)?;
        return Ok(errno::NAMETOOLONG);
    }
    let Some(price) = price(&mut caller, function, arguments)? else {
        charge_call(&mut caller)?;
        return Ok(errno::INVAL);
    };
    let data = caller.data_mut();
    data.debt.owe(price);
    if looked(&mut caller, function, arguments) {
        charge_call(&mut caller)?;
        return Ok(DONE);
    }
    let data = caller.data_mut();
    let called = Called {
        first: first.cast_unsigned(),
        second: second.cast_unsigned(),
        result: last.cast_unsigned(),
    };
    // The first argument of `fd_read` and the like is the file.
    let of_file = function.name.starts_with("fd_") && function.name != "fd_renumber";
    if let Mode::Restricted(restricted) = &data.mode {
        let what = restricted.what;
        let fixed = restricted.fixed.is_some().then_some(what);
        data.lent
            .get_or_insert_with(|| Box::new(Wasi::closed(fixed)));
        let wasi = data.lent::<Wasi>().ok_or_else(no_access)?;
        if may_wait(function) && !(of_file && wasi.is_standard(called.first)) {
            return Err(wasmtime::Error::new(RefusedWasiCall {
                call: function.name,
                what,
            }));
        }
        wasi.called = called;
        return Ok(0);
    }
    let (Some(host), Some(process)) = (data.host.clone(), &mut data.process) else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    let files = process.limits().files;
    let is_open = |guest: &mut Guest| guest.resources().get::<Wasi>().is_some();
    if !process.guest().is_some_and(is_open) {
        let grants = process.limits().grants.clone();
        let guest = process.guest().ok_or_else(no_access)?;
        match super::open(&guest.version.module, &grants, &host) {
            Ok(opened) => guest.resources().put(opened),
            Err(error) => {
                let reason = ExitReason::with(Reason::LIMIT.0, error.as_bytes());
                data.exit = Some(Ending::Fault(reason));
                return Err(wasmtime::Error::new(ProcessEnds));
            }
        }
    }
    let guest = process.guest().ok_or_else(no_access)?;
    let wasi = guest.resources().get::<Wasi>().ok_or_else(no_access)?;
    wasi.called = called;
    let standard = of_file && wasi.is_standard(called.first);
    if function.name == "path_open"
        && let Err(error) = wasi.may_open(files)
    {
        return Ok(error);
    }
    // Other functions wait for the system briefly. This one may wait for ever, and its process
    // keeps a frame.
    if function.name == "poll_oneoff" && !host.blocking.may_block() {
        return Ok(errno::AGAIN);
    }
    data.lent = guest.resources().lend::<Wasi>();
    if !may_wait(function) {
        return Ok(0);
    }
    if !standard {
        // It cannot be undone.
        let sends = transaction::commit(process, &host.system);
        data.debt.owe(sends);
    }
    if let Some(guest) = process.guest() {
        guest
            .wait
            .set(Wait::host(STATE, InHost::new(&host.in_host)));
    }
    if let Some(process) = data.process.take() {
        fiber::put_suspended(process);
    }
    Ok(0)
}

fn no_access() -> wasmtime::Error {
    wasmtime::Error::msg("the process has no access to the system")
}

/// Finishes the call of function `number`, which returned `result`.
async fn end(mut caller: Caller<'_, FrameData>, result: i32, number: i32) -> wasmtime::Result<i32> {
    let function = function(number)?;
    if may_wait(function) && matches!(caller.data().mode, Mode::Run) {
        let (process, waited) = match fiber::take_suspended() {
            Some(process) => (process, false),
            // It was suspended; wait for a request.
            None => loop {
                match NextRequest.await {
                    FiberRequest::Resume(process) => break (process, true),
                    FiberRequest::Copy => fiber::put_copy(copy(&mut caller)?),
                }
            },
        };
        put_back(&mut caller, process, waited)?;
    }
    if result == 0 {
        has_done(&mut caller, function);
    }
    let data = caller.data_mut();
    if function.act == Act::Writes
        && let Some(wasi) = data.lent::<Wasi>()
    {
        let lines = wasi.printed.take(false);
        printed(data, &lines);
    }
    data.give_back();
    charge_call(&mut caller)?;
    Ok(result)
}

/// Records the effect of a successful call on the process's files.
fn has_done(caller: &mut Caller<'_, FrameData>, function: &Function) {
    let Ok(memory) = memory(caller) else { return };
    let (memory, data) = memory.data_and_store_mut(caller);
    let Some(wasi) = data.lent::<Wasi>() else {
        return;
    };
    let called = wasi.called;
    match function.name {
        "path_open" => {
            let result = bytes(memory, called.result.cast_signed(), 4);
            if let Some(number) = result.and_then(|bytes| bytes.try_into().ok()) {
                wasi.has_opened(u32::from_le_bytes(number));
            }
        }
        "fd_close" => wasi.has_closed(called.first),
        "fd_renumber" => wasi.has_renumbered(called.first, called.second),
        _ => {}
    }
}

fn put_back(
    caller: &mut Caller<'_, FrameData>,
    mut process: Box<GuestProcess>,
    waited: bool,
) -> wasmtime::Result<()> {
    if let Some(guest) = process.guest() {
        guest.wait.take();
    }
    if waited {
        let counter = counter(caller)?;
        let left = counter.get(&mut *caller).i32().unwrap_or(0);
        process.reductions += u64::try_from(SLICE - left.max(0)).unwrap_or(0);
        set_reductions(&counter, &mut *caller, SLICE.saturating_add(left.min(0)))?;
        forget_mail(&mut *caller);
    }
    let data = caller.data_mut();
    if waited {
        // The guest may continue on another thread.
        data.faults = None;
        data.limiter.bytes = process.limits().memory;
    }
    data.process = Some(process);
    Ok(())
}

/// Sends to the log what the guest has printed, and keeps the end of its error output.
fn printed(data: &mut FrameData, lines: &[Vec<String>; 2]) {
    let [out, err] = lines;
    for line in err {
        // A panic prints more than one line.
        let last_error = data.last_error.get_or_insert_default();
        if !last_error.is_empty() {
            last_error.push('\n');
        }
        last_error.push_str(line);
        if last_error.len() > LAST_ERROR {
            let cut = last_error.floor_char_boundary(last_error.len() - LAST_ERROR);
            last_error.drain(..cut);
        }
    }
    let count = u32::try_from(out.len() + err.len()).unwrap_or(u32::MAX);
    data.debt.owe(count.saturating_mul(LINE));
    if let (Mode::Run, Some(host), Some(process)) = (&data.mode, &data.host, &mut data.process) {
        let pid = process.pid();
        if let Some(guest) = process.guest() {
            let version = guest.version.version();
            Printed::write(lines, &mut |level, line| {
                host.observer.log(pid, version, level, line);
            });
        }
    }
}

/// Bytes of the guest's latest error output that are kept, for the exit reason if it traps.
const LAST_ERROR: usize = 4 << 10;

/// The error of a WASI function that a restricted run may not call.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{call}` is not available while {what} runs: only handlers can use files; available are printing, arguments, environment, clocks, random numbers and the list of folders"
)]
struct RefusedWasiCall {
    call: &'static str,
    what: &'static str,
}
