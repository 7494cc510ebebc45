//! What can go wrong, for the three who are told: a client over the wire
//! ([`Failure`]), the owner of a server ([`ServeError`]), the user of a client
//! ([`ClientError`]).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The codes of a [`Failure`]. They are stable: scripts may rely on them, while
/// messages may change.
pub mod code {
    /// The request itself is wrong.
    pub const BAD_REQUEST: &str = "bad_request";
    /// There is no such route.
    pub const NO_ROUTE: &str = "no_route";
    /// The body is larger than a limit.
    pub const TOO_LARGE: &str = "too_large";
    /// More requests at a time than the server takes.
    pub const BUSY: &str = "busy";
    /// No process has this pid or name.
    pub const NO_PROCESS: &str = "no_process";
    /// The process did not take the message.
    pub const NOT_SENT: &str = "not_sent";
    /// No reply came in time.
    pub const TIMEOUT: &str = "timeout";
    /// The process ended before it replied.
    pub const NO_REPLY: &str = "no_reply";
    /// The process said no.
    pub const REFUSED: &str = "refused";
    /// The process was not started again.
    pub const NOT_RESTARTED: &str = "not_restarted";
    /// A swap was refused because a module cannot be loaded.
    pub const LOAD: &str = "load";
    /// A swap was refused because state could not cross.
    pub const VERIFY: &str = "verify";
    /// A swap was refused because of processes that would never cross.
    pub const LOOPS: &str = "loops";
    /// Somebody went back while the swap was prepared.
    pub const ROLLED_BACK: &str = "rolled_back";
    /// Another swap came first.
    pub const CONFLICT: &str = "conflict";
    /// There is no release to go back to.
    pub const NO_EARLIER_RELEASE: &str = "no_earlier_release";
    /// The node is stopping.
    pub const STOPPING: &str = "stopping";
    /// A fault of the host.
    pub const INTERNAL: &str = "internal";
}

/// A request that failed, as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One of [`code`].
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Of a swap that was refused: why state was not carried over, which mostly is
    /// as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_carried: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            help: None,
            not_carried: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A live node has the socket.
    #[error("a node is already running{} at {}", by_process(.process), .socket.display())]
    AlreadyRunning {
        /// Its socket.
        socket: PathBuf,
        /// Its process number, if it could be read.
        process: Option<u32>,
    },
    /// Another program listens there.
    #[error("another program listens at {}", .socket.display())]
    Foreign {
        /// The path in question.
        socket: PathBuf,
    },
    /// What stands at the path is no socket.
    #[error("{} exists and is not a socket", .path.display())]
    NotASocket {
        /// The path in question.
        path: PathBuf,
    },
    /// The path does not fit a socket's address.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The operating system refused something.
    #[error("could not {doing} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
}

impl ServeError {
    pub(crate) fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_path_buf(),
            error,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyRunning { .. } => Some(
                "deploy to it (`exuvia deploy`), stop it (`exuvia stop`), or give this node \
                 another socket (`--socket PATH`)",
            ),
            Self::Foreign { .. } | Self::NotASocket { .. } => {
                Some("choose another path with `--socket PATH`")
            }
            Self::PathTooLong(_) => Some(PathTooLong::HELP),
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => Some(
                "it belongs to another user: run the node as that one, or choose another path \
                 with `--socket PATH`",
            ),
            Self::Io { .. } => Some("choose another path with `--socket PATH`"),
        }
    }
}

fn by_process(process: &Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}

/// A path that does not fit a unix socket's address.
#[derive(Debug, thiserror::Error)]
#[error(
    "the path of the socket is too long: {} bytes, and the system takes {}: {}",
    .path.as_os_str().len(), crate::MAX_SOCKET_PATH_BYTES, .path.display()
)]
pub struct PathTooLong {
    pub(crate) path: PathBuf,
}

impl PathTooLong {
    const HELP: &'static str =
        "give a shorter one with `--socket PATH` or `EXUVIA_SOCKET`, to the node and its clients";
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node can be reached at {}: {why}", .socket.display())]
    NoNode {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// The path does not fit a socket's address.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The node answered with a failure.
    #[error(transparent)]
    Node(#[from] Failure),
    /// The connection ended before the answer.
    #[error("the connection to the node broke: {0}")]
    Broken(String),
    /// What came is no answer of this API.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

impl ClientError {
    /// Stable, as for [`Failure`].
    pub fn code(&self) -> &str {
        match self {
            Self::NoNode { .. } | Self::PathTooLong(_) => "no_node",
            Self::Node(failure) => &failure.code,
            Self::Broken(_) => "broken",
            Self::Nonsense(_) => "nonsense",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::NoNode { help, .. } => Some(help),
            Self::PathTooLong(_) => Some(PathTooLong::HELP),
            Self::Node(failure) => failure.help.as_deref(),
            Self::Broken(_) => Some("see what the node printed; `exuvia info` tells if it lives"),
            Self::Nonsense(_) => Some("node and client may be of different versions"),
        }
    }

    /// Of a swap that was refused: why state was not carried over.
    pub fn not_carried(&self) -> Option<&str> {
        match self {
            Self::Node(failure) => failure.not_carried.as_deref(),
            _ => None,
        }
    }

    /// Whether no node could be reached at all.
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::NoNode { .. } | Self::PathTooLong(_))
    }
}
