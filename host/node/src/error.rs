//! What can go wrong with a node, in words for its user: what failed, why, and
//! what to do.

use std::path::PathBuf;

use exuvia_code::CommitError;
use exuvia_engine::{LoadError, VerifyError};
use exuvia_process::{NameError, Pid};

use crate::manifest::ManifestError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// This machine cannot run compiled Wasm.
    #[error("the engine cannot be set up: {0}")]
    Engine(#[from] LoadError),
    /// The system has no room for so many frames.
    #[error(
        "{frames} frames may take {mappings} memory mappings, and this system allows {allowed} for a process; lower `frames` in `[node]`, or raise the limit: `sysctl -w vm.max_map_count={}`", .mappings.saturating_mul(2)
    )]
    Frames {
        /// Frames that were asked for.
        frames: usize,
        /// Mappings that they may take.
        mappings: usize,
        /// `vm.max_map_count`.
        allowed: usize,
    },
    /// No scheduler threads.
    #[error("the schedulers cannot be started: {0}")]
    Scheduler(String),
}

/// Why an app did not boot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A module file could not be read.
    #[error("cannot read the module `{module}` at {}: {source}", .path.display())]
    Read {
        /// The module's name in the manifest.
        module: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the manifest says does not go with the modules.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The modules were refused.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// The supervision tree did not start.
    #[error("the supervision tree did not start: {0}")]
    Tree(String),
}

impl BootError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            BootError::Read { .. } => Some("build it, or mend `path` in the manifest".into()),
            BootError::Swap(error) => error.help(),
            // The manifest's errors have their help inside.
            BootError::Node(_) | BootError::Manifest(_) | BootError::Tree(_) => None,
        }
    }
}

/// Why a swap did not happen. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// A module was refused.
    #[error("{file}: {error}")]
    Load {
        /// The file, or the module's name.
        file: String,
        /// Why.
        error: LoadError,
    },
    /// A module begins with more memory than a child of it may have.
    #[error(
        "{file}: the module begins with {wanted} bytes of memory, but the child `{child}` may have {allowed}; raise `limits.memory` of that child in the manifest and start the app again, or build the module with a smaller initial memory"
    )]
    ChildMemory {
        /// The file, or the module's name.
        file: String,
        /// The child's id in the manifest.
        child: String,
        /// Bytes it begins with.
        wanted: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The crossing failed on a copy of a process.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Loop processes would never reach the new code.
    #[error(
        "{count} loop processes of the changed modules block in `receive` without the flag UPGRADE (first: {first})"
    )]
    Loops {
        /// How many.
        count: usize,
        /// One of them.
        first: Pid,
    },
    /// Somebody went back to an earlier release while it was prepared.
    #[error(
        "the node was rolled back while this was prepared (release {release}), and what it went back to stays"
    )]
    RolledBack {
        /// The release that is current.
        release: u64,
    },
    /// Another release came first, or there is none to go back to.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl SwapError {
    /// What to do about it; `None`: the message says it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            SwapError::Load { .. }
            | SwapError::ChildMemory { .. }
            | SwapError::Commit(CommitError::NoEarlier) => return None,
            SwapError::Verify(VerifyError { fix: Some(fix), .. }) => fix,
            SwapError::Verify(_) => {
                "mend `save` or `load`, or give such state up with `exuvia deploy --fresh`, and the file or the app"
            }
            SwapError::Loops { .. } => {
                "deploy with --leave to leave them on their version, or with --kill to end them"
            }
            SwapError::RolledBack { .. } => "deploy it again if it is to run after all",
            SwapError::Commit(CommitError::Conflict { .. }) => "deploy again",
        };
        Some(help.into())
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            SwapError::Load { .. } | SwapError::ChildMemory { .. } => "load",
            SwapError::Verify(_) => "verify",
            SwapError::Loops { .. } => "loops",
            SwapError::RolledBack { .. } => "rolled-back",
            SwapError::Commit(CommitError::Conflict { .. }) => "conflict",
            SwapError::Commit(CommitError::NoEarlier) => "no-earlier-release",
        }
    }
}

