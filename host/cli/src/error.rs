//! Errors of subcommands: the message and the exit code. The exit codes are part of the
//! interface.

use exuvia_api::ClientError;
use exuvia_control::ServeError;
use exuvia_manifest::ManifestError;
use exuvia_node::BootError;

/// The exit codes other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The operation failed.
    Failed = 1,
    /// Wrong usage. clap exits with the same code.
    Usage = 2,
    /// No node could be reached.
    NoNode = 3,
}

/// The reason a subcommand failed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// An error to be reported to the user.
    Report(Reported),
    /// The reader of the output is gone, as with `head`: not an error.
    ReaderGone,
    /// The error has been reported already.
    Shown(Exit),
}

/// An error to be reported to the user.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) exit: Exit,
    /// A stable code for programs.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Whether the message is complete and has its own `error:` prefix.
    pub(crate) complete: bool,
}

impl CliError {
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
        Self::Report(Reported {
            exit,
            code: code.to_owned(),
            message: message.into(),
            help: None,
            complete: false,
        })
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Report(report) => report.exit,
            Self::Shown(exit) => *exit,
            Self::ReaderGone => Exit::Failed,
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Report(report) => Self::Report(Reported {
                help: Some(help.into()),
                ..report
            }),
            Self::ReaderGone | Self::Shown(_) => self,
        }
    }
}

impl From<ClientError> for CliError {
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

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let fault = Self::failed(error.to_string());
        match error.help() {
            Some(help) => fault.help(help),
            None => fault,
        }
    }
}

impl From<BootError> for CliError {
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

impl From<ManifestError> for CliError {
    fn from(error: ManifestError) -> Self {
        Self::Report(Reported {
            exit: Exit::Failed,
            code: "manifest".to_owned(),
            message: error.to_string(),
            help: None,
            complete: true,
        })
    }
}
