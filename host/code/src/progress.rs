//! How far a release has come among the processes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Histogram;

/// How a process's state came into new code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// The image was taken over as it was.
    Carried,
    /// `save` in the old version, `load` in the new one.
    Migrated,
    /// The state was given up, with consent.
    Fresh,
    /// The process had not run yet: there was no state.
    Unborn,
}

impl Path {
    /// In a word, for people.
    pub fn name(self) -> &'static str {
        match self {
            Path::Carried => "carried",
            Path::Migrated => "migrated",
            Path::Fresh => "fresh",
            Path::Unborn => "not yet run",
        }
    }
}

/// Counters of one release; many schedulers add to them.
#[derive(Debug, Default)]
pub struct Progress {
    carried: AtomicU64,
    migrated: AtomicU64,
    fresh: AtomicU64,
    unborn: AtomicU64,
    /// Of the crossings, those of sleepers that the sweeper has woken.
    pub swept: AtomicU64,
    /// Crossings that failed after the commit.
    pub stuck: AtomicU64,
    /// Processes that were left on their version, with consent.
    pub left: AtomicU64,
    /// Processes that went back because new code failed in probation.
    pub returned: AtomicU64,
    /// Failures that the release is held responsible for.
    pub failures: AtomicU64,
    /// When the first process had crossed, nanoseconds of the node's clock; 0 if none has.
    pub first_crossing: AtomicU64,
    /// How long each process stood still for its crossing, nanoseconds.
    pub pauses: Histogram,
}

impl Progress {
    /// A process has crossed by this path. `swept`: the sweeper woke it for that.
    pub fn crossed(&self, path: Path, pause: u64, now: u64, swept: bool) {
        let counter = match path {
            Path::Carried => &self.carried,
            Path::Migrated => &self.migrated,
            Path::Fresh => &self.fresh,
            Path::Unborn => &self.unborn,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if swept {
            self.swept.fetch_add(1, Ordering::Relaxed);
        }
        if path != Path::Unborn {
            self.pauses.add(pause);
        }
        let _ = self.first_crossing.compare_exchange(
            0,
            now.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// How many crossed by each path: those with any.
    pub fn paths(&self) -> Vec<(Path, u64)> {
        [
            (Path::Carried, &self.carried),
            (Path::Migrated, &self.migrated),
            (Path::Fresh, &self.fresh),
            (Path::Unborn, &self.unborn),
        ]
        .into_iter()
        .map(|(path, counter)| (path, counter.load(Ordering::Relaxed)))
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Processes that have crossed, by whatever path.
    pub fn total(&self) -> u64 {
        self.paths().iter().map(|(_, count)| count).sum()
    }
}
