//! How a subcommand fails: what is said, and with which exit code. The codes are
//! part of the interface.

use exuvia_control::{ClientError, ServeError};
use exuvia_node::BootError;
use exuvia_node::manifest::ManifestError;

/// The exit codes other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for did not happen.
    Failed = 1,
    /// It was asked for in a wrong way. clap uses the same.
    Usage = 2,
    /// No node could be reached.
    NoNode = 3,
}

/// Why a subcommand ends without having done what it should.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is to be told to the user.
    Told(Told),
    /// Whoever read the output is gone, as `head` is: nothing is wrong.
    NobodyReads,
    /// It has been told already.
    Shown(Exit),
}

/// A fault for the user.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) exit: Exit,
    /// Stable, for programs.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The message is complete, with its own `error:`.
    pub(crate) complete: bool,
}

impl Fault {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn no_node(message: impl Into<String>) -> Self {
        Self::new(Exit::NoNode, "no_node", message)
    }

    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self::Told(Told {
            exit,
            code: code.to_owned(),
            message: message.into(),
            help: None,
            complete: false,
        })
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::Shown(exit) => *exit,
            Self::NobodyReads => Exit::Failed,
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Told(told) => Self::Told(Told {
                help: Some(help.into()),
                ..told
            }),
            Self::NobodyReads | Self::Shown(_) => self,
        }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let exit = if error.unreachable() {
            Exit::NoNode
        } else {
            Exit::Failed
        };
        let fault = Self::new(exit, error.code(), error.to_string());
        match error.help() {
            Some(help) => fault.help(help),
            None => fault,
        }
    }
}

impl From<ServeError> for Fault {
    fn from(error: ServeError) -> Self {
        let fault = Self::failed(error.to_string());
        match error.help() {
            Some(help) => fault.help(help),
            None => fault,
        }
    }
}

impl From<BootError> for Fault {
    fn from(error: BootError) -> Self {
        if let BootError::Manifest(error) = error {
            return error.into();
        }
        let fault = Self::failed(error.to_string());
        match error.help() {
            Some(help) => fault.help(help),
            None => fault,
        }
    }
}

impl From<ManifestError> for Fault {
    fn from(error: ManifestError) -> Self {
        Self::Told(Told {
            exit: Exit::Failed,
            code: "manifest".to_owned(),
            message: error.to_string(),
            help: None,
            complete: true,
        })
    }
}
