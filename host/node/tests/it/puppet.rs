//! A guest that does what a test asks for: each request of the tag [`CMD`]
//! names one host call and its arguments, and the reply has the result.
//! All other messages stay in its mailbox until a test has it receive them.
//! So what one process sees of the host calls can be written down in Rust.
//!
//! Its memory: 16 started, 20 what `run` returns (plus 1), 64 the
//! command's header, 2048 the result, then what calls write (see the
//! constants), 4096 the command: number, 8 arguments, data.

mod done;
mod module;
mod options;

use std::thread::JoinHandle;
use std::time::Duration;

use exuvia_node::abi::{self, Code, HOST_CALLS};
use exuvia_node::{CallFailed, Node, Pid};

use crate::guests::{eventually, spawn};

pub(crate) use done::Done;
use module::{EXTRA, WASI};
pub(crate) use module::{text, with_wasi};
pub(crate) use options::Options;

/// The tag of commands.
pub(crate) const CMD: u32 = 0xC0DE;
/// Where calls write headers.
pub(crate) const HEADER: i64 = 2056;
/// Where calls write pids.
pub(crate) const PID: i64 = 2104;
/// Where calls write references.
pub(crate) const REFERENCE: i64 = 2120;
/// Where calls write payloads.
pub(crate) const BUFFER: i64 = 2128;
/// Room for payloads.
pub(crate) const ROOM: i64 = 1024;
/// Where the data of a command lies.
pub(crate) const DATA: i64 = 4168;

/// A process of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    pub(crate) node: Node,
    pub(crate) pid: Pid,
}

impl Puppet {
    /// A process of the module `puppet`.
    pub(crate) fn new(node: &Node) -> Puppet {
        Puppet::of(node, spawn(node, "puppet", b""))
    }

    pub(crate) fn of(node: &Node, pid: Pid) -> Puppet {
        Puppet {
            node: node.clone(),
            pid,
        }
    }

    pub(crate) fn command(name: &str, arguments: &[i64], data: &[u8]) -> Vec<u8> {
        let calls = HOST_CALLS.iter().map(|call| call.name);
        let number = calls
            .chain(EXTRA.iter().map(|(name, _)| *name))
            .chain(WASI.iter().map(|(name, _)| *name))
            .position(|known| known == name)
            .unwrap_or_else(|| panic!("no command `{name}`"));
        let mut command = u64::try_from(number).unwrap().to_le_bytes().to_vec();
        for at in 0..8 {
            let argument = arguments.get(at).copied().unwrap_or(0);
            command.extend(argument.to_le_bytes());
        }
        command.extend(data);
        command
    }

    pub(crate) fn try_do(
        &self,
        name: &str,
        arguments: &[i64],
        data: &[u8],
    ) -> Result<Done, CallFailed> {
        let command = Puppet::command(name, arguments, data);
        self.node
            .call(self.pid, CMD, command, Duration::from_secs(20))
            .map(|reply| Done::new(&reply.payload))
    }

    #[track_caller]
    pub(crate) fn act(&self, name: &str, arguments: &[i64], data: &[u8]) -> Done {
        self.try_do(name, arguments, data).unwrap()
    }

    /// Begins a command that blocks; it is blocked when this returns.
    pub(crate) fn begin(&self, name: &str, arguments: &[i64], data: &[u8]) -> Begun {
        let (puppet, name) = (self.clone(), name.to_owned());
        let (arguments, data) = (arguments.to_vec(), data.to_vec());
        let thread = std::thread::spawn(move || puppet.try_do(&name, &arguments, &data));
        eventually("the puppet blocks", || {
            matches!(self.state().as_str(), "receive" | "call" | "sleep")
        });
        Begun(thread)
    }

    /// Sends it a command without waiting for the reply.
    pub(crate) fn tell(&self, name: &str, arguments: &[i64], data: &[u8]) {
        let command = Puppet::command(name, arguments, data);
        self.node.send(self.pid, CMD, command).unwrap();
    }

