//! A guest that does what a test asks for: each request of the tag [`CMD`]
//! names one host call and its arguments, and the reply has the result.
//! All other messages stay in its mailbox until a test has it receive them.
//! So what one process sees of the host calls can be written down in Rust.
//!
//! Its memory: 16 started, 20 what `run` returns (plus 1), 64 the
//! command's header, 2048 the result, then what calls write (see the
//! constants), 4096 the command: number, 8 arguments, data.

use std::fmt::Write as _;
use std::thread::JoinHandle;
use std::time::Duration;

use exuvia_node::abi::{self, Code, HOST_CALLS, Kind, WasmType};
use exuvia_node::{CallFailed, Node, Pid};

use crate::guests::{eventually, imports, spawn};

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

/// Commands that are no host calls, and what they do.
const EXTRA: [(&str, &str); 6] = [
    ("trap", "(call $trap_here) (return (i64.const 0))"),
    (
        "leave",
        "(i32.store (i32.const 20) (i32.add (i32.wrap_i64 (i64.load (i32.const 4104))) (i32.const 1))) (return (i64.const 0))",
    ),
    (
        "grow",
        "(return (i64.extend_i32_s (memory.grow (i32.wrap_i64 (i64.load (i32.const 4104))))))",
    ),
    ("recurse", "(return (call $recurse (i64.const 1)))"),
    ("spin", "(loop $for_ever (br $for_ever))"),
    ("version", "(return (call $version))"),
];

/// Functions of WASI as commands: of `path_open` the second argument, flags for the
/// path, is left out.
const WASI: [(&str, &[&str]); 17] = [
    (
        "path_open",
        &["32", "=1", "32", "32", "32", "64", "64", "32", "32"],
    ),
    ("path_create_directory", &["32", "32", "32"]),
    ("path_symlink", &["32", "32", "32", "32", "32"]),
    ("fd_read", &["32", "32", "32", "32"]),
    ("fd_write", &["32", "32", "32", "32"]),
    ("fd_seek", &["32", "64", "32", "32"]),
    ("fd_close", &["32"]),
    ("fd_renumber", &["32", "32"]),
    ("random_get", &["32", "32"]),
    ("fd_prestat_get", &["32", "32"]),
    ("fd_prestat_dir_name", &["32", "32", "32"]),
    ("environ_sizes_get", &["32", "32"]),
    ("environ_get", &["32", "32"]),
    ("args_sizes_get", &["32", "32"]),
    ("args_get", &["32", "32"]),
    ("clock_time_get", &["32", "64", "32"]),
    ("poll_oneoff", &["32", "32", "32", "32"]),
];

/// The same guest with functions of WASI.
pub(crate) fn with_wasi(version: u32) -> String {
    let mut declared = String::new();
    let mut commands = String::new();
    let first = HOST_CALLS.len() + EXTRA.len();
    for (at, (name, params)) in WASI.iter().enumerate() {
        let types: Vec<&str> = params
            .iter()
            .map(|ty| if *ty == "64" { "i64" } else { "i32" })
            .collect();
        writeln!(
            declared,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {}) (result i32)))"#,
            types.join(" ")
        )
        .unwrap();
        let mut arguments = String::new();
        let mut given = 0;
        for ty in *params {
            let value = format!("(i64.load (i32.const {}))", 4104 + 8 * given);
            match *ty {
                "32" => write!(arguments, " (i32.wrap_i64 {value})").unwrap(),
                "64" => write!(arguments, " {value}").unwrap(),
                constant => write!(arguments, " (i32.const {})", &constant[1..]).unwrap(),
            }
            given += usize::from(!ty.starts_with('='));
        }
        let number = first + at;
        write!(
            commands,
            "(if (i32.eq (i32.load (i32.const 4096)) (i32.const {number})) (then (return (i64.extend_i32_u (call ${name}{arguments})))))\n    "
        )
        .unwrap();
    }
    let (head, rest) = text(version)
        .split_once("(memory (export")
        .map(|(head, rest)| (head.to_owned(), rest.to_owned()))
        .expect("it has a memory");
    let rest = rest.replace(
        "(func $do (result i64)",
        &format!("(func $do (result i64)\n    {commands}"),
    );
    format!("{head}{declared}(memory (export{rest}")
}

