//! The host calls, implemented in memory: the same functions as on Wasm.

use std::mem::MaybeUninit;

use exuvia_abi::{Code, Header, receive as modes};

pub(crate) use super::tables::{
    table_add, table_delete, table_end, table_find, table_get, table_give, table_heir, table_info,
    table_new, table_next, table_put,
};
use super::{Effect, ME, Waiting, World, world};
use crate::sys::{RawHeader, RawSpawn};
use crate::test::{Connection, current};
use crate::{Error, Kind, Level, Message, Pid, Priority, Reason, Wait};

fn record(effect: Effect) -> i32 {
    world(|world| world.effects.push(effect));
    Code::Ok as i32
}

fn record_referenced(effect: impl FnOnce(u64) -> Effect) -> u64 {
    world(|world| {
        let reference = world.next();
        world.effects.push(effect(reference));
        reference
    })
}

pub(crate) fn receive(
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
    mode: i32,
    key: i64,
) -> i32 {
    if let Some(node) = current() {
        return received(&node, header, room, millis, mode, key);
    }
    world(|world| {
        match find(world, mode, key) {
            Some(at) => take(world, at, header, room),
            None if millis == 0 => Code::Empty as i32,
            None if std::mem::take(&mut world.refuses) => Code::Limit as i32,
            // No other process runs, so waiting would be in vain.
            None => Code::Timeout as i32,
        }
    })
}

/// The same for a test in a node. A message that does not fit stays here, and is found again.
fn received(
    node: &Connection,
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
    mode: i32,
    key: i64,
) -> i32 {
    let waits = world(|world| find(world, mode, key).is_some());
    if !waits {
        match node.receive(mode, key, millis) {
            Err(code) => return code,
            Ok((header, payload)) => keep(&header, payload),
        }
    }
    world(|world| match find(world, mode, key) {
        Some(at) => take(world, at, header, room),
        None => Code::Empty as i32,
    })
}

fn called(
    node: &Connection,
    to: Pid,
    tag: u32,
    data: &[u8],
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
) -> i32 {
    let response = node.call("call", |q| {
        let q = q.pid(to).number(tag.into());
        q.bytes(data).number(millis)
    });
    let code = response.code();
    if code != Code::Ok as i32 && code != Code::NoProc as i32 {
        return code;
    }
    let (reply, payload) = response.message();
    if code == Code::NoProc as i32 {
        header.reason = reply.reason;
        return code;
    }
    keep(&reply, payload);
    world(|world| take(world, world.mailbox.len() - 1, header, room))
}

/// Puts a message from the node into the local mailbox.
fn keep(header: &Header, payload: Vec<u8>) {
    let message = Message {
        kind: header.kind,
        sender: Pid(header.sender),
        reference: header.reference,
        tag: header.tag,
        reason: Reason(header.reason),
        payload: payload.into(),
    };
    let kind = header.kind as u32;
    world(|world| world.mailbox.push_back(Waiting { kind, message }));
}

fn find(world: &World, mode: i32, key: i64) -> Option<usize> {
    use Kind::{Down, Exit, Reply, Timer};
    world.mailbox.iter().position(|waiting| {
        let Message {
            kind,
            tag,
            reference,
            ..
        } = &waiting.message;
        match mode & 0xff {
            modes::TAG => i64::from(*tag) == key && !matches!(kind, Exit | Down),
            modes::REFERENCE => {
                *reference == key.cast_unsigned() && matches!(kind, Reply | Down | Timer)
            }
            _ => true,
        }
    })
}

fn take(world: &mut World, at: usize, header: &mut RawHeader, room: &mut [MaybeUninit<u8>]) -> i32 {
    let Waiting { kind, message } = &world.mailbox[at];
    header.fill(Header {
        kind: message.kind,
        sender: message.sender.0,
        reference: message.reference,
        tag: message.tag,
        length: u32::try_from(message.payload.len()).expect("a test's message is short"),
        reason: message.reason.0,
    });
    header.kind = *kind;
    if message.payload.len() > room.len() {
        return Code::TooBig as i32;
    }
    for (slot, byte) in room.iter_mut().zip(message.payload.iter()) {
        slot.write(*byte);
    }
    world.mailbox.remove(at);
    Code::Ok as i32
}

