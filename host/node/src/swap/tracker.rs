//! Tracks a release from its commit until no process has to be upgraded to it any more, and then
//! reports the result: once for each release, by the thread that detects it first (the deploying
//! one while it waits, or the background upgrader).
//!
//! `Inner::following` is locked briefly, and may be held while the history of `exuvia_code` is
//! locked, never the other way round. Events are sent under it, so that those of two releases do
//! not mix.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_code::Release;
use exuvia_engine::Artifact;
use serde::Serialize;

use crate::event::Event;
use crate::node::Node;
use crate::report::{ModuleSwap, changes};

/// The result of the upgrade to a release.
#[derive(Clone, Debug, Serialize)]
pub struct UpgradeReport {
    /// The release.
    pub release: u64,
    /// Whether it is a rollback.
    pub rollback: bool,
    /// The modules that it changed.
    pub modules: Vec<ModuleSwap>,
    /// The release that superseded this one before all processes were upgraded; `None`: no process
    /// has to be upgraded any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<u64>,
    /// The number of processes of the changed modules at the commit.
    pub processes: u64,
    /// The upgrades, by path.
    pub upgraded: Vec<(&'static str, u64)>,
    /// The number of these upgrades for which the background upgrader woke the process. The other
    /// processes were upgraded when they had something to do.
    pub background: u64,
    /// The number of processes whose upgrade failed.
    pub failed: u64,
    /// The number of processes that were reverted in probation, so far.
    pub reverted: u64,
    /// The number of processes that are exempt on request.
    pub exempt: u64,
    /// Microseconds that an upgrade paused a process: median, 99th percentile, maximum.
    pub pause_us: [f64; 3],
    /// Milliseconds from the first sign of the change (the file event, or the call) to the first
    /// process on new code; `None`: there is none.
    pub running_ms: Option<f64>,
    /// Milliseconds from the commit until the end was detected.
    pub took_ms: f64,
}

impl fmt::Display for UpgradeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.superseded_by {
            Some(_) => "superseded",
            None => "upgrade-completed",
        };
        write!(f, "{word}{}", changes(&self.modules))?;
        let upgraded: u64 = self.upgraded.iter().map(|(_, count)| count).sum();
        if let Some(by) = self.superseded_by {
            write!(
                f,
                " by release {by}  {upgraded} of {} processes had been upgraded",
                self.processes
            )?;
        }
        for (index, (path, count)) in self.upgraded.iter().enumerate() {
            let before = match (index, self.superseded_by) {
                (0, None) => "  ",
                (0, Some(_)) => ": ",
                _ => ", ",
            };
            write!(f, "{before}{count} {path}")?;
        }
        if upgraded > 0 {
            let [p50, p99, max] = self.pause_us;
            write!(
                f,
                " ({} in the background)  pause p50/p99/max {p50:.0}/{p99:.0}/{max:.0} us",
                self.background
            )?;
        }
        write!(f, "  {} failed, {} reverted", self.failed, self.reverted)?;
        if self.exempt > 0 {
            write!(f, ", {} exempt", self.exempt)?;
        }
        if let Some(running) = self.running_ms {
            write!(f, "  change to new code {running:.0} ms")?;
        }
        write!(f, "  {:.0} ms after the commit", self.took_ms)?;
        if self.failed > 0 {
            f.write_str(
                "; failed processes keep their old code: `exuvia ps` shows why, `exuvia restart PID` starts one on the current code with a fresh state",
            )?;
        }
        Ok(())
    }
}

/// The release that is tracked.
#[derive(Debug, Default)]
pub(crate) struct ReleaseTracker {
    /// The last release that was announced; `None` before the first.
    last: Option<Arc<Release<Artifact>>>,
    /// Set while processes have to be upgraded to it.
    open: Option<OpenRelease>,
}

