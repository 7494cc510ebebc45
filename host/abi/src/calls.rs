//! The host calls: names, types, and how they behave in probation and in restricted runs.
//!
//! There is one table, [`with_host_calls`](crate::with_host_calls). From it come [`HOST_CALLS`],
//! the functions that the engine links, the table of `guest-sdk/abi.md` and `guest-sdk/abi.json`
//! (`cargo xtask abi`). To add a call, add a row, a method of `exuvia_process::call::Caller` and a
//! decoder in the engine; see "Adding a host call" in `host/ARCHITECTURE.md`.

/// The module name that guests import host calls from.
pub const MODULE: &str = "exuvia";
/// The module name of imports that the host need not have: those that it lacks return
/// [`Code::NotSupported`](crate::Code::NotSupported).
pub const OPTIONAL_MODULE: &str = "exuvia.optional";

/// The Wasm value types that host calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmType {
    /// For numbers, pointers and lengths.
    I32,
    /// For references, times and keys.
    I64,
}

impl WasmType {
    /// Returns the type's name in Wasm text.
    pub const fn name(self) -> &'static str {
        match self {
            WasmType::I32 => "i32",
            WasmType::I64 => "i64",
        }
    }
}

/// How a host call behaves while a message is handled as a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probation {
    /// Has no effect outside the process, or one that is never undone (a log line).
    Free,
    /// Takes effect when the handler has ended; discarded if the handler traps.
    Deferred,
    /// Takes effect at once, and is undone if the handler traps.
    RolledBack,
    /// Commits the transaction first: the deferred effects take effect, and the transaction
    /// ends.
    Commits,
}

impl Probation {
    /// Returns its name in `guest-sdk/abi.md`.
    pub const fn name(self) -> &'static str {
        match self {
            Probation::Free => "free",
            Probation::Deferred => "deferred",
            Probation::RolledBack => "rolled back",
            Probation::Commits => "commits",
        }
    }
}

/// One host call.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// The import's name.
    pub name: &'static str,
    /// The family of calls that it belongs to.
    pub family: &'static str,
    /// Parameter types.
    pub params: &'static [WasmType],
    /// Parameter names, with `_` for a space. A name that ends in `out` is a pointer to a result.
    pub param_names: &'static [&'static str],
    /// Result type, if any.
    pub result: Option<WasmType>,
    /// Its behaviour in probation.
    pub probation: Probation,
    /// Whether it may wait, and keep the process's frame meanwhile.
    pub blocks: bool,
    /// Whether it is served in restricted runs: `save`, `load`, initialization and
    /// verification.
    pub restricted: bool,
    /// Whether its result differs between processes. A module whose initialization makes such a
    /// call is initialized for each process, and `warm_up` may not make it.
    pub impure: bool,
    /// What it does, in one sentence.
    pub docs: &'static str,
}

