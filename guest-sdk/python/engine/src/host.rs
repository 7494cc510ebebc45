//! The host calls as they are imported; `guest-sdk/abi.md` says what each does.

use exuvia_abi::HEADER_SIZE;

/// The header of a message.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    pub size: u32,
    pub kind: u32,
    pub sender: [u8; 16],
    pub reference: i64,
    pub tag: u32,
    pub length: u32,
    pub reason: i32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE as usize);

impl Header {
    pub const fn new() -> Header {
        Header {
            size: HEADER_SIZE,
            kind: 0,
            sender: [0; 16],
            reference: 0,
            tag: 0,
            length: 0,
            reason: 0,
            reserved: 0,
        }
    }
}

macro_rules! calls {
    ($($(#[$attribute:meta])* fn $name:ident($($parameter:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        #[link(wasm_import_module = "exuvia")]
        unsafe extern "C" {
            $($(#[$attribute])* pub fn $name($($parameter: $type),*) $(-> $result)?;)*
        }
    };
}

type In = *const u8;
type Out = *mut u8;

calls! {
    fn receive(header: *mut Header, buffer: Out, capacity: u32, timeout: i64, mode: i32, key: i64) -> i32;
    fn send(to: In, tag: u32, data: In, length: u32) -> i32;
    fn request(to: In, tag: u32, data: In, length: u32, reference: *mut i64) -> i32;
    fn call(to: In, tag: u32, data: In, length: u32, header: *mut Header, buffer: Out, capacity: u32, timeout: i64) -> i32;
    fn reply(to: In, reference: i64, tag: u32, data: In, length: u32) -> i32;
    fn spawn(module: In, module_length: u32, arguments: In, arguments_length: u32, options: In, pid: Out, reference: *mut i64) -> i32;
    fn init_ack(status: i32, data: In, length: u32) -> i32;
    fn exit(code: i32, data: In, length: u32);
    fn exit_process(pid: In, code: i32, data: In, length: u32) -> i32;
    fn kill(pid: In) -> i32;
    fn link(pid: In) -> i32;
    fn unlink(pid: In) -> i32;
    fn monitor(pid: In, reference: *mut i64) -> i32;
    fn demonitor(reference: i64, flags: i32) -> i32;
    fn trap_exit(on: i32) -> i32;
    fn register(name: In, length: u32, pid: In) -> i32;
    fn unregister(name: In, length: u32) -> i32;
    fn whereis(name: In, length: u32, pid: Out) -> i32;
    #[link_name = "self"]
    fn own_pid(pid: Out) -> i32;
    fn send_after(to: In, tag: u32, data: In, length: u32, delay: i64, reference: *mut i64) -> i32;
    fn cancel_timer(reference: i64) -> i64;
    fn sleep(time: i64) -> i32;
    fn log(level: i32, text: In, length: u32) -> i32;
    fn random(buffer: Out, length: u32) -> i32;
    fn info(what: i32) -> i64;
    fn state_put(data: In, length: u32) -> i32;
    fn state_get(buffer: Out, capacity: u32) -> i32;
    fn supervisor_start(specification: In, length: u32, pid: Out) -> i32;
    fn monitor_name(name: In, length: u32, pid: Out, reference: *mut i64) -> i32;
    fn set_priority(priority: i32) -> i32;
    fn config(key: In, length: u32, buffer: Out, capacity: u32) -> i32;
    fn group_join(group: In, length: u32, pid: In) -> i32;
    fn group_leave(group: In, length: u32, pid: In) -> i32;
    fn group_members(group: In, length: u32, pids: Out, fit: u32) -> i32;
    fn publish(group: In, group_length: u32, tag: u32, data: In, length: u32) -> i32;
    fn table_new(name: In, length: u32, access: i32, table: *mut i64) -> i32;
    fn table_find(name: In, length: u32, table: *mut i64) -> i32;
    fn table_put(table: i64, key: In, key_length: u32, value: In, value_length: u32, flags: i32) -> i32;
    fn table_get(table: i64, key: In, key_length: u32, buffer: Out, capacity: u32) -> i32;
    fn table_delete(table: i64, key: In, key_length: u32) -> i32;
    fn table_next(table: i64, key: In, key_length: u32, buffer: Out, capacity: u32) -> i32;
    fn table_add(table: i64, key: In, key_length: u32, amount: i64, sum: *mut i64) -> i32;
    fn table_info(table: i64, what: i32) -> i64;
    fn table_heir(table: i64, pid: In, tag: u32) -> i32;
    fn table_give(table: i64, pid: In, tag: u32) -> i32;
    fn table_end(table: i64) -> i32;
}

#[link(wasm_import_module = "exuvia.optional")]
unsafe extern "C" {
    /// A host of version 1.0 lacks it, and frees nothing then.
    pub fn discard(data: Out, length: u32) -> i32;
}

/// A part of what is written, as WASI has it.
#[repr(C)]
pub struct Part {
    pub data: In,
    pub length: u32,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    pub fn fd_write(fd: u32, parts: *const Part, count: u32, written: *mut u32) -> i32;
}
