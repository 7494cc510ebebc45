//! The imports. Slices are shorter than 4 GiB on this target, so the casts to `u32` lose
//! nothing.
#![allow(
    clippy::cast_possible_truncation,
    reason = "a pointer of this target has 32 bits"
)]

use std::mem::MaybeUninit;

use super::{RawHeader, RawSpawn};
use exuvia_abi::receive as modes;

use crate::{Error, Match, Pid, Reason, Wait};

mod import {
    use super::{MaybeUninit, RawHeader, RawSpawn};

    #[link(wasm_import_module = "exuvia")]
    unsafe extern "C" {
        pub(super) fn receive(
            header: *mut RawHeader,
            buffer: *mut MaybeUninit<u8>,
            capacity: u32,
            millis: i64,
            mode: i32,
            key: i64,
        ) -> i32;
        pub(super) fn send(to: *const u8, tag: u32, data: *const u8, length: u32) -> i32;
        pub(super) fn request(
            to: *const u8,
            tag: u32,
            data: *const u8,
            length: u32,
            reference: *mut u64,
        ) -> i32;
        pub(super) fn call(
            to: *const u8,
            tag: u32,
            data: *const u8,
            length: u32,
            header: *mut RawHeader,
            buffer: *mut MaybeUninit<u8>,
            capacity: u32,
            millis: i64,
        ) -> i32;
        pub(super) fn reply(
            to: *const u8,
            reference: u64,
            tag: u32,
            data: *const u8,
            length: u32,
        ) -> i32;
        pub(super) fn spawn(
            module: *const u8,
            module_length: u32,
            arguments: *const u8,
            arguments_length: u32,
            options: *const RawSpawn,
            pid: *mut u8,
            reference: *mut u64,
        ) -> i32;
        pub(super) fn init_ack(status: i32, data: *const u8, length: u32) -> i32;
        pub(super) fn exit(code: i32, data: *const u8, length: u32);
        pub(super) fn exit_process(pid: *const u8, code: i32, data: *const u8, length: u32) -> i32;
        pub(super) fn kill(pid: *const u8) -> i32;
        pub(super) fn link(pid: *const u8) -> i32;
        pub(super) fn unlink(pid: *const u8) -> i32;
        pub(super) fn monitor(pid: *const u8, reference: *mut u64) -> i32;
        pub(super) safe fn demonitor(reference: u64, flags: i32) -> i32;
        pub(super) safe fn trap_exit(on: i32) -> i32;
        pub(super) fn register(name: *const u8, length: u32, pid: *const u8) -> i32;
        pub(super) fn unregister(name: *const u8, length: u32) -> i32;
        pub(super) fn whereis(name: *const u8, length: u32, pid: *mut u8) -> i32;
        #[link_name = "self"]
        pub(super) fn self_pid(pid: *mut u8) -> i32;
        pub(super) fn send_after(
            to: *const u8,
            tag: u32,
            data: *const u8,
            length: u32,
            millis: i64,
            reference: *mut u64,
        ) -> i32;
        pub(super) safe fn cancel_timer(reference: u64) -> i64;
        pub(super) safe fn sleep(millis: i64) -> i32;
        pub(super) fn log(level: i32, text: *const u8, length: u32) -> i32;
        pub(super) fn random(buffer: *mut u8, length: u32) -> i32;
        pub(super) fn discard(data: *mut u8, length: u32) -> i32;
        pub(super) safe fn clock(which: i32) -> i64;
        pub(super) safe fn info(what: i32) -> i64;
        pub(super) fn state_put(data: *const u8, length: u32) -> i32;
        pub(super) fn state_get(buffer: *mut u8, capacity: u32) -> i32;
        pub(super) fn supervisor_start(specification: *const u8, length: u32, pid: *mut u8) -> i32;
        pub(super) fn monitor_name(
            name: *const u8,
            length: u32,
            pid: *mut u8,
            reference: *mut u64,
        ) -> i32;
        pub(super) safe fn set_priority(priority: u32) -> i32;
        pub(super) fn config(key: *const u8, length: u32, buffer: *mut u8, capacity: u32) -> i32;
        pub(super) fn group_join(group: *const u8, length: u32, pid: *const u8) -> i32;
        pub(super) fn group_leave(group: *const u8, length: u32, pid: *const u8) -> i32;
        pub(super) fn group_members(group: *const u8, length: u32, pids: *mut u8, room: u32)
        -> i32;
        pub(super) fn publish(
            group: *const u8,
            group_length: u32,
            tag: u32,
            data: *const u8,
            length: u32,
        ) -> i32;
        pub(super) fn table_new(name: *const u8, length: u32, access: i32, table: *mut u64) -> i32;
        pub(super) fn table_find(name: *const u8, length: u32, table: *mut u64) -> i32;
        pub(super) fn table_put(
            table: u64,
            key: *const u8,
            key_length: u32,
            value: *const u8,
            length: u32,
            flags: i32,
        ) -> i32;
        pub(super) fn table_get(
            table: u64,
            key: *const u8,
            key_length: u32,
            buffer: *mut u8,
            capacity: u32,
        ) -> i32;
        pub(super) fn table_delete(table: u64, key: *const u8, key_length: u32) -> i32;
        pub(super) fn table_next(
            table: u64,
            key: *const u8,
            key_length: u32,
            buffer: *mut u8,
            capacity: u32,
        ) -> i32;
        pub(super) fn table_add(
            table: u64,
            key: *const u8,
            key_length: u32,
            amount: i64,
            sum: *mut i64,
        ) -> i32;
        pub(super) safe fn table_info(table: u64, what: i32) -> i64;
        pub(super) fn table_heir(table: u64, pid: *const u8, tag: u32) -> i32;
        pub(super) fn table_give(table: u64, pid: *const u8, tag: u32) -> i32;
        pub(super) safe fn table_end(table: u64) -> i32;
    }
}

