//! Errors, by recipient: a client over the wire ([`Failure`]), the user of a client
//! ([`ClientError`]).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The codes of a [`Failure`]. They are stable, so scripts may rely on them; messages may
/// change.
pub mod code {
    /// The request is invalid.
    pub const BAD_REQUEST: &str = "bad_request";
    /// There is no such route.
    pub const NO_ROUTE: &str = "no_route";
    /// The body is larger than a limit.
    pub const TOO_LARGE: &str = "too_large";
    /// The server has reached a limit on concurrent requests.
    pub const BUSY: &str = "busy";
    /// No process has this pid or name.
    pub const NO_PROCESS: &str = "no_process";
    /// The process did not accept the message.
    pub const NOT_SENT: &str = "not_sent";
    /// No reply arrived in time.
    pub const TIMEOUT: &str = "timeout";
    /// The process terminated before it replied.
    pub const NO_REPLY: &str = "no_reply";
    /// The process rejected the request.
    pub const REFUSED: &str = "refused";
    /// The process was not restarted.
    pub const NOT_RESTARTED: &str = "not_restarted";
    /// A swap was refused because a module cannot be loaded.
    pub const LOAD: &str = "load";
    /// A swap was refused because a process's state cannot be taken over by the new code.
    pub const VERIFY: &str = "verify";
    /// A swap was refused because of processes that would never be upgraded.
    pub const LOOPS: &str = "loops";
    /// A rollback took place while the swap was being prepared.
    pub const ROLLED_BACK: &str = "rolled_back";
    /// Another swap was committed first.
    pub const CONFLICT: &str = "conflict";
    /// There is no release to roll back to.
    pub const NO_EARLIER_RELEASE: &str = "no_earlier_release";
    /// The node is stopping.
    pub const STOPPING: &str = "stopping";
    /// An internal error of the host.
    pub const INTERNAL: &str = "internal";
}

/// A failed request, as it is sent over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One of the codes in [`code`].
    pub code: String,
    /// What happened.
    pub message: String,
    /// How to fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// For a refused swap: why state could not be reused as it is, which in most cases is
    /// intended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_reused: Option<String>,
}

impl Failure {
    /// Creates a failure without help.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            help: None,
            not_reused: None,
        }
    }

    /// Adds help.
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

/// A path that does not fit into the address of a unix socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "the path of the socket is too long: it has {} bytes, the limit is {}: {}",
    .path.as_os_str().len(), crate::socket_path::MAX_SOCKET_PATH_BYTES, .path.display()
)]
pub struct PathTooLong {
    pub(crate) path: PathBuf,
}

impl PathTooLong {
    /// What to do about it.
    pub const HELP: &'static str =
        "pass a shorter one with `--socket PATH` or `EXUVIA_SOCKET` to the node and its clients";
}

/// The reason a request got no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing listens at the socket.
    #[error("no node can be reached at {}: {why}", .socket.display())]
    NoNode {
        /// The socket that was tried.
        socket: PathBuf,
        /// The reason, in plain words or as the operating system gives it.
        why: String,
        /// A hint for the user.
        help: &'static str,
    },
    /// The path does not fit into a socket address.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The node responded with a failure.
    #[error(transparent)]
    Node(#[from] Failure),
    /// The connection ended before the response.
    #[error("the connection to the node was lost: {0}")]
    Broken(String),
    /// The response does not conform to this API.
    #[error("the node's response is invalid: {0}")]
    Nonsense(String),
}

impl ClientError {
    /// Returns the error's code; the codes are stable, as for [`Failure`].
    pub fn code(&self) -> &str {
        match self {
            Self::NoNode { .. } | Self::PathTooLong(_) => "no_node",
            Self::Node(failure) => &failure.code,
            Self::Broken(_) => "broken",
            Self::Nonsense(_) => "nonsense",
        }
    }

    /// Returns a hint for the user.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::NoNode { help, .. } => Some(help),
            Self::PathTooLong(_) => Some(PathTooLong::HELP),
            Self::Node(failure) => failure.help.as_deref(),
            Self::Broken(_) => Some("see the node's output; `exuvia info` shows whether it runs"),
            Self::Nonsense(_) => Some("node and client may have different versions"),
        }
    }

    /// For a refused swap: returns why state could not be reused as it is.
    pub fn not_reused(&self) -> Option<&str> {
        match self {
            Self::Node(failure) => failure.not_reused.as_deref(),
            _ => None,
        }
    }

    /// Returns whether no node could be reached at all.
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::NoNode { .. } | Self::PathTooLong(_))
    }
}
