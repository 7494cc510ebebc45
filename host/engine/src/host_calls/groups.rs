//! Host calls about process groups and publishing to them.

use exuvia_abi::{Code, Kind, Pid};
use exuvia_process::{Envelope, NameError};
use wasmtime::{Caller, Linker};

use super::message::registered;
use super::{Answer, served};
use crate::guest::{GuestSystem, Publication, Wait, module_of};
use crate::instance::store::{FrameData, View};
use crate::trace::Told;
use crate::transaction::{defer_weighted, on_rollback, transaction};

const MODULE: &str = exuvia_abi::MODULE;

/// Members that a publication reaches in one slice. Sending to them takes about as long as a slice
/// of other work.
const IN_ONE_SLICE: usize = 1_000;

/// Largest group for which a publication in a transaction is deferred. Publishing to a larger group
/// commits the transaction.
const HELD: usize = 100;

pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "group_join",
        |mut caller: Caller<'_, FrameData>, group: i32, length: i32, pid: i32| {
            served(&mut caller, "group_join", |view| {
                Ok(join(view, group, length, pid))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "group_leave",
        |mut caller: Caller<'_, FrameData>, group: i32, length: i32, pid: i32| {
            served(&mut caller, "group_leave", |view| {
                Ok(leave(view, group, length, pid))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "group_members",
        |mut caller: Caller<'_, FrameData>, group: i32, length: i32, out: i32, room: i32| {
            served(&mut caller, "group_members", |view| {
                Ok(members(view, group, length, out, room))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "publish",
        |mut caller: Caller<'_, FrameData>,
         group: i32,
         group_length: i32,
         tag: i32,
         data: i32,
         length: i32| {
            served(&mut caller, "publish", |view| {
                Ok(match view.waiting().and_then(|w| w.publication.take()) {
                    Some(publication) => Ok(go_on_publishing(view, publication)),
                    None => publish(view, (group, group_length), tag, data, length),
                })
            })
        },
    )?;
    Ok(())
}

fn join(view: &mut View<'_>, group: i32, length: i32, pid: i32) -> Answer {
    let pid = view.pid(pid)?;
    let group = registered(view, group, length)?.to_owned();
    let system = &view.host.system;
    match system.join_undoably(&group, pid) {
        Ok(Some(membership)) => on_rollback(view.process, system, move |_, system| {
            system.groups.undo(&group, pid, membership);
        }),
        Ok(None) => {}
        Err(NameError::Dead) => return Err(Code::NoProc),
        Err(NameError::TooMany) => return Err(Code::Limit),
        Err(NameError::Invalid | NameError::Taken) => return Err(Code::BadArgument),
    }
    Ok(Code::Ok as i32)
}

fn leave(view: &mut View<'_>, group: i32, length: i32, pid: i32) -> Answer {
    let pid = view.pid(pid)?;
    let group = registered(view, group, length)?.to_owned();
    let system = &view.host.system;
    let membership = system.groups.take(&group, pid).ok_or(Code::NoProc)?;
    on_rollback(view.process, system, move |_, system| {
        system.undo_leave(&group, pid, membership);
    });
    Ok(Code::Ok as i32)
}

fn members(view: &mut View<'_>, group: i32, length: i32, out: i32, room: i32) -> Answer {
    let room = room.cast_unsigned();
    let bytes = room.checked_mul(Pid::SIZE as u32);
    view.check(out, bytes.ok_or(Code::BadPointer)?)?;
    let group = registered(view, group, length)?;
    let members = view.host.system.groups.members(group);
    let mut bytes = Vec::with_capacity(members.len().min(room as usize) * Pid::SIZE);
    for member in members.iter().take(room as usize) {
        bytes.extend_from_slice(&member.to_bytes());
    }
    view.write(out, &bytes)?;
    view.debt.copied(bytes.len());
    i32::try_from(members.len()).map_err(|_| Code::Limit)
}

fn publish(view: &mut View<'_>, group: (i32, i32), tag: i32, data: i32, length: i32) -> Answer {
    let group = registered(view, group.0, group.1)?;
    let members = view.host.system.groups.members(group);
    let payload = view.payload(data, length)?;
    let tag = tag.cast_unsigned();
    if view.process.traced {
        let told = Told {
            kind: Kind::Message,
            tag,
            reference: 0,
            payload: &payload,
        };
        for member in members.iter() {
            view.host.trace_sent(view.process, *member, &told);
        }
    }
    let mut publication = Box::new(Publication {
        members,
        envelope: Envelope::message(view.process.pid(), tag, payload),
        next: 0,
        reached: 0,
    });
    if publication.members.len() > HELD {
        // Too many sends for the commit, which does all of them at once.
        view.close();
    } else if transaction(view.process).is_some() {
        // Deferred: how many members it reaches is known too late for the guest.
        let members = i32::try_from(publication.members.len()).unwrap_or(i32::MAX);
        let sends = publication.members.len();
        defer_weighted(
            view.process,
            &view.host.system,
            sends,
            move |process, system| {
                publication.go_on(system, usize::MAX);
                let refused = publication.members.len() - publication.reached as usize;
                if refused > 0 {
                    tracing::warn!(module = %module_of(process), from = %process.pid(), "{refused} members did not get what was published in probation: their mailboxes are full or they have exited");
                }
            },
        );
        return Ok(members);
    }
    Ok(go_on_publishing(view, publication))
}

/// Sends to the next members. If there are more, suspends the guest until its next turn.
fn go_on_publishing(view: &mut View<'_>, mut publication: Box<Publication>) -> i32 {
    let before = publication.next;
    publication.go_on(&view.host.system, IN_ONE_SLICE);
    let sent = publication.next - before;
    // As much as the individual sends would cost.
    view.debt.reductions = view
        .debt
        .reductions
        .saturating_add(u32::try_from(sent).unwrap_or(u32::MAX));
    if publication.next < publication.members.len() {
        if let Some(guest) = view.process.guest() {
            let mut wait = Wait::turn(None);
            wait.publication = Some(publication);
            guest.wait.set(wait);
        }
        return exuvia_abi::SUSPEND;
    }
    view.end_wait();
    i32::try_from(publication.reached).unwrap_or(i32::MAX)
}

impl Publication {
    /// Sends to at most `most` further members. Members that have exited or whose mailbox is full
    /// are not counted as reached.
    fn go_on(&mut self, system: &GuestSystem, most: usize) {
        for member in self.members.from(self.next).take(most) {
            if system.send(*member, self.envelope.clone()).is_ok() {
                self.reached += 1;
            }
        }
        self.next = self.next.saturating_add(most).min(self.members.len());
    }
}