// SAFETY of all calls below: every pointer comes from a reference or a slice that outlives the
// call, its length is passed along or fixed by the ABI (16 bytes for a pid, 8 for a reference,
// 48 for a header, 72 for the options of spawn), and the host neither keeps it nor writes
// beyond it.

#[inline]
pub(crate) fn receive(
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
    wanted: Match<'_>,
    flags: i32,
) -> i32 {
    let sender;
    let (mode, key) = match wanted {
        Match::Any => (modes::ANY, 0),
        Match::Tag(tag) => (modes::TAG, i64::from(tag)),
        Match::Reference(reference) => (modes::REFERENCE, reference.cast_signed()),
        Match::Sender(pid) => {
            sender = pid.to_bytes();
            (modes::SENDER, sender.as_ptr() as i64)
        }
        Match::References(all) => {
            let pointer = all.as_ptr() as i64;
            (modes::REFERENCES, (all.len() as i64) << 32 | pointer)
        }
    };
    // SAFETY: see above; what the key points to lives until the call has returned.
    unsafe {
        import::receive(
            header,
            room.as_mut_ptr(),
            room.len() as u32,
            millis,
            mode | flags,
            key,
        )
    }
}

#[inline]
pub(crate) fn send(to: Pid, tag: u32, data: &[u8]) -> i32 {
    let to = to.to_bytes();
    // SAFETY: see above.
    unsafe { import::send(to.as_ptr(), tag, data.as_ptr(), data.len() as u32) }
}

#[inline]
pub(crate) fn request(to: Pid, tag: u32, data: &[u8]) -> Result<u64, Error> {
    let to = to.to_bytes();
    let mut reference = 0;
    // SAFETY: see above.
    let answer = unsafe {
        import::request(
            to.as_ptr(),
            tag,
            data.as_ptr(),
            data.len() as u32,
            &mut reference,
        )
    };
    Error::check(answer).map(|()| reference)
}

#[inline]
pub(crate) fn call(
    to: Pid,
    tag: u32,
    data: &[u8],
    header: &mut RawHeader,
    room: &mut [MaybeUninit<u8>],
    millis: i64,
) -> i32 {
    let to = to.to_bytes();
    // SAFETY: see above.
    unsafe {
        import::call(
            to.as_ptr(),
            tag,
            data.as_ptr(),
            data.len() as u32,
            header,
            room.as_mut_ptr(),
            room.len() as u32,
            millis,
        )
    }
}

#[inline]
pub(crate) fn reply(to: Pid, reference: u64, tag: u32, data: &[u8]) -> i32 {
    let to = to.to_bytes();
    // SAFETY: see above.
    unsafe {
        import::reply(
            to.as_ptr(),
            reference,
            tag,
            data.as_ptr(),
            data.len() as u32,
        )
    }
}

#[inline]
pub(crate) fn spawn(
    module: &str,
    arguments: &[u8],
    options: &RawSpawn,
    // Where the options point to.
    _grants: &[u8],
) -> Result<(Pid, u64), Error> {
    let mut pid = [0; 16];
    let mut reference = 0;
    // SAFETY: see above.
    let answer = unsafe {
        import::spawn(
            module.as_ptr(),
            module.len() as u32,
            arguments.as_ptr(),
            arguments.len() as u32,
            options,
            pid.as_mut_ptr(),
            &mut reference,
        )
    };
    Error::check(answer).map(|()| (Pid::from_bytes(pid), reference))
}