#[derive(Debug)]
struct OpenRelease {
    release: Arc<Release<Artifact>>,
    modules: Vec<ModuleSwap>,
    processes: u64,
    /// When the change was noticed and when the release was committed, by the node's clock.
    noticed: u64,
    committed: u64,
}

impl OpenRelease {
    fn report(self, superseded_by: Option<u64>, now: u64) -> Event {
        let progress = &self.release.progress;
        let microseconds = |q| progress.pauses.quantile(q) as f64 / 1e3;
        let milliseconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
        let first = progress.first_upgrade.load(Ordering::Relaxed);
        Event::UpgradeCompleted(UpgradeReport {
            release: self.release.id,
            rollback: self.release.origin != self.release.id,
            superseded_by,
            processes: self.processes,
            upgraded: progress
                .paths()
                .into_iter()
                .map(|(path, count)| (path.name(), count))
                .collect(),
            background: progress.in_background.load(Ordering::Relaxed),
            failed: progress.failed.load(Ordering::Relaxed),
            reverted: progress.reverted.load(Ordering::Relaxed),
            exempt: progress.exempt.load(Ordering::Relaxed),
            pause_us: [microseconds(0.5), microseconds(0.99), microseconds(1.0)],
            running_ms: (first > 0).then(|| milliseconds(self.noticed, first)),
            took_ms: milliseconds(self.committed, now),
            modules: self.modules,
        })
    }
}

/// What is known of a release at its commit.
pub(crate) struct Committed {
    pub(crate) release: Arc<Release<Artifact>>,
    pub(crate) modules: Vec<ModuleSwap>,
    /// The number of processes of the changed modules.
    pub(crate) processes: u64,
    /// When the change was noticed, by the node's clock.
    pub(crate) noticed: u64,
}

impl Node {
    /// Tracks a release that was just committed, after sending `line`. The previous one is
    /// superseded, if it was still tracked.
    pub(crate) fn track(&self, committed: Committed, line: Option<Event>) {
        let inner = &self.0;
        let now = inner.system.clock.now();
        let mut following = inner.following.lock();
        if let Some(open) = following.open.take() {
            let by = Some(committed.release.id);
            inner.events.send(open.report(by, now));
        }
        following.last = Some(committed.release.clone());
        if let Some(line) = line {
            inner.events.send(line);
        }
        // If no process has to be upgraded, there is nothing more to report.
        if committed.processes > 0 || inner.code.pending(&committed.release) > 0 {
            following.open = Some(OpenRelease {
                release: committed.release,
                modules: committed.modules,
                processes: committed.processes,
                noticed: committed.noticed,
                committed: now,
            });
        }
    }

    /// Returns whether processes still have to be upgraded to the tracked release. Reports the
    /// result when there are none left.
    pub(crate) fn is_upgrading(&self) -> bool {
        let inner = &self.0;
        let mut following = inner.following.lock();
        let Some(open) = &following.open else {
            return false;
        };
        if inner.code.pending(&open.release) > 0 {
            return true;
        }
        if let Some(open) = following.open.take() {
            let now = inner.system.clock.now();
            inner.events.send(open.report(None, now));
        }
        false
    }

    /// Tracks the current release if the runtime has rolled back meanwhile. The caller must hold
    /// `Inner::swapping`: between a commit and [`Node::track`] the report would come too early.
    pub(crate) fn catch_up(&self) {
        let inner = &self.0;
        let current = inner.code.current();
        let last = inner.following.lock().last.clone();
        let Some(last) = last.filter(|last| last.id != current.id) else {
            return;
        };
        let versions: Vec<_> = current
            .versions()
            .filter(|version| {
                last.version(&version.module)
                    .is_none_or(|before| !Arc::ptr_eq(before, version))
            })
            .cloned()
            .collect();
        let committed = Committed {
            modules: ModuleSwap::of(&last, &versions),
            processes: self.affected(&current, &versions),
            noticed: inner.system.clock.now(),
            release: current,
        };
        // The rollback itself was reported when it happened.
        self.track(committed, None);
    }
}