/// The text of the guest. `version` is what the command of that name answers;
/// processes are carried from one version to another.
pub(crate) fn text(version: u32) -> String {
    let mut commands = String::new();
    let mut add = |number: usize, what: &str| {
        write!(
            commands,
            "(if (i32.eq (i32.load (i32.const 4096)) (i32.const {number})) (then {what}))\n    "
        )
        .unwrap();
    };
    for (number, call) in HOST_CALLS.iter().enumerate() {
        let mut made = format!("(call ${}", call.name);
        for (at, ty) in call.params.iter().enumerate() {
            let value = format!("(i64.load (i32.const {}))", 4104 + 8 * at);
            match ty {
                WasmType::I32 => write!(made, " (i32.wrap_i64 {value})").unwrap(),
                WasmType::I64 => write!(made, " {value}").unwrap(),
            }
        }
        made.push(')');
        let made = match call.result {
            Some(WasmType::I32) => format!("(return (i64.extend_i32_s {made}))"),
            Some(WasmType::I64) => format!("(return {made})"),
            None => format!("{made} unreachable"),
        };
        add(number, &made);
    }
    for (at, (_, what)) in EXTRA.iter().enumerate() {
        add(HOST_CALLS.len() + at, what);
    }
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (@custom "exuvia.layout" "puppet")
  (func $trap_here (unreachable))
  (func $version (result i64) (i64.const {version}))
  (func $recurse (param i64) (result i64)
    (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "run") (result i32)
    (local $answer i32)
    (if (i32.eqz (i32.load (i32.const 16))) (then
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 4096) (i32.const 60000) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (i32.store (i32.const 16) (i32.const 1))))
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 4096) (i32.const 61440) (i64.const 0) (i32.const 1) (i64.const {CMD}))
        (then (return (i32.const 0))))
      (memory.fill (i32.const {HEADER}) (i32.const 0) (i32.const 1096))
      (i32.store (i32.const {HEADER}) (i32.const 48))
      (i64.store (i32.const 2048) (call $do))
      (if (i32.load (i32.const 20)) (then
        (local.set $answer (i32.sub (i32.load (i32.const 20)) (i32.const 1)))
        (i32.store (i32.const 20) (i32.const 0))
        (return (local.get $answer))))
      (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 2048) (i32.const 1104)))
      (br $next))
    unreachable)
  (func $do (result i64)
    {commands}
    (unreachable)))"#,
        imports = imports()
    )
}

/// What a command came to.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) result: i64,
    pub(crate) size: u32,
    pub(crate) kind: u32,
    pub(crate) sender: Pid,
    /// Of the header.
    pub(crate) message: u64,
    pub(crate) tag: u32,
    pub(crate) length: u32,
    pub(crate) reason: i32,
    /// Written to [`PID`].
    pub(crate) pid: Pid,
    /// Written to [`REFERENCE`].
    pub(crate) reference: u64,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.buffer.len().min(self.length as usize).min(80);
        f.debug_struct("Done")
            .field("result", &self.result)
            .field("kind", &self.kind)
            .field("sender", &self.sender)
            .field("message", &self.message)
            .field("tag", &self.tag)
            .field("length", &self.length)
            .field("reason", &self.reason)
            .field("pid", &self.pid)
            .field("reference", &self.reference)
            .field("buffer", &String::from_utf8_lossy(&self.buffer[..shown]))
            .finish()
    }
}

impl Done {
    fn new(reply: &[u8]) -> Done {
        let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(reply[at..at + 8].try_into().unwrap());
        let pid = |at: usize| Pid::from_bytes(reply[at..at + 16].try_into().unwrap());
        Done {
            result: long(0).cast_signed(),
            size: word(8),
            kind: word(12),
            sender: pid(16),
            message: long(32),
            tag: word(40),
            length: word(44),
            reason: word(48).cast_signed(),
            pid: pid(56),
            reference: long(72),
            buffer: reply[80..].to_vec(),
        }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer[..self.length as usize]
    }

    /// What the whole buffer holds, whatever the header says.
    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn is(self, code: Code) -> Done {
        assert_eq!(self.result, i64::from(code as i32), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn message(self, kind: Kind, payload: &[u8]) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        assert_eq!(self.kind, kind as u32, "{self:?}");
        assert_eq!(self.payload(), payload, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn notifications(self, kind: Kind, of: Pid, reason: i32) -> Done {
        assert_eq!(self.result, 0, "{self:?}");
        let told = (self.kind, self.sender, self.reason);
        assert_eq!(told, (kind as u32, of, reason), "{self:?}");
        self
    }
}

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

    /// Tells it something without waiting for an answer.
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

/// The options of `spawn`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) flags: u32,
    pub(crate) memory: u64,
    pub(crate) mailbox_bytes: u64,
    pub(crate) mailbox_messages: u32,
    pub(crate) message_bytes: u32,
    pub(crate) children: u32,
    pub(crate) timeout_ms: u32,
}

impl Options {
    pub(crate) fn flags(flags: u32) -> Options {
        Options {
            flags,
            ..Options::default()
        }
    }

    /// The arguments of `spawn`, and the command's data.
    pub(crate) fn of(self, module: &str, arguments: &[u8]) -> (Vec<i64>, Vec<u8>) {
        let mut data = abi::spawn::OPTIONS_SIZE.to_le_bytes().to_vec();
        data.extend(self.flags.to_le_bytes());
        data.extend(self.memory.to_le_bytes());
        data.extend(self.mailbox_bytes.to_le_bytes());
        data.extend(self.mailbox_messages.to_le_bytes());
        data.extend(self.message_bytes.to_le_bytes());
        data.extend(self.children.to_le_bytes());
        data.extend(self.timeout_ms.to_le_bytes());
        data.extend(module.as_bytes());
        data.extend(arguments);
        let module_length = length(module.as_bytes());
        let list = [
            DATA + 40,
            module_length,
            DATA + 40 + module_length,
            length(arguments),
            DATA,
            PID,
            REFERENCE,
        ];
        (list.to_vec(), data)
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
