//! The errors of a node, in words for its user: what failed, why, and what to do.

use std::path::PathBuf;

use exuvia_code::CommitError;
use exuvia_engine::{LoadError, VerifyError};
use exuvia_io::{ClientError, ListenError};
use exuvia_manifest::ManifestError;
use exuvia_process::{NameError, Pid};
use exuvia_store::StoreError;

use crate::request::ModuleBytes;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// This machine cannot run compiled Wasm.
    #[error("the engine cannot be initialized: {0}")]
    Engine(#[from] LoadError),
    /// More frames were asked for than a node can have.
    #[error(
        "{frames} frames are more than a node can have, {}; lower `frames` in `[node]`: processes that are in no frame are images, and run when it is their turn",
        exuvia_engine::MOST_FRAMES
    )]
    Frames {
        /// Frames that were asked for.
        frames: usize,
    },
    /// The scheduler threads could not be started.
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
        /// The name of the module in the manifest.
        module: String,
        /// The path that was tried.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The release store cannot be used.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// The release store has no release yet, and the node is to start with one.
    #[error("the release store {} has no release yet", .0.display())]
    EmptyStore(PathBuf),
    /// The manifest contradicts the modules.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The modules were rejected.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// The modules were rejected, and the release store has others.
    #[error("{error}")]
    Edited {
        /// The cause.
        error: Box<SwapError>,
        /// The release of the store.
        release: u64,
    },
    /// The supervision tree did not start.
    #[error("the supervision tree did not start: {0}")]
    Tree(String),
    /// An address of the manifest cannot be listened to.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Processes cannot connect to the outside.
    #[error(transparent)]
    Outbound(#[from] ClientError),
}

impl BootError {
    /// Returns what to do about it; `None`: the message says it, or there is nothing.
    pub fn help(&self) -> Option<String> {
        match self {
            BootError::Read { .. } => Some("build it, or correct `path` in the manifest".into()),
            BootError::Swap(error) => error.help(),
            BootError::Store(error) => store_help(error),
            BootError::Edited { error, release } => {
                let also = format!("`exuvia run --release` starts with release {release} instead");
                Some(match error.help() {
                    Some(help) => format!("{help}; {also}"),
                    None => also,
                })
            }
            BootError::EmptyStore(_) => {
                Some("start it without --release: the module files make the first release".into())
            }
            // The manifest's errors contain their help.
            BootError::Listen(error) => error.help(),
            BootError::Node(_)
            | BootError::Manifest(_)
            | BootError::Tree(_)
            | BootError::Outbound(_) => None,
        }
    }
}

/// Why a swap did not happen. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// A module was rejected.
    #[error("{file}: {error}")]
    Load {
        /// The file, or the name of the module.
        file: String,
        /// The cause.
        error: LoadError,
    },
    /// A module starts with more memory than one of its children may have.
    #[error(
        "{file}: the module starts with {wanted} bytes of memory, but the limit of the child `{child}` is {allowed}; raise `limits.memory` of that child in the manifest and start the app again, or build the module with a smaller initial memory"
    )]
    ChildMemory {
        /// The file, or the name of the module.
        file: String,
        /// The id of the child in the manifest.
        child: String,
        /// Bytes that the module starts with.
        wanted: u64,
        /// Bytes that the child may have.
        allowed: u64,
    },
    /// The upgrade failed on a copy of a process.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Loop processes would never reach the new code.
    #[error(
        "{count} loop processes of the changed modules block in `receive` without the flag UPGRADE (first: {first})"
    )]
    Loops {
        /// The number of these processes.
        count: usize,
        /// One of them.
        first: Pid,
    },
    /// The node was rolled back to an earlier release while this one was prepared.
    #[error(
        "the node was rolled back to release {release} while this swap was prepared, and stays there"
    )]
    RolledBack {
        /// The current release.
        release: u64,
    },
    /// Another release was committed first, or there is none to roll back to.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The release could not be written to the release store, or is not there.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// The node keeps no releases.
    #[error("this node has no release store, so it knows only the releases since its start")]
    NoStore,
}

