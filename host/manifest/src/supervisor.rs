//! The supervision tree, as it is written. The terms are OTP's.

use std::time::Duration;

use crate::Limits;

/// The maximum number of children in a manifest, `count` included. They all start with the node;
/// later ones are started by processes and have limits of their own.
pub const MAX_CHILDREN: u64 = 1_000_000;

/// The maximum nesting of supervisors.
pub const MAX_SUPERVISOR_DEPTH: usize = 16;

/// The maximum length of an id or a registered name in bytes, as for Erlang's atoms.
pub const MAX_NAME_BYTES: usize = 255;

/// Which children are restarted together with one that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child that ended.
    #[default]
    OneForOne,
    /// All children: the others are stopped first.
    OneForAll,
    /// The child that ended and those after it.
    RestForOne,
}

/// Whether a child is restarted after it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit.
    Transient,
    /// Never.
    Temporary,
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Killed at once.
    BrutalKill,
    /// Asked to stop, and killed if it has not ended in that time.
    Timeout(Duration),
    /// Asked to stop, without a time limit.
    Infinity,
}

/// A supervisor in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorEntry {
    /// Which children are restarted together.
    pub strategy: Strategy,
    /// The maximum number of restarts within the period.
    pub intensity: u32,
    /// The period.
    pub period: Duration,
    /// The maximum number of children (`[limits] children`).
    pub max_children: u64,
    /// Its children, in start order.
    pub children: Vec<Child>,
}

impl Default for SupervisorEntry {
    /// Returns one-for-one with three restarts in five seconds. (OTP's default of one restart is
    /// too few for most trees.)
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            intensity: 3,
            period: Duration::from_secs(5),
            max_children: Limits::default().children,
            children: Vec::new(),
        }
    }
}

impl SupervisorEntry {
    /// Returns its children that are processes, and those of the supervisors below.
    pub fn processes(&self) -> Vec<&Process> {
        let mut processes = Vec::new();
        for child in &self.children {
            match &child.work {
                Work::Process(process) => processes.push(&**process),
                Work::Supervisor(supervisor) => processes.extend(supervisor.processes()),
            }
        }
        processes
    }
}

/// One entry under `children`; with `count`, that many children.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// The id as written. With `count` the ids of the children are derived from it: see
    /// [`Child::instances`].
    pub id: String,
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// What runs.
    pub work: Work,
}

/// What a child runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A process of a module.
    Process(Box<Process>),
    /// A nested supervisor.
    Supervisor(SupervisorEntry),
}

/// A child that is a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// A key of [`Manifest::modules`](crate::Manifest::modules).
    pub module: String,
    /// How many of it run; by default one.
    pub count: Option<u32>,
    /// The registered name; with `count`, a pattern with `{n}`.
    pub name: Option<String>,
    /// The arguments as MessagePack; empty when there are none.
    pub args: Vec<u8>,
    /// Its limits.
    pub limits: Limits,
    /// Whether it may ask its supervisor, and those below that one, to start and stop children.
    pub manages: bool,
}

/// One child of an entry: its id and its registered name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInstance {
    /// Unique within the supervisor.
    pub id: String,
    /// Unique within the manifest.
    pub name: Option<String>,
}

impl Child {
    /// Returns the children of this entry: itself, or with `count = 3` `id-0`, `id-1` and `id-2`,
    /// whose names have the number in place of `{n}`.
    pub fn instances(&self) -> impl Iterator<Item = ChildInstance> {
        let (count, name) = match &self.work {
            Work::Process(process) => (process.count, process.name.as_deref()),
            Work::Supervisor(_) => (None, None),
        };
        (0..count.unwrap_or(1)).map(move |n| match count {
            None => ChildInstance {
                id: self.id.clone(),
                name: name.map(str::to_owned),
            },
            Some(_) => ChildInstance {
                id: format!("{}-{n}", self.id),
                name: name.map(|name| name.replace("{n}", &n.to_string())),
            },
        })
    }
}
