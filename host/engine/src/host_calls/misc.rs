//! All other host calls: log, random numbers, clock, info, configuration, state.

use std::sync::LazyLock;

use exuvia_abi::{Code, clock, info, limits, log};
use exuvia_process::Clock;
use wasmtime::{Caller, Linker};

use super::message::{drain, text};
use super::{Answer, answer, charge_bytes_of_restricted, charge_call, served};
use crate::instance::setup::WARM_UP;
use crate::instance::store::{
    Denied, FrameData, Mode, RefusedInWarmUp, View, bytes, bytes_mut, view,
};

const MODULE: &str = exuvia_abi::MODULE;

/// The clock for initialization that runs outside of any node.
static NO_NODE: LazyLock<Clock> = LazyLock::new(Clock::system);

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "log",
        |mut caller: Caller<'_, FrameData>, level: i32, text: i32, length: i32| {
            let code = write_log(&mut caller, level, text, length)?;
            charge_call(&mut caller)?;
            Ok::<i32, wasmtime::Error>(code as i32)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "random",
        |mut caller: Caller<'_, FrameData>, buffer: i32, length: i32| {
            let code = random(&mut caller, buffer, length)?;
            charge_call(&mut caller)?;
            Ok::<i32, wasmtime::Error>(code as i32)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "clock",
        |mut caller: Caller<'_, FrameData>, which: i32| {
            let data = caller.data_mut();
            impure(data, "clock")?;
            let read = |clock: &Clock| match which {
                clock::MONOTONIC => Some(clock.now()),
                clock::REALTIME => Some(clock.realtime()),
                _ => None,
            };
            let now = match &data.host {
                Some(host) => read(&host.system.clock),
                None => read(&NO_NODE),
            };
            if let Mode::Restricted(_) = data.mode {
                charge_call(&mut caller)?;
            }
            Ok::<i64, wasmtime::Error>(match now {
                Some(now) => i64::try_from(now).unwrap_or(i64::MAX),
                None => i64::from(Code::BadArgument as i32),
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "info",
        |mut caller: Caller<'_, FrameData>, what: i32| {
            let mut view = view(&mut caller, "info")?;
            if what == info::MAILBOX {
                // Also count what has arrived since the process last looked.
                drain(&mut view)?;
            }
            let value = match what {
                info::REDUCTIONS => view.process.reductions,
                info::MAILBOX => view.process.messages() as u64,
                info::CROSSINGS => view
                    .process
                    .guest()
                    .map_or(0, |guest| guest.upgrades().into()),
                _ => return Ok(i64::from(Code::BadArgument as i32)),
            };
            charge_call(&mut caller)?;
            Ok::<i64, wasmtime::Error>(i64::try_from(value).unwrap_or(i64::MAX))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "config",
        |mut caller: Caller<'_, FrameData>, key: i32, length: i32, buffer: i32, capacity: i32| {
            served(&mut caller, "config", |view| {
                Ok(config(view, key, length, buffer, capacity))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "state_put",
        |mut caller: Caller<'_, FrameData>, state: i32, length: i32| {
            let answered = state_put(&mut caller, state, length)?;
            charge_call(&mut caller)?;
            Ok::<i32, wasmtime::Error>(answer(answered))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "state_get",
        |mut caller: Caller<'_, FrameData>, buffer: i32, capacity: i32| {
            let answered = state_get(&mut caller, buffer, capacity)?;
            charge_call(&mut caller)?;
            Ok::<i32, wasmtime::Error>(answer(answered))
        },
    )?;
    Ok(())
}

fn write_log(
    caller: &mut Caller<'_, FrameData>,
    level: i32,
    text: i32,
    length: i32,
) -> wasmtime::Result<Code> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    let Some(text) = bytes(memory, text, length) else {
        return Ok(Code::BadPointer);
    };
    if !(log::ERROR..=log::DEBUG).contains(&level) {
        return Ok(Code::BadArgument);
    }
    let cut = &text[..text.len().min(limits::LOG_LINE as usize)];
    let text = String::from_utf8_lossy(cut);
    data.debt.copied(cut.len());
    charge_bytes_of_restricted(data, cut.len());
    if level == log::ERROR {
        data.last_error = Some(text.to_string());
    }
    if let (Mode::Run, Some(host), Some(process)) = (&data.mode, &data.host, &mut data.process) {
        let pid = process.pid();
        if let Some(guest) = process.guest() {
            let version = guest.version.version();
            host.observer.log(pid, version, level, &text);
        }
    }
    Ok(Code::Ok)
}

