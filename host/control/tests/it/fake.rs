//! A host that replies from memory.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use exuvia_api::{
    Branch, Client, DeployOptions, Description, Failure, Info, Process, Sort, Top, TopProcess,
    Upload, code,
};
use exuvia_control::{Bounds, Claim, Host, Server, serve_with};
use exuvia_node::abi::Kind;
use exuvia_node::{Direction, Pid, Suspended, Traced};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::broadcast;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "note: {}", self.text)
    }
}

type Sent = (String, u32, Vec<u8>);
type Deployed = (Vec<Upload>, DeployOptions);

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) events: broadcast::Sender<Note>,
    pub(crate) sent: Arc<Mutex<Vec<Sent>>>,
    pub(crate) deployed: Arc<Mutex<Vec<Deployed>>>,
    /// Calls to `slow` wait until this lock is free.
    pub(crate) gate: Arc<Mutex<()>>,
    /// How many of them there have been.
    pub(crate) slow: Arc<AtomicUsize>,
    /// Traces of `endless`.
    pub(crate) traces: Arc<Mutex<Vec<SyncSender<Traced>>>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(4),
            sent: Arc::default(),
            deployed: Arc::default(),
            gate: Arc::default(),
            slow: Arc::default(),
            traces: Arc::default(),
        }
    }
}

impl Host for Fake {
    type Info = Info;
    type Process = Process;
    type Swap = Note;
    type Inspection = Process;
    type Top = Top;
    type Description = Description;
    type Branch = Branch;
    type Event = Note;

    fn info(&self) -> Info {
        serde_json::from_value(json!({
            "app": "fake", "node": "1", "release": 1, "processes": 2, "schedulers": 2,
            "frames": 4, "frames_blocked": 0, "uptime_ms": 5, "modules": [],
            "page_ins": 0, "page_outs": 0, "page_map": "scan",
        }))
        .unwrap()
    }

    fn processes(&self, module: Option<String>, limit: usize) -> Vec<Process> {
        (0..limit.min(3))
            .map(|n| {
                serde_json::from_value(json!({
                    "pid": format!("<{n}.0>"), "module": module, "state": "resident",
                    "mailbox": 0, "reductions": 0, "memory": 65536,
                }))
                .unwrap()
            })
            .collect()
    }

    fn inspect(&self, target: &str) -> Result<(Process, Option<Vec<u8>>), Failure> {
        match target {
            "nobody" => Err(Failure::new(code::NO_PROCESS, "no `nobody`")),
            _ => Ok((
                self.processes(None, 1).remove(0),
                Some(b"\x81\xa1a\x01".to_vec()),
            )),
        }
    }

    fn top(&self, sort: Sort, limit: usize) -> Top {
        let process = self.processes(Some(format!("{sort:?}")), 1).remove(0);
        let top = vec![TopProcess { process, rate: 7.0 }; limit];
        Top {
            processes: 3,
            top,
            ..Top::default()
        }
    }

    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Failure> {
        let (sender, receiver) = sync_channel(64);
        for number in 0..limit.min(3) {
            let traced = Traced {
                at: number * 1_000_000,
                direction: Direction::Sent,
                peer: Pid::new(1, 7, 0),
                kind: Kind::Message,
                tag: 0,
                reference: 0,
                bytes: 1,
                payload: vec![u8::try_from(number).unwrap()],
                missed: 0,
            };
            sender.send(traced).unwrap();
        }
        // One that sees nothing more goes on until nobody reads it.
        if target == "endless" {
            self.traces.lock().unwrap().push(sender);
        }
        Ok(receiver)
    }

    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Failure> {
        match target {
            "nobody" => Err(Failure::new(code::NO_PROCESS, "no `nobody`")),
            _ => Ok(Suspended {
                changed: on,
                still: true,
            }),
        }
    }

    fn kill(&self, target: &str, reason: Option<&str>) -> Result<(String, bool), Failure> {
        match target {
            "nobody" => Err(Failure::new(code::NO_PROCESS, "no `nobody`")),
            _ => Ok((
                format!("{target} for {}", reason.unwrap_or("nothing")),
                true,
            )),
        }
    }

    fn restart(&self, target: &str) -> Result<(String, String), Failure> {
        match target {
            "nobody" => Err(Failure::new(code::NOT_RESTARTED, "no supervisor")),
            _ => Ok((target.to_owned(), "<9.1>".to_owned())),
        }
    }

    fn describe(&self, target: &str) -> Result<Description, Failure> {
        Ok(Description {
            pid: target.to_owned(),
            module: Some("counter@1".to_owned()),
            functions: Vec::new(),
            unreadable: None,
        })
    }

    fn tree(&self, limit: usize) -> Vec<Branch> {
        let leaf = json!({ "id": "x", "pid": null, "module": null, "state": "down",
            "process": null, "restart": "permanent", "strategy": null });
        let leaf: Branch = serde_json::from_value(leaf).unwrap();
        vec![leaf; limit.min(2)]
    }

    fn send(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        hear: bool,
    ) -> Result<Vec<String>, Failure> {
        if to == "nobody" {
            return Err(Failure::new(code::NO_PROCESS, "no `nobody`").help("see `exuvia ps`"));
        }
        self.sent
            .lock()
            .unwrap()
            .push((to.to_owned(), tag, payload));
        Ok(match hear {
            true => vec!["heard".to_owned()],
            false => Vec::new(),
        })
    }

    fn call(
        &self,
        to: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Failure> {
        match to {
            "panic" => panic!("asked for"),
            "late" => Err(Failure::new(code::TIMEOUT, format!("{timeout:?}"))),
            "slow" => {
                self.slow.fetch_add(1, Ordering::Relaxed);
                drop(self.gate.lock());
                Ok((tag, payload))
            }
            _ => Ok((tag, payload)),
        }
    }

    fn deploy(&self, modules: Vec<Upload>, options: DeployOptions) -> Result<Note, Failure> {
        if modules.iter().any(|module| module.bytes == b"broken") {
            return Err(Failure::new(code::LOAD, "not a module"));
        }
        let text = format!("swapped {}", modules.len());
        self.deployed.lock().unwrap().push((modules, options));
        Ok(Note { text })
    }

    fn rollback(&self) -> Result<Note, Failure> {
        Err(Failure::new(code::NO_EARLIER_RELEASE, "the first one"))
    }

    fn events(&self) -> broadcast::Receiver<Note> {
        self.events.subscribe()
    }

    fn event_time(_: &Note) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// A server in a folder of its own.
pub(crate) struct Running {
    pub(crate) fake: Fake,
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

pub(crate) fn running() -> Running {
    running_with(Bounds::default())
}

pub(crate) fn running_with(bounds: Bounds) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let fake = Fake::new();
    let server = serve_with(fake.clone(), Claim::new(&path).unwrap(), bounds).unwrap();
    Running {
        fake,
        server,
        client: Client::new(&path).unwrap(),
        folder,
    }
}
