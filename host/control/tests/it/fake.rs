//! A host that replies from memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use exuvia_api::{
    Branch, Client, DeployOptions, Description, EventLine, Function, Holding, Info, Inspection,
    Killed, Parameter, Problem, Process, ProcessPage, Release, ReleaseModule, Rendered, Restarted,
    RollbackOptions, SchedulerLoad, Sent, Sort, SupervisionTree, Suspended, Swap, Table, Top,
    TopProcess, Upload, WaitingMessage, code,
};
use exuvia_control::{Bounds, Claim, Health, Host, Server, serve_with};
use exuvia_node::abi::Kind;
use exuvia_node::{Direction, Pid, Traced};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::broadcast;

/// An event.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) text: String,
}

type SentMessage = (String, u32, Vec<u8>);
type Deployed = (Vec<Upload>, DeployOptions);

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) events: broadcast::Sender<Note>,
    pub(crate) sent: Arc<Mutex<Vec<SentMessage>>>,
    pub(crate) deployed: Arc<Mutex<Vec<Deployed>>>,
    /// Calls to `slow` wait until this lock is free.
    pub(crate) gate: Arc<Mutex<()>>,
    /// How many of them there have been.
    pub(crate) slow: Arc<AtomicUsize>,
    /// Traces of `endless`.
    pub(crate) traces: Arc<Mutex<Vec<SyncSender<Traced>>>>,
    /// Why it is not up.
    pub(crate) not_ready: Arc<Mutex<Option<String>>>,
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
            not_ready: Arc::default(),
        }
    }
}

fn no_process(target: &str) -> Problem {
    Problem::new(code::NO_PROCESS, format!("no `{target}`")).help("see `exuvia ps`")
}

pub(crate) fn process(n: usize, module: Option<String>) -> Process {
    serde_json::from_value(json!({
        "pid": format!("<{n}.0>"), "names": [], "module": module, "state": "resident",
        "mailbox": 0, "reductions": 0, "memory": 65536, "image": 0, "upgrade": "current",
        "upgrade_reason": null, "upgrades": 0,
    }))
    .unwrap()
}

fn release(number: u64, current: bool) -> Release {
    Release {
        release: number,
        current,
        origin: number,
        modules: vec![ReleaseModule {
            name: "counter".to_owned(),
            version: Some(number),
            digest: "abc".to_owned(),
            bytes: None,
        }],
        logged: None,
    }
}

impl Host for Fake {
    type Event = Note;

    fn info(&self) -> Info {
        serde_json::from_value(json!({
            "app": "fake", "node": "1", "release": 2, "processes": 3, "processes_limit": 10,
            "schedulers": 2, "threads_blocked": 0, "frames": 4, "frames_blocked": 0,
            "frames_free": 1, "frame_bytes": 1, "frame_bytes_limit": 2, "frames_made": 4,
            "frame_failures": 0, "frames_released": 0, "uptime_ms": 5, "page_ins": 0,
            "page_outs": 0, "page_in_ns": 0, "page_out_ns": 0, "frame_hits": 0, "hit_rate": 1.0,
            "page_map": "scan", "timers": 0,
            "modules": [{
                "name": "counter", "version": 2, "digest": "abc", "processes": 3, "schema": 1,
                "bytes": 100, "resident_only": [],
                "loaded": [{ "version": 2, "processes": 3, "digest": "abc" }],
            }],
        }))
        .unwrap()
    }

    fn not_ready(&self) -> Option<String> {
        self.not_ready.lock().unwrap().clone()
    }

    fn processes(&self, module: Option<String>, after: Option<u32>, limit: usize) -> ProcessPage {
        let from = after.map_or(0, |after| after as usize + 1);
        let page = (from..3).take(limit);
        let end = from + limit;
        ProcessPage {
            items: page.map(|n| process(n, module.clone())).collect(),
            next: (end < 3).then(|| (end - 1).to_string()),
        }
    }

    fn inspect(&self, target: &str) -> Result<Inspection, Problem> {
        if target == "nobody" {
            return Err(no_process(target));
        }
        Ok(Inspection {
            process: process(0, None),
            parent: Some("<9.0>".to_owned()),
            links: vec![target.to_owned()],
            monitors: Vec::new(),
            watchers: 1,
            trap_exit: false,
            limits: serde_json::from_value(json!({
                "memory": 1, "mailbox_messages": 1, "mailbox_bytes": 1, "message_bytes": 1,
                "children": 1, "descendants": null, "tables": 1, "priority": "normal",
                "files": 1, "wasi": {},
            }))
            .unwrap(),
            groups: Vec::new(),
            tables: vec![Table {
                table: 1,
                name: None,
                rows: 1,
                bytes: 1,
            }],
            holdings: vec![Holding {
                kind: "open files".to_owned(),
                count: 1,
            }],
            priority: "normal".to_owned(),
            messages: vec![WaitingMessage {
                kind: "message".to_owned(),
                from: "<9.0>".to_owned(),
                tag: 0,
                bytes: 1,
            }],
            schema: Some(1),
            no_state: None,
            data: Some(Rendered::Msgpack(json!({"a": 1}))),
        })
    }

    fn top(&self, sort: Sort, limit: usize) -> Top {
        let process = process(0, Some(format!("{sort:?}")));
        let top = vec![TopProcess { process, rate: 7.0 }; limit];
        Top {
            processes: 3,
            schedulers: vec![SchedulerLoad {
                busy: 0.5,
                slices: 1.0,
            }],
            top,
            ..Top::default()
        }
    }