impl From<StoreError> for SwapError {
    fn from(error: StoreError) -> SwapError {
        SwapError::Store(Box::new(error))
    }
}

impl SwapError {
    /// Returns what to do about it; `None`: the message says it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            SwapError::Load { .. }
            | SwapError::ChildMemory { .. }
            | SwapError::Commit(CommitError::NoEarlier) => return None,
            SwapError::Verify(error) => return Some(error.help()),
            SwapError::Loops { .. } => {
                "deploy with --leave to keep them on their version, or with --kill to kill them"
            }
            SwapError::RolledBack { .. } => "deploy again to run it anyway",
            SwapError::Commit(CommitError::Conflict { .. }) => "deploy again",
            SwapError::Store(error) => return store_help(error),
            SwapError::NoStore => {
                "`exuvia run` keeps releases unless it is started with --no-store"
            }
        };
        Some(help.into())
    }

    /// Returns whether this module is known to have caused the rejection, by its file (`source`) or
    /// its name.
    pub fn is_caused_by(&self, module: &ModuleBytes) -> bool {
        match self {
            SwapError::Load { file, .. } => *file == module.source,
            SwapError::Verify(error) => error.module == module.name,
            _ => false,
        }
    }

    /// Returns a stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            SwapError::Load { .. } | SwapError::ChildMemory { .. } => "load",
            SwapError::Verify(_) => "verify",
            SwapError::Loops { .. } => "loops",
            SwapError::RolledBack { .. } => "rolled-back",
            SwapError::Commit(CommitError::Conflict { .. }) => "conflict",
            SwapError::Commit(CommitError::NoEarlier) => "no-earlier-release",
            SwapError::Store(error) => match **error {
                StoreError::NoRelease(_) => "no-release",
                StoreError::TooManyPins(_) => "too-many-pins",
                _ => "store",
            },
            SwapError::NoStore => "no-store",
        }
    }
}

/// Returns what to do about an error of the release store; `None`: the message says it.
pub(crate) fn store_help(error: &StoreError) -> Option<String> {
    let help = match error {
        StoreError::Open { .. } | StoreError::Read { .. } => {
            "make the folder accessible, choose another file with --store FILE, or keep nothing with --no-store"
        }
        StoreError::Write { .. } => {
            "make room on the disk, and try again; `--no-store` keeps nothing"
        }
        StoreError::InUse(_) => "stop that node, or choose another file with --store FILE",
        StoreError::Foreign(_) => "choose another file with --store FILE",
        StoreError::Gone(_) => {
            "put it back, or start the node again: it makes a new one from what the module files are"
        }
        StoreError::OtherApp { .. } => {
            "choose another file with --store FILE: each app has its own"
        }
        StoreError::Newer { .. } => "run the Exuvia that made it, or a later one",
        StoreError::Damaged { .. } | StoreError::NoModule(_) => {
            "move the file away: the next start makes a new store from the module files"
        }
        StoreError::NoRelease(_) => "`exuvia releases` shows those that there are",
        StoreError::TooManyPins(_) => return None,
    };
    Some(help.into())
}

/// Why a process was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No process has the name.
    #[error("no process is registered as `{0}`; `exuvia ps` shows all")]
    NoName(String),
    /// The process has exited, or never existed.
    #[error("there is no process {0}; `exuvia ps` shows all")]
    NoProcess(String),
    /// It is one of the host's own processes, which has no guest.
    #[error("{0} is a process of the host, which has no module; `exuvia ps` shows those that have")]
    Native(String),
    /// The whole app would end with it, and not in order.
    #[error(
        "{0} is the app's root supervisor, and the whole app would end with it; to stop the app, use `exuvia stop`"
    )]
    Root(String),
    /// It did not reach the end of a turn in time.
    #[error("{0} is busy and did not reach the end of a turn in time; try again")]
    Busy(String),
}

