//! Why a request of a client got no response.

use std::path::PathBuf;

use crate::fingerprint::Fingerprint;
use crate::problem::Problem;
use crate::socket_path::MAX_SOCKET_PATH_BYTES;

/// A path that does not fit into the address of a unix socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "the path of the socket is too long: it has {} bytes, the limit is {}: {}",
    .path.as_os_str().len(), MAX_SOCKET_PATH_BYTES, .path.display()
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
    /// Somebody else is at the address.
    #[error("{address} shows another certificate than before: {seen}, not {expected}")]
    Stranger {
        /// The address that was tried.
        address: String,
        /// What the certificate of the node should be.
        expected: Fingerprint,
        /// What it is.
        seen: Fingerprint,
    },
    /// The path does not fit into a socket address.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The node reported a problem.
    #[error(transparent)]
    Node(#[from] Problem),
    /// The connection ended before the response.
    #[error("the connection to the node was lost: {0}")]
    Broken(String),
    /// The response does not conform to this API.
    #[error("the node's response is invalid: {0}")]
    Nonsense(String),
}

impl ClientError {
    /// Returns the error's code; the codes are stable, as for [`Problem`].
    pub fn code(&self) -> &str {
        match self {
            Self::NoNode { .. } | Self::PathTooLong(_) => "no_node",
            Self::Stranger { .. } => "stranger",
            Self::Node(problem) => &problem.code,
            Self::Broken(_) => "broken",
            Self::Nonsense(_) => "nonsense",
        }
    }

    /// Returns a hint for the user.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::NoNode { help, .. } => Some(help),
            Self::PathTooLong(_) => Some(PathTooLong::HELP),
            Self::Stranger { .. } => Some(
                "nothing was sent. If the node has a new certificate, `exuvia login ADDR` takes it; if not, somebody else answers there",
            ),
            Self::Node(problem) => problem.help.as_deref(),
            Self::Broken(_) => Some("see the node's output; `exuvia info` shows whether it runs"),
            Self::Nonsense(_) => Some("node and client may have different versions"),
        }
    }

    /// For a refused swap: returns why state could not be reused as it is.
    pub fn not_reused(&self) -> Option<&str> {
        match self {
            Self::Node(problem) => problem.not_reused.as_deref(),
            _ => None,
        }
    }

    /// Returns whether no node could be reached at all.
    pub fn unreachable(&self) -> bool {
        matches!(
            self,
            Self::NoNode { .. } | Self::PathTooLong(_) | Self::Stranger { .. }
        )
    }
}
