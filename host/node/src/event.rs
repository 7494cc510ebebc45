//! What happens on a node, for whoever listens: one value, one line.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use exuvia_code::{Path, Release, Version};
use exuvia_engine::{Artifact, GuestSystem, Observer, VerifyError};
use exuvia_process::{Envelope, ExitReason, Kind, Pid};
use serde::{Serialize, Serializer};
use tokio::sync::broadcast;

use crate::behind::{Behind, yet};
use crate::error::SwapError;
use crate::logger::{Logger, Report};
use crate::settle::SettledReport;
use crate::shown::Shown;
use crate::swap::{SwapReport, listed};

/// Events that a slow listener may be behind before it loses the oldest.
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
    /// For the author.
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
    /// New code is current, and processes begin to cross. Told at the commit.
    Swap(SwapReport),
    /// Nobody has to cross to a release any more, or it was superseded before.
    /// Told once for each release that any process had to cross to.
    Settled(SettledReport),
    /// A swap was refused; nothing has changed.
    Refused {
        /// The module or file.
        what: String,
        /// Why.
        reason: String,
        /// The process whose copy could not cross, with its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<String>,
        /// The cause alone: `reason` without the process, and what else was tried.
        cause: String,
        /// Why state was not carried over, if that was tried.
        #[serde(skip_serializing_if = "Option::is_none")]
        not_carried: Option<String>,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        help: Option<String>,
    },
    /// A watched file cannot be used as it is; its module runs on.
    Unreadable {
        /// The module.
        module: String,
        /// Its file.
        file: String,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
    /// A build begins.
    Building {
        /// The modules that it makes.
        modules: Vec<String>,
        /// The files whose change it is for.
        changed: Vec<String>,
    },
    /// A build has ended well, and there is more to say than the swap that
    /// follows says: that it has printed something (`new`), or that no swap follows.
    Built {
        /// The modules that it made.
        modules: Vec<String>,
        /// How long it took, milliseconds.
        took_ms: f64,
        /// What it printed, mostly warnings. May have colours.
        #[serde(skip_serializing_if = "String::is_empty")]
        output: String,
        /// The files may be new; else they are as they were before.
        new: bool,
        /// They hold the code that runs; else what was refused, or gone back from.
        runs: bool,
        /// Processes that do not run it all the same.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        behind: Vec<Behind>,
        /// The build before had failed, or its swap was refused.
        mended: bool,
        /// A changed source whose date is older than what is made of it. Tools
        /// that go by dates take it for old.
        #[serde(skip_serializing_if = "Option::is_none")]
        dated: Option<String>,
    },
    /// Each build changes its own sources, so that one follows the other; they are
    /// made less and less often.
    Restless {
        /// The files.
        files: Vec<String>,
    },
    /// The system does not tell of all changes of files, so they are looked for again
    /// and again. Told once.
    Looking {
        /// Why it does not.
        reason: String,
        /// What to do about it.
        help: String,
    },
    /// What was refused, or could not be read, is again the code that runs.
    Mended {
        /// The modules.
        modules: Vec<String>,
        /// Processes that do not run it all the same.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        behind: Vec<Behind>,
    },
    /// A build has failed; the old code runs on.
    BuildFailed {
        /// The modules that it makes.
        modules: Vec<String>,
        /// The command, and how it failed.
        reason: String,
        /// What it printed. May have colours.
        output: String,
        /// How long it took, milliseconds.
        took_ms: f64,
    },
    /// The manifest was edited, and what could be applied was.
    Manifest {
        /// What holds now, a clause each.
        applied: Vec<String>,
        /// What was to hold, and could not be applied, with the reason.
        failed: Vec<String>,
        /// What holds when the app is started again, a clause each.
        restart: Vec<String>,
    },
    /// The manifest was edited, and cannot be used: the app runs on as it was.
    ManifestRefused {
        /// What is wrong with it, in several lines.
        reason: String,
    },
    /// A guest logged a line.
    Log {
        /// Which process.
        pid: String,
        /// Its version.
        module: String,
        /// How bad it is.
        level: Level,
        /// What it said.
        text: String,
    },
    /// A module has logged more lines in a second than are told.
    LogCut {
        /// The module.
        module: String,
        /// How many lines were left out.
        lines: u64,
    },
    /// A module has caused more events of a kind in a second than are told.
    EventCut {
        /// The module.
        module: String,
        /// The kind: the name of the event.
        what: &'static str,
        /// How many were left out.
        events: u64,
    },
    /// A process ended for a reason that is not orderly.
    Exit {
        /// Which process.
        pid: String,
        /// Its version.
        module: String,
        /// The reason, in a line.
        reason: String,
        /// All that is known: for a trap the backtrace.
        detail: String,
        /// What it was handling.
        last: Option<LastMessage>,
    },
    /// A supervisor has started a child again.
    Restarted {
        /// The child's id.
        child: String,
        /// Its new process.
        pid: String,
    },
    /// A supervisor could not start a child again. It tries until it has done so more
    /// often than it may.
    NotStarted {
        /// The child's id.
        child: String,
        /// Why.
        reason: String,
    },
    /// A process could not cross and stays on its version.
    Stuck {
        /// Which process.
        pid: String,
        /// The release it should have crossed to.
        release: u64,
        /// Why.
        reason: String,
    },
    /// New code failed a process in probation, and it went back with its state
    /// and its message.
    Returned {
        /// Which process.
        pid: String,
        /// The release that failed it.
        release: u64,
        /// How it failed.
        reason: String,
    },
    /// A release failed too often: the former versions are current again.
    WentBack {
        /// The release that failed.
        from: u64,
        /// The release that is current now.
        release: u64,
        /// The last failure.
        reason: String,
    },
}

