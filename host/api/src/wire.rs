//! The types sent over the wire, as the client sees them. The server serializes what the node
//! gives it; the client skips fields that it does not know.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::{Payload, Rendered, TYPED_TAG};

/// The response of `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The app's name.
    pub app: String,
    /// The node's ID.
    pub node: String,
    /// The current release.
    pub release: u64,
    /// Live processes.
    pub processes: u64,
    /// Scheduler threads.
    pub schedulers: u64,
    /// Frames of all versions.
    pub frames: u64,
    /// Frames whose process is blocked.
    pub frames_blocked: u64,
    /// Frames without a process.
    #[serde(default)]
    pub frames_free: u64,
    /// The maximum number of processes.
    #[serde(default)]
    pub most_processes: u64,
    /// Threads that are blocked with a guest on their stack.
    #[serde(default)]
    pub threads_blocked: u64,
    /// Bytes of memory that frames hold.
    #[serde(default)]
    pub frame_bytes: u64,
    /// The maximum number of bytes they may hold.
    #[serde(default)]
    pub frame_memory: u64,
    /// Frames made so far.
    #[serde(default)]
    pub frames_made: u64,
    /// Frames that could not be allocated.
    #[serde(default)]
    pub frame_failures: u64,
    /// Times that a frame's memory was released.
    #[serde(default)]
    pub frames_released: u64,
    /// Milliseconds since the node's start.
    pub uptime_ms: u64,
    /// The modules.
    pub modules: Vec<ModuleInfo>,
    /// Images loaded into frames.
    pub page_ins: u64,
    /// Images paged out.
    pub page_outs: u64,
    /// The mean time of a page-in, in nanoseconds.
    #[serde(default)]
    pub page_in_ns: u64,
    /// The mean time of a page-out, in nanoseconds.
    #[serde(default)]
    pub page_out_ns: u64,
    /// Entries into guests that found the process in a frame.
    #[serde(default)]
    pub frame_hits: u64,
    /// The share of hits in hits and page-ins.
    #[serde(default)]
    pub hit_rate: f64,
    /// How dirty pages are detected.
    pub page_map: String,
    /// Pending timers.
    #[serde(default)]
    pub timers: u64,
}

/// A module of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its name in the manifest.
    pub name: String,
    /// The version that new processes run.
    pub version: u64,
    /// The digest of its bytes.
    pub digest: String,
    /// Processes in all its versions.
    pub processes: u64,
    /// The version number of its state's schema.
    #[serde(default)]
    pub schema: i64,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// Why its processes cannot be paged out; empty if they can.
    #[serde(default)]
    pub resident_only: Vec<String>,
    /// Every version that is still loaded.
    #[serde(default)]
    pub loaded: Vec<LoadedVersion>,
}

/// A version that is still loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedVersion {
    /// Its number.
    pub version: u64,
    /// Processes that run it.
    pub processes: u64,
    /// The digest of its bytes.
    pub digest: String,
}

/// One process of `GET /v1/processes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The pid, as `<slot.generation>`.
    pub pid: String,
    /// Registered names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The module and version, as `counter@2`; none for processes of the host.
    #[serde(default)]
    pub module: Option<String>,
    /// The state it is in.
    pub state: String,
    /// Messages that wait in the mailbox.
    pub mailbox: u64,
    /// Reductions since its start.
    pub reductions: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes of its image, if it is paged out.
    #[serde(default)]
    pub image: u64,
    /// The state of its upgrade to the current release: `current`, `pending`, `failed`,
    /// `exempt` or `reverted`; none for processes of the host.
    #[serde(default)]
    pub upgrade: Option<String>,
    /// Why its upgrade failed, or why it was reverted.
    #[serde(default)]
    pub upgrade_reason: Option<String>,
    /// Upgrades so far.
    #[serde(default)]
    pub upgrades: u64,
}

/// The sort order of a sample of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Reductions per second, then total reductions.
    #[default]
    Reductions,
    /// Messages that wait.
    Mailbox,
    /// Bytes of linear memory.
    Memory,
}

/// `GET /v1/top`: activity since the previous sample, whichever client took it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Milliseconds since the previous sample; 0 if there was none, and then all rates are 0.
    pub interval_ms: f64,
    /// Live processes.
    pub processes: u64,
    /// The number of them that have run since the previous sample.
    pub ran: u64,
    /// Reductions per second of all of them.
    pub reductions: f64,
    /// The schedulers.
    pub schedulers: Vec<SchedulerLoad>,
    /// The first processes in sort order.
    pub top: Vec<TopProcess>,
}

/// One scheduler of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulerLoad {
    /// The share of the time that it was not asleep, from 0 to 1.
    pub busy: f64,
    /// Slices per second.
    pub slices: f64,
}

/// One process of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopProcess {
    /// The fields of a listing.
    #[serde(flatten)]
    pub process: Process,
    /// Reductions per second.
    pub rate: f64,
}