fn random(caller: &mut Caller<'_, FrameData>, buffer: i32, length: i32) -> wasmtime::Result<Code> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    impure(data, "random")?;
    if length.cast_unsigned() > limits::RANDOM {
        return Ok(Code::BadArgument);
    }
    let Some(buffer) = bytes_mut(memory, buffer, length) else {
        return Ok(Code::BadPointer);
    };
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(wasmtime::Error::new(error)),
        }
    }
    data.debt.copied(filled);
    charge_bytes_of_restricted(data, filled);
    Ok(Code::Ok)
}

fn state_put(
    caller: &mut Caller<'_, FrameData>,
    state: i32,
    length: i32,
) -> wasmtime::Result<Answer> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    let Mode::Restricted(restricted) = &mut data.mode else {
        return Ok(Err(Code::BadArgument));
    };
    if restricted.what != "`save`" || restricted.state.is_some() {
        return Ok(Err(Code::BadArgument));
    }
    let Some(bytes) = bytes(memory, state, length) else {
        return Ok(Err(Code::BadPointer));
    };
    if bytes.len() > limits::STATE as usize {
        return Ok(Err(Code::Limit));
    }
    restricted.state = Some(bytes.to_vec());
    data.debt.copied(bytes.len());
    Ok(Ok(Code::Ok as i32))
}

fn state_get(
    caller: &mut Caller<'_, FrameData>,
    buffer: i32,
    capacity: i32,
) -> wasmtime::Result<Answer> {
    let memory = memory(caller)?;
    let (memory, data) = memory.data_and_store_mut(caller);
    let Mode::Restricted(restricted) = &data.mode else {
        return Ok(Err(Code::BadArgument));
    };
    let state = restricted.state.as_ref();
    let Some(state) = state.filter(|_| restricted.what == "`load`") else {
        return Ok(Err(Code::BadArgument));
    };
    let Some(buffer) = bytes_mut(memory, buffer, capacity) else {
        return Ok(Err(Code::BadPointer));
    };
    let Some(room) = buffer.get_mut(..state.len()) else {
        return Ok(Err(Code::TooBig));
    };
    room.copy_from_slice(state);
    data.debt.copied(room.len());
    // No state is longer than `limits::STATE`.
    Ok(Ok(i32::try_from(state.len()).unwrap_or(i32::MAX)))
}

/// Returns the value of a key in the app's manifest.
fn config(view: &mut View<'_>, key: i32, length: i32, buffer: i32, capacity: i32) -> Answer {
    view.check(buffer, capacity.cast_unsigned())?;
    let key = text(view, key, length)?;
    let services = view.host.services.get().ok_or(Code::Empty)?;
    let value = services.config(key).ok_or(Code::Empty)?;
    super::answer_with(view, Some(&value), buffer, capacity)
}

pub(super) fn memory(caller: &Caller<'_, FrameData>) -> wasmtime::Result<wasmtime::Memory> {
    caller
        .data()
        .memory
        .ok_or_else(|| wasmtime::Error::msg("the frame has no memory"))
}

/// Marks initialization as impure: it asked for something that differs between processes. In
/// `warm_up` this is an error, since `warm_up` prepares the base that all processes share.
pub(super) fn impure(data: &mut FrameData, call: &'static str) -> wasmtime::Result<()> {
    if let Mode::Restricted(restricted) = &mut data.mode {
        if restricted.what == WARM_UP {
            return Err(wasmtime::Error::new(RefusedInWarmUp { call }));
        }
        restricted.impure = true;
    }
    data.limiter.denied = Denied::No;
    Ok(())
}
