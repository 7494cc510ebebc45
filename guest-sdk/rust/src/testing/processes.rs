//! Other processes for the in-memory host: only their pids and names exist.

use exuvia_abi::{Code, io};

use super::host::{is_name, record, record_referenced};
use super::{Effect, HTTP_CLIENT, ME, world};
use crate::sys::RawSpawn;
use crate::test::current;
use crate::{Error, Pid, Priority, Reason};

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
    if name.starts_with(io::NAMES_OF_THE_HOST) {
        return Code::Denied as i32;
    }
    world(|world| match world.names.get(name) {
        Some(its) if *its != pid => Code::NameTaken as i32,
        _ => {
            world.names.insert(name.to_owned(), pid);
            Code::Ok as i32
        }
    })
}

pub(crate) fn unregister(name: &str) -> i32 {
    if let Some(node) = current() {
        return node.call("unregister", |q| q.bytes(name.as_bytes())).code();
    }
    if !is_name(name) {
        return Code::BadArgument as i32;
    }
    if name.starts_with(io::NAMES_OF_THE_HOST) {
        return Code::Denied as i32;
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
    if name == io::HTTP_CLIENT {
        return Ok(HTTP_CLIENT);
    }
    world(|world| world.names.get(name).copied()).ok_or(Error::NoProc(Reason::NOPROC))
}

pub(crate) fn self_pid() -> Pid {
    if let Some(node) = current() {
        return node.me;
    }
    ME
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