    /// What `ps` says of it.
    pub(crate) fn state(&self) -> String {
        let pid = self.pid.to_string();
        let all = self.node.processes(&exuvia_node::Filter::default());
        all.into_iter()
            .find(|process| process.pid == pid)
            .map_or_else(|| "gone".into(), |process| process.state)
    }

    /// Whether it lives in that version.
    pub(crate) fn version_is(&self, version: &str) -> bool {
        let pid = self.pid.to_string();
        let all = self.node.processes(&exuvia_node::Filter::default());
        all.into_iter()
            .any(|process| process.pid == pid && process.module.as_deref() == Some(version))
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn kill(&self) {
        self.node.kill(self.pid);
        self.wait_for_end();
    }

    pub(crate) fn wait_for_end(&self) {
        eventually("the process ends", || !self.is_alive());
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.node.system().is_alive(self.pid)
    }

    // ---- host calls -----------------------------------------------------------

    pub(crate) fn receive(&self, timeout: i64, mode: i32, key: u64) -> Done {
        let arguments = [
            HEADER,
            BUFFER,
            ROOM,
            timeout,
            mode.into(),
            key.cast_signed(),
        ];
        self.act("receive", &arguments, b"")
    }

    /// The first message, if there is one.
    pub(crate) fn next(&self) -> Done {
        self.receive(0, abi::receive::ANY, 0)
    }

    /// The first message; waits for it.
    pub(crate) fn wait(&self) -> Done {
        self.receive(10_000, abi::receive::ANY, 0)
    }

    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        self.next().is(Code::Empty);
    }

    pub(crate) fn send(&self, to: Pid, tag: u32, payload: &[u8]) -> Done {
        let (arguments, data) = to_payload(to, tag, payload);
        self.act("send", &arguments, &data)
    }

    pub(crate) fn request(&self, to: Pid, tag: u32, payload: &[u8]) -> Done {
        let (mut arguments, data) = to_payload(to, tag, payload);
        arguments.push(REFERENCE);
        self.act("request", &arguments, &data)
    }

    /// The arguments of `call`.
    pub(crate) fn calls(
        to: Pid,
        tag: u32,
        payload: &[u8],
        room: i64,
        timeout: i64,
    ) -> (Vec<i64>, Vec<u8>) {
        let (mut arguments, data) = to_payload(to, tag, payload);
        arguments.extend([HEADER, BUFFER, room, timeout]);
        (arguments, data)
    }

    pub(crate) fn call(&self, to: Pid, tag: u32, payload: &[u8], room: i64, timeout: i64) -> Done {
        let (arguments, data) = Puppet::calls(to, tag, payload, room, timeout);
        self.act("call", &arguments, &data)
    }

    pub(crate) fn reply(&self, to: Pid, reference: u64, tag: u32, payload: &[u8]) -> Done {
        let mut data = to.to_bytes().to_vec();
        data.extend(payload);
        let arguments = [
            DATA,
            reference.cast_signed(),
            tag.into(),
            DATA + 16,
            length(payload),
        ];
        self.act("reply", &arguments, &data)
    }

    /// `link`, `unlink`, `monitor`, `kill`.
    pub(crate) fn on(&self, name: &str, pid: Pid) -> Done {
        self.act(name, &[DATA, REFERENCE], &pid.to_bytes())
    }

    pub(crate) fn trap_exit(&self, on: bool) -> i64 {
        self.act("trap_exit", &[on.into()], b"").result
    }

    pub(crate) fn exit_process(&self, pid: Pid, code: i32, payload: &[u8]) -> Done {
        let mut data = pid.to_bytes().to_vec();
        data.extend(payload);
        let arguments = [DATA, code.into(), DATA + 16, length(payload)];
        self.act("exit_process", &arguments, &data)
    }

    /// `register`, `unregister`, `whereis`.
    pub(crate) fn name(&self, call: &str, name: &[u8], pid: Pid) -> Done {
        let mut data = pid.to_bytes().to_vec();
        data.extend(name);
        let pid = if call == "whereis" { PID } else { DATA };
        self.act(call, &[DATA + 16, length(name), pid], &data)
    }

    /// `group_join`, `group_leave`.
    pub(crate) fn group(&self, call: &str, name: &str, pid: Pid) -> Done {
        self.name(call, name.as_bytes(), pid)
    }