/// Calls the macro `$use` with the table of host calls, of version 1 and in the order of their
/// numbers. A module that imports another name from [`MODULE`], or a call with another type, is
/// rejected with the name of the import.
///
/// A row is: name, family and function of the decoder, parameters, result, behaviour in probation,
/// flags (`blocks`; `restricted`, then `impure`), and what the call does.
#[macro_export]
macro_rules! with_host_calls {
    ($use:ident) => {
        $use! {
            "receive" messages::receive(header: i32, buffer: i32, capacity: i32, timeout: i64, mode: i32, key: i64) -> i32,
                Free, [blocks], "Takes a message out of the mailbox.";
            "send" messages::send(to: i32, tag: i32, data: i32, length: i32) -> i32,
                Deferred, [], "Sends a message.";
            "request" messages::request(to: i32, tag: i32, data: i32, length: i32, reference_out: i32) -> i32,
                Deferred, [], "Sends a request and monitors its receiver.";
            "call" messages::call(to: i32, tag: i32, data: i32, length: i32, header: i32, buffer: i32, capacity: i32, timeout: i64) -> i32,
                Commits, [blocks], "Sends a request and waits for its reply.";
            "reply" messages::reply(to: i32, reference: i64, tag: i32, data: i32, length: i32) -> i32,
                Deferred, [], "Replies to a request.";
            "spawn" spawn::spawn(module: i32, module_length: i32, arguments: i32, arguments_length: i32, options: i32, pid_out: i32, reference_out: i32) -> i32,
                Deferred, [blocks], "Starts a process.";
            "init_ack" spawn::init_ack(status: i32, data: i32, length: i32) -> i32,
                Deferred, [], "Acknowledges the start of the caller.";
            "exit" relations::exit(code: i32, data: i32, length: i32) -> (),
                Commits, [], "Ends the caller; does not return.";
            "exit_process" relations::exit_process(pid: i32, code: i32, data: i32, length: i32) -> i32,
                Deferred, [], "Sends an exit signal.";
            "kill" relations::kill(pid: i32) -> i32,
                Deferred, [], "Ends a process unconditionally.";
            "link" relations::link(pid: i32) -> i32,
                Deferred, [], "Links the caller to a process.";
            "unlink" relations::unlink(pid: i32) -> i32,
                Deferred, [], "Removes a link.";
            "monitor" relations::monitor(pid: i32, reference_out: i32) -> i32,
                Deferred, [], "Monitors a process.";
            "demonitor" relations::demonitor(reference: i64, flags: i32) -> i32,
                Deferred, [], "Removes a monitor or gives up a request.";
            "trap_exit" relations::trap_exit(on: i32) -> i32,
                RolledBack, [], "Sets whether exit signals become messages; returns the former value.";
            "register" names::register(name: i32, length: i32, pid: i32) -> i32,
                RolledBack, [], "Gives a name to a process.";
            "unregister" names::unregister(name: i32, length: i32) -> i32,
                RolledBack, [], "Releases a name.";
            "whereis" names::whereis(name: i32, length: i32, pid_out: i32) -> i32,
                Free, [], "Finds the process that has a name.";
            "self" info::self_pid(pid_out: i32) -> i32,
                Free, [], "Writes the pid of the caller.";
            "send_after" timers::send_after(to: i32, tag: i32, data: i32, length: i32, delay: i64, reference_out: i32) -> i32,
                Deferred, [], "Sets a timer that sends a message.";
            "cancel_timer" timers::cancel_timer(reference: i64) -> i64,
                Deferred, [], "Cancels a timer; returns the milliseconds that were left, or -1.";
            "sleep" timers::sleep(time: i64) -> i32,
                Commits, [blocks], "Waits.";
            "log" info::log(level: i32, text: i32, length: i32) -> i32,
                Free, [restricted], "Writes a line to the node's log.";
            "random" info::random(buffer: i32, length: i32) -> i32,
                Free, [restricted impure], "Fills a buffer with random bytes.";
            "clock" info::clock(which: i32) -> i64,
                Free, [restricted impure], "Reads a clock, in nanoseconds.";
            "info" info::info(what: i32) -> i64,
                Free, [], "Returns a number about the caller.";
            "state_put" state::state_put(data: i32, length: i32) -> i32,
                Free, [restricted], "Saves the state; only inside `save`.";
            "state_get" state::state_get(buffer: i32, capacity: i32) -> i32,
                Free, [restricted], "Fetches the saved state; only inside `load`.";
            "supervisor_start" spawn::supervisor_start(specification: i32, length: i32, pid_out: i32) -> i32,
                Commits, [blocks], "Starts a host supervisor.";
            "monitor_name" relations::monitor_name(name: i32, length: i32, pid_out: i32, reference_out: i32) -> i32,
                Deferred, [], "Monitors the process that has a name.";
            "set_priority" relations::set_priority(priority: i32) -> i32,
                RolledBack, [], "Sets how soon the caller gets its turns; returns the former priority.";
            "config" info::config(key: i32, length: i32, buffer: i32, capacity: i32) -> i32,
                Free, [], "Fetches a value of the app's configuration; returns its length.";
            "group_join" groups::group_join(group: i32, length: i32, pid: i32) -> i32,
                RolledBack, [], "Adds a process to a group.";
            "group_leave" groups::group_leave(group: i32, length: i32, pid: i32) -> i32,
                RolledBack, [], "Removes a process from a group.";
            "group_members" groups::group_members(group: i32, length: i32, pids_out: i32, how_many_fit: i32) -> i32,
                Free, [], "Writes the members of a group; returns their number.";
            "publish" groups::publish(group: i32, group_length: i32, tag: i32, data: i32, length: i32) -> i32,
                Deferred, [blocks], "Sends a message to all members of a group; returns how many accepted it.";
            "table_new" tables::table_new(name: i32, length: i32, access: i32, table_out: i32) -> i32,
                RolledBack, [], "Creates a table.";
            "table_find" tables::table_find(name: i32, length: i32, table_out: i32) -> i32,
                Free, [], "Finds the table that has a name.";
            "table_put" tables::table_put(table: i64, key: i32, key_length: i32, value: i32, value_length: i32, flags: i32) -> i32,
                RolledBack, [], "Stores a row; returns whether there was one.";
            "table_get" tables::table_get(table: i64, key: i32, key_length: i32, buffer: i32, capacity: i32) -> i32,
                Free, [], "Fetches the value of a row; returns its length.";
            "table_delete" tables::table_delete(table: i64, key: i32, key_length: i32) -> i32,
                RolledBack, [], "Removes a row; returns whether there was one.";
            "table_next" tables::table_next(table: i64, key: i32, key_length: i32, buffer: i32, capacity: i32) -> i32,
                Free, [], "Fetches the next key; returns its length.";
            "table_add" tables::table_add(table: i64, key: i32, key_length: i32, amount: i64, sum_out: i32) -> i32,
                RolledBack, [], "Adds to a number.";
            "table_info" tables::table_info(table: i64, what: i32) -> i64,
                Free, [], "Returns a number about a table.";
            "table_heir" tables::table_heir(table: i64, pid: i32, tag: i32) -> i32,
                RolledBack, [], "Names the process that gets a table when its owner ends.";
            "table_give" tables::table_give(table: i64, pid: i32, tag: i32) -> i32,
                Commits, [], "Gives a table to another process.";
            "table_end" tables::table_end(table: i64) -> i32,
                Commits, [], "Ends a table.";
            "discard" info::discard(data: i32, length: i32) -> i32,
                Free, [restricted], "Makes memory zero, and gives it back to the system where it can.";
        }
    };
}

