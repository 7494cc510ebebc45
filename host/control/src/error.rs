//! The errors of starting a server.

use std::io;
use std::net::SocketAddr;
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
    /// The file of tokens is not what was written.
    #[error("the tokens in {} cannot be read: {why}", .path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate cannot be used or made.
    #[error("the certificate {} cannot be used: {why}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An address cannot be listened to.
    #[error("the API cannot be served at {address}: {error}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
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
            Self::Tokens { .. } => {
                Some("move the file away; tokens have to be made again then (`exuvia token new`)")
            }
            Self::Certificate { .. } => {
                Some("name the files of a certificate and its key in PEM with --cert and --key")
            }
            Self::Address { .. } => Some("choose another address with `--remote ADDR`"),
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