pub(crate) fn init_ack(status: i32, data: &[u8]) -> i32 {
    // SAFETY: see above.
    unsafe { import::init_ack(status, data.as_ptr(), data.len() as u32) }
}

pub(crate) fn exit(reason: Reason, data: &[u8]) -> ! {
    // SAFETY: see above.
    unsafe { import::exit(reason.0, data.as_ptr(), data.len() as u32) };
    unreachable!("exit does not return")
}

pub(crate) fn exit_process(pid: Pid, reason: Reason, data: &[u8]) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::exit_process(pid.as_ptr(), reason.0, data.as_ptr(), data.len() as u32) }
}

pub(crate) fn kill(pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::kill(pid.as_ptr()) }
}

pub(crate) fn link(pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::link(pid.as_ptr()) }
}

pub(crate) fn unlink(pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::unlink(pid.as_ptr()) }
}

pub(crate) fn monitor(pid: Pid) -> Result<u64, Error> {
    let pid = pid.to_bytes();
    let mut reference = 0;
    // SAFETY: see above.
    let answer = unsafe { import::monitor(pid.as_ptr(), &mut reference) };
    Error::check(answer).map(|()| reference)
}

pub(crate) fn demonitor(reference: u64, flags: i32) -> i32 {
    import::demonitor(reference, flags)
}

pub(crate) fn trap_exit(on: bool) -> bool {
    import::trap_exit(i32::from(on)) != 0
}

pub(crate) fn register(name: &str, pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::register(name.as_ptr(), name.len() as u32, pid.as_ptr()) }
}

pub(crate) fn unregister(name: &str) -> i32 {
    // SAFETY: see above.
    unsafe { import::unregister(name.as_ptr(), name.len() as u32) }
}

pub(crate) fn whereis(name: &str) -> Result<Pid, Error> {
    let mut pid = [0; 16];
    // SAFETY: see above.
    let answer = unsafe { import::whereis(name.as_ptr(), name.len() as u32, pid.as_mut_ptr()) };
    Error::check(answer).map(|()| Pid::from_bytes(pid))
}

pub(crate) fn self_pid() -> Pid {
    let mut pid = [0; 16];
    // SAFETY: see above.
    unsafe { import::self_pid(pid.as_mut_ptr()) };
    Pid::from_bytes(pid)
}

pub(crate) fn send_after(to: Pid, tag: u32, data: &[u8], millis: i64) -> Result<u64, Error> {
    let to = to.to_bytes();
    let mut reference = 0;
    // SAFETY: see above.
    let answer = unsafe {
        import::send_after(
            to.as_ptr(),
            tag,
            data.as_ptr(),
            data.len() as u32,
            millis,
            &mut reference,
        )
    };
    Error::check(answer).map(|()| reference)
}

pub(crate) fn cancel_timer(reference: u64) -> i64 {
    import::cancel_timer(reference)
}

pub(crate) fn sleep(wait: Wait) -> i32 {
    import::sleep(wait.millis())
}

pub(crate) fn log(level: i32, text: &[u8]) {
    // SAFETY: see above.
    unsafe { import::log(level, text.as_ptr(), text.len() as u32) };
}

pub(crate) fn random(buffer: &mut [u8]) -> i32 {
    // SAFETY: see above.
    unsafe { import::random(buffer.as_mut_ptr(), buffer.len() as u32) }
}

pub(crate) fn discard(data: &mut [u8]) {
    // SAFETY: see above. It cannot fail, since the bytes are in memory.
    unsafe { import::discard(data.as_mut_ptr(), data.len() as u32) };
}

pub(crate) fn clock(which: i32) -> i64 {
    import::clock(which)
}

pub(crate) fn info(what: i32) -> i64 {
    import::info(what)
}

pub(crate) fn state_put(data: &[u8]) -> i32 {
    // SAFETY: see above.
    unsafe { import::state_put(data.as_ptr(), data.len() as u32) }
}

pub(crate) fn state_get(buffer: &mut [u8]) -> i32 {
    // SAFETY: see above.
    unsafe { import::state_get(buffer.as_mut_ptr(), buffer.len() as u32) }
}

pub(crate) fn supervisor_start(specification: &[u8]) -> Result<Pid, Error> {
    let mut pid = [0; 16];
    // SAFETY: see above.
    let answer = unsafe {
        import::supervisor_start(
            specification.as_ptr(),
            specification.len() as u32,
            pid.as_mut_ptr(),
        )
    };
    Error::check(answer).map(|()| Pid::from_bytes(pid))
}

