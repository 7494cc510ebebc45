//! What the engine reports, as events, and the message that a process was handling.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use exuvia_code::{Release, UpgradePath, Version};
use exuvia_engine::{Artifact, GuestSystem, Observer};
use exuvia_process::{Envelope, ExitReason, Kind, Pid};
use serde::Serialize;

use crate::event::{Event, Events, Level};
use crate::logger::{Logger, Report};
use crate::render::Rendered;
use crate::text::excerpt;

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
        match payload.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", excerpt(&payload, LONG)),
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
