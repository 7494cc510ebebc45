//! Makes events of what the engine reports.

use std::sync::Arc;

use exuvia_code::{Release, UpgradePath, Version};
use exuvia_engine::{Artifact, GuestSystem, Observer};
use exuvia_process::{Envelope, ExitReason, Pid};

use super::Commits;
use crate::event::{Event, Events, LastMessage, Level};
use crate::logger::{Logger, Report};

/// Turns what the engine reports into events.
#[derive(Debug)]
pub(super) struct EventObserver {
    pub(super) events: Events,
    pub(super) logger: Arc<Logger>,
    pub(super) system: Arc<GuestSystem>,
    /// Wakes the background upgrader after a rollback by the runtime.
    pub(super) commits: Commits,
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
        self.commits.announce();
    }
}
