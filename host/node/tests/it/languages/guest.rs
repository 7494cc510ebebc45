//! A node with the conformance guest of one language, and what a test asks of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exuvia_node::process::{Grants, Selector};
use exuvia_node::{
    CallFailed, DeployOptions, Filter, Limits, ModuleBytes, Node, Pid, Probe, ProcessInfo, Reply,
    SpawnOptions, SwapError, SwapReport,
};
use rmpv::Value;

use crate::guests::{eventually, node_with};

/// What `guest-sdk/io.md` calls REFUSED.
pub(super) const REFUSED: u32 = exuvia_node::abi::io::REFUSED;
/// How long an answer may take: a large runtime starts in it, on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The memory of each process: the largest runtime starts with 20 MiB.
const MEMORY: u64 = 128 << 20;

/// A node with version 1 of the guest.
pub(super) struct Guest {
    pub(super) node: Node,
    folder: PathBuf,
}

/// The folder as `/`, to read.
fn grants(folder: &Path) -> Arc<Grants> {
    Arc::new(Grants {
        folders: vec![crate::wasi::folder("/", folder, false)],
        ..Grants::default()
    })
}

/// The value of a pid in MessagePack.
pub(super) fn pid_value(pid: Pid) -> Value {
    Value::Binary(pid.to_bytes().to_vec())
}

/// A message of that name with parameters.
pub(super) fn message(name: &str, parameters: &[(&str, Value)]) -> Vec<u8> {
    let value = match parameters {
        [] => Value::from(name),
        parameters => {
            let parameters = parameters.iter();
            let map = parameters.map(|(name, value)| (Value::from(*name), value.clone()));
            Value::Map(vec![(name.into(), Value::Map(map.collect()))])
        }
    };
    encoded(&value)
}

pub(super) fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

#[track_caller]
pub(super) fn decoded(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes follow {value}", rest.len());
    value
}

pub(super) fn ok(value: impl Into<Value>) -> Value {
    Value::Map(vec![("Ok".into(), value.into())])
}

pub(super) fn err(why: &str) -> Value {
    Value::Map(vec![("Err".into(), why.into())])
}

impl Guest {
    /// Boots a node with the modules in a folder; all its processes may be granted that folder.
    pub(super) fn new(folder: &Path) -> Guest {
        let grants = grants(folder);
        let node = node_with(|config| {
            config.cache = Some(folder.join("compiled"));
            config.frames = 32;
            config.limits = Limits {
                memory: MEMORY,
                grants,
                ..Limits::default()
            };
        });
        let guest = Guest {
            node,
            folder: folder.to_owned(),
        };
        guest.deploy("one").unwrap();
        guest
    }

    /// What a process may have of the folder.
    pub(super) fn granted(&self) -> Arc<Grants> {
        grants(&self.folder)
    }

    /// Deploys a version of the guest.
    pub(super) fn deploy(&self, version: &str) -> Result<SwapReport, SwapError> {
        self.deploy_from(&self.folder, version)
    }

    /// Deploys a version of the guest from another folder.
    pub(super) fn deploy_from(&self, folder: &Path, file: &str) -> Result<SwapReport, SwapError> {
        let path = folder.join(format!("{file}.wasm"));
        let module = ModuleBytes {
            name: "guest".into(),
            bytes: std::fs::read(&path).unwrap(),
            source: path.display().to_string(),
            noticed: None,
        };
        self.node.deploy(vec![module], DeployOptions::default())
    }

    /// A file in the folder that processes are granted as `/`.
    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Starts a process without arguments.
    #[track_caller]
    pub(super) fn start(&self) -> Pid {
        self.start_with(&encoded(&Value::Nil), self.limits())
    }

