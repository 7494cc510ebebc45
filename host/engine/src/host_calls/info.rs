//! Host calls about the process itself and about its node: log, random numbers, clock, info,
//! configuration.

use std::sync::LazyLock;

use exuvia_abi::{Code, limits, log};
use exuvia_process::Clock;
use exuvia_process::call::CallResult;
use exuvia_process::call::info::{fill_random, log_line, read_clock};

use super::view::{RestrictedView, View};
use crate::instance::fixed::CLOCK;
use crate::instance::store::Mode;

/// The clock for initialization that runs outside of any node.
static NO_NODE: LazyLock<Clock> = LazyLock::new(Clock::system);

pub(super) fn self_pid(view: &mut View<'_>, pid_out: i32) -> CallResult<i32> {
    let pid = view.process.pid();
    view.memory().write(pid_out, &pid.to_bytes())?;
    Ok(0)
}

pub(super) fn info(view: &mut View<'_>, what: i32) -> CallResult<i64> {
    let value = view.caller().info(what)?;
    Ok(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn config(
    view: &mut View<'_>,
    key: i32,
    length: i32,
    buffer: i32,
    capacity: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    memory.check(buffer, capacity.cast_unsigned())?;
    let value = caller.config(memory.read(key, length)?)?;
    view.return_bytes(Some(&value), buffer, capacity)
}

pub(super) fn log(
    view: &mut RestrictedView<'_>,
    level: i32,
    text: i32,
    length: i32,
) -> CallResult<i32> {
    let RestrictedView { memory, data } = view;
    let line = log_line(level, memory.read(text, length)?)?;
    data.debt.copied(line.len());
    data.charge_made(line.len());
    if level == log::ERROR {
        data.last_error = Some(line.to_string());
    }
    if let (Mode::Run, Some(host), Some(process)) = (&data.mode, &data.host, &mut data.process) {
        let pid = process.pid();
        if let Some(guest) = process.guest() {
            let version = guest.version.version();
            host.observer.log(pid, version, level, &line);
        }
    }
    Ok(0)
}

pub(super) fn discard(view: &mut RestrictedView<'_>, data: i32, length: i32) -> CallResult<i32> {
    view.memory.check(data, length.cast_unsigned())?;
    let start = data.cast_unsigned() as usize;
    let range = start..start + length.cast_unsigned() as usize;
    view.data.debt.copied(range.len());
    let memory = &mut *view.memory.0;
    match &view.data.inside {
        // A pointer to nothing may be anywhere.
        _ if range.is_empty() => {}
        Some(inside) => inside.base().discard(memory, range),
        None => memory[range].fill(0),
    }
    Ok(0)
}

pub(super) fn random(view: &mut RestrictedView<'_>, buffer: i32, length: i32) -> CallResult<i32> {
    // As the limit comes first, a length that is wrong gets one code wherever the buffer is.
    if length.cast_unsigned() > limits::RANDOM {
        return Err(Code::BadArgument.into());
    }
    let buffer = view.memory.read_mut(buffer, length)?;
    match view.data.mode.fixed() {
        Some(fixed) => fixed.fill(buffer),
        None => fill_random(buffer)?,
    }
    let filled = buffer.len();
    view.data.debt.copied(filled);
    view.data.charge_made(filled);
    Ok(0)
}

pub(super) fn clock(view: &mut RestrictedView<'_>, which: i32) -> CallResult<i64> {
    if view.data.mode.fixed().is_some() {
        return Ok(read_clock(&NO_NODE, which).map(|_| CLOCK.cast_signed())?);
    }
    let now = match &view.data.host {
        Some(host) => read_clock(&host.system.clock, which),
        None => read_clock(&NO_NODE, which),
    }?;
    Ok(i64::try_from(now).unwrap_or(i64::MAX))
}