macro_rules! wasm_type {
    (i32) => {
        WasmType::I32
    };
    (i64) => {
        WasmType::I64
    };
}

macro_rules! wasm_result {
    (()) => {
        None
    };
    ($type:ident) => {
        Some(wasm_type!($type))
    };
}

macro_rules! table {
    ($(
        $name:literal $family:ident::$function:ident($($param:ident: $type:ident),*) -> $result:tt,
        $probation:ident, [$($flag:ident)*], $docs:literal;
    )*) => {
        /// All host calls of version 1, in the order of their numbers.
        pub const HOST_CALLS: &[HostCall] = &[$(HostCall {
            name: $name,
            family: stringify!($family),
            params: &[$(wasm_type!($type)),*],
            param_names: &[$(stringify!($param)),*],
            result: wasm_result!($result),
            probation: Probation::$probation,
            blocks: contains(&[$(stringify!($flag)),*], "blocks"),
            restricted: contains(&[$(stringify!($flag)),*], "restricted"),
            impure: contains(&[$(stringify!($flag)),*], "impure"),
            docs: $docs,
        }),*];
    };
}

with_host_calls!(table);

const fn contains(flags: &[&str], wanted: &str) -> bool {
    let mut at = 0;
    while at < flags.len() {
        if equal(flags[at], wanted) {
            return true;
        }
        at += 1;
    }
    false
}

/// `==` of two strings, for constants.
const fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl HostCall {
    /// Returns the host call of that name.
    pub fn find(name: &str) -> Option<&'static HostCall> {
        HOST_CALLS.iter().find(|call| call.name == name)
    }

    /// Returns the host call of that name, in a constant.
    ///
    /// # Panics
    ///
    /// If there is none; in a constant, that is a compile error.
    pub const fn named(name: &str) -> &'static HostCall {
        let mut at = 0;
        while at < HOST_CALLS.len() {
            if equal(HOST_CALLS[at].name, name) {
                return &HOST_CALLS[at];
            }
            at += 1;
        }
        panic!("there is no host call of that name")
    }
}
