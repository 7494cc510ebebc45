//! The host calls: names, types, and how they behave in probation.

/// The module name that guests import host calls from.
pub const MODULE: &str = "exuvia";

/// The Wasm value types that host calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmType {
    /// For numbers, pointers and lengths.
    I32,
    /// For references, times and keys.
    I64,
}
use WasmType::{I32, I64};

/// How a host call behaves while a message is handled as a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probation {
    /// Has no effect outside the process, or one that is never undone (a log line).
    Free,
    /// Deferred until the handler has ended; discarded if the handler traps.
    Held,
    /// Takes effect at once, and is undone if the handler traps.
    Undoable,
    /// Commits the transaction first: the deferred effects take effect, and the transaction
    /// ends.
    Closing,
}
use Probation::{Closing, Free, Held, Undoable};

/// One host call.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The import's name.
    pub name: &'static str,
    /// Parameter types.
    pub params: &'static [WasmType],
    /// Result type, if any.
    pub result: Option<WasmType>,
    /// Its behaviour in probation.
    pub probation: Probation,
    /// Whether it may wait, and keep the process's frame meanwhile.
    pub blocks: bool,
    /// Whether it is served in restricted runs: `save`, `load`, initialization and
    /// verification. `clock` and `random` are not served in `warm_up`.
    pub in_crossing: bool,
}

const fn call(
    name: &'static str,
    params: &'static [WasmType],
    result: Option<WasmType>,
    probation: Probation,
) -> HostCall {
    HostCall {
        name,
        params,
        result,
        probation,
        blocks: false,
        in_crossing: false,
    }
}

const fn blocking(call: HostCall) -> HostCall {
    HostCall {
        blocks: true,
        ..call
    }
}

const fn in_crossing(call: HostCall) -> HostCall {
    HostCall {
        in_crossing: true,
        ..call
    }
}

const OK: Option<WasmType> = Some(I32);

/// All host calls of version 1. A module that imports another name from [`MODULE`], or
/// a call with another type, is rejected with the name of the import.
pub const HOST_CALLS: &[HostCall] = &[
    // header, buffer, capacity, timeout in ms, mode, key
    blocking(call("receive", &[I32, I32, I32, I64, I32, I64], OK, Free)),
    // to, tag, data, length
    call("send", &[I32, I32, I32, I32], OK, Held),
    // to, tag, data, length, reference out
    call("request", &[I32, I32, I32, I32, I32], OK, Held),
    // to, tag, data, length, header, buffer, capacity, timeout in ms
    blocking(call(
        "call",
        &[I32, I32, I32, I32, I32, I32, I32, I64],
        OK,
        Closing,
    )),
    // to, reference, tag, data, length
    call("reply", &[I32, I64, I32, I32, I32], OK, Held),
    // module name, its length, arguments, their length, options, pid out, reference out
    blocking(call(
        "spawn",
        &[I32, I32, I32, I32, I32, I32, I32],
        OK,
        Held,
    )),
    // status, data, length
    call("init_ack", &[I32, I32, I32], OK, Held),
    // code, data, length; does not return
    call("exit", &[I32, I32, I32], None, Closing),
    // pid, code, data, length
    call("exit_process", &[I32, I32, I32, I32], OK, Held),
    // pid
    call("kill", &[I32], OK, Held),
    // pid
    call("link", &[I32], OK, Held),
    // pid
    call("unlink", &[I32], OK, Held),
    // pid, reference out
    call("monitor", &[I32, I32], OK, Held),
    // reference, flags
    call("demonitor", &[I64, I32], OK, Held),
    // on; returns the former value
    call("trap_exit", &[I32], OK, Undoable),
    // name, length, pid
    call("register", &[I32, I32, I32], OK, Undoable),
    // name, length
    call("unregister", &[I32, I32], OK, Undoable),
    // name, length, pid out
    call("whereis", &[I32, I32, I32], OK, Free),
    // pid out
    call("self", &[I32], OK, Free),
    // to, tag, data, length, delay in ms, reference out
    call("send_after", &[I32, I32, I32, I32, I64, I32], OK, Held),
    // reference; returns the milliseconds that were left, or -1
    call("cancel_timer", &[I64], Some(I64), Held),
    // milliseconds
    blocking(call("sleep", &[I64], OK, Closing)),
    // level, text, length
    in_crossing(call("log", &[I32, I32, I32], OK, Free)),
    // buffer, length
    in_crossing(call("random", &[I32, I32], OK, Free)),
    // which clock
    in_crossing(call("clock", &[I32], Some(I64), Free)),
    // what
    call("info", &[I32], Some(I64), Free),
    // data, length; only inside `save`
    in_crossing(call("state_put", &[I32, I32], OK, Free)),
    // buffer, capacity; returns the length; only inside `load`
    in_crossing(call("state_get", &[I32, I32], OK, Free)),
    // specification in MessagePack, length, pid out
    blocking(call("supervisor_start", &[I32, I32, I32], OK, Closing)),
    // name, length, pid out, reference out
    call("monitor_name", &[I32, I32, I32, I32], OK, Held),
    // priority; returns the former one
    call("set_priority", &[I32], OK, Undoable),
    // key, length, buffer, capacity; returns the length
    call("config", &[I32, I32, I32, I32], OK, Free),
    // group, length, pid
    call("group_join", &[I32, I32, I32], OK, Undoable),
    // group, length, pid
    call("group_leave", &[I32, I32, I32], OK, Undoable),
    // group, length, pids out, how many fit; returns the number of members
    call("group_members", &[I32, I32, I32, I32], OK, Free),
    // group, length, tag, data, length; returns the number of members reached
    blocking(call("publish", &[I32, I32, I32, I32, I32], OK, Held)),
    // name, length, access, table out
    call("table_new", &[I32, I32, I32, I32], OK, Undoable),
    // name, length, table out
    call("table_find", &[I32, I32, I32], OK, Free),
    // table, key, length, value, length, flags; returns whether there was a row
    call("table_put", &[I64, I32, I32, I32, I32, I32], OK, Undoable),
    // table, key, length, buffer, capacity; returns the length
    call("table_get", &[I64, I32, I32, I32, I32], OK, Free),
    // table, key, length; returns whether there was a row
    call("table_delete", &[I64, I32, I32], OK, Undoable),
    // table, key, length, buffer, capacity; returns the next key's length
    call("table_next", &[I64, I32, I32, I32, I32], OK, Free),
    // table, key, length, amount, sum out
    call("table_add", &[I64, I32, I32, I64, I32], OK, Undoable),
    // table, what
    call("table_info", &[I64, I32], Some(I64), Free),
    // table, pid, tag
    call("table_heir", &[I64, I32, I32], OK, Undoable),
    // table, pid, tag
    call("table_give", &[I64, I32, I32], OK, Closing),
    // table
    call("table_end", &[I64], OK, Closing),
];

impl HostCall {
    /// Returns the host call of that name.
    pub fn find(name: &str) -> Option<&'static HostCall> {
        HOST_CALLS.iter().find(|call| call.name == name)
    }
}
