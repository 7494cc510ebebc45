//! Processes: listings, inspections, what an operator does with them, and the supervision tree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::Rendered;

/// A process in a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// The pid, as `<slot.generation>`.
    pub pid: String,
    /// Registered names.
    pub names: Vec<String>,
    /// The module and version, as `counter@2`; none for processes of the host.
    pub module: Option<String>,
    /// The state it is in.
    pub state: String,
    /// Messages in the mailbox.
    pub mailbox: u64,
    /// Reductions since its start.
    pub reductions: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes of its image, if it is paged out; else 0.
    pub image: u64,
    /// The state of its upgrade to the current release: `current`, `pending`, `failed`,
    /// `exempt` or `reverted`; none for processes of the host.
    pub upgrade: Option<String>,
    /// Why its upgrade failed, or why it was reverted.
    pub upgrade_reason: Option<String>,
    /// Upgrades so far.
    pub upgrades: u64,
}

/// A page of a listing of processes, in order of their slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessPage {
    /// The processes.
    pub items: Vec<Process>,
    /// If there may be more: the value of `after` in the request for the next page.
    pub next: Option<String>,
}

/// All that is known of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// The fields of a listing.
    #[serde(flatten)]
    pub process: Process,
    /// The process that started it.
    pub parent: Option<String>,
    /// The processes that it is linked to.
    pub links: Vec<String>,
    /// The processes for whose exit or reply it waits.
    pub monitors: Vec<String>,
    /// The number of processes that wait for its exit or reply.
    pub watchers: u64,
    /// Whether exits of linked processes reach it as messages.
    pub trap_exit: bool,
    /// Its limits.
    pub limits: Limits,
    /// The groups that it has joined.
    pub groups: Vec<String>,
    /// The tables that it owns.
    pub tables: Vec<Table>,
    /// What it holds of the system, by kind.
    pub holdings: Vec<Holding>,
    /// Its scheduling priority: `low`, `normal` or `high`.
    pub priority: String,
    /// The first messages in its mailbox, at most 20.
    pub messages: Vec<WaitingMessage>,
    /// The version of its state's schema.
    pub schema: Option<i64>,
    /// Why its state cannot be shown, if so.
    pub no_state: Option<String>,
    /// Its state, as the module's `save` returns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Rendered>,
}

/// What a process may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Messages in the mailbox.
    pub mailbox_messages: u64,
    /// Bytes of the messages in the mailbox.
    pub mailbox_bytes: u64,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Live processes that it has started.
    pub children: u64,
    /// Live processes below it; none: as many as the node may have.
    pub descendants: Option<u64>,
    /// Bytes in its tables.
    pub tables: u64,
    /// The highest priority that it may have.
    pub priority: String,
    /// Files that it may have open.
    pub files: u64,
    /// What it may use through WASI, as the table `wasi` of the manifest.
    #[schemars(with = "Map<String, Value>")]
    pub wasi: Value,
    /// Where it may connect to, as `net.connect` of the manifest.
    #[serde(default)]
    pub connect: Vec<String>,
}

/// A message in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingMessage {
    /// `message`, `request`, `exit` and so on.
    pub kind: String,
    /// The sender.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// The size of its payload in bytes.
    pub bytes: u64,
}

/// A table of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// Its number.
    pub table: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The number of rows.
    pub rows: u64,
    /// The bytes that its rows are charged.
    pub bytes: u64,
}

/// What a process holds of the system, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holding {
    /// The kind: `open files`.
    pub kind: String,
    /// How many of it.
    pub count: u64,
}

/// The result of suspending or resuming a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspended {
    /// Whether this request changed anything.
    pub changed: bool,
    /// Whether the process is at rest, in no handler; else it finishes its handler first.
    pub at_rest: bool,
}

/// The result of a kill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Killed {
    /// The pid of the killed process.
    pub pid: String,
    /// Whether it has exited already.
    pub exited: bool,
}

/// A process that was restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restarted {
    /// The pid of the process that was stopped.
    pub previous: String,
    /// The pid of the new one.
    pub pid: String,
}

/// The functions that a process accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The pid, as `<slot.generation>`.
    pub pid: String,
    /// The module and version, as `counter@2`.
    pub module: String,
    /// The functions; empty if its module does not describe any.
    pub functions: Vec<Function>,
    /// Why the module's description cannot be read.
    pub unreadable: Option<String>,
}

/// A function of a protocol, as a module describes it in its section `exuvia.protocol`
/// (`guest-sdk/abi.md`, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, as the module's language writes it.
    #[serde(rename = "type", default)]
    pub ty: String,
}

/// A process in the supervision tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Branch {
    /// Its ID at its supervisor; none for a root.
    pub id: Option<String>,
    /// The pid; none while it does not run.
    pub pid: Option<String>,
    /// Registered names.
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
    pub children: Vec<Branch>,
    /// The number of children that are not listed, because of the limit.
    pub more: u64,
}

/// The supervision tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SupervisionTree {
    /// The root supervisors.
    pub roots: Vec<Branch>,
}