/// Why a process was not restarted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartFailed {
    /// It cannot be inspected.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It is not the child of a supervisor.
    #[error(
        "{0} is not the child of a supervisor of the host; `exuvia tree` shows those that are, `exuvia kill` kills a process"
    )]
    NoSupervisor(Pid),
    /// Its supervisor did not restart it.
    #[error("the supervisor of {pid} rejected the restart: {why}")]
    Refused {
        /// The process.
        pid: Pid,
        /// The supervisor's reason.
        why: String,
    },
    /// Its supervisor did not reply.
    #[error(
        "{supervisor}, the supervisor of {pid}, did not reply in time; `exuvia tree` shows what it is doing"
    )]
    NoAnswer {
        /// The process.
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
    /// It may not have the memory that its module starts with.
    #[error(
        "a process of the module `{module}` starts with {wanted} bytes of memory, but the limit of this one is {allowed}; raise its `memory` limit, or build the module with a smaller initial memory"
    )]
    Memory {
        /// The module.
        module: String,
        /// Bytes that the module starts with.
        wanted: u64,
        /// Bytes that the process may have.
        allowed: u64,
    },
    /// The node has as many processes as it may have.
    #[error("the node has as many processes as its limit allows")]
    TableFull,
    /// There is no such scheduler, or no process can be pinned to it.
    #[error("no process can be pinned to scheduler {wanted}; choose one below {schedulers}")]
    Scheduler {
        /// The scheduler that was asked for.
        wanted: usize,
        /// The number of schedulers that can be asked for, counted from 0.
        schedulers: usize,
    },
    /// The name cannot be registered.
    #[error("the name `{name}` {}; choose another one", unusable(*.error))]
    Name {
        /// The name.
        name: String,
        /// The cause.
        error: NameError,
    },
}

/// Returns why a name cannot be registered, as the end of a sentence.
pub(crate) fn unusable(error: NameError) -> &'static str {
    match error {
        NameError::Taken => "belongs to another process",
        NameError::Invalid => "is empty or too long",
        NameError::Dead => "has no process",
        NameError::TooMany => "exceeds the limit on names of its process",
    }
}

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailed {
    /// The process has exited.
    #[error("the process {0} has exited")]
    Dead(Pid),
    /// Its mailbox is full.
    #[error(
        "the mailbox of {0} is full; wait until it has caught up, or raise `limits.mailbox_messages` or `limits.mailbox_bytes`"
    )]
    Full(Pid),
    /// It is larger than a message may be.
    #[error(
        "the message has {bytes} bytes, the limit is {limit}; send less, or raise `message_bytes` in `[limits]`"
    )]
    TooLarge {
        /// The size of the message in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: u32,
    },
    /// The pid was never assigned to a process.
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
    /// The process exited before it replied.
    #[error("the process {pid} exited before it replied: {reason}")]
    Down {
        /// The process.
        pid: Pid,
        /// Its exit reason.
        reason: String,
    },
    /// There was no reply within the time, because the process is suspended.
    #[error(
        "the process {pid} did not reply within {timeout_ms} ms, because it is suspended; {}`exuvia resume '{pid}'` resumes it",
        if *.queued { "the request is still queued, and " } else { "" }
    )]
    Suspended {
        /// Which process.
        pid: Pid,
        /// How long was waited.
        timeout_ms: u64,
        /// The request is in its mailbox.
        queued: bool,
    },
    /// There was no reply within the time.
    #[error(
        "the process {pid} did not reply within {timeout_ms} ms; raise the timeout, or check it with `exuvia ps`"
    )]
    Timeout {
        /// The process.
        pid: Pid,
        /// The timeout in milliseconds.
        timeout_ms: u64,
    },
    /// The node has as many processes as it may have.
    #[error("the node has as many processes as its limit allows")]
    TableFull,
}
