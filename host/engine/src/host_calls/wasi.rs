//! What happens before and after each function of WASI (see `wasi`).

use std::sync::Arc;

use exuvia_abi::wasi::{Act, FUNCTIONS, Function, PARTS, PATH, RANDOM, errno};
use exuvia_abi::{Reason, log};
use exuvia_instrument::SLICE;
use exuvia_process::call::Ending;
use exuvia_process::{ExitReason, transaction};
use wasmtime::{Caller, Func, Linker, Store};

use super::charge::charge_call;
use super::pause::{copy, counter};
use super::view::{impure, memory};
use super::{bytes, open};
use crate::guest::{GuestProcess, InHost, Wait};
use crate::host::Host;
use crate::instance::store::{
    Denied, FrameData, Mode, ProcessEnds, RefusedWasiCall, forget_mail, set_reductions,
};
use crate::resources::wasi::{Called, Wasi};
use crate::suspend::fiber::{self, FiberRequest, NextRequest};

/// Reductions for each call, beside what the guest pays for the instruction.
const COST: u32 = 4;

/// Reductions for each line that is logged.
const LINE: u32 = 8;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |data: &mut FrameData| {
        // `begin` has created it, except before the function that ends the process.
        &mut data.wasi.get_or_insert_with(Wasi::closed).context
    })?;
    open::define(linker)
}

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

/// Prepares the call of function `number`, given its first four arguments and its last one. Returns
/// 0 to proceed; any other error number is the result of the call.
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
    let called = Called {
        first: first.cast_unsigned(),
        second: second.cast_unsigned(),
        answer: last.cast_unsigned(),
    };
    // The first argument of `fd_read` and the like is the file.
    let of_file = function.name.starts_with("fd_") && function.name != "fd_renumber";
    if let Mode::Restricted(restricted) = &data.mode {
        let what = restricted.what;
        let wasi = data.wasi.get_or_insert_with(Wasi::closed);
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
    if data.wasi.is_none() {
        let grants = process.limits().grants.clone();
        let module = process.guest().map(|guest| guest.version.module.clone());
        let module = module.as_deref().unwrap_or_default();
        match Wasi::new(module, &grants, &host.files) {
            Ok(wasi) => data.wasi = Some(Box::new(wasi)),
            Err(error) => {
                let reason = ExitReason::with(Reason::LIMIT.0, error.as_bytes());
                data.exit = Some(Ending::Fault(reason));
                return Err(wasmtime::Error::new(ProcessEnds));
            }
        }
    }
    let Some(wasi) = &mut data.wasi else {
        return Err(wasmtime::Error::msg("it has no access to the system"));
    };
    wasi.called = called;
    if !may_wait(function) {
        return Ok(0);
    }
    if function.name == "path_open"
        && let Err(error) = wasi.may_open(process.limits().files)
    {
        return Ok(error);
    }
    let standard = of_file && wasi.is_standard(called.first);
    // Other functions wait for the system briefly. This one may wait for ever, and its process
    // keeps a frame.
    if function.name == "poll_oneoff" && !host.blocking.may_block() {
        return Ok(errno::AGAIN);
    }
    if !standard {
        // It cannot be undone.
        let sends = transaction::commit(process, &host.system);
        data.debt.owe(sends);
    }
    if let Some(guest) = process.guest() {
        guest.wait.set(Wait::host(InHost::new(&host.in_host)));
    }
    if let Some(process) = data.process.take() {
        fiber::put_suspended(process);
    }
    Ok(0)
}

/// Finishes the call of function `number`, which returned `answer`.
async fn end(mut caller: Caller<'_, FrameData>, answer: i32, number: i32) -> wasmtime::Result<i32> {
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
    if answer == 0 {
        has_done(&mut caller, function);
    }
    let data = caller.data_mut();
    if function.act == Act::Writes {
        let printed = data.wasi.as_ref().map(|wasi| wasi.printed.clone());
        if let Some(printed) = printed {
            let [out, err] = printed.take(false);
            told(data, out, err);
        }
    }
    charge_call(&mut caller)?;
    Ok(answer)
}