    fn trace(&self, target: &str, limit: u64) -> Result<Receiver<Traced>, Problem> {
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

    fn suspend(&self, target: &str, on: bool) -> Result<Suspended, Problem> {
        match target {
            "nobody" => Err(no_process(target)),
            _ => Ok(Suspended {
                changed: on,
                at_rest: true,
            }),
        }
    }

    fn kill(&self, target: &str, reason: Option<&str>) -> Result<Killed, Problem> {
        match target {
            "nobody" => Err(no_process(target)),
            _ => Ok(Killed {
                pid: format!("{target} for {}", reason.unwrap_or("nothing")),
                exited: true,
            }),
        }
    }

    fn restart(&self, target: &str) -> Result<Restarted, Problem> {
        match target {
            "nobody" => Err(Problem::new(code::NOT_RESTARTED, "no supervisor")),
            _ => Ok(Restarted {
                previous: target.to_owned(),
                pid: "<9.1>".to_owned(),
            }),
        }
    }

    fn describe(&self, target: &str) -> Result<Description, Problem> {
        Ok(Description {
            pid: target.to_owned(),
            module: "counter@1".to_owned(),
            functions: vec![Function {
                name: "add".to_owned(),
                parameters: vec![Parameter {
                    name: "by".to_owned(),
                    ty: "i64".to_owned(),
                }],
                reply: None,
                message: None,
                docs: "Adds.".to_owned(),
            }],
            unreadable: None,
        })
    }

    fn tree(&self, limit: usize) -> SupervisionTree {
        let leaf = json!({ "id": "x", "pid": null, "names": [], "module": null, "state": "down",
            "process": null, "restart": "permanent", "strategy": null, "children": [],
            "more": 0 });
        let leaf: Branch = serde_json::from_value(leaf).unwrap();
        let mut root = leaf.clone();
        root.children = vec![leaf];
        SupervisionTree {
            roots: vec![root; limit.min(2)],
        }
    }

    fn send(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        observe: bool,
    ) -> Result<Sent, Problem> {
        if target == "nobody" {
            return Err(no_process(target));
        }
        let mut sent = self.sent.lock().unwrap();
        sent.push((target.to_owned(), tag, payload));
        Ok(Sent {
            warnings: match observe {
                true => vec!["heard".to_owned()],
                false => Vec::new(),
            },
        })
    }

    fn call(
        &self,
        target: &str,
        tag: u32,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u32, Vec<u8>), Problem> {
        match target {
            "panic" => panic!("asked for"),
            "late" => Err(Problem::new(code::TIMEOUT, format!("{timeout:?}"))),
            "slow" => {
                self.slow.fetch_add(1, Ordering::Relaxed);
                drop(self.gate.lock());
                Ok((tag, payload))
            }
            _ => Ok((tag, payload)),
        }
    }

    fn releases(&self) -> Result<Vec<Release>, Problem> {
        Ok(vec![release(2, true), release(1, false)])
    }

    fn is_native(&self, target: &str) -> bool {
        target == "root"
    }

    fn module_of(&self, release: u64, module: &str) -> Result<Vec<u8>, Problem> {
        match module {
            "counter" => Ok(vec![release as u8, 0, 127]),
            _ => Err(Problem::new(code::NO_MODULE, format!("no `{module}`"))),
        }
    }

    fn pin(&self, release: u64, on: bool) -> Result<bool, Problem> {
        Ok(on && release == 1)
    }

    fn deploy(
        &self,
        modules: Vec<Upload>,
        options: DeployOptions,
        author: String,
    ) -> Result<Swap, Problem> {
        // Who asks is known to the system.
        assert!(
            author.starts_with("uid ") || author.starts_with("token "),
            "{author}"
        );
        if modules.iter().any(|module| module.bytes == b"broken") {
            return Err(Problem::new(code::LOAD, "not a module"));
        }
        let text = format!("swapped {}", modules.len());
        let changed = modules.iter().any(|module| module.bytes != b"same");
        self.deployed.lock().unwrap().push((modules, options));
        Ok(Swap {
            release: 3,
            changed,
            line: format!("note: {text}"),
            report: json!({ "text": text }),
        })
    }

    fn rollback(&self, options: RollbackOptions, author: String) -> Result<Swap, Problem> {
        assert!(
            author.starts_with("uid ") || author.starts_with("token "),
            "{author}"
        );
        if let Some(release) = options.to {
            return Ok(Swap {
                release: 3,
                changed: true,
                line: format!("note: {release} {}", options.message),
                report: json!({}),
            });
        }
        Err(Problem::new(code::NO_EARLIER_RELEASE, "the first one"))
    }

    fn events(&self) -> broadcast::Receiver<Note> {
        self.events.subscribe()
    }

    fn event_line(&self, event: &Note) -> EventLine {
        assert_ne!(event.text, "panic", "asked for");
        EventLine::at(
            SystemTime::UNIX_EPOCH,
            format!("note: {}", event.text),
            json!({ "event": "note", "text": event.text }),
        )
    }

    fn message_line(&self, traced: &Traced, _: Option<&Rendered>) -> String {
        let (peer, tag, bytes) = (traced.peer, traced.tag, traced.bytes);
        format!("sent message to {peer}  tag {tag}  {bytes} B  0")
    }
}

/// A server in a folder of its own.
pub(crate) struct Running {
    pub(crate) fake: Fake,
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) health: Health<Fake>,
    pub(crate) folder: TempDir,
}

pub(crate) fn running() -> Running {
    running_with(Bounds::default())
}

pub(crate) fn running_with(bounds: Bounds) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let fake = Fake::new();
    let health = Health::new();
    let claim = Claim::new(&path).unwrap();
    let server = serve_with(fake.clone(), claim, &health, bounds).unwrap();
    Running {
        fake,
        server,
        client: Client::new(&path).unwrap(),
        health,
        folder,
    }
}
