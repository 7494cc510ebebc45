//! The progress of a release: counters of upgraded, failed and reverted processes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Histogram;

/// How a process's state got to the new code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpgradePath {
    /// The image was taken over unchanged.
    Reused,
    /// The state was saved by `save` of the old version and loaded by `load` of the new one.
    Migrated,
    /// The state was discarded, with the operator's consent.
    Reset,
    /// The process had not run yet, so it had no state.
    NotStarted,
}

impl UpgradePath {
    /// Returns the name of the path for display.
    pub fn name(self) -> &'static str {
        match self {
            UpgradePath::Reused => "reused",
            UpgradePath::Migrated => "migrated",
            UpgradePath::Reset => "reset",
            UpgradePath::NotStarted => "not started",
        }
    }
}

/// Counters of one release, which all schedulers add to.
#[derive(Debug, Default)]
pub struct Progress {
    reused: AtomicU64,
    migrated: AtomicU64,
    reset: AtomicU64,
    not_started: AtomicU64,
    /// Upgrades of sleeping processes that the background upgrader has woken.
    pub in_background: AtomicU64,
    /// Upgrades that failed after the commit.
    pub failed: AtomicU64,
    /// Processes that keep their version, with the operator's consent.
    pub exempt: AtomicU64,
    /// Processes that were reverted because new code failed in probation.
    pub reverted: AtomicU64,
    /// Failures that are attributed to the release.
    pub failures: AtomicU64,
    /// Time at which the first upgrade was complete, nanoseconds of the node's clock; 0 if
    /// none is.
    pub first_upgrade: AtomicU64,
    /// Pause of each process for its upgrade, nanoseconds. Processes that had not started
    /// are not included.
    pub pauses: Histogram,
}

impl Progress {
    /// Records that a process was upgraded by this path. `pause` is in nanoseconds, `now`
    /// in nanoseconds of the node's clock. `in_background`: the background upgrader woke the
    /// process for it.
    pub fn record_upgrade(&self, path: UpgradePath, pause: u64, now: u64, in_background: bool) {
        let counter = match path {
            UpgradePath::Reused => &self.reused,
            UpgradePath::Migrated => &self.migrated,
            UpgradePath::Reset => &self.reset,
            UpgradePath::NotStarted => &self.not_started,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if in_background {
            self.in_background.fetch_add(1, Ordering::Relaxed);
        }
        if path != UpgradePath::NotStarted {
            self.pauses.add(pause);
        }
        let _ = self.first_upgrade.compare_exchange(
            0,
            now.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Returns the number of upgrades by each path, without paths that have none.
    pub fn paths(&self) -> Vec<(UpgradePath, u64)> {
        [
            (UpgradePath::Reused, &self.reused),
            (UpgradePath::Migrated, &self.migrated),
            (UpgradePath::Reset, &self.reset),
            (UpgradePath::NotStarted, &self.not_started),
        ]
        .into_iter()
        .map(|(path, counter)| (path, counter.load(Ordering::Relaxed)))
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Returns the number of upgrades by all paths.
    pub fn total(&self) -> u64 {
        self.paths().iter().map(|(_, count)| count).sum()
    }
}
