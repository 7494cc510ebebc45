//! What happens on a node, for subscribers: one value, one line.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use exuvia_code::{Release, UpgradePath, Version};
use exuvia_engine::{Artifact, GuestSystem, Observer, VerifyError};
use exuvia_process::{Envelope, ExitReason, Kind, Pid};
use serde::{Serialize, Serializer};
use tokio::sync::broadcast;

use crate::error::SwapError;
use crate::logger::{Logger, Report};
use crate::render::Rendered;
use crate::swap::SwapReport;
use crate::upgrade_tracker::UpgradeReport;

/// The number of events that a slow subscriber may lag before it loses the oldest.
const BACKLOG: usize = 4096;

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
    fn of(level: i32) -> Level {
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
#[non_exhaustive]
pub enum Event {
    /// New code is current, and processes start to upgrade. Sent at the commit.
    Swap(SwapReport),
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
    /// Something happened around the node, in a part that shares its stream.
    #[serde(untagged)]
    External(#[serde(serialize_with = "fields")] Arc<dyn ExternalEvent>),
}

/// An event of a part around the node, as development is one. It is in the node's stream, so that
/// subscribers get all events in the order in which they happened.
pub trait ExternalEvent: Any + fmt::Debug + fmt::Display + Send + Sync {
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Swap(report) => report.fmt(f),
            Event::UpgradeCompleted(report) => report.fmt(f),
            Event::Refused {
                what,
                process,
                cause,
                help,
                ..
            } => {
                write!(f, "swap of {what} refused, the old code keeps running: ")?;
                if let Some(process) = process {
                    write!(f, "process {process}: ")?;
                }
                f.write_str(&one_line(cause))?;
                match help {
                    Some(help) => write!(f, "; help: {help}"),
                    None => Ok(()),
                }
            }
            Event::Log {
                pid,
                module,
                level,
                text,
            } => {
                let level = match level {
                    Level::Error => "error",
                    Level::Warn => "warn",
                    Level::Info => "info",
                    Level::Debug => "debug",
                };
                write!(f, "{level} {pid} {module}: {text}")
            }
            Event::StartPending { child, pid } => write!(
                f,
                "start-pending {child} ({pid}) does not acknowledge its start, and the app waits for it: `run` has to return, or to call `init_ack`; Ctrl-C ends the app"
            ),
            Event::LogCut { module, lines } => write!(
                f,
                "log-cut {module}: {lines} lines dropped, it logs too fast; `lines_per_s` of `[log]` bounds it"
            ),
            Event::EventCut {
                module,
                what,
                events,
            } => write!(
                f,
                "event-cut {module}: {events} more events `{what}` dropped, they come too fast"
            ),
            Event::Exit {
                pid,
                module,
                reason,
                ..
            } => write!(f, "exit {pid} {module}: {reason}"),
            Event::Restarted { child, pid } => {
                write!(f, "restarted {child} as {pid}, with a fresh state")
            }
            Event::NotStarted { child, reason } => {
                write!(
                    f,
                    "not-started {child}, its supervisor tries again: {reason}"
                )
            }
            Event::UpgradeFailed {
                pid,
                release,
                reason,
            } => {
                let reason = one_line(reason);
                write!(f, "upgrade-failed {pid} to release {release}: {reason}")
            }
            Event::Reverted {
                pid,
                release,
                reason,
            } => write!(
                f,
                "reverted {pid} from release {release}, state and message kept: {reason}"
            ),
            Event::RolledBack {
                from,
                release,
                reason,
            } => write!(
                f,
                "rolled-back release {from}, which failed too often (now release {release}): {reason}"
            ),
            Event::External(event) => event.fmt(f),
        }
    }
}

/// Joins a text of several lines, for example one with a backtrace, to one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// The source of a node's events. It is made before the node and given to it, so that it can have
/// subscribers before anything happens. A subscriber may lag 4,096 events; one that lags further
/// loses the oldest, and learns how many.
#[derive(Clone, Debug)]
pub struct Events {
    plain: broadcast::Sender<Event>,
    timed: broadcast::Sender<TimedEvent>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            plain: broadcast::Sender::new(BACKLOG),
            timed: broadcast::Sender::new(BACKLOG),
        }
    }
}

/// An event with the time at which it happened, for display: a subscriber may receive it late.
#[derive(Clone, Debug)]
pub struct TimedEvent {
    /// The time by the system's clock.
    pub at: SystemTime,
    /// The event.
    pub event: Arc<Event>,
}

impl TimedEvent {
    /// Returns an event that happens now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the wall clock is for people, and nothing is decided by it"
    )]
    pub fn now(event: Event) -> TimedEvent {
        TimedEvent {
            at: SystemTime::now(),
            event: Arc::new(event),
        }
    }
}

