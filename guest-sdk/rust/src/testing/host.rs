//! The host calls, implemented in memory: the same functions as on Wasm. Those that go together have
//! a file each; this one has their list, the others, and what they share.

use exuvia_abi::Code;

pub(crate) use super::groups::{group_join, group_leave, group_members, publish};
pub(crate) use super::messages::{call, receive, reply, request, send};
pub(crate) use super::processes::{
    demonitor, exit, exit_process, init_ack, kill, link, monitor, monitor_name, register, self_pid,
    set_priority, spawn, supervisor_start, trap_exit, unlink, unregister, whereis,
};
pub(crate) use super::tables::{
    table_add, table_delete, table_end, table_find, table_get, table_give, table_heir, table_info,
    table_new, table_next, table_put,
};
use super::{Effect, World, world};
use crate::test::current;
use crate::{Error, Level, Pid, Wait};

pub(super) fn record(effect: Effect) -> i32 {
    world(|world| world.effects.push(effect));
    Code::Ok as i32
}

pub(super) fn record_referenced(effect: impl FnOnce(u64) -> Effect) -> u64 {
    world(|world| {
        let reference = world.next();
        world.effects.push(effect(reference));
        reference
    })
}

/// Returns whether a name of a process, a group or a table is valid.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= exuvia_abi::limits::NAME as usize
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

pub(crate) fn discard(data: &mut [u8]) {
    data.fill(0);
}

pub(crate) fn clock(which: i32) -> i64 {
    if let Some(node) = current() {
        return node.call("clock", |q| q.number(which.into())).long();
    }
    i64::try_from(world(|world| world.clock).as_nanos()).unwrap_or(i64::MAX)
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
