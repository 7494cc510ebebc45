//! What happens before and after each function of WASI (see `wasi`).

use std::sync::Arc;

use exuvia_abi::wasi::{Act, FUNCTIONS, Function, PARTS, PATH, RANDOM, errno};
use exuvia_abi::{Reason, log};
use exuvia_process::ExitReason;
use wasmtime::{Caller, Func, Linker, Store};

use super::misc::{impure, memory};
use super::{copy, counter, forget_mail, open, settle};
use crate::baton::{self, Ask, Asked};
use crate::data::{Denied, Ends, Exit, FrameData, Mode, NotHere, bytes};
use crate::executor::Shared;
use crate::guest::{GuestOwn, InHost, Wait};
use crate::instrument::SLICE;
use crate::setup::set_reductions;
use crate::transaction::close_transaction;
use crate::wasi::{Called, Wasi};

/// Reductions of each call, beside what the guest pays for the instruction.
const COST: u32 = 4;

/// Reductions of each line that is logged.
const LINE: u32 = 8;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |data: &mut FrameData| {
        // `begin` has made it, but for the one that ends the process.
        &mut data.wasi.get_or_insert_with(Wasi::closed).context
    })?;
    open::define(linker)
}

/// What is called before and after, for a store whose guest runs on fibers.
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
    function.ok_or_else(|| wasmtime::Error::msg("the shim names no function of WASI"))
}

/// Whether a function may wait, for the system or a slow terminal.
fn may_wait(function: &Function) -> bool {
    matches!(function.act, Act::Waits | Act::Writes)
}

/// Before function `number`, with its first four arguments and its last. An error
/// other than 0 is its answer.
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
        return Ok(errno::NAMETOOLONG);
    }
    let Some(price) = price(&mut caller, function, arguments)? else {
        return Ok(errno::INVAL);
    };
    let data = caller.data_mut();
    data.toll.reductions = data.toll.reductions.saturating_add(price);
    let called = Called {
        first: first.cast_unsigned(),
        second: second.cast_unsigned(),
        answer: last.cast_unsigned(),
    };
    // Of `fd_read` and the like the first is the file.
    let of_file = function.name.starts_with("fd_") && function.name != "fd_renumber";
    if let Mode::Restricted(restricted) = &data.mode {
        let what = restricted.what;
        let wasi = data.wasi.get_or_insert_with(Wasi::closed);
        if may_wait(function) && !(of_file && wasi.is_standard(called.first)) {
            return Err(wasmtime::Error::new(NotHere {
                call: function.name,
                what,
            }));
        }
        wasi.called = called;
        return Ok(0);
    }
    let (Some(shared), Some(own)) = (data.shared.clone(), &mut data.own) else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    if data.wasi.is_none() {
        let grants = own.limits().grants.clone();
        let module = own.guest().map(|guest| guest.tenancy.module.clone());
        let module = module.as_deref().unwrap_or_default();
        match Wasi::new(module, &grants, &shared.files) {
            Ok(wasi) => data.wasi = Some(Box::new(wasi)),
            Err(error) => {
                let reason = ExitReason::with(Reason::LIMIT.0, error.as_bytes());
                data.exit = Some(Exit::Fault(reason));
                return Err(wasmtime::Error::new(Ends));
            }
        }
    }
    let Some(wasi) = &mut data.wasi else {
        return Err(wasmtime::Error::msg("it has nothing of the system"));
    };
    wasi.called = called;
    if !may_wait(function) {
        return Ok(0);
    }
    if function.name == "path_open"
        && let Err(error) = wasi.may_open(own.limits().files)
    {
        return Ok(error);
    }
    let standard = of_file && wasi.is_standard(called.first);
    // What waits for the system waits for a moment. This may for ever, and keeps
    // a frame.
    if function.name == "poll_oneoff" && !shared.frames.may_block() {
        return Ok(errno::AGAIN);
    }
    if !standard {
        // Nobody takes it back.
        let sends = close_transaction(own, &shared.system);
        data.toll.reductions = data.toll.reductions.saturating_add(sends);
    }
    if let Some(guest) = own.guest() {
        guest.wait.set(Wait::host(InHost::new(&shared.in_host)));
    }
    if let Some(own) = data.own.take() {
        baton::put_suspended(own);
    }
    Ok(0)
}

