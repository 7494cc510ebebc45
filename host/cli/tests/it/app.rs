//! Apps in folders of their own, nodes that run them, and commands for those.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes: it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const COUNTER: &str = include_str!("../../../../guest-sdk/wat/counter.wat");

/// A folder with an app of three counters.
pub(crate) struct App {
    folder: TempDir,
}

/// A node that runs an app.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl App {
    pub(crate) fn new() -> Self {
        Self::with(&counter("(i32.load (i32.const 96))"), "5s")
    }

    /// With this module, and this `shutdown`.
    pub(crate) fn with(module: &[u8], shutdown: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            r#"
[app]
name = "counting"
[node]
schedulers = 2
[modules.counter]
path = "counter.wasm"
[[supervisor.children]]
id = "counter"
module = "counter"
count = 3
name = "counter-{{n}}"
shutdown = "{shutdown}"
"#
        );
        fs::write(folder.path().join("exuvia.toml"), manifest).unwrap();
        let app = Self { folder };
        app.write("counter.wasm", module);
        app
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join(".exuvia/node.sock")
    }

    /// Puts a file into the folder, whole at once, as a compiler does that
    /// renames.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let new = self.folder().join(format!("{name}.new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.folder().join(name)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = exuvia(self.folder());
        command.args(arguments);
        command
    }

    /// Runs a command in the app's folder.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    /// The same, with a payload on stdin.
    pub(crate) fn ask_with(&self, arguments: &[&str], stdin: &[u8]) -> Answer {
        let path = self.folder().join("stdin");
        fs::write(&path, stdin).unwrap();
        let file = fs::File::open(path).unwrap();
        answer(self.command(arguments).stdin(file))
    }

    /// The same, which succeeds; answers what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let answer = self.ask(arguments);
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
        answer.stdout
    }

    /// The same with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Starts a node, and comes back at once.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        self.begin_as("run", arguments)
    }

    fn begin_as(&self, command: &str, arguments: &[&str]) -> Running {
        let mut node = self.command(&[command, ".", "--json"]);
        Running::of(node.args(arguments).env("EXUVIA_LOG", "exuvia=info"))
    }

    /// Starts a node, and comes back when it is up.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_as("run", arguments)
    }

    /// The same by `run` or `dev`.
    pub(crate) fn start_as(&self, command: &str, arguments: &[&str]) -> Running {
        let node = self.begin_as(command, arguments);
        let event = node.event("started");
        assert_eq!(event["event"]["app"], "counting", "{event}");
        node
    }
}

impl Running {
    /// Starts a command that runs a node with `--json`.
    pub(crate) fn of(command: &mut Command) -> Running {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Running {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for an event of this kind; what comes before it is skipped.
    pub(crate) fn event(&self, kind: &str) -> Value {
        loop {
            let line = self.stdout.recv_timeout(DEADLINE).unwrap_or_else(|_| {
                let said: Vec<String> = self.stderr.try_iter().collect();
                panic!("no event `{kind}`; the node said {said:?}")
            });
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"]["event"] == kind {
                return event;
            }
        }
    }

    /// Waits for a line of the node's log.
    pub(crate) fn said(&self, part: &str) {
        while !self.stderr.recv_timeout(DEADLINE).unwrap().contains(part) {}
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.child.id()))
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Limits the length of the files that it writes, in bytes.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_child(&self.child);
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    }

    /// Waits for the end; answers the exit code, none after a signal.
    pub(crate) fn end(&mut self) -> Option<i32> {
        // Its output ends with it, so this does not wait for ever.
        loop {
            match self.stdout.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(timeout) => panic!("the node does not end: {timeout}"),
            }
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that ended has nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary in a folder, with nothing of the user's surroundings.
pub(crate) fn exuvia(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
    command
        .current_dir(folder)
        .env_remove("EXUVIA_SOCKET")
        .env_remove("EXUVIA_LOG")
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .stdin(Stdio::null());
    command
}

pub(crate) fn answer(command: &mut Command) -> Answer {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Answer {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// The counter; replies have this as their tag, which is how versions are told
/// apart.
pub(crate) fn counter(tag: &str) -> Vec<u8> {
    wat::parse_str(tagged(tag)).unwrap()
}

fn tagged(tag: &str) -> String {
    let before = "(i32.load (i32.const 96))";
    assert_eq!(COUNTER.matches(before).count(), 1);
    COUNTER.replace(before, tag)
}

/// The same, but it waits in its `receive` and never returns to cross.
pub(crate) fn looping_counter(tag: &str) -> Vec<u8> {
    let at_once = "(i64.const 0)\n          (i32.const 0)";
    let text = tagged(tag);
    assert_eq!(text.matches(at_once).count(), 1);
    let waits = "(i64.const -1)\n          (i32.const 0)";
    wat::parse_str(text.replace(at_once, waits)).unwrap()
}

/// The counter, but it loads no state of the one before.
pub(crate) fn forgetful_counter() -> Vec<u8> {
    let takes = "(local.get $from_schema) (i32.const 1))";
    assert_eq!(COUNTER.matches(takes).count(), 1);
    // Other data, or its memory would be carried over.
    let text = COUNTER
        .replace(takes, "(local.get $from_schema) (i32.const 2))")
        .replace("can load only", "may load only");
    wat::parse_str(text).unwrap()
}

/// The counter, but a message of one byte keeps it busy for ever.
pub(crate) fn spinning_counter(tag: &str) -> Vec<u8> {
    let message = "        ;; MESSAGE: a payload of another length is not ours.";
    let text = tagged(tag);
    assert_eq!(text.matches(message).count(), 1);
    let spins = "(if (i32.eq (i32.load (i32.const 100)) (i32.const 1)) (then (loop $on (br $on))))";
    wat::parse_str(text.replace(message, spins)).unwrap()
}

/// The counter, but it takes no notice of the end that it is asked for.
pub(crate) fn stubborn_counter() -> Vec<u8> {
    let import =
        "(module\n  (import \"exuvia\" \"trap_exit\" (func $trap_exit (param i32) (result i32)))";
    let begins = "          ;; INIT:";
    assert_eq!(COUNTER.matches(begins).count(), 1);
    let text = COUNTER.replacen("(module", import, 1).replacen(
        begins,
        "          (drop (call $trap_exit (i32.const 1)))\n          ;; INIT:",
        1,
    );
    wat::parse_str(text).unwrap()
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
