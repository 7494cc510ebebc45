//! What happens on a node, for subscribers: data. `stream` delivers events; the lines that people read
//! are made by the program that prints them.

mod last_message;
mod stream;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use exuvia_engine::VerifyError;
use serde::{Serialize, Serializer};

use crate::error::SwapError;
use crate::report::{Resumed, SwapReport, UpgradeReport};

pub use last_message::LastMessage;
pub use stream::{Events, TimedEvent};

/// The level of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// For the author of the module.
    Debug,
}

impl Level {
    pub(crate) fn of(level: i32) -> Level {
        match level {
            exuvia_abi::log::ERROR => Level::Error,
            exuvia_abi::log::WARN => Level::Warn,
            exuvia_abi::log::INFO => Level::Info,
            _ => Level::Debug,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// New code is current, and processes start to upgrade. Sent at the commit.
    Swap(Box<SwapReport>),
    /// No process has to be upgraded to the release any more, or another release superseded it.
    /// Sent once for each release that at least one process had to be upgraded to.
    UpgradeCompleted(UpgradeReport),
    /// A swap was rejected; nothing has changed.
    Refused {
        /// The module or file.
        what: String,
        /// The reason.
        reason: String,
        /// The process whose copy could not be upgraded, with its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<String>,
        /// The cause alone: `reason` without the process, and without what else was tried.
        cause: String,
        /// Why the state could not be reused, if that was tried.
        #[serde(skip_serializing_if = "Option::is_none")]
        not_reused: Option<String>,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        help: Option<String>,
    },
    /// A guest logged a line.
    Log {
        /// The process.
        pid: String,
        /// Its version.
        module: String,
        /// The level of the line.
        level: Level,
        /// The line.
        text: String,
    },
    /// An address is listened to from now on.
    Listening {
        /// The address with what is spoken there: `http://127.0.0.1:8080`.
        url: String,
    },
    /// The app does not start, because a child has not acknowledged its start.
    StartPending {
        /// Its id.
        child: String,
        /// Its pid.
        pid: String,
    },
    /// A module has logged more lines in a second than are reported.
    LogCut {
        /// The module.
        module: String,
        /// The number of lines that were left out.
        lines: u64,
    },
    /// A module has caused more events of a kind in a second than are reported.
    EventCut {
        /// The module.
        module: String,
        /// The kind: the name of the event.
        what: &'static str,
        /// The number of events that were left out.
        events: u64,
    },
    /// A process exited abnormally.
    Exit {
        /// The process.
        pid: String,
        /// Its version.
        module: String,
        /// The reason, in one line.
        reason: String,
        /// Everything that is known: for a trap the backtrace.
        detail: String,
        /// The message that it was handling.
        last: Option<LastMessage>,
    },
    /// A supervisor has restarted a child.
    Restarted {
        /// The child's id.
        child: String,
        /// The pid of the new process.
        pid: String,
    },
    /// A supervisor could not restart a child. It retries until its restart intensity is exceeded.
    NotStarted {
        /// The child's id.
        child: String,
        /// The reason.
        reason: String,
    },
    /// The upgrade of a process failed, and it stays on its version.
    UpgradeFailed {
        /// The process.
        pid: String,
        /// The release that it should have been upgraded to.
        release: u64,
        /// The reason.
        reason: String,
    },
    /// New code failed in a process in probation, and the process was reverted with its state and
    /// its message.
    Reverted {
        /// The process.
        pid: String,
        /// The release whose code failed.
        release: u64,
        /// How it failed.
        reason: String,
    },
    /// A release failed too often: the former versions are current again.
    RolledBack {
        /// The release that failed.
        from: u64,
        /// The release that is current now.
        release: u64,
        /// The last failure.
        reason: String,
    },
    /// The app starts with a release of the store, and some module files have other bytes.
    Resumed(Resumed),
    /// A release to which the node was rolled back could not be written to the release store: a start might go on with
    /// another one. It is tried again.
    ReleaseUnwritten {
        /// The release.
        release: u64,
        /// The reason.
        reason: String,
    },
    /// A release that could not be written to the release store is written now.
    ReleaseWritten {
        /// The release.
        release: u64,
    },
    /// Something happened around the node, in a part that shares its stream.
    #[serde(untagged)]
    External(#[serde(serialize_with = "fields")] Arc<dyn ExternalEvent>),
}

/// An event of a part around the node, as development is one. It is in the node's stream, so that
/// subscribers get all events in the order in which they happened.
pub trait ExternalEvent: Any + fmt::Debug + Send + Sync {
    /// Returns a JSON object: `event`, the name in kebab case as [`Event`] has it, and the fields.
    fn fields(&self) -> serde_json::Value;
}

fn fields<S: Serializer>(event: &Arc<dyn ExternalEvent>, to: S) -> Result<S::Ok, S::Error> {
    event.fields().serialize(to)
}

impl Event {
    /// Makes the event of a rejected swap.
    pub(crate) fn refused(what: String, error: &SwapError) -> Event {
        let verify = match error {
            SwapError::Verify(verify) => Some(verify),
            _ => None,
        };
        let not_reused = verify.and_then(|verify| verify.error.not_reused());
        Event::Refused {
            what,
            reason: error.to_string(),
            process: verify.map(VerifyError::process),
            cause: verify.map_or_else(|| error.to_string(), |verify| verify.error.cause()),
            not_reused: not_reused.map(str::to_owned),
            help: error.help(),
        }
    }
}