    /// How many members there are, and those that are written to a buffer for 60.
    pub(crate) fn members(&self, name: &str) -> (i64, Vec<Pid>) {
        let arguments = [DATA, length(name.as_bytes()), BUFFER, 60];
        let done = self.act("group_members", &arguments, name.as_bytes());
        let pids = done.buffer().chunks_exact(16);
        let count = usize::try_from(done.result).unwrap_or(0).min(60);
        let pids = pids.take(count);
        let pids = pids.map(|pid| Pid::from_bytes(pid.try_into().unwrap()));
        (done.result, pids.collect())
    }

    pub(crate) fn publish(&self, name: &str, tag: u32, payload: &[u8]) -> Done {
        let data = [name.as_bytes(), payload].concat();
        let name = length(name.as_bytes());
        let arguments = [DATA, name, tag.into(), DATA + name, length(payload)];
        self.act("publish", &arguments, &data)
    }

    /// A table of that name, or without one.
    pub(crate) fn table(&self, name: &str, access: i32) -> Done {
        let arguments = [DATA, length(name.as_bytes()), access.into(), REFERENCE];
        self.act("table_new", &arguments, name.as_bytes())
    }

    pub(crate) fn put(&self, table: u64, key: &[u8], value: &[u8], flags: i32) -> Done {
        let data = [key, value].concat();
        let key = length(key);
        let table = table.cast_signed();
        let arguments = [table, DATA, key, DATA + key, length(value), flags.into()];
        self.act("table_put", &arguments, &data)
    }

    /// `table_get`, `table_next`: what is found, or nothing.
    #[track_caller]
    pub(crate) fn row(&self, call: &str, table: u64, key: &[u8]) -> Option<Vec<u8>> {
        let arguments = [table.cast_signed(), DATA, length(key), BUFFER, ROOM];
        let done = self.act(call, &arguments, key);
        if done.result == i64::from(Code::Empty as i32) {
            return None;
        }
        let found = usize::try_from(done.result).unwrap_or_else(|_| panic!("{done:?}"));
        Some(done.buffer()[..found].to_vec())
    }

    /// `table_delete`, and whatever else wants a table and a key.
    pub(crate) fn key(&self, call: &str, table: u64, key: &[u8]) -> Done {
        self.act(call, &[table.cast_signed(), DATA, length(key)], key)
    }

    pub(crate) fn add(&self, table: u64, key: &[u8], amount: i64) -> Done {
        let arguments = [table.cast_signed(), DATA, length(key), amount, REFERENCE];
        self.act("table_add", &arguments, key)
    }

    /// `table_heir`, `table_give`.
    pub(crate) fn table_to(&self, call: &str, table: u64, pid: Pid, tag: u32) -> Done {
        let arguments = [table.cast_signed(), DATA, tag.into()];
        self.act(call, &arguments, &pid.to_bytes())
    }

    pub(crate) fn spawn(&self, module: &str, arguments: &[u8], options: Options) -> Done {
        let (list, data) = options.of(module, arguments);
        self.act("spawn", &list, &data)
    }

    pub(crate) fn send_after(&self, to: Pid, tag: u32, payload: &[u8], delay: i64) -> Done {
        let (mut arguments, data) = to_payload(to, tag, payload);
        arguments.extend([delay, REFERENCE]);
        self.act("send_after", &arguments, &data)
    }
}

/// A command that blocks.
pub(crate) struct Begun(JoinHandle<Result<Done, CallFailed>>);

impl Begun {
    #[track_caller]
    pub(crate) fn end(self) -> Done {
        self.try_end().unwrap()
    }

    pub(crate) fn try_end(self) -> Result<Done, CallFailed> {
        self.0.join().unwrap()
    }
}

fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap()
}

fn to_payload(to: Pid, tag: u32, payload: &[u8]) -> (Vec<i64>, Vec<u8>) {
    let mut data = to.to_bytes().to_vec();
    data.extend(payload);
    (vec![DATA, tag.into(), DATA + 16, length(payload)], data)
}
