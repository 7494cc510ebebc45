//! Host calls about registered names.

use exuvia_abi::Pid;
use exuvia_process::call::CallResult;

use super::view::View;

pub(super) fn register(view: &mut View<'_>, name: i32, length: i32, pid: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let pid = memory.pid(pid)?;
    caller.register(memory.read(name, length)?, pid)?;
    Ok(0)
}

pub(super) fn unregister(view: &mut View<'_>, name: i32, length: i32) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.unregister(memory.read(name, length)?)?;
    Ok(0)
}

pub(super) fn whereis(
    view: &mut View<'_>,
    name: i32,
    length: i32,
    pid_out: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    memory.check(pid_out, Pid::SIZE as u32)?;
    let found = caller.whereis(memory.read(name, length)?)?;
    memory.write(pid_out, &found.to_bytes())?;
    Ok(0)
}