/// After it.
async fn end(mut caller: Caller<'_, FrameData>, answer: i32, number: i32) -> wasmtime::Result<i32> {
    let function = function(number)?;
    if may_wait(function) && matches!(caller.data().mode, Mode::Run) {
        let (own, waited) = match baton::take_suspended() {
            Some(own) => (own, false),
            // It was suspended, and is asked for something.
            None => loop {
                match Asked.await {
                    Ask::Resume(own) => break (own, true),
                    Ask::Copy => baton::put_copy(copy(&mut caller)?),
                }
            },
        };
        put_back(&mut caller, own, waited)?;
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
    settle(&mut caller)?;
    Ok(answer)
}

/// What a function costs beside itself, reductions, by what it has to copy and do.
/// `None`: it is asked for more than it does in one call.
fn price(
    caller: &mut Caller<'_, FrameData>,
    function: &Function,
    [_, second, third, ..]: [u32; 5],
) -> wasmtime::Result<Option<u32>> {
    let price = match function.name {
        // In a slow machine's time about what a guest does meanwhile.
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

/// How long the paths are that a function is given.
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

/// Bytes of the first part of a read or write that has any: with more the functions do
/// nothing.
fn parts(memory: &[u8], at: u32, count: u32) -> u64 {
    let parts = memory.get(at as usize..).unwrap_or_default();
    let lengths = parts.as_chunks::<8>().0.iter().take(count as usize);
    lengths
        .map(|part| u64::from(u32::from_le_bytes([part[4], part[5], part[6], part[7]])))
        .find(|length| *length > 0)
        .unwrap_or(0)
}

/// Notes what a function that has succeeded has done to the process's files.
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
    mut own: Box<GuestOwn>,
    waited: bool,
) -> wasmtime::Result<()> {
    if let Some(guest) = own.guest() {
        guest.wait.take();
    }
    if waited {
        let counter = counter(caller)?;
        let left = counter.get(&mut *caller).i32().unwrap_or(0);
        own.reductions += u64::try_from(SLICE - left.max(0)).unwrap_or(0);
        set_reductions(&counter, &mut *caller, SLICE.saturating_add(left.min(0)))?;
        forget_mail(&mut *caller);
    }
    let data = caller.data_mut();
    if waited {
        // It may be another thread's that goes on.
        data.faults = None;
        data.limiter.bytes = own.limits().memory;
    }
    data.own = Some(own);
    Ok(())
}

/// Tells the log what the guest has printed.
fn told(data: &mut FrameData, out: Vec<String>, err: Vec<String>) {
    for line in &err {
        // A panic says more than one line.
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
    data.toll.reductions = data
        .toll
        .reductions
        .saturating_add(lines.saturating_mul(LINE));
    if let (Mode::Run, Some(shared), Some(own)) = (&data.mode, &data.shared, &mut data.own) {
        tell(shared, own, [out, err]);
    }
}

/// Bytes of the last lines that a guest has printed as errors that are kept for the
/// reason if it traps.
const SAID: usize = 4 << 10;

/// Tells the log what a process has printed.
pub(crate) fn tell(shared: &Arc<Shared>, own: &mut GuestOwn, printed: [Vec<String>; 2]) {
    let pid = own.pid();
    let Some(guest) = own.guest() else { return };
    for (lines, level) in printed.iter().zip([log::INFO, log::WARN]) {
        for line in lines {
            shared
                .observer
                .log(pid, guest.tenancy.version(), level, line);
        }
    }
}
