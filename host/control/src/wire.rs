//! What goes over the wire, as the client sees it. The server writes what the
//! node gives it; fields that a client does not know are skipped.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::Payload;
use exuvia_node::{Function, Shown, TYPED_TAG};

/// `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The app's name.
    pub app: String,
    /// The node's number.
    pub node: String,
    /// Which release runs.
    pub release: u64,
    /// Processes that live.
    pub processes: u64,
    /// Scheduler threads.
    pub schedulers: u64,
    /// Frames, of all versions.
    pub frames: u64,
    /// Frames whose process is blocked.
    pub frames_blocked: u64,
    /// Frames that wait for a process.
    #[serde(default)]
    pub frames_free: u64,
    /// Most processes.
    #[serde(default)]
    pub most_processes: u64,
    /// Threads that wait with a guest on their stack.
    #[serde(default)]
    pub threads_aside: u64,
    /// Bytes of memory that frames hold.
    #[serde(default)]
    pub frame_bytes: u64,
    /// Bytes that they may hold.
    #[serde(default)]
    pub frame_memory: u64,
    /// Frames made so far.
    #[serde(default)]
    pub frames_made: u64,
    /// Frames that could not be made.
    #[serde(default)]
    pub frame_failures: u64,
    /// Times that a frame's memory was given back.
    #[serde(default)]
    pub frames_released: u64,
    /// Since the node's start.
    pub uptime_ms: u64,
    /// The modules.
    pub modules: Vec<ModuleInfo>,
    /// Images put into frames.
    pub page_ins: u64,
    /// Images taken out of frames.
    pub page_outs: u64,
    /// Mean nanoseconds of a page-in.
    #[serde(default)]
    pub page_in_ns: u64,
    /// Mean nanoseconds of a page-out.
    #[serde(default)]
    pub page_out_ns: u64,
    /// Entries into guests that found the process in a frame.
    #[serde(default)]
    pub frame_hits: u64,
    /// Their share of these and the page-ins.
    #[serde(default)]
    pub hit_rate: f64,
    /// How dirty pages are found.
    pub page_map: String,
    /// Timers that are set.
    #[serde(default)]
    pub timers: u64,
}

/// A module of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its name in the manifest.
    pub name: String,
    /// The version that new processes get.
    pub version: u64,
    /// Of its bytes.
    pub digest: String,
    /// Processes in all its versions.
    pub processes: u64,
    /// The number of its state's schema.
    #[serde(default)]
    pub schema: i64,
    /// The size of its file.
    pub bytes: u64,
    /// Why its processes cannot be paged out; empty if they can.
    #[serde(default)]
    pub resident_only: Vec<String>,
    /// Every version that is still present.
    #[serde(default)]
    pub loaded: Vec<LoadedVersion>,
}

/// A version that is present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedVersion {
    /// Its number.
    pub version: u64,
    /// Processes that run it.
    pub processes: u64,
    /// Of its bytes.
    pub digest: String,
}

/// One line of `GET /v1/processes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// As `<slot.generation>`.
    pub pid: String,
    /// Registered names.
    #[serde(default)]
    pub names: Vec<String>,
    /// As `counter@2`; none for processes of the host.
    #[serde(default)]
    pub module: Option<String>,
    /// What it does.
    pub state: String,
    /// Messages that wait.
    pub mailbox: u64,
    /// So far.
    pub reductions: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes of its image, if it is paged out.
    #[serde(default)]
    pub image: u64,
    /// Crossings to new code.
    #[serde(default)]
    pub crossings: u64,
    /// Why it could not cross.
    #[serde(default)]
    pub stuck: Option<String>,
    /// How new code has failed it, if it went back to its old version for that.
    #[serde(default)]
    pub reverted: Option<String>,
    /// It stays on an old version until it ends.
    #[serde(default)]
    pub left: bool,
}

/// By what a sample of processes is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Reductions a second, then reductions in all.
    #[default]
    Reductions,
    /// Messages that wait.
    Mailbox,
    /// Bytes of linear memory.
    Memory,
}

/// `GET /v1/top`: what has happened since the sample before, whoever took it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Milliseconds since then; 0: there was none, and all rates are 0.
    pub interval_ms: f64,
    /// Processes alive.
    pub processes: u64,
    /// Of them, those that have run.
    pub ran: u64,
    /// Reductions a second, of all of them.
    pub reductions: f64,
    /// The schedulers.
    pub schedulers: Vec<SchedulerLoad>,
    /// The processes that come first.
    pub top: Vec<TopProcess>,
}

