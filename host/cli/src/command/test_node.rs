//! `exuvia test-node`: a node with a manual clock, for tests of guests. Not meant for direct
//! use: the SDK's `exuvia::test` starts it and sends requests with the numbers of
//! `exuvia_abi::test_node`.
//!
//! One process of the node belongs to the test, and host calls are made on its behalf. A call
//! that waits advances the clock until the event that it waits for, or until its timeout.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_dev::{Show, Stopper};
use exuvia_manifest::Manifest;
use exuvia_node::abi::test_node::{self as ask, FAILED, MOST};
use exuvia_node::abi::{Code, HOST_CALLS, Kind, Pid, Reason, receive, spawn, table};
use exuvia_node::process::{Access, Clock, Envelope, ExitReason, Payload, Signal, TableError};
use exuvia_node::{
    App, BootOptions, DeployOptions, Event, Events, ModuleBytes, Node, NodeConfig, Probe,
    SpawnOptions,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::error::CliError;

/// How long processes may stay busy before the test fails, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the supervision tree may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// Run a node for a test
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run() -> Result<(), CliError> {
    let broken = |error: io::Error| CliError::failed(format!("the test has exited: {error}"));
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut server = None;
    while let Some(question) = read(&mut input).map_err(broken)? {
        let answer = match answer(&mut server, &question) {
            Ok(answer) => answer,
            Err(why) => Answer::new(FAILED).bytes(why.as_bytes()),
        };
        let length = u32::try_from(answer.0.len()).unwrap_or(u32::MAX);
        let written = output
            .write_all(&length.to_le_bytes())
            .and_then(|()| output.write_all(&answer.0))
            .and_then(|()| output.flush());
        written.map_err(broken)?;
    }
    // Stop in order, so that processes that trap exits receive the exit.
    if let Some(Server { app: Some(app), .. }) = server {
        app.stop(STOP);
    }
    Ok(())
}

/// Reads one request; returns `None` at the end of the input.
fn read(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > MOST {
        return Err(io::Error::other(format!("a question of {length} bytes")));
    }
    let mut question = vec![0; length as usize];
    input.read_exact(&mut question)?;
    Ok(Some(question))
}

/// The part of a request that has not been read yet.
struct Question<'a>(&'a [u8]);

impl<'a> Question<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = (self.0.split_at_checked(length)).ok_or("the question is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "impossible".to_owned())
    }

    fn number(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    fn reference(&mut self) -> Result<u64, String> {
        self.number().map(i64::cast_unsigned)
    }

    fn word(&mut self) -> Result<u32, String> {
        // Tags and codes: guests' are 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "it was a u32")]
        self.number().map(|number| number as u32)
    }

    fn pid(&mut self) -> Result<Pid, String> {
        self.array().map(Pid::from_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<String, String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|error| error.to_string())
    }
}

struct Answer(Vec<u8>);

impl Answer {
    fn new(code: i64) -> Answer {
        Answer(code.to_le_bytes().to_vec())
    }

    fn code(code: Code) -> Answer {
        Answer::new(i64::from(code as i32))
    }

