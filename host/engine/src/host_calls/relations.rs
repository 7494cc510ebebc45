//! Host calls about ends, links, monitors and priority.

use exuvia_abi::Pid;
use exuvia_process::call::{CallResult, relations};

use super::view::View;

pub(super) fn exit(view: &mut View<'_>, code: i32, data: i32, length: i32) -> CallResult<()> {
    Err(relations::exit(code, view.memory().read(data, length).ok()))
}

pub(super) fn exit_process(
    view: &mut View<'_>,
    pid: i32,
    code: i32,
    data: i32,
    length: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let data = memory.read(data, length)?;
    caller.exit_process(memory.pid(pid)?, code, data)?;
    Ok(0)
}

pub(super) fn kill(view: &mut View<'_>, pid: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.kill(memory.pid(pid)?)?;
    Ok(0)
}

pub(super) fn link(view: &mut View<'_>, pid: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.link(memory.pid(pid)?)?;
    Ok(0)
}

pub(super) fn unlink(view: &mut View<'_>, pid: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.unlink(memory.pid(pid)?)?;
    Ok(0)
}

pub(super) fn monitor(view: &mut View<'_>, pid: i32, reference_out: i32) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(reference_out, 8)?;
    let reference = caller.monitor(memory.pid(pid)?)?;
    memory.write(reference_out, &reference.to_le_bytes())?;
    Ok(0)
}

pub(super) fn monitor_name(
    view: &mut View<'_>,
    name: i32,
    length: i32,
    pid_out: i32,
    reference_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(pid_out, Pid::SIZE as u32)?;
    memory.check(reference_out, 8)?;
    let (pid, reference) = caller.monitor_name(memory.read(name, length)?)?;
    memory.write(reference_out, &reference.to_le_bytes())?;
    memory.write(pid_out, &pid.to_bytes())?;
    Ok(0)
}

pub(super) fn demonitor(view: &mut View<'_>, reference: i64, flags: i32) -> CallResult<i32> {
    view.caller().demonitor(reference.cast_unsigned(), flags)?;
    Ok(0)
}

pub(super) fn trap_exit(view: &mut View<'_>, on: i32) -> CallResult<i32> {
    Ok(i32::from(view.caller().trap_exit(on != 0)))
}

pub(super) fn set_priority(view: &mut View<'_>, priority: i32) -> CallResult<i32> {
    let before = view.caller().set_priority(priority.cast_unsigned())?;
    Ok(before as i32)
}