pub(crate) fn send(to: Pid, tag: u32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("send", |q| q.pid(to).number(tag.into()).bytes(data))
            .code();
    }
    record(Effect::Send {
        to,
        tag,
        payload: data.to_vec(),
    })
}

pub(crate) fn request(to: Pid, tag: u32, data: &[u8]) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node
            .call("request", |q| q.pid(to).number(tag.into()).bytes(data))
            .reference();
    }
    Ok(record_referenced(|reference| Effect::Request {
        to,
        tag,
        payload: data.to_vec(),
        reference,
    }))
}

pub(crate) fn call(
    to: Pid,
    tag: u32,
    data: &[u8],
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
) -> i32 {
    if let Some(node) = current() {
        return called(&node, to, tag, data, header, room, millis);
    }
    if to == ME {
        return Code::BadArgument as i32;
    }
    if millis != 0 && world(|world| std::mem::take(&mut world.refuses)) {
        return Code::Limit as i32;
    }
    let reference = record_referenced(|reference| Effect::Request {
        to,
        tag,
        payload: data.to_vec(),
        reference,
    });
    world(|world| match world.answers.pop_front() {
        None => Code::Timeout as i32,
        Some(Err(reason)) => {
            header.reason = reason.0;
            Code::NoProc as i32
        }
        Some(Ok(payload)) => {
            let at = world.mailbox.len();
            let message = Message {
                kind: Kind::Reply,
                sender: to,
                reference,
                tag: crate::tag::TYPED,
                reason: Reason::NORMAL,
                payload: payload.into(),
            };
            let kind = message.kind as u32;
            world.mailbox.push_back(Waiting { kind, message });
            take(world, at, header, room)
        }
    })
}

pub(crate) fn reply(to: Pid, reference: u64, tag: u32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("reply", |q| {
                let q = q.pid(to).reference(reference);
                q.number(tag.into()).bytes(data)
            })
            .code();
    }
    record(Effect::Reply {
        to,
        reference,
        tag,
        payload: data.to_vec(),
    })
}

pub(crate) fn spawn(
    module: &str,
    arguments: &[u8],
    options: &RawSpawn,
    grants: &[u8],
) -> Result<(Pid, u64), Error> {
    if let Some(node) = current() {
        return node
            .call("spawn", |q| {
                let q = q.bytes(module.as_bytes()).bytes(arguments);
                q.bytes(&options.to_bytes()).bytes(grants)
            })
            .process_and_reference();
    }
    Ok(world(|world| {
        let number = world.next();
        let pid = Pid::from_parts(ME.0.node, ME.0.local + number);
        world.effects.push(Effect::Spawn {
            module: module.to_owned(),
            arguments: arguments.to_vec(),
            flags: options.flags,
            pid,
        });
        (pid, number)
    }))
}

pub(crate) fn init_ack(status: i32, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("init_ack", |q| q.number(status.into()).bytes(data))
            .code();
    }
    if status != 0 && status < Reason::GUEST {
        return Code::BadArgument as i32;
    }
    record(Effect::InitAck {
        status,
        payload: data.to_vec(),
    })
}

pub(crate) fn exit(reason: Reason, data: &[u8]) -> ! {
    record(Effect::Exit {
        reason,
        payload: data.to_vec(),
    });
    panic!("the process exited: {} ({})", reason.name(), reason.0)
}

pub(crate) fn exit_process(pid: Pid, reason: Reason, data: &[u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("exit_process", |q| {
                q.pid(pid).number(reason.0.into()).bytes(data)
            })
            .code();
    }
    let own = reason == Reason::NORMAL || reason == Reason::SHUTDOWN || reason.0 >= Reason::GUEST;
    if !own {
        return Code::BadArgument as i32;
    }
    record(Effect::ExitProcess { pid, reason })
}

pub(crate) fn kill(pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node.call("kill", |q| q.pid(pid)).code();
    }
    record(Effect::Kill { pid })
}

pub(crate) fn link(pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node.call("link", |q| q.pid(pid)).code();
    }
    record(Effect::Link { pid })
}