/// Returns what a function costs beside the call itself, in reductions, given what it has to copy
/// and do. Returns `None` if the guest asks for more than one call does.
fn price(
    caller: &mut Caller<'_, FrameData>,
    function: &Function,
    [_, second, third, ..]: [u32; 5],
) -> wasmtime::Result<Option<u32>> {
    let price = match function.name {
        // On a slow machine, about as many as the guest would use in that time.
        "random_get" if second > RANDOM => return Ok(None),
        "random_get" => second / 64,
        "poll_oneoff" if third > PARTS => return Ok(None),
        "poll_oneoff" => third.saturating_mul(4),
        "fd_read" | "fd_pread" | "fd_write" | "fd_pwrite" => {
            if third > PARTS {
                return Ok(None);
            }
            let memory = memory(caller)?;
            let parts = parts(memory.data(&*caller), second, third);
            u32::try_from(parts / 256).unwrap_or(u32::MAX)
        }
        _ => 0,
    };
    Ok(Some(price.saturating_add(COST)))
}

/// Returns the lengths of the paths that a function is given, in bytes.
fn paths(
    function: &Function,
    [_, second, third, fourth, last]: [u32; 5],
) -> impl Iterator<Item = u32> {
    let lengths = match function.name {
        "path_open" | "path_filestat_get" | "path_filestat_set_times" => [fourth, 0],
        "path_create_directory"
        | "path_readlink"
        | "path_remove_directory"
        | "path_unlink_file" => [third, 0],
        "path_link" => [fourth, last],
        "path_rename" => [third, last],
        "path_symlink" => [second, last],
        _ => [0, 0],
    };
    lengths.into_iter()
}

/// Returns the size in bytes of the first non-empty part of a read or write: the functions use no
/// other.
fn parts(memory: &[u8], at: u32, count: u32) -> u64 {
    let parts = memory.get(at as usize..).unwrap_or_default();
    let lengths = parts.as_chunks::<8>().0.iter().take(count as usize);
    lengths
        .map(|part| u64::from(u32::from_le_bytes([part[4], part[5], part[6], part[7]])))
        .find(|length| *length > 0)
        .unwrap_or(0)
}

/// Records the effect of a successful call on the process's files.
fn has_done(caller: &mut Caller<'_, FrameData>, function: &Function) {
    let Ok(memory) = memory(caller) else { return };
    let (memory, data) = memory.data_and_store_mut(caller);
    let Some(wasi) = &mut data.wasi else { return };
    let called = wasi.called;
    match function.name {
        "path_open" => {
            let answer = bytes(memory, called.answer.cast_signed(), 4);
            if let Some(number) = answer.and_then(|bytes| bytes.try_into().ok()) {
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
fn told(data: &mut FrameData, out: Vec<String>, err: Vec<String>) {
    for line in &err {
        // A panic prints more than one line.
        let said = data.last_error.get_or_insert_default();
        if !said.is_empty() {
            said.push('\n');
        }
        said.push_str(line);
        if said.len() > SAID {
            let cut = said.floor_char_boundary(said.len() - SAID);
            said.drain(..cut);
        }
    }
    let lines = u32::try_from(out.len() + err.len()).unwrap_or(u32::MAX);
    data.debt.owe(lines.saturating_mul(LINE));
    if let (Mode::Run, Some(host), Some(process)) = (&data.mode, &data.host, &mut data.process) {
        tell(host, process, [out, err]);
    }
}

/// Bytes of the guest's latest error output that are kept, for the exit reason if it traps.
const SAID: usize = 4 << 10;

/// Sends to the log what a process has printed.
pub(crate) fn tell(host: &Arc<Host>, process: &mut GuestProcess, printed: [Vec<String>; 2]) {
    let pid = process.pid();
    let Some(guest) = process.guest() else { return };
    for (lines, level) in printed.iter().zip([log::INFO, log::WARN]) {
        for line in lines {
            host.observer.log(pid, guest.version.version(), level, line);
        }
    }
}