impl fmt::Display for TimedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)
    }
}

impl Serialize for TimedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.event.serialize(serializer)
    }
}

impl Events {
    /// Subscribes to the events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.plain.subscribe()
    }

    /// Subscribes to the events from now on, each with its time.
    pub fn listen_timed(&self) -> broadcast::Receiver<TimedEvent> {
        self.timed.subscribe()
    }

    /// Publishes an event of a part around the node.
    pub fn publish(&self, event: impl ExternalEvent) {
        self.send(Event::External(Arc::new(event)));
    }

    pub(crate) fn send(&self, event: Event) {
        // Having no subscriber is not an error.
        if self.timed.receiver_count() > 0 {
            let _ = self.timed.send(TimedEvent::now(event.clone()));
        }
        if self.plain.receiver_count() > 0 {
            let _ = self.plain.send(event);
        }
    }

    pub(crate) fn heard(&self) -> bool {
        self.timed.receiver_count() > 0 || self.plain.receiver_count() > 0
    }
}

/// The message that a process was handling when it failed. Of a long one only the start is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastMessage {
    /// `message`, `request`, `timer` and so on.
    pub kind: String,
    /// The sender.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// Its payload.
    #[serde(flatten)]
    pub payload: Rendered,
}

impl LastMessage {
    fn new(message: &Envelope) -> LastMessage {
        LastMessage {
            kind: kind(message.kind),
            from: message.sender.to_string(),
            tag: message.tag,
            payload: Rendered::new(message.tag, message.payload.as_slice()),
        }
    }
}

/// Returns the name of a message kind.
pub(crate) fn kind(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

impl fmt::Display for LastMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONG: usize = 200;
        let LastMessage {
            kind, from, tag, ..
        } = self;
        write!(f, "{kind} from {from}, tag {tag}")?;
        let payload = self.payload.to_string();
        match payload.char_indices().nth(LONG) {
            _ if payload.is_empty() => Ok(()),
            None => write!(f, ": {payload}"),
            Some((cut, _)) => write!(f, ": {}...", &payload[..cut]),
        }
    }
}

/// Turns what the engine reports into events.
#[derive(Debug)]
pub(crate) struct EventObserver {
    pub(crate) events: Events,
    pub(crate) logger: Arc<Logger>,
    pub(crate) system: Arc<GuestSystem>,
    /// Wakes the background upgrader after a rollback by the runtime.
    pub(crate) commits: SyncSender<()>,
}

impl EventObserver {
    /// Returns whether an event is reported that a guest can cause without bound.
    fn admits(&self, version: &Version<Artifact>, what: Report, bytes: usize) -> bool {
        let now = self.system.clock.now();
        self.events.heard() && self.logger.reports(&version.module, what, bytes, now)
    }
}

impl Observer for EventObserver {
    fn log(&self, pid: Pid, version: &Arc<Version<Artifact>>, level: i32, text: &str) {
        let level = Level::of(level);
        if self.events.heard()
            && self
                .logger
                .admits(&version.module, level, text.len(), self.system.clock.now())
        {
            self.events.send(Event::Log {
                pid: pid.to_string(),
                module: version.to_string(),
                level,
                text: text.to_owned(),
            });
        }
    }

    fn failed(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        reason: &ExitReason,
        message: Option<&Envelope>,
    ) {
        if self.admits(version, Report::Exit, reason.bytes().len()) {
            self.events.send(Event::Exit {
                pid: pid.to_string(),
                module: version.to_string(),
                reason: reason.to_string(),
                detail: String::from_utf8_lossy(reason.bytes()).into_owned(),
                last: message.map(LastMessage::new),
            });
        }
    }

    fn upgraded(&self, _pid: Pid, _release: u64, _path: UpgradePath) {
        // Counted in the progress of the release; a line for each process would be too many.
    }

    fn upgrade_failed(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &str,
    ) {
        if self.admits(version, Report::UpgradeFailed, reason.len()) {
            self.events.send(Event::UpgradeFailed {
                pid: pid.to_string(),
                release,
                reason: reason.to_owned(),
            });
        }
    }

    fn reverted(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &ExitReason,
    ) {
        if self.admits(version, Report::Reverted, reason.bytes().len()) {
            self.events.send(Event::Reverted {
                pid: pid.to_string(),
                release,
                reason: reason.to_string(),
            });
        }
    }

    fn rolled_back(&self, from: u64, release: &Arc<Release<Artifact>>, reason: &str) {
        self.events.send(Event::RolledBack {
            from,
            release: release.id,
            reason: reason.to_owned(),
        });
        // If the channel is full, the background upgrader will wake anyway.
        let _ = self.commits.try_send(());
    }
}
