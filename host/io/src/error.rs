//! Why a gateway, or the client for guests, cannot start.

use std::io;

use crate::listener::ListenAddress;

/// Why an address cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refuses the address.
    #[error("{address} cannot be listened to: {source}")]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// Two routes match the same requests, or the path of one is no pattern.
    #[error("the route `{path}` of {address}: {reason}")]
    Route {
        /// The address.
        address: ListenAddress,
        /// The path of the route.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Its certificate cannot be used.
    #[error("the certificate of {address} cannot be used: {reason}")]
    Tls {
        /// The address.
        address: ListenAddress,
        /// What is wrong with it.
        reason: String,
    },
    /// Sockets were passed to this program for which there is no address.
    #[error("no `[[listen]]` takes what was passed to this program: {}", .0.join(", "))]
    Left(Vec<String>),
    /// There is no thread for it.
    #[error("no thread for the network could be started: {0}")]
    Thread(io::Error),
    /// There is no process for it.
    #[error("the node has as many processes as it may have")]
    TableFull,
}

/// Why the sockets cannot be taken that were passed to this program.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// There are none.
    #[error(
        "no sockets were passed to this program: `LISTEN_FDS` and `LISTEN_PID` of its environment name none for it"
    )]
    None,
    /// The environment names them wrongly.
    #[error("`LISTEN_FDS` or `LISTEN_PID` is not a number")]
    Malformed,
    /// One of them accepts no connections.
    #[error("the socket number {number} (`{name}`) that was passed to this program {reason}")]
    Unusable {
        /// Its number, from 0.
        number: usize,
        /// Its name, from `LISTEN_FDNAMES`.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ListenError {
    /// Returns what to do about it; `None`: the message says it, or there is nothing.
    pub fn help(&self) -> Option<String> {
        match self {
            ListenError::Bind {
                address: ListenAddress::Unix(path),
                source,
            } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("stop that program, or choose another path in `[[listen]]`".into())
                }
                io::ErrorKind::AlreadyExists => {
                    Some("remove that file, or choose another path in `[[listen]]`".into())
                }
                io::ErrorKind::NotFound => {
                    let folder = path.parent().unwrap_or(path).display();
                    Some(format!("make the folder with `mkdir -p {folder}`, or choose another path in `[[listen]]`"))
                }
                _ => None,
            },
            ListenError::Left(_) => Some(
                "write a `[[listen]]` with this `address`, or with this name as `socket`; or remove it from the unit of the socket".into(),
            ),
            ListenError::Bind { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Some(
                    "another program listens there: stop it, or choose another port in `[[listen]]`".into(),
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need a privilege: choose a higher one in `[[listen]]`".into())
                }
                io::ErrorKind::AddrNotAvailable => Some(
                    "this machine does not have the address; 0.0.0.0 stands for all that it has".into(),
                ),
                _ => None,
            },
            ListenError::Tls { .. } => Some(
                "`tls` names two files in PEM: the certificate, with those that it was signed with behind it, and its private key"
                    .to_owned(),
            ),
            ListenError::Route { .. } | ListenError::Thread(_) | ListenError::TableFull => None,
        }
    }
}

/// Why guests can make no requests to the outside.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no thread for it.
    #[error("no thread for requests to the outside could be started: {0}")]
    Thread(std::io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// There is no process for it.
    #[error("the node has as many processes as it may have")]
    TableFull,
    /// Another process has its name.
    #[error("another process is named `exuvia.http`")]
    Name,
}
