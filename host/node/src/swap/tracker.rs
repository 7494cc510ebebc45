//! What is known of a release, from its commit until no process has to be upgraded to it any more.
//! Then the result is reported: once for each release, by the thread that detects it first (the
//! deploying one while it waits, or the background upgrader).
//!
//! Two locks, in this order: that of a commit ([`Commit`]), held until the commit is announced and
//! never during anything slow; and that of the tracked release, which is held briefly. The history
//! of `exuvia_code` may be locked while the second one is held, never the other way round. Events
//! are sent under the second one, so that those of two releases do not mix.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_code::Release;
use exuvia_engine::Artifact;
use parking_lot::{Mutex, MutexGuard};

use super::{affected, changed_versions};
use crate::core::Core;
use crate::event::Event;
use crate::report::{ModuleSwap, SwapReport, UpgradeReport};

/// The release that is tracked.
#[derive(Debug, Default)]
pub(super) struct ReleaseTracker {
    committing: Mutex<()>,
    /// The number of rollbacks so far. Changed during a commit.
    rollbacks: AtomicU64,
    tracked: Mutex<Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    /// The last release that was announced; `None` before the first.
    last: Option<Arc<Release<Artifact>>>,
    /// Set while processes have to be upgraded to it.
    open: Option<OpenRelease>,
}

#[derive(Debug)]
struct OpenRelease {
    committed: Committed,
    /// When it was announced, by the node's clock.
    at: u64,
}

/// What is known of a release at its commit.
#[derive(Debug)]
pub(super) struct Committed {
    release: Arc<Release<Artifact>>,
    modules: Vec<ModuleSwap>,
    /// The number of processes of the changed modules.
    processes: u64,
    /// When the change was noticed, by the node's clock.
    noticed: u64,
}

impl Committed {
    pub(super) fn of(
        release: &Arc<Release<Artifact>>,
        report: &SwapReport,
        noticed: u64,
    ) -> Committed {
        Committed {
            release: release.clone(),
            modules: report.modules.clone(),
            processes: report.processes,
            noticed,
        }
    }
}

/// How far the upgrade to a release has got.
pub(super) struct UpgradeFigures {
    /// The upgrades, by path.
    pub(super) upgraded: Vec<(&'static str, u64)>,
    /// The number of processes whose upgrade failed.
    pub(super) failed: u64,
    /// Microseconds that an upgrade paused a process: median, 99th percentile, maximum.
    pub(super) pause_us: [f64; 3],
    /// When the first process ran new code, by the node's clock.
    pub(super) first: Option<u64>,
}

impl UpgradeFigures {
    pub(super) fn of(release: &Release<Artifact>) -> UpgradeFigures {
        let progress = &release.progress;
        let microseconds = |q| progress.pauses.quantile(q) as f64 / 1e3;
        let paths = progress.paths().into_iter();
        let first = progress.first_upgrade.load(Ordering::Relaxed);
        UpgradeFigures {
            upgraded: paths.map(|(path, count)| (path.name(), count)).collect(),
            failed: progress.failed.load(Ordering::Relaxed),
            pause_us: [microseconds(0.5), microseconds(0.99), microseconds(1.0)],
            first: (first > 0).then_some(first),
        }
    }
}

/// Returns the milliseconds between two times of the node's clock.
pub(super) fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

impl OpenRelease {
    fn report(self, superseded_by: Option<u64>, now: u64) -> UpgradeReport {
        let Committed {
            release,
            modules,
            processes,
            noticed,
        } = self.committed;
        let figures = UpgradeFigures::of(&release);
        let progress = &release.progress;
        UpgradeReport {
            release: release.id,
            rollback: release.origin != release.id,
            superseded_by,
            modules,
            processes,
            upgraded: figures.upgraded,
            background: progress.in_background.load(Ordering::Relaxed),
            failed: figures.failed,
            reverted: progress.reverted.load(Ordering::Relaxed),
            exempt: progress.exempt.load(Ordering::Relaxed),
            pause_us: figures.pause_us,
            running_ms: figures.first.map(|first| milliseconds(noticed, first)),
            took_ms: milliseconds(self.at, now),
        }
    }
}

/// A commit in progress: no other one begins until this is dropped.
pub(super) struct Commit<'a> {
    tracker: &'a ReleaseTracker,
    _committing: MutexGuard<'a, ()>,
}