    fn number(mut self, number: i64) -> Answer {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn pid(mut self, pid: Pid) -> Answer {
        self.0.extend(pid.to_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Answer {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
        self.0.extend(bytes);
        self
    }

    fn reference(self, reference: u64) -> Answer {
        self.number(reference.cast_signed())
    }
}

/// The node under test.
struct Server {
    node: Node,
    app: Option<App>,
    probe: Probe,
    events: Receiver<Event>,
}

fn answer(server: &mut Option<Server>, question: &[u8]) -> Result<Answer, String> {
    let (number, rest) = question.split_first().ok_or("an empty question")?;
    let mut question = Question(rest);
    if matches!(*number, ask::START | ask::EMPTY) {
        if server.is_some() {
            return Err("the node is already running".into());
        }
        let started = match *number {
            ask::START => Server::of(Path::new(&question.text()?))?,
            _ => Server::empty()?,
        };
        let pid = started.probe.pid();
        *server = Some(started);
        return Ok(Answer::new(0).pid(pid));
    }
    let server = server.as_mut().ok_or("there is no node yet")?;
    match *number {
        ask::LOAD => {
            let (name, path) = (question.text()?, PathBuf::from(question.text()?));
            server.load(name, &path)
        }
        ask::ROLLBACK => match server.node.rollback() {
            Ok(report) => Ok(Answer::new(0).bytes(report.to_string().as_bytes())),
            Err(error) => Err(error.to_string()),
        },
        ask::ADVANCE => {
            let time = u64::try_from(question.number()?).map_err(|error| error.to_string())?;
            server.advance(Duration::from_millis(time))?;
            Ok(Answer::new(0))
        }
        ask::STATE => {
            let pid = question.pid()?;
            server.settle()?;
            let (inspection, state) =
                (server.node.inspect(pid)).map_err(|error| error.to_string())?;
            match (state, inspection.no_state) {
                (Some(state), _) => Ok(Answer::new(0).bytes(&state)),
                (None, why) => Err(why.unwrap_or_else(|| "it has no state".into())),
            }
        }
        ask::VERSION => {
            let pid = question.pid()?;
            server.settle()?;
            let (inspection, _) = (server.node.inspect(pid)).map_err(|error| error.to_string())?;
            let version = inspection.process.module.unwrap_or_default();
            Ok(Answer::new(0).bytes(version.as_bytes()))
        }
        ask::EVENTS => {
            server.settle()?;
            Ok(Answer::new(0).bytes(server.lines().as_bytes()))
        }
        call => {
            let place = usize::from(call.wrapping_sub(ask::CALLS));
            let call = HOST_CALLS.get(place).ok_or("an unknown question")?;
            server.call(call.name, &mut question)
        }
    }
}

fn config(config: NodeConfig) -> NodeConfig {
    NodeConfig {
        clock: Clock::manual,
        ..config
    }
}

impl Server {
    fn of(path: &Path) -> Result<Server, String> {
        let manifest = Manifest::load(path).map_err(|error| error.to_string())?;
        let stopper = Stopper::default();
        for step in manifest.builds() {
            let built = exuvia_dev::build(&step, &manifest.base_dir, Show::AsItComes, &stopper);
            built.map_err(|error| format!("`{}`: {error}", step.command))?;
        }
        let events = Events::default();
        let heard = events.listen();
        let options = BootOptions {
            config: Some(config(NodeConfig::of(&manifest))),
            events,
        };
        let app = App::boot(manifest, options).map_err(|error| error.to_string())?;
        Server::on(app.node().clone(), Some(app), heard)
    }

    fn empty() -> Result<Server, String> {
        let node = Node::start(config(NodeConfig::default())).map_err(|error| error.to_string())?;
        let heard = node.events();
        Server::on(node, None, heard)
    }

    fn on(node: Node, app: Option<App>, events: Receiver<Event>) -> Result<Server, String> {
        let probe =
            Probe::new(&node).ok_or("the node has as many processes as its limit allows")?;
        Ok(Server {
            node,
            app,
            probe,
            events,
        })
    }

    fn load(&self, name: String, path: &Path) -> Result<Answer, String> {
        let failed = |error| format!("{}: {error}", path.display());
        // Reading a pipe would block, and a device never ends.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        let module = ModuleBytes {
            name,
            bytes,
            source: path.display().to_string(),
            noticed: None,
        };
        self.settle()?;
        let report = self.node.deploy(vec![module], DeployOptions::default());
        let report = report.map_err(|error| error.to_string())?;
        Ok(Answer::new(0).bytes(report.to_string().as_bytes()))
    }

    fn settle(&self) -> Result<(), String> {
        let still = self.node.come_to_rest(PATIENCE);
        still.then_some(()).ok_or_else(busy)
    }

    fn advance(&self, by: Duration) -> Result<(), String> {
        let done = self.node.advance(by, PATIENCE);
        done.then_some(()).ok_or_else(busy)
    }

    fn lines(&mut self) -> String {
        let mut lines = String::new();
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    lines.push_str(&event.to_string());
                    lines.push('\n');
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return lines,
            }
        }
    }

