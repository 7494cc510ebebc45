//! Entering a guest in its frame, on a fiber or on this thread's stack.

use super::blocked;
use crate::frames::slots::FrameLease;
use crate::guest::GuestProcess;
use crate::instance::{Instance, Outcome};
use crate::suspend::thread::TurnResult;

/// A process that is back after an entry, in a frame that need not be the one it began in; `None`:
/// a bug of the host has lost it.
type Entered = Option<(FrameLease, Box<GuestProcess>, Outcome)>;

/// Enters or resumes the guest in this frame. Returns an error if another thread has the process
/// now: the result of the turn on this one.
pub(crate) fn run(
    mut lease: FrameLease,
    process: Box<GuestProcess>,
) -> Result<Entered, TurnResult> {
    if let Some(handle) = lease.frame.take_blocked() {
        return Err(TurnResult::Elsewhere(handle.resume(process, lease)));
    }
    if let Some(instance) = lease.frame.take_instance() {
        return run_here(lease, instance, process);
    }
    let ended = lease.frame.run(process);
    Ok(ended.map(|(process, outcome)| (lease, process, outcome)))
}

/// Runs the process of a frame at rest on this thread's stack.
fn run_here(
    lease: FrameLease,
    mut instance: Box<Instance>,
    process: Box<GuestProcess>,
) -> Result<Entered, TurnResult> {
    blocked::put(blocked::OnThisStack::Running(lease));
    let ended = instance.run_here(process);
    match blocked::take() {
        Some(blocked::OnThisStack::Running(mut lease)) => {
            lease.frame.end(instance, &ended);
            Ok(ended.map(|(process, outcome)| (lease, process, outcome)))
        }
        // The process was ended while it was blocked in place; the thread that ended it has it.
        Some(blocked::OnThisStack::Ending(ending)) => {
            ending.with(instance);
            Err(TurnResult::Ended)
        }
        // It could not be copied while it was blocked in place: the owner of the frame has
        // the process.
        None if ended.is_none() => Err(TurnResult::Ended),
        None => Ok(None),
    }
}