pub(crate) fn monitor_name(name: &str) -> Result<(Pid, u64), Error> {
    let (mut pid, mut reference) = ([0; 16], 0);
    // SAFETY: see above.
    let answer = unsafe {
        import::monitor_name(
            name.as_ptr(),
            name.len() as u32,
            pid.as_mut_ptr(),
            &mut reference,
        )
    };
    Error::check(answer).map(|()| (Pid::from_bytes(pid), reference))
}

pub(crate) fn set_priority(priority: u32) -> i32 {
    import::set_priority(priority)
}

pub(crate) fn config(key: &str, room: &mut [u8]) -> i32 {
    // SAFETY: see above.
    unsafe {
        import::config(
            key.as_ptr(),
            key.len() as u32,
            room.as_mut_ptr(),
            room.len() as u32,
        )
    }
}

pub(crate) fn group_join(group: &str, pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::group_join(group.as_ptr(), group.len() as u32, pid.as_ptr()) }
}

pub(crate) fn group_leave(group: &str, pid: Pid) -> i32 {
    let pid = pid.to_bytes();
    // SAFETY: see above.
    unsafe { import::group_leave(group.as_ptr(), group.len() as u32, pid.as_ptr()) }
}

pub(crate) fn group_members(group: &str, room: &mut [[u8; 16]]) -> i32 {
    // SAFETY: see above; a pid has 16 bytes, and the host writes at most as many as the slice
    // holds.
    unsafe {
        import::group_members(
            group.as_ptr(),
            group.len() as u32,
            room.as_mut_ptr().cast(),
            room.len() as u32,
        )
    }
}

pub(crate) fn publish(group: &str, tag: u32, data: &[u8]) -> i32 {
    // SAFETY: see above.
    unsafe {
        import::publish(
            group.as_ptr(),
            group.len() as u32,
            tag,
            data.as_ptr(),
            data.len() as u32,
        )
    }
}

pub(crate) fn table_new(name: &str, access: i32) -> Result<u64, Error> {
    let mut table = 0;
    // SAFETY: see above.
    let answer = unsafe { import::table_new(name.as_ptr(), name.len() as u32, access, &mut table) };
    Error::check(answer).map(|()| table)
}

pub(crate) fn table_find(name: &str) -> Result<u64, Error> {
    let mut table = 0;
    // SAFETY: see above.
    let answer = unsafe { import::table_find(name.as_ptr(), name.len() as u32, &mut table) };
    Error::check(answer).map(|()| table)
}

pub(crate) fn table_put(table: u64, key: &[u8], value: &[u8], flags: i32) -> i32 {
    // SAFETY: see above.
    unsafe {
        import::table_put(
            table,
            key.as_ptr(),
            key.len() as u32,
            value.as_ptr(),
            value.len() as u32,
            flags,
        )
    }
}

pub(crate) fn table_get(table: u64, key: &[u8], room: &mut [u8]) -> i32 {
    // SAFETY: see above.
    unsafe {
        import::table_get(
            table,
            key.as_ptr(),
            key.len() as u32,
            room.as_mut_ptr(),
            room.len() as u32,
        )
    }
}

pub(crate) fn table_delete(table: u64, key: &[u8]) -> i32 {
    // SAFETY: see above.
    unsafe { import::table_delete(table, key.as_ptr(), key.len() as u32) }
}

pub(crate) fn table_next(table: u64, key: &[u8], room: &mut [u8]) -> i32 {
    // SAFETY: see above.
    unsafe {
        import::table_next(
            table,
            key.as_ptr(),
            key.len() as u32,
            room.as_mut_ptr(),
            room.len() as u32,
        )
    }
}

pub(crate) fn table_add(table: u64, key: &[u8], amount: i64) -> Result<i64, Error> {
    let mut sum = 0;
    // SAFETY: see above.
    let answer =
        unsafe { import::table_add(table, key.as_ptr(), key.len() as u32, amount, &mut sum) };
    Error::check(answer).map(|()| sum)
}

pub(crate) fn table_info(table: u64, what: i32) -> i64 {
    import::table_info(table, what)
}

pub(crate) fn table_heir(table: u64, heir: Option<Pid>, tag: u32) -> i32 {
    let pid = heir.map(Pid::to_bytes);
    let pid = pid.as_ref().map_or(std::ptr::null(), |pid| pid.as_ptr());
    // SAFETY: see above; a null pointer means no heir.
    unsafe { import::table_heir(table, pid, tag) }
}

pub(crate) fn table_give(table: u64, to: Pid, tag: u32) -> i32 {
    let to = to.to_bytes();
    // SAFETY: see above.
    unsafe { import::table_give(table, to.as_ptr(), tag) }
}

pub(crate) fn table_end(table: u64) -> i32 {
    import::table_end(table)
}