    /// Takes a matching message of the test's process, advancing the node's clock by at most
    /// `milliseconds` (negative: an hour) until there is one.
    fn take(&self, mode: i32, key: u64, milliseconds: i64) -> Result<Option<Envelope>, String> {
        const FOREVER: u64 = 3_600_000;
        let clock = &self.node.system().clock;
        let wait = u64::try_from(milliseconds).unwrap_or(FOREVER);
        let until = clock.now().saturating_add(wait.saturating_mul(1_000_000));
        loop {
            self.settle()?;
            if let Some(message) = self.probe.take(mode, key) {
                return Ok(Some(message));
            }
            let now = clock.now();
            if now >= until {
                return Ok(None);
            }
            let next = self.node.next_timer().unwrap_or(until).clamp(now, until);
            self.advance(Duration::from_nanos(next - now))?;
        }
    }

    /// Makes a host call on behalf of the test's process.
    fn call(&mut self, name: &str, question: &mut Question<'_>) -> Result<Answer, String> {
        let ok = |()| Answer::code(Code::Ok);
        // First let everything that the test caused before finish; otherwise two processes that
        // the test has messaged would run in an arbitrary order.
        self.settle()?;
        Ok(match name {
            "receive" => {
                let (mode, key) = (question.word()?.cast_signed(), question.reference()?);
                let wait = question.number()?;
                match self.take(mode, key, wait)? {
                    Some(message) => encode_message(&message),
                    None if wait == 0 => Answer::code(Code::Empty),
                    None => Answer::code(Code::Timeout),
                }
            }
            "send" => {
                let (to, tag) = (question.pid()?, question.word()?);
                let payload = Payload::new(question.bytes()?);
                let sent = self.act(move |own, system| {
                    system.send(to, Envelope::message(own.pid(), tag, payload))
                })?;
                sent_or(sent)
            }
            "request" => {
                let (to, tag) = (question.pid()?, question.word()?);
                let payload = Payload::new(question.bytes()?);
                let (sent, reference) = self.act(move |own, system| {
                    let reference = own.new_reference();
                    (own.request(system, to, reference, tag, payload), reference)
                })?;
                sent_or(sent).reference(reference)
            }
            "reply" => {
                let (to, reference) = (question.pid()?, question.reference()?);
                let (tag, payload) = (question.word()?, Payload::new(question.bytes()?));
                self.act(move |own, system| own.reply(system, to, reference, tag, payload))
                    .map(ok)?
            }
            "spawn" => self.spawn(question)?,
            "exit_process" => {
                let (to, code) = (question.pid()?, question.word()?.cast_signed());
                let reason = ExitReason::with(code, question.bytes()?);
                self.signal(to, |from| Signal::Exit {
                    from,
                    reason,
                    linked: false,
                })?
            }
            "kill" => {
                let to = question.pid()?;
                self.signal(to, |from| Signal::Kill { from })?
            }
            "link" => {
                let to = question.pid()?;
                self.act(move |own, system| own.link(system, to)).map(ok)?
            }
            "unlink" => {
                let to = question.pid()?;
                self.act(move |own, system| own.unlink(system, to))
                    .map(ok)?
            }
            "monitor" => {
                let to = question.pid()?;
                Answer::new(0).reference(self.monitor(to)?)
            }
            "monitor_name" => {
                let found = self.node.system().names.find(&question.text()?);
                let to = found.unwrap_or(Pid::NONE);
                Answer::new(0).pid(to).reference(self.monitor(to)?)
            }
            "demonitor" => {
                let (reference, flush) = (question.reference()?, question.number()? != 0);
                self.act(move |own, system| own.demonitor(system, reference, flush))?;
                if flush {
                    self.settle()?;
                    self.probe.take(receive::REFERENCE, reference);
                }
                Answer::code(Code::Ok)
            }
            "register" => {
                let (name, pid) = (question.text()?, question.pid()?);
                match self.node.system().register(&name, pid) {
                    Ok(()) => Answer::code(Code::Ok),
                    Err(error) => return Err(format!("`{name}`: {error:?}")),
                }
            }
            "unregister" => match self.node.system().names.remove(&question.text()?) {
                Some(_) => Answer::code(Code::Ok),
                None => Answer::code(Code::NoProc),
            },
            "whereis" => match self.node.system().names.find(&question.text()?) {
                Some(pid) => Answer::new(0).pid(pid),
                None => Answer::code(Code::NoProc),
            },
            "send_after" => {
                let (to, tag) = (question.pid()?, question.word()?);
                let payload = Payload::new(question.bytes()?);
                let delay = u64::try_from(question.number()?).map_err(|e| e.to_string())?;
                let owner = self.probe.pid();
                let delay = delay.saturating_mul(1_000_000);
                let reference = self.node.system().set_timer(owner, delay, |reference| {
                    exuvia_node::process::Due::Message {
                        to,
                        envelope: Envelope {
                            kind: Kind::Timer,
                            reference,
                            ..Envelope::message(owner, tag, payload)
                        },
                        charge: None,
                    }
                });
                Answer::new(0).reference(reference)
            }
            "cancel_timer" => {
                let system = self.node.system();
                let at = (system.timers).cancel(self.probe.pid(), question.reference()?);
                let left = at.map(|at| at.saturating_sub(system.clock.now()) / 1_000_000);
                Answer::new(left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX)))
            }
            "sleep" => {
                let time = u64::try_from(question.number()?).map_err(|e| e.to_string())?;
                self.advance(Duration::from_millis(time))?;
                Answer::code(Code::Ok)
            }
            "clock" => {
                let now = self.node.system().clock.now();
                Answer::new(i64::try_from(now).unwrap_or(i64::MAX))
            }
            "info" => Answer::new(i64::try_from(self.probe.waiting()).unwrap_or(i64::MAX)),
            "group_join" | "group_leave" | "group_members" | "publish" => {
                self.group(name, question)?
            }
            _ if name.starts_with("table_") => self.table(name, question)?,
            _ => {
                return Err(format!(
                    "`{name}` cannot be called by a test: call it from a process"
                ));
            }
        })
    }

    fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut exuvia_node::GuestProcess, &exuvia_node::GuestSystem) -> T
        + Send
        + 'static,
    ) -> Result<T, String> {
        self.probe.act(act).map_err(|error| error.to_string())
    }

    fn signal(&self, to: Pid, signal: impl FnOnce(Pid) -> Signal) -> Result<Answer, String> {
        let signal = signal(self.probe.pid());
        // Signals to a process that has terminated are ignored.
        let _ = self.node.system().signal(to, signal);
        self.settle()?;
        Ok(Answer::code(Code::Ok))
    }

    fn monitor(&self, to: Pid) -> Result<u64, String> {
        self.act(move |own, system| {
            let reference = own.new_reference();
            own.monitor(system, to, reference);
            reference
        })
    }

    fn spawn(&self, question: &mut Question<'_>) -> Result<Answer, String> {
        let (module, arguments) = (question.text()?, question.bytes()?);
        let flags = question.word()?;
        let pid = match self
            .node
            .spawn(&module, arguments, &SpawnOptions::default())
        {
            Ok(pid) => pid,
            Err(exuvia_node::SpawnFailed::NoModule(_)) => return Ok(Answer::code(Code::NoModule)),
            Err(error) => return Err(error.to_string()),
        };
        if flags & spawn::LINK != 0 {
            self.act(move |own, system| own.link(system, pid))?;
        }
        let reference = self.monitor(pid)?;
        self.settle()?;
        if flags & spawn::SYNC != 0 && !self.node.system().is_alive(pid) {
            return Ok(Answer::code(Code::StartFailed));
        }
        if flags & spawn::MONITOR == 0 {
            self.act(move |own, system| own.demonitor(system, reference, true))?;
        }
        Ok(Answer::new(0).pid(pid).reference(reference))
    }

    fn group(&self, name: &str, question: &mut Question<'_>) -> Result<Answer, String> {
        let system = self.node.system();
        let group = question.text()?;
        Ok(match name {
            "group_join" => match system.join(&group, question.pid()?) {
                Ok(_) => Answer::code(Code::Ok),
                Err(error) => return Err(format!("`{group}`: {error:?}")),
            },
            "group_leave" => match system.groups.leave(&group, question.pid()?) {
                true => Answer::code(Code::Ok),
                false => Answer::code(Code::NoProc),
            },
            "group_members" => {
                let members = system.groups.members(&group);
                let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
                members
                    .iter()
                    .fold(Answer::new(count), |answer, pid| answer.pid(*pid))
            }
            _ => {
                let (tag, payload) = (question.word()?, Payload::new(question.bytes()?));
                let message = Envelope::message(self.probe.pid(), tag, payload);
                let members = system.groups.members(&group);
                let reached = (members.iter())
                    .filter(|member| system.send(**member, message.clone()).is_ok())
                    .count();
                Answer::new(i64::try_from(reached).unwrap_or(i64::MAX))
            }
        })
    }

    fn table(&self, name: &str, question: &mut Question<'_>) -> Result<Answer, String> {
        let (system, me) = (self.node.system(), self.probe.pid());
        let code = |error: TableError| {
            Answer::code(match error {
                TableError::Unknown | TableError::Dead => Code::NoProc,
                TableError::Denied => Code::Denied,
                TableError::Taken => Code::NameTaken,
                TableError::Invalid => Code::BadArgument,
                TableError::Full => Code::Limit,
            })
        };
        match name {
            "table_new" => {
                let name = question.text()?;
                let access = match question.word()?.cast_signed() {
                    table::PRIVATE => Access::Private,
                    table::PUBLIC => Access::Public,
                    _ => Access::Protected,
                };
                let name = Some(name.as_str()).filter(|name| !name.is_empty());
                let limits = exuvia_node::Limits::default();
                let made = system.new_table(me, &limits, name, access);
                return Ok(made.map_or_else(code, |id| Answer::new(0).reference(id)));
            }
            "table_find" => {
                let found = system.tables.find(&question.text()?);
                let none = Answer::code(Code::NoProc);
                return Ok(found.map_or(none, |id| Answer::new(0).reference(id)));
            }
            _ => {}
        }
        let id = question.reference()?;
        let table = match system.tables.get(id) {
            Ok(table) => table,
            Err(error) => return Ok(code(error)),
        };
        let found = |found: Option<&[u8]>| match found {
            Some(bytes) => Answer::new(0).bytes(bytes),
            None => Answer::code(Code::Empty),
        };
        let was = |before: Option<Payload>| Answer::new(i64::from(before.is_some()));
        Ok(match name {
            "table_put" => {
                let (key, value) = (question.bytes()?, Payload::new(question.bytes()?));
                let replace = question.word()?.cast_signed() & table::NEW == 0;
                (table.put(me, key, &value, replace)).map_or_else(code, was)
            }
            "table_get" => match table.get(me, question.bytes()?) {
                Ok(value) => found(value.as_ref().map(Payload::as_slice)),
                Err(error) => code(error),
            },
            "table_next" => match table.next(me, question.bytes()?) {
                Ok(key) => found(key.as_deref()),
                Err(error) => code(error),
            },
            "table_delete" => (table.remove(me, question.bytes()?)).map_or_else(code, was),
            "table_add" => {
                let (key, amount) = (question.bytes()?, question.number()?);
                let added = table.add(me, key, amount);
                added.map_or_else(code, |(_, sum)| Answer::new(0).number(sum))
            }
            "table_info" => {
                let (rows, bytes) = table.size();
                Answer::new(match question.word()?.cast_signed() {
                    table::ROWS => i64::try_from(rows).unwrap_or(i64::MAX),
                    _ => i64::try_from(bytes).unwrap_or(i64::MAX),
                })
            }
            "table_give" => {
                let (to, tag) = (question.pid()?, question.word()?);
                let given = system.give_table(me, id, to, tag, None);
                given.map_or_else(code, |()| Answer::code(Code::Ok))
            }
            "table_end" => {
                let ended = system.tables.end(me, id);
                ended.map_or_else(code, |()| Answer::code(Code::Ok))
            }
            _ => return Err(format!("`{name}` cannot be called by a test")),
        })
    }
}

fn busy() -> String {
    format!(
        "processes are still busy after {} s of real time: does one loop forever?",
        PATIENCE.as_secs()
    )
}

fn sent_or(sent: Result<(), exuvia_node::process::SendError>) -> Answer {
    use exuvia_node::process::SendError;
    match sent {
        Ok(()) | Err(SendError::Dead) => Answer::code(Code::Ok),
        Err(SendError::Full) => Answer::code(Code::MailboxFull),
        Err(SendError::Unknown) => Answer::code(Code::BadArgument),
    }
}

/// Encodes a message: kind, sender, reference, tag, reason, payload.
fn encode_message(message: &Envelope) -> Answer {
    let reason = Reason(message.reason);
    Answer::new(0)
        .number(message.kind as i64)
        .pid(message.sender)
        .reference(message.reference)
        .number(i64::from(message.tag))
        .number(i64::from(reason.0))
        .bytes(message.payload.as_slice())
}