impl ReleaseTracker {
    /// Returns the number of rollbacks by an operator so far.
    pub(super) fn rollbacks(&self) -> u64 {
        self.rollbacks.load(Ordering::Acquire)
    }

    /// Begins a commit. A rollback by the runtime, and an upgrade that is complete by now, are
    /// reported before the release that is committed.
    pub(super) fn begin_commit(&self, core: &Core) -> Commit<'_> {
        let commit = Commit {
            tracker: self,
            _committing: self.committing.lock(),
        };
        commit.catch_up(core);
        self.is_upgrading(core);
        commit
    }

    /// Tracks the current release if the runtime has rolled back meanwhile. A commit in progress
    /// has done that.
    pub(super) fn catch_up(&self, core: &Core) {
        if let Some(committing) = self.committing.try_lock() {
            let commit = Commit {
                tracker: self,
                _committing: committing,
            };
            commit.catch_up(core);
        }
    }

    /// Returns whether processes still have to be upgraded to the tracked release. Reports the
    /// result when there are none left.
    pub(super) fn is_upgrading(&self, core: &Core) -> bool {
        let mut tracked = self.tracked.lock();
        let Some(open) = &tracked.open else {
            return false;
        };
        if core.code.pending(&open.committed.release) > 0 {
            return true;
        }
        let Some(open) = tracked.open.take() else {
            return false;
        };
        let report = open.report(None, core.now());
        core.events.send(Event::UpgradeCompleted(report.clone()));
        drop(tracked);
        core.log.completed(&report);
        false
    }
}

impl Commit<'_> {
    /// Returns the current release, which is tracked: if the runtime has rolled back meanwhile, that is noted first.
    pub(super) fn current(&self, core: &Core) -> Arc<Release<Artifact>> {
        loop {
            self.catch_up(core);
            let current = core.code.current();
            let last = self.tracker.tracked.lock().last.as_ref().map(|it| it.id);
            if last.is_none_or(|last| last == current.id) {
                return current;
            }
        }
    }

    /// Notes that an operator has rolled back: deployments that are being prepared are rejected.
    pub(super) fn note_rollback(&self) {
        self.tracker.rollbacks.fetch_add(1, Ordering::Release);
    }

    /// Tracks a release that was just committed, after sending `event`. The previous one is
    /// superseded, if it was still tracked.
    pub(super) fn announce(&self, core: &Core, committed: Committed, event: Option<Event>) {
        let at = core.now();
        let mut tracked = self.tracker.tracked.lock();
        if let Some(open) = tracked.open.take() {
            let by = Some(committed.release.id);
            let report = open.report(by, at);
            core.events.send(Event::UpgradeCompleted(report));
        }
        tracked.last = Some(committed.release.clone());
        if let Some(event) = event {
            core.events.send(event);
        }
        // If no process has to be upgraded, there is nothing more to report.
        if committed.processes > 0 || core.code.pending(&committed.release) > 0 {
            tracked.open = Some(OpenRelease { committed, at });
        }
    }

    /// Tracks the current release if the runtime has rolled back meanwhile. Between a commit and its
    /// announcement the report would come too early, which the lock prevents.
    fn catch_up(&self, core: &Core) {
        let current = core.code.current();
        let last = self.tracker.tracked.lock().last.clone();
        let Some(last) = last.filter(|last| last.id != current.id) else {
            return;
        };
        let versions = changed_versions(&last, &current);
        let committed = Committed {
            modules: ModuleSwap::of(&last, &versions),
            processes: affected(core, &current, &versions),
            noticed: core.now(),
            release: current,
        };
        (core.log).rolled_back(&core.code, &committed.release, None);
        // The rollback itself was reported when it happened.
        self.announce(core, committed, None);
    }
}
