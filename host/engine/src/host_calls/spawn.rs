//! Host calls that start processes, and that acknowledge a start.

use exuvia_abi::{Code, Pid, limits, spawn};
use exuvia_process::call::CallResult;
use exuvia_process::call::spawn::{SpawnOptions, Spawned};

use super::memory::GuestMemory;
use super::view::View;
use crate::guest::WaitReason;

#[expect(clippy::too_many_arguments, reason = "as the contract has it")]
pub(super) fn spawn(
    view: &mut View<'_>,
    module: i32,
    module_length: i32,
    arguments: i32,
    arguments_length: i32,
    options: i32,
    pid_out: i32,
    reference_out: i32,
) -> CallResult<i32> {
    if view.waiting().is_some() {
        return go_on_starting(view, pid_out);
    }
    let (mut memory, mut caller) = view.split();
    let (wanted, grants) = read_options(&memory, options)?;
    memory.check(pid_out, Pid::SIZE as u32)?;
    if wanted.flags & spawn::MONITOR != 0 {
        memory.check(reference_out, 8)?;
    }
    let module = memory.read(module, module_length)?;
    let arguments = memory.read(arguments, arguments_length)?;
    let wanted = SpawnOptions {
        grants: read_grants(&memory, grants)?,
        ..wanted
    };
    let spawned = caller.spawn(module, arguments, &wanted)?;
    if let Some(reference) = spawned.monitor {
        memory.write(reference_out, &reference.to_le_bytes())?;
    }
    begun(view, &spawned, pid_out)
}

/// Reads the options of `spawn`, with address and length of the grants; a null pointer stands for the
/// defaults.
fn read_options(
    memory: &GuestMemory<'_>,
    pointer: i32,
) -> Result<(SpawnOptions<'static>, (u32, u32)), Code> {
    if pointer == 0 {
        return Ok(Default::default());
    }
    let size = SpawnOptions::size(memory.array(pointer)?)?;
    SpawnOptions::decode(memory.read(pointer, size.cast_signed())?)
}

fn read_grants<'a>(
    memory: &'a GuestMemory<'_>,
    (pointer, length): (u32, u32),
) -> Result<&'a [u8], Code> {
    if length > limits::GRANTS {
        return Err(Code::Limit);
    }
    memory.read(pointer.cast_signed(), length.cast_signed())
}

pub(super) fn supervisor_start(
    view: &mut View<'_>,
    specification: i32,
    length: i32,
    pid_out: i32,
) -> CallResult<i32> {
    if view.waiting().is_some() {
        return go_on_starting(view, pid_out);
    }
    let (memory, mut caller) = view.split();
    memory.check(pid_out, Pid::SIZE as u32)?;
    let spawned = caller.supervisor_start(memory.read(specification, length)?)?;
    begun(view, &spawned, pid_out)
}

/// Writes the pid of a child. If its start is synchronous, waits for it.
fn begun(view: &mut View<'_>, spawned: &Spawned, pid_out: i32) -> CallResult<i32> {
    view.memory().write(pid_out, &spawned.pid.to_bytes())?;
    Ok(match spawned.waits {
        None => 0,
        Some((reference, timeout)) => view.wait(WaitReason::Reply { reference }, timeout, false),
    })
}

/// Continues a synchronous start: checks whether the child has acknowledged it.
fn go_on_starting(view: &mut View<'_>, pid_out: i32) -> CallResult<i32> {
    let timed_out = view.timed_out();
    let Some(&WaitReason::Reply { reference }) = view.waiting().map(|wait| &wait.reason) else {
        return Err(Code::BadArgument.into());
    };
    match view.caller().started(reference) {
        Ok(false) => {}
        over => {
            view.end_wait();
            return over.map(|_| 0);
        }
    }
    if timed_out {
        view.end_wait();
        let (memory, mut caller) = view.split();
        // The guest may have changed what was written there; then only the wait is given up.
        match memory.pid(pid_out) {
            Ok(child) => caller.cancel_start(reference, child),
            Err(_) => caller.cancel_request(reference),
        }
        return Err(Code::StartFailed.into());
    }
    view.suspend(WaitReason::Reply { reference }, -1, false)
}

pub(super) fn init_ack(
    view: &mut View<'_>,
    status: i32,
    data: i32,
    length: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    caller.init_ack(status, memory.read(data, length)?)?;
    Ok(0)
}