/// Why a process was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No process has the name.
    #[error("no process is registered as `{0}`; `exuvia ps` shows all")]
    NoName(String),
    /// The process has ended, or never was.
    #[error("there is no process {0}; `exuvia ps` shows all")]
    NoProcess(String),
    /// It is one of the host's own, and has no guest.
    #[error("{0} is a process of the host, which has no module; `exuvia ps` shows those that have")]
    Native(String),
    /// It did not come to the end of a turn in time.
    #[error("{0} is busy, and did not come to the end of a turn in time; try again")]
    Busy(String),
}

/// Why a process was not started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartFailed {
    /// It cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It is nobody's child.
    #[error(
        "no supervisor of the host watches over {0}; `exuvia tree` shows those that are watched over, `exuvia kill` ends a process"
    )]
    NoSupervisor(Pid),
    /// Its supervisor did not do it.
    #[error("the supervisor of {pid} refused: {why}")]
    Refused {
        /// Which process.
        pid: Pid,
        /// What it says.
        why: String,
    },
    /// Its supervisor did not answer.
    #[error(
        "{supervisor}, the supervisor of {pid}, did not answer in time; `exuvia tree` shows what it does"
    )]
    NoAnswer {
        /// Which process.
        pid: Pid,
        /// Its supervisor.
        supervisor: Pid,
    },
}

/// Why a process was not spawned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnFailed {
    /// The current release does not have the module.
    #[error("the release has no module `{0}`; `exuvia info` shows those that it has")]
    NoModule(String),
    /// It may not have the memory that its module begins with.
    #[error(
        "a process of the module `{module}` begins with {wanted} bytes of memory, but this one may have {allowed}; raise its `memory` limit, or build the module with a smaller initial memory"
    )]
    Memory {
        /// The module.
        module: String,
        /// Bytes it begins with.
        wanted: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The node has as many processes as it may have.
    #[error("the node has no room for one more process")]
    TableFull,
    /// There is no such scheduler, or none that a process can be pinned to.
    #[error("there is no scheduler {wanted} for a process alone; take one below {schedulers}")]
    Scheduler {
        /// Which was asked for.
        wanted: usize,
        /// Those from 0 to below this can be had.
        schedulers: usize,
    },
    /// The name cannot be registered.
    #[error("the name `{name}` {}; take another one", unusable(*.error))]
    Name {
        /// Which name.
        name: String,
        /// Why.
        error: NameError,
    },
}

/// Why a name cannot be registered, as the end of a sentence.
pub(crate) fn unusable(error: NameError) -> &'static str {
    match error {
        NameError::Taken => "belongs to another process",
        NameError::Invalid => "is empty or too long",
        NameError::Dead => "has no process",
        NameError::TooMany => "is one too many for its process",
    }
}

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailed {
    /// The process has ended.
    #[error("the process {0} has ended")]
    Dead(Pid),
    /// Its mailbox is full.
    #[error(
        "the mailbox of {0} is full; wait until it has caught up, or raise `limits.mailbox_messages` or `limits.mailbox_bytes`"
    )]
    Full(Pid),
    /// It is larger than a message may be.
    #[error(
        "the message has {bytes} bytes, and one may have {limit}; send less, or raise `message_bytes` in `[limits]`"
    )]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: u32,
    },
    /// No process ever had the pid.
    #[error("no process of this node has the pid {0}")]
    Unknown(Pid),
}

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailed {
    /// The request was not accepted.
    #[error(transparent)]
    Send(#[from] SendFailed),
    /// The process ended before it replied.
    #[error("the process {pid} ended before it replied: {reason}")]
    Down {
        /// Which process.
        pid: Pid,
        /// Why it ended.
        reason: String,
    },
    /// No reply within the time.
    #[error(
        "the process {pid} did not reply within {timeout_ms} ms; raise the timeout, or look at it with `exuvia ps`"
    )]
    Timeout {
        /// Which process.
        pid: Pid,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The node has as many processes as it may have.
    #[error("the node has no room for one more process")]
    TableFull,
}