impl Event {
    /// A swap that was refused.
    pub(crate) fn refused(what: String, error: &SwapError) -> Event {
        let verify = match error {
            SwapError::Verify(verify) => Some(verify),
            _ => None,
        };
        let not_carried = verify.and_then(|verify| verify.error.not_carried());
        Event::Refused {
            what,
            reason: error.to_string(),
            process: verify.map(VerifyError::process),
            cause: verify.map_or_else(|| error.to_string(), |verify| verify.error.cause()),
            not_carried: not_carried.map(str::to_owned),
            help: error.help(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Swap(report) => report.fmt(f),
            Event::Settled(report) => report.fmt(f),
            Event::Refused {
                what,
                process,
                cause,
                help,
                ..
            } => {
                write!(f, "swap of {what} refused, the old code runs on: ")?;
                if let Some(process) = process {
                    write!(f, "process {process}: ")?;
                }
                f.write_str(&one_line(cause))?;
                match help {
                    Some(help) => write!(f, "; help: {help}"),
                    None => Ok(()),
                }
            }
            Event::Unreadable {
                module,
                file,
                reason,
            } => write!(
                f,
                "unreadable {file} {reason}; {module} runs on, and is swapped when its file is back"
            ),
            Event::Building { modules, changed } => {
                let modules = listed(modules);
                write!(f, "building {modules}")?;
                match changed.is_empty() {
                    true => Ok(()),
                    false => write!(f, ": {} changed", listed(changed)),
                }
            }
            Event::Built {
                modules,
                took_ms,
                new,
                runs,
                behind,
                mended,
                dated,
                ..
            } => {
                let word = if *mended { "mended" } else { "built" };
                write!(f, "{word} {} in {took_ms:.0} ms", listed(modules))?;
                if *new {
                    return f.write_str(", and says");
                }
                match runs {
                    true => the_code_that_runs(f, behind, ", nothing to swap")?,
                    false => f.write_str(
                        ": it is what was refused, or gone back from; the old code runs on until it changes",
                    )?,
                }
                match dated {
                    Some(source) => write!(
                        f,
                        "; {source} has changed, but is dated before the last build, so that the build may have \
                         taken it for old: `touch {source}` mends that"
                    ),
                    None => Ok(()),
                }
            }
            Event::Restless { files } => write!(
                f,
                "restless: each build changes {}, and is run again for it, but less and less often; name what it \
                 reads in `sources`, without what it writes",
                listed(files)
            ),
            Event::Looking { reason, help } => write!(
                f,
                "looking for changes of files every second, as {reason}; help: {help}"
            ),
            Event::Mended { modules, behind } => {
                write!(f, "mended {}", listed(modules))?;
                the_code_that_runs(f, behind, "")
            }
            Event::BuildFailed {
                modules, reason, ..
            } => write!(
                f,
                "build-failed {}, the old code runs on: {reason}",
                listed(modules)
            ),
            Event::Manifest {
                applied,
                failed,
                restart,
            } => {
                let mut clauses = applied.clone();
                clauses.extend(failed.iter().map(|it| format!("failed: {it}")));
                if !restart.is_empty() {
                    let then = restart.join(" and ");
                    clauses.push(format!("when the app is started again: {then}"));
                }
                if clauses.is_empty() {
                    clauses.push("says nothing new".into());
                }
                write!(f, "manifest {}", clauses.join("; "))
            }
            Event::ManifestRefused { .. } => {
                f.write_str("manifest-refused, the app runs on as it was")
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
            Event::LogCut { module, lines } => write!(
                f,
                "log-cut {module}: {lines} lines left out, it logs too fast; `lines_per_s` of `[log]` bounds it"
            ),
            Event::EventCut {
                module,
                what,
                events,
            } => write!(
                f,
                "event-cut {module}: {events} more events `{what}` left out, they come too fast"
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
            Event::Stuck {
                pid,
                release,
                reason,
            } => {
                let reason = one_line(reason);
                write!(f, "stuck {pid} before release {release}: {reason}")
            }
            Event::Returned {
                pid,
                release,
                reason,
            } => write!(
                f,
                "returned {pid} from release {release}, state and message kept: {reason}"
            ),
            Event::WentBack {
                from,
                release,
                reason,
            } => write!(
                f,
                "release {from} failed too often and went back (now release {release}): {reason}"
            ),
        }
    }
}

/// That something is the code that runs, and of whom it is not true.
fn the_code_that_runs(f: &mut fmt::Formatter<'_>, behind: &[Behind], more: &str) -> fmt::Result {
    f.write_str(": it is the code that runs")?;
    match behind.is_empty() {
        true => f.write_str(more),
        false => write!(f, ", {}", yet(behind)),
    }
}

/// A text of several lines, as one with a backtrace is, on one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// Where a node's events come from. Made before the node and given to it, it
/// has listeners before anything happens. A listener may be 4,096 events
/// behind; one that falls further behind loses the oldest, and is told how many.
#[derive(Clone, Debug)]
pub struct Events {
    plain: broadcast::Sender<Event>,
    told: broadcast::Sender<Told>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            plain: broadcast::Sender::new(BACKLOG),
            told: broadcast::Sender::new(BACKLOG),
        }
    }
}

/// An event, and when it happened: for those who show it to people. A listener may
/// come to it late.
#[derive(Clone, Debug)]
pub struct Told {
    /// By the system's clock.
    pub at: SystemTime,
    /// What happened.
    pub event: Arc<Event>,
}

impl Told {
    /// Something that happens now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the wall clock is for people, and nothing is decided by it"
    )]
    pub fn now(event: Event) -> Told {
        Told {
            at: SystemTime::now(),
            event: Arc::new(event),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)
    }
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.event.serialize(serializer)
    }
}