    /// The limits of the other processes.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory: MEMORY,
            ..Limits::default()
        }
    }

    #[track_caller]
    pub(super) fn start_with(&self, arguments: &[u8], limits: Limits) -> Pid {
        let options = SpawnOptions {
            limits: Some(limits),
            ..SpawnOptions::default()
        };
        self.node.spawn("guest", arguments, &options).unwrap()
    }

    pub(super) fn tell(&self, pid: Pid, name: &str, parameters: &[(&str, Value)]) {
        self.node.send(pid, 0, message(name, parameters)).unwrap();
    }

    pub(super) fn try_ask(&self, pid: Pid, payload: Vec<u8>) -> Result<Reply, CallFailed> {
        self.node.call(pid, 0, payload, PATIENCE)
    }

    /// The reply to a request.
    #[track_caller]
    pub(super) fn ask(&self, pid: Pid, name: &str, parameters: &[(&str, Value)]) -> Value {
        let reply = match self.try_ask(pid, message(name, parameters)) {
            Ok(reply) => reply,
            Err(error) => panic!("{name}: {error}"),
        };
        let text = String::from_utf8_lossy(&reply.payload);
        assert_ne!(reply.tag, REFUSED, "{name} was refused: {text}");
        decoded(&reply.payload)
    }

    /// Why a request is refused.
    #[track_caller]
    pub(super) fn refused(&self, pid: Pid, payload: Vec<u8>) -> String {
        let reply = self.try_ask(pid, payload).unwrap();
        let text = String::from_utf8_lossy(&reply.payload).into_owned();
        assert_eq!(reply.tag, REFUSED, "it is not refused: {text}");
        assert!(!text.is_empty(), "a refusal says why");
        text
    }

    #[track_caller]
    pub(super) fn count(&self, pid: Pid) -> i64 {
        let count = self.ask(pid, "Get", &[]);
        count
            .as_i64()
            .unwrap_or_else(|| panic!("the count is {count}"))
    }

    pub(super) fn add(&self, pid: Pid, by: i64) {
        self.tell(pid, "Add", &[("by", by.into())]);
    }

    /// The notes, which are then empty.
    #[track_caller]
    pub(super) fn notes(&self, pid: Pid) -> Vec<String> {
        let notes = self.ask(pid, "Notes", &[]);
        let texts = notes.as_array().expect("notes are a list").iter();
        texts
            .map(|note| note.as_str().expect("a note is a text").to_owned())
            .collect()
    }

    /// Waits until there are so many notes, and returns them.
    #[track_caller]
    pub(super) fn notes_when(&self, pid: Pid, many: usize) -> Vec<String> {
        let mut all = Vec::new();
        eventually("the notes are there", || {
            all.append(&mut self.notes(pid));
            all.len() >= many
        });
        all
    }

    pub(super) fn info(&self, pid: Pid) -> ProcessInfo {
        let pid = pid.to_string();
        let all = self.node.processes(&Filter::default());
        all.into_iter()
            .find(|process| process.pid == pid)
            .expect("it lives")
    }

    pub(super) fn is_alive(&self, pid: Pid) -> bool {
        self.node.system().is_alive(pid)
    }

    /// How a process ends: its reason's code and text. `end` brings that about.
    #[track_caller]
    pub(super) fn end(&self, pid: Pid, end: impl FnOnce()) -> (i32, String) {
        let probe = Probe::new(&self.node).unwrap();
        let watched = probe.act(move |process, system| {
            let reference = process.new_reference();
            process.monitor(system, pid, reference);
        });
        watched.unwrap();
        end();
        let mut down = None;
        eventually("it ends", || {
            down = probe.take(Selector::Any);
            down.is_some()
        });
        let down = down.expect("it is there");
        let text = String::from_utf8_lossy(down.payload.as_slice()).into_owned();
        (down.reason, text)
    }

    /// The bytes of its image, when it is at rest.
    pub(super) fn image(&self, pid: Pid) -> usize {
        let mut bytes = 0;
        eventually("it is at rest", || match self.node.capture(pid) {
            Ok(snapshot) => {
                bytes = snapshot.guest.state.map_or(0, |state| state.len());
                true
            }
            Err(_) => false,
        });
        bytes
    }
}