pub(crate) fn unlink(pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node.call("unlink", |q| q.pid(pid)).code();
    }
    record(Effect::Unlink { pid })
}

pub(crate) fn monitor(pid: Pid) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node.call("monitor", |q| q.pid(pid)).reference();
    }
    Ok(record_referenced(|reference| Effect::Monitor {
        pid,
        reference,
    }))
}

pub(crate) fn demonitor(reference: u64, flags: i32) -> i32 {
    if let Some(node) = current() {
        return node
            .call("demonitor", |q| q.reference(reference).number(flags.into()))
            .code();
    }
    if flags & !exuvia_abi::demonitor::FLUSH != 0 {
        return Code::BadArgument as i32;
    }
    record(Effect::Demonitor { reference })
}

pub(crate) fn trap_exit(on: bool) -> bool {
    if let Some(node) = current() {
        return node.call("trap_exit", |q| q.number(on.into())).code() == 1;
    }
    world(|world| std::mem::replace(&mut world.trapping, on))
}

pub(crate) fn register(name: &str, pid: Pid) -> i32 {
    if let Some(node) = current() {
        return node
            .call("register", |q| q.bytes(name.as_bytes()).pid(pid))
            .code();
    }
    if !is_name(name) {
        return Code::BadArgument as i32;
    }
    world(|world| match world.names.get(name) {
        Some(its) if *its != pid => Code::NameTaken as i32,
        _ => {
            world.names.insert(name.to_owned(), pid);
            Code::Ok as i32
        }
    })
}

/// Returns whether a name of a process, a group or a table is valid.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= exuvia_abi::limits::NAME as usize
}

pub(crate) fn unregister(name: &str) -> i32 {
    if let Some(node) = current() {
        return node.call("unregister", |q| q.bytes(name.as_bytes())).code();
    }
    if !is_name(name) {
        return Code::BadArgument as i32;
    }
    world(|world| match world.names.remove(name) {
        Some(_) => Code::Ok as i32,
        None => Code::NoProc as i32,
    })
}

pub(crate) fn whereis(name: &str) -> Result<Pid, Error> {
    if let Some(node) = current() {
        return node.call("whereis", |q| q.bytes(name.as_bytes())).process();
    }
    if !is_name(name) {
        return Err(Error::BadArgument);
    }
    world(|world| world.names.get(name).copied()).ok_or(Error::NoProc(Reason::NOPROC))
}

pub(crate) fn self_pid() -> Pid {
    if let Some(node) = current() {
        return node.me;
    }
    ME
}

pub(crate) fn send_after(to: Pid, tag: u32, data: &[u8], millis: i64) -> Result<u64, Error> {
    if let Some(node) = current() {
        return node
            .call("send_after", |q| {
                let q = q.pid(to).number(tag.into());
                q.bytes(data).number(millis)
            })
            .reference();
    }
    if millis < 0 {
        return Err(Error::BadArgument);
    }
    let reference = record_referenced(|reference| Effect::Timer {
        to,
        tag,
        payload: data.to_vec(),
        millis,
        reference,
    });
    world(|world| world.timers.insert(reference, millis));
    Ok(reference)
}

pub(crate) fn cancel_timer(reference: u64) -> i64 {
    if let Some(node) = current() {
        return node.call("cancel_timer", |q| q.reference(reference)).long();
    }
    record(Effect::CancelTimer { reference });
    // Time stands still: all of it is left.
    world(|world| world.timers.remove(&reference)).unwrap_or(-1)
}

pub(crate) fn sleep(wait: Wait) -> i32 {
    if let Some(node) = current() {
        return node.call("sleep", |q| q.number(wait.millis())).code();
    }
    if wait.millis() < 0 {
        return Code::BadArgument as i32;
    }
    record(Effect::Sleep {
        millis: wait.millis(),
    })
}

pub(crate) fn log(level: i32, text: &[u8]) {
    record(Effect::Log {
        level: match level {
            exuvia_abi::log::ERROR => Level::Error,
            exuvia_abi::log::WARN => Level::Warn,
            exuvia_abi::log::INFO => Level::Info,
            _ => Level::Debug,
        },
        line: String::from_utf8_lossy(text).into_owned(),
    });
}

