//! Groups of the in-memory host.

use exuvia_abi::Code;

use super::host::{is_name, record};
use super::{Effect, World, world};
use crate::Pid;
use crate::test::current;

pub(crate) fn group_join(group: &str, pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node
            .call("group_join", |q| q.bytes(group.as_bytes()).pid(pid))
            .code();
    }
    if !is_name(group) {
        return Code::BadArgument as i32;
    }
    world(|world| {
        let members = world.groups.entry(group.to_owned()).or_default();
        members.insert(pid);
    });
    Code::Ok as i32
}

pub(crate) fn group_leave(group: &str, pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node
            .call("group_leave", |q| q.bytes(group.as_bytes()).pid(pid))
            .code();
    }
    if !is_name(group) {
        return Code::BadArgument as i32;
    }
    let was = world(|world| {
        let members = world.groups.get_mut(group)?;
        members.remove(&pid).then_some(())
    });
    was.map_or(Code::NoProc as i32, |()| Code::Ok as i32)
}

pub(crate) fn group_members(group: &str, room: &mut [[u8; 16]]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("group_members", |q| q.bytes(group.as_bytes()))
            .pids(room);
    }
    if !is_name(group) {
        return Code::BadArgument as i32;
    }
    world(|world| {
        let members = world.groups.get(group);
        for (member, place) in members.into_iter().flatten().zip(room) {
            *place = member.to_bytes();
        }
        members.map_or(0, |members| {
            i32::try_from(members.len()).unwrap_or(i32::MAX)
        })
    })
}

pub(crate) fn publish(group: &str, tag: u32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("publish", |q| {
                let q = q.bytes(group.as_bytes());
                q.number(tag.into()).bytes(data)
            })
            .code();
    }
    if !is_name(group) {
        return Code::BadArgument as i32;
    }
    record(Effect::Publish {
        group: group.to_owned(),
        tag,
        payload: data.to_vec(),
    });
    let is_full = |world: &mut World| {
        let members = world.groups.get(group).into_iter().flatten();
        members.filter(|member| world.full.contains(member)).count()
    };
    let full = i32::try_from(world(is_full)).unwrap_or(i32::MAX);
    group_members(group, &mut []) - full
}