/// `POST /v1/send`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// A pid or a registered name.
    pub to: String,
    /// The message's tag; by default the tag of typed messages.
    #[serde(default = "typed")]
    pub tag: u32,
    /// The payload; empty by default.
    #[serde(default)]
    pub payload: Payload,
    /// Whether to return what the receiver logs as a warning or worse while it handles the
    /// message, if it does so within a moment.
    #[serde(default)]
    pub hear: bool,
}

/// The response to [`SendRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// What the receiver logged.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `POST /v1/call`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// A pid or a registered name.
    pub to: String,
    /// The message's tag; by default the tag of typed messages.
    #[serde(default = "typed")]
    pub tag: u32,
    /// The payload; empty by default.
    #[serde(default)]
    pub payload: Payload,
    /// How long to wait for the reply, in milliseconds.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
}

fn typed() -> u32 {
    TYPED_TAG
}

/// The default timeout of Erlang's `gen_server:call`.
fn five_seconds() -> u64 {
    5_000
}

/// The response to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The tag of the reply.
    pub tag: u32,
    /// The size of the payload in bytes.
    pub bytes: u64,
    /// The payload, in the most readable form.
    #[serde(flatten)]
    pub payload: Rendered,
}

/// How a swap treats processes that cannot be upgraded because they never return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loops {
    /// Refuse the swap.
    #[default]
    Refuse,
    /// Exempt them: they stay on their version.
    Leave,
    /// Kill them.
    Kill,
}

/// The options of a swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeployOptions {
    /// Whether state that cannot be taken over is discarded.
    pub fresh: bool,
    /// How processes that never return are treated.
    pub loops: Loops,
}

/// A completed swap: the response of `POST /v1/deploy` and `POST /v1/rollback`.
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
    /// How long the processes may take to stop, in milliseconds; by default the node decides.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// The time: RFC 3339, UTC, with milliseconds.
    #[serde(default)]
    pub at: String,
    /// One line for people.
    pub line: String,
    /// The same in parts.
    pub event: Value,
}

impl EventLine {
    /// Creates a line with the current time.
    pub fn now(line: impl Into<String>, event: Value) -> Self {
        Self {
            at: crate::time::now(),
            line: line.into(),
            event,
        }
    }

    /// Creates a line with the time `at`.
    pub fn at(at: std::time::SystemTime, line: impl Into<String>, event: Value) -> Self {
        Self {
            at: crate::time::format(at),
            line: line.into(),
            event,
        }
    }
}

/// `POST /v1/suspend`, `/v1/resume` and `/v1/restart`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A pid or a registered name.
    pub target: String,
}

/// The result of suspending or resuming a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Whether this request changed anything.
    pub changed: bool,
    /// Whether the process is in no handler.
    pub still: bool,
}

/// `POST /v1/kill`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// A pid or a registered name.
    pub target: String,
    /// The exit reason, seen in the log and by linked processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The result of a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The pid of the killed process.
    pub pid: String,
    /// Whether it has already terminated.
    pub ended: bool,
}

/// A process that was restarted.
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
    /// The pid, as `<slot.generation>`.
    pub pid: String,
    /// The module and version, as `counter@2`.
    #[serde(default)]
    pub module: Option<String>,
    /// The functions it accepts; empty if its module does not describe any.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// Why the module's description cannot be read.
    #[serde(default)]
    pub unreadable: Option<String>,
}

/// A function of a protocol, as a module describes it in its section `exuvia.protocol`
/// (`guest-sdk/abi.md`, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// The type of its reply; none: it is a message, which has no reply.
    #[serde(default)]
    pub reply: Option<String>,
    /// Its name in the message; by default that of the function.
    #[serde(default)]
    pub message: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub docs: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, as the module's language writes it.
    #[serde(rename = "type", default)]
    pub ty: String,
}

/// A process of `GET /v1/tree`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Its ID at its supervisor; none for a root.
    pub id: Option<String>,
    /// The pid; none while it does not run.
    pub pid: Option<String>,
    /// Registered names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The module and version, as `counter@2`; none for a supervisor.
    pub module: Option<String>,
    /// Its state as its supervisor sees it.
    pub state: String,
    /// The state the process is in.
    pub process: Option<String>,
    /// When it is restarted.
    pub restart: Option<String>,
    /// For a supervisor: what happens to its other children when one terminates.
    pub strategy: Option<String>,
    /// The children, in start order.
    #[serde(default)]
    pub children: Vec<Branch>,
    /// The number of children that are not listed.
    #[serde(default)]
    pub more: usize,
}

/// The new bytes of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The module's name in the manifest.
    pub name: String,
    /// The origin of the bytes, for messages.
    pub source: String,
    /// The Wasm module.
    pub bytes: Vec<u8>,
}