impl Events {
    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.plain.subscribe()
    }

    /// The same, with the time of each event.
    pub fn listen_told(&self) -> broadcast::Receiver<Told> {
        self.told.subscribe()
    }

    pub(crate) fn send(&self, event: Event) {
        // Nobody listening is no failure.
        if self.told.receiver_count() > 0 {
            let _ = self.told.send(Told::now(event.clone()));
        }
        if self.plain.receiver_count() > 0 {
            let _ = self.plain.send(event);
        }
    }

    pub(crate) fn heard(&self) -> bool {
        self.told.receiver_count() > 0 || self.plain.receiver_count() > 0
    }
}

/// The message that a process was handling when it failed. Of a long one the
/// beginning is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastMessage {
    /// `message`, `request`, `timer` and so on.
    pub kind: String,
    /// Who has sent it.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// Its payload.
    #[serde(flatten)]
    pub payload: Shown,
}

impl LastMessage {
    fn new(message: &Envelope) -> LastMessage {
        LastMessage {
            kind: kind(message.kind),
            from: message.sender.to_string(),
            tag: message.tag,
            payload: Shown::new(message.tag, message.payload.as_slice()),
        }
    }
}

/// A kind of message, in a word.
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

/// Makes events of what the engine tells.
#[derive(Debug)]
pub(crate) struct Herald {
    pub(crate) events: Events,
    pub(crate) logger: Arc<Logger>,
    pub(crate) system: Arc<GuestSystem>,
    /// Wakes the sweeper after a commit that nobody asked for.
    pub(crate) commits: SyncSender<()>,
}

impl Herald {
    /// Whether an event that a guest can cause without an end is told.
    fn admits(&self, version: &Version<Artifact>, what: Report, bytes: usize) -> bool {
        let now = self.system.clock.now();
        self.events.heard() && self.logger.reports(&version.module, what, bytes, now)
    }
}

impl Observer for Herald {
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

    fn crossed(&self, _pid: Pid, _release: u64, _path: Path) {
        // Counted in the release's progress; a line each would be too many.
    }

    fn stuck(&self, pid: Pid, version: &Arc<Version<Artifact>>, release: u64, reason: &str) {
        if self.admits(version, Report::Stuck, reason.len()) {
            self.events.send(Event::Stuck {
                pid: pid.to_string(),
                release,
                reason: reason.to_owned(),
            });
        }
    }

    fn returned(
        &self,
        pid: Pid,
        version: &Arc<Version<Artifact>>,
        release: u64,
        reason: &ExitReason,
    ) {
        if self.admits(version, Report::Returned, reason.bytes().len()) {
            self.events.send(Event::Returned {
                pid: pid.to_string(),
                release,
                reason: reason.to_string(),
            });
        }
    }

    fn went_back(&self, from: u64, release: &Arc<Release<Artifact>>, reason: &str) {
        self.events.send(Event::WentBack {
            from,
            release: release.id,
            reason: reason.to_owned(),
        });
        // A full channel: it knows already.
        let _ = self.commits.try_send(());
    }
}
