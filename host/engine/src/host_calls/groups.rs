//! Host calls about process groups and publishing to them.

use exuvia_abi::{Code, Pid, SUSPEND};
use exuvia_process::call::CallResult;
use exuvia_process::call::groups::Published;

use super::view::View;
use crate::guest::Wait;

pub(super) fn group_join(
    view: &mut View<'_>,
    group: i32,
    length: i32,
    pid: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let pid = memory.pid(pid)?;
    caller.group_join(memory.read(group, length)?, pid)?;
    Ok(0)
}

pub(super) fn group_leave(
    view: &mut View<'_>,
    group: i32,
    length: i32,
    pid: i32,
) -> CallResult<i32> {
    let (memory, mut caller) = view.split();
    let pid = memory.pid(pid)?;
    caller.group_leave(memory.read(group, length)?, pid)?;
    Ok(0)
}

pub(super) fn group_members(
    view: &mut View<'_>,
    group: i32,
    length: i32,
    pids_out: i32,
    how_many_fit: i32,
) -> CallResult<i32> {
    let (mut memory, mut caller) = view.split();
    let fit = how_many_fit.cast_unsigned();
    let bytes = fit.checked_mul(Pid::SIZE as u32);
    memory.check(pids_out, bytes.ok_or(Code::BadPointer)?)?;
    let members = caller.group_members(memory.read(group, length)?)?;
    let mut bytes = Vec::with_capacity(members.len().min(fit as usize) * Pid::SIZE);
    for member in members.iter().take(fit as usize) {
        bytes.extend_from_slice(&member.to_bytes());
    }
    memory.write(pids_out, &bytes)?;
    caller.debt.copied(bytes.len());
    Ok(i32::try_from(members.len()).map_err(|_| Code::Limit)?)
}

pub(super) fn publish(
    view: &mut View<'_>,
    group: i32,
    group_length: i32,
    tag: i32,
    data: i32,
    length: i32,
) -> CallResult<i32> {
    let begun = view.waiting().and_then(|wait| wait.publication.take());
    let (memory, mut caller) = view.split();
    let published = match begun {
        Some(publication) => caller.publish_on(publication),
        None => {
            let data = memory.read(data, length)?;
            let group = memory.read(group, group_length)?;
            caller.publish(group, tag.cast_unsigned(), data)?
        }
    };
    match published {
        Published::Reached(members) => {
            view.end_wait();
            Ok(i32::try_from(members).unwrap_or(i32::MAX))
        }
        Published::Unfinished(publication) => {
            if let Some(guest) = view.process.guest() {
                let mut wait = Wait::turn(None);
                wait.publication = Some(publication);
                guest.wait.set(wait);
            }
            Ok(SUSPEND)
        }
    }
}