/// Returns the same bytes in each run, so that a failed test fails again.
pub(crate) fn random(buffer: &mut [u8]) -> i32 {
    for byte in buffer {
        let number = world(World::next);
        // Knuth's multiplier; the high bits are the more random ones.
        *byte = number.wrapping_mul(0x5851_f42d_4c95_7f2d).to_be_bytes()[0];
    }
    Code::Ok as i32
}

pub(crate) fn clock(which: i32) -> i64 {
    if let Some(node) = current() {
        return node.call("clock", |q| q.number(which.into())).long();
    }
    0
}

pub(crate) fn info(what: i32) -> i64 {
    if let Some(node) = current() {
        // A message that was too large for its buffer is here already.
        let here = match what {
            exuvia_abi::info::MAILBOX => world(|world| world.mailbox.len()),
            _ => 0,
        };
        let there = node.call("info", |q| q.number(what.into())).long();
        return there.saturating_add(i64::try_from(here).unwrap_or(i64::MAX));
    }
    match what {
        exuvia_abi::info::MAILBOX => {
            world(|world| i64::try_from(world.mailbox.len()).unwrap_or(i64::MAX))
        }
        exuvia_abi::info::REDUCTIONS | exuvia_abi::info::UPGRADES => 0,
        _ => i64::from(Code::BadArgument as i32),
    }
}

pub(crate) fn state_put(data: &[u8]) -> i32 {
    if data.len() > exuvia_abi::limits::STATE as usize {
        return Code::Limit as i32;
    }
    world(|world| world.state = Some(data.to_vec()));
    Code::Ok as i32
}

pub(crate) fn state_get(buffer: &mut [u8]) -> i32 {
    world(|world| {
        let state = world.state.as_deref().unwrap_or_default();
        let Some(room) = buffer.get_mut(..state.len()) else {
            return Code::TooBig as i32;
        };
        room.copy_from_slice(state);
        i32::try_from(state.len()).unwrap_or(i32::MAX)
    })
}

pub(crate) fn supervisor_start(specification: &[u8]) -> Result<Pid, Error> {
    if let Some(node) = current() {
        return node
            .call("supervisor_start", |q| q.bytes(specification))
            .process();
    }
    Ok(world(|world| {
        let pid = Pid::from_parts(ME.0.node, ME.0.local + world.next());
        world.effects.push(Effect::SupervisorStart {
            specification: specification.to_vec(),
        });
        pid
    }))
}

pub(crate) fn monitor_name(name: &str) -> Result<(Pid, u64), Error> {
    if let Some(node) = current() {
        return node
            .call("monitor_name", |q| q.bytes(name.as_bytes()))
            .process_and_reference();
    }
    if !is_name(name) {
        return Err(Error::BadArgument);
    }
    let pid = world(|world| world.names.get(name).copied()).unwrap_or(Pid::NONE);
    monitor(pid).map(|reference| (pid, reference))
}

pub(crate) fn set_priority(priority: u32) -> i32 {
    if let Some(node) = current() {
        return node
            .call("set_priority", |q| q.number(priority.into()))
            .code();
    }
    match Priority::new(priority) {
        None => Code::BadArgument as i32,
        // The limit of a process to which nothing else is granted.
        Some(priority) if priority > Priority::Normal => Code::Denied as i32,
        Some(priority) => {
            let before = world(|world| std::mem::replace(&mut world.priority, priority));
            before as i32
        }
    }
}

pub(crate) fn config(key: &str, room: &mut [u8]) -> i32 {
    if let Some(node) = current() {
        return node
            .call("config", |q| q.bytes(key.as_bytes()))
            .into_room(room);
    }
    let value = world(|world| world.config.get(key).cloned());
    answer_with(value.as_deref(), room)
}

/// Copies what was found into the buffer if it fits; returns its length in any case.
pub(super) fn answer_with(found: Option<&[u8]>, room: &mut [u8]) -> i32 {
    let Some(found) = found else {
        return Code::Empty as i32;
    };
    if let Some(room) = room.get_mut(..found.len()) {
        room.copy_from_slice(found);
    }
    i32::try_from(found.len()).unwrap_or(i32::MAX)
}

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
    group_members(group, &mut [])
}
