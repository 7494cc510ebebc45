//! What happens before and after each function of WASI (see `wasi`).

use std::sync::Arc;

use exuvia_abi::wasi::{Act, FUNCTIONS, Function, errno};
use exuvia_abi::{Reason, log};
use exuvia_process::ExitReason;
use wasmtime::{Caller, Func, Linker, Store};

use super::misc::impure;
use super::{copy, counter, forget_mail, settle};
use crate::baton::{self, Ask, Asked};
use crate::data::{Denied, Ends, FrameData, Mode, Refused};
use crate::executor::Shared;
use crate::guest::{GuestOwn, InHost, Wait};
use crate::instrument::SLICE;
use crate::probation::close_transaction;
use crate::setup::set_reductions;
use crate::wasi::Wasi;

/// Reductions of each call, beside what the guest pays for the instruction.
const COST: u32 = 4;

/// Errors: a process's output and its errors.
const STDERR: i32 = 2;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |data: &mut FrameData| {
        // `begin` has made it, but for the one that ends the process.
        &mut data.wasi.get_or_insert_with(Wasi::closed).context
    })
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

/// Before function `number`, whose first argument is `first`. An error other than
/// 0 is its answer.
fn begin(mut caller: Caller<'_, FrameData>, number: i32, first: i32) -> wasmtime::Result<i32> {
    let function = function(number)?;
    let data = caller.data_mut();
    data.limiter.denied = Denied::No;
    if function.act == Act::Tells {
        impure(data, function.name)?;
    }
    // Of `fd_read` and the like the first is the file.
    let standard = function.name.starts_with("fd_") && (0..=STDERR).contains(&first);
    if let Mode::Restricted(restricted) = &data.mode {
        if may_wait(function) && !standard {
            return Err(wasmtime::Error::new(Refused {
                call: function.name,
                what: restricted.what,
            }));
        }
        data.wasi.get_or_insert_with(Wasi::closed);
        return Ok(0);
    }
    let (Some(shared), Some(own)) = (data.shared.clone(), &mut data.own) else {
        return Err(wasmtime::Error::msg("no process is in the frame"));
    };
    if data.wasi.is_none() {
        let grants = own.limits().grants.clone();
        let module = own.guest().map(|guest| guest.tenancy.module.clone());
        match Wasi::new(module.as_deref().unwrap_or_default(), &grants) {
            Ok(wasi) => data.wasi = Some(Box::new(wasi)),
            Err(error) => {
                data.exit = Some(ExitReason::with(Reason::LIMIT.0, error.as_bytes()));
                return Err(wasmtime::Error::new(Ends));
            }
        }
    }
    if !may_wait(function) {
        return Ok(0);
    }
    if function.name == "path_open"
        && (data.wasi.as_ref()).is_some_and(|wasi| wasi.open >= own.limits().files)
    {
        return Ok(errno::MFILE);
    }
    // What waits for the system waits for a moment. This may for ever, and keeps
    // a frame.
    if function.name == "poll_oneoff" && !shared.frames.may_block() {
        return Ok(errno::AGAIN);
    }
    if !standard {
        // Nobody takes it back.
        close_transaction(own, &shared.system);
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
    let data = caller.data_mut();
    if let Some(wasi) = &mut data.wasi
        && answer == 0
    {
        match function.name {
            "path_open" => wasi.open += 1,
            "fd_close" | "fd_renumber" => wasi.open = wasi.open.saturating_sub(1),
            _ => {}
        }
    }
    data.toll.reductions = data.toll.reductions.saturating_add(COST);
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
    let copied: usize = out.iter().chain(&err).map(String::len).sum();
    data.toll.copied(copied);
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