/// One scheduler of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulerLoad {
    /// The share of the time that it was not asleep, 0 to 1.
    pub busy: f64,
    /// Slices a second.
    pub slices: f64,
}

/// One process of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopProcess {
    /// What a listing has.
    #[serde(flatten)]
    pub process: Process,
    /// Reductions a second.
    pub rate: f64,
}

/// `POST /v1/send`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// A pid or a registered name.
    pub to: String,
    /// The message's tag; by default that of typed messages.
    #[serde(default = "typed")]
    pub tag: u32,
    /// The payload; by default none.
    #[serde(default)]
    pub payload: Payload,
    /// Answer what the receiver logs as a warning or worse while it handles it, if it
    /// does so within a moment.
    #[serde(default)]
    pub hear: bool,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// What the receiver said.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `POST /v1/call`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// A pid or a registered name.
    pub to: String,
    /// The message's tag; by default that of typed messages.
    #[serde(default = "typed")]
    pub tag: u32,
    /// The payload; by default none.
    #[serde(default)]
    pub payload: Payload,
    /// How long to wait for the reply.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
}

fn typed() -> u32 {
    TYPED_TAG
}

/// What Erlang's `gen_server:call` waits by default.
fn five_seconds() -> u64 {
    5_000
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its tag.
    pub tag: u32,
    /// Bytes of its payload.
    pub bytes: u64,
    /// Its payload, as well as it can be shown.
    #[serde(flatten)]
    pub payload: Shown,
}

/// What to do with processes that cannot cross because they never return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loops {
    /// Refuse the swap.
    #[default]
    Refuse,
    /// Leave them on their version.
    Leave,
    /// Kill them.
    Kill,
}

/// What the user agrees to in a swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeployOptions {
    /// State that cannot cross is lost.
    pub fresh: bool,
    /// What happens to processes that never return.
    pub loops: Loops,
}

/// A swap that was made: `POST /v1/deploy` and `POST /v1/rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swap {
    /// One line for people.
    pub line: String,
    /// The same in parts.
    pub report: Value,
}

/// `POST /v1/stop`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopTimeout {
    /// How long the processes get; by default the node decides.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// When: RFC 3339, UTC, with milliseconds.
    #[serde(default)]
    pub at: String,
    /// One line for people.
    pub line: String,
    /// The same in parts.
    pub event: Value,
}

impl EventLine {
    /// Something that happens now.
    pub fn now(line: impl Into<String>, event: Value) -> Self {
        Self {
            at: crate::text::now(),
            line: line.into(),
            event,
        }
    }

    /// Something that has happened.
    pub fn at(at: std::time::SystemTime, line: impl Into<String>, event: Value) -> Self {
        Self {
            at: crate::text::time(at),
            line: line.into(),
            event,
        }
    }
}

/// `POST /v1/suspend`, `/v1/resume` and `/v1/restart`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// A pid or a registered name.
    pub(crate) target: String,
}

/// What has come of suspending, or resuming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// That is news.
    pub changed: bool,
    /// It is in no handler.
    pub still: bool,
}

/// `POST /v1/kill`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillRequest {
    /// A pid or a registered name.
    pub(crate) target: String,
    /// What the log and those who are linked to it see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What has come of a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Whom it met.
    pub pid: String,
    /// It has ended by now.
    pub ended: bool,
}

/// A process that was started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The process that was stopped.
    pub before: String,
    /// The new one.
    pub pid: String,
}

/// `GET /v1/describe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// As `<slot.generation>`.
    pub pid: String,
    /// As `counter@2`.
    #[serde(default)]
    pub module: Option<String>,
    /// What it understands; nothing if its module does not say.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// What is wrong with what the module says.
    #[serde(default)]
    pub unreadable: Option<String>,
}

/// A process of `GET /v1/tree`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// What its supervisor knows it as; none at a root.
    pub id: Option<String>,
    /// None while it does not run.
    pub pid: Option<String>,
    /// Registered names.
    #[serde(default)]
    pub names: Vec<String>,
    /// As `counter@2`; none of a supervisor.
    pub module: Option<String>,
    /// What its supervisor makes of it.
    pub state: String,
    /// What it does.
    pub process: Option<String>,
    /// When it is started again.
    pub restart: Option<String>,
    /// Of a supervisor: what happens to its other children when one ends.
    pub strategy: Option<String>,
    /// In order of their start.
    #[serde(default)]
    pub children: Vec<Branch>,
    /// Children that are not listed.
    #[serde(default)]
    pub more: usize,
}
