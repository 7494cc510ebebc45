//! Host calls about process groups, and what is published to them.

use exuvia_abi::{Code, Kind, Pid};
use exuvia_process::{Envelope, NameError};
use wasmtime::{Caller, Linker};

use super::message::registered;
use super::{Answer, served};
use crate::data::{FrameData, View};
use crate::guest::{GuestSystem, Publication, Wait, module_of};
use crate::trace::Told;
use crate::transaction::{perform_all, transaction, undoable};

const MODULE: &str = exuvia_abi::MODULE;

/// Members that a publication reaches in one slice: about what they cost in
/// time is a slice of other work.
const IN_ONE_SLICE: usize = 1_000;

/// Members of a group that what is published in a transaction is held for. To a
/// larger one it ends the transaction.
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
    let system = &view.shared.system;
    match system.join_undoably(&group, pid) {
        Ok(Some(membership)) => undoable(view.own, system, move |_, system| {
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
    let system = &view.shared.system;
    let membership = system.groups.take(&group, pid).ok_or(Code::NoProc)?;
    undoable(view.own, system, move |_, system| {
        system.undo_leave(&group, pid, membership);
    });
    Ok(Code::Ok as i32)
}

fn members(view: &mut View<'_>, group: i32, length: i32, out: i32, room: i32) -> Answer {
    let room = room.cast_unsigned();
    let bytes = room.checked_mul(Pid::SIZE as u32);
    view.check(out, bytes.ok_or(Code::BadPointer)?)?;
    let group = registered(view, group, length)?;
    let members = view.shared.system.groups.members(group);
    let mut bytes = Vec::with_capacity(members.len().min(room as usize) * Pid::SIZE);
    for member in members.iter().take(room as usize) {
        bytes.extend_from_slice(&member.to_bytes());
    }
    view.write(out, &bytes)?;
    view.toll.copied(bytes.len());
    i32::try_from(members.len()).map_err(|_| Code::Limit)
}

fn publish(view: &mut View<'_>, group: (i32, i32), tag: i32, data: i32, length: i32) -> Answer {
    let group = registered(view, group.0, group.1)?;
    let members = view.shared.system.groups.members(group);
    let payload = view.payload(data, length)?;
    let tag = tag.cast_unsigned();
    if view.own.traced {
        let told = Told {
            kind: Kind::Message,
            tag,
            reference: 0,
            payload: &payload,
        };
        for member in members.iter() {
            view.shared.trace_sent(view.own, *member, &told);
        }
    }
    let mut publication = Box::new(Publication {
        members,
        envelope: Envelope::message(view.own.pid(), tag, payload),
        next: 0,
        reached: 0,
    });
    if publication.members.len() > HELD {
        // Too many to be sent to at the transaction's end, in one go.
        view.close();
    } else if transaction(view.own).is_some() {
        // Held: whom it reaches will be known too late for the guest.
        let members = i32::try_from(publication.members.len()).unwrap_or(i32::MAX);
        let sends = publication.members.len();
        perform_all(view.own, &view.shared.system, sends, move |own, system| {
            publication.go_on(system, usize::MAX);
            let refused = publication.members.len() - publication.reached as usize;
            if refused > 0 {
                tracing::warn!(module = %module_of(own), from = %own.pid(), "what was published in probation was refused by {refused} members, whose mailboxes are full or who have ended");
            }
        });
        return Ok(members);
    }
    Ok(go_on_publishing(view, publication))
}

/// Sends to the next members; the guest is suspended, for a turn, if there are
/// more.
fn go_on_publishing(view: &mut View<'_>, mut publication: Box<Publication>) -> i32 {
    let before = publication.next;
    publication.go_on(&view.shared.system, IN_ONE_SLICE);
    let sent = publication.next - before;
    // As much as the calls that it stands for.
    view.toll.reductions = view
        .toll
        .reductions
        .saturating_add(u32::try_from(sent).unwrap_or(u32::MAX));
    if publication.next < publication.members.len() {
        if let Some(guest) = view.own.guest() {
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
    /// Sends to so many members more. Those who have ended, or whose mailbox
    /// is full, are not counted.
    fn go_on(&mut self, system: &GuestSystem, most: usize) {
        for member in self.members.from(self.next).take(most) {
            if system.send(*member, self.envelope.clone()).is_ok() {
                self.reached += 1;
            }
        }
        self.next = self.next.saturating_add(most).min(self.members.len());
    }
}
