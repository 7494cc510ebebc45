//! The errors of starting a server.

use std::io;
use std::path::{Path, PathBuf};

use exuvia_api::PathTooLong;

/// The reason a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A running node owns the socket.
    #[error("a node is already running{} at {}", by_process(.process), .socket.display())]
    AlreadyRunning {
        /// Its socket.
        socket: PathBuf,
        /// Its process ID, if it could be read.
        process: Option<u32>,
    },
    /// Another program listens at the path.
    #[error("another program listens on {}", .socket.display())]
    Foreign {
        /// The path in question.
        socket: PathBuf,
    },
    /// The path exists and is not a socket.
    #[error("{} exists and is not a socket", .path.display())]
    NotASocket {
        /// The path in question.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The operating system reported an error.
    #[error("could not {doing} {}: {error}", .path.display())]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file it was applied to.
        path: PathBuf,
        /// The error of the operating system.
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

    /// Returns a hint for the user.
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
                "it belongs to another user: run the node as that user, or choose another path \
                 with `--socket PATH`",
            ),
            Self::Io { .. } => Some("choose another path with `--socket PATH`"),
        }
    }
}

fn by_process(process: &Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(" (process {process})"))
}
