//! Follows a release from its commit until no process has to cross to it any
//! more, and says then what became of it: once for each release, whoever
//! notices first (the deployer while it waits, or the sweeper).
//!
//! `Inner::following` is locked for a moment only, and may be held while the
//! history of `exuvia_code` is locked, never the other way round. What is said
//! is sent under it, so that the lines of two releases do not mix.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_code::Release;
use exuvia_engine::Artifact;
use serde::Serialize;

use crate::event::Event;
use crate::node::Node;
use crate::swap::{ModuleSwap, changes};

/// What became of a release.
#[derive(Clone, Debug, Serialize)]
pub struct SettledReport {
    /// The release.
    pub release: u64,
    /// It is a way back to an earlier one.
    pub back: bool,
    /// What it changed.
    pub modules: Vec<ModuleSwap>,
    /// The release that came before all had crossed to this one; `None`:
    /// nobody has to cross any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<u64>,
    /// Processes of the changed modules at the commit.
    pub processes: u64,
    /// Crossings, by path.
    pub crossed: Vec<(&'static str, u64)>,
    /// Of the crossings, those of sleepers that the sweeper woke. The others
    /// crossed when they had something to do.
    pub swept: u64,
    /// Processes that could not cross.
    pub stuck: u64,
    /// Processes that new code failed in probation, so far.
    pub returned: u64,
    /// Processes that were left on their version, with consent.
    pub left: u64,
    /// Microseconds that a process stood still: median, 99th percentile, longest.
    pub pause_us: [f64; 3],
    /// Milliseconds from the first sign of the change (the file event, or the
    /// call) to the first process on new code; `None`: there is none.
    pub running_ms: Option<f64>,
    /// Milliseconds from the commit until this was noticed.
    pub took_ms: f64,
}

impl fmt::Display for SettledReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.superseded_by {
            Some(_) => "superseded",
            None => "settled",
        };
        write!(f, "{word}{}", changes(&self.modules))?;
        let crossed: u64 = self.crossed.iter().map(|(_, count)| count).sum();
        if let Some(by) = self.superseded_by {
            write!(
                f,
                " by release {by}  {crossed} of {} processes had crossed",
                self.processes
            )?;
        }
        for (index, (path, count)) in self.crossed.iter().enumerate() {
            let before = match (index, self.superseded_by) {
                (0, None) => "  ",
                (0, Some(_)) => ": ",
                _ => ", ",
            };
            write!(f, "{before}{count} {path}")?;
        }
        if crossed > 0 {
            let [p50, p99, max] = self.pause_us;
            write!(
                f,
                " ({} by the sweeper)  pause p50/p99/max {p50:.0}/{p99:.0}/{max:.0} us",
                self.swept
            )?;
        }
        write!(f, "  {} stuck, {} returned", self.stuck, self.returned)?;
        if self.left > 0 {
            write!(f, ", {} left on their version", self.left)?;
        }
        if let Some(running) = self.running_ms {
            write!(f, "  change to new code {running:.0} ms")?;
        }
        write!(f, "  {:.0} ms after the commit", self.took_ms)
    }
}

/// Which release is followed.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// The last one that was announced; `None` before the first.
    last: Option<Arc<Release<Artifact>>>,
    /// Set while processes have to cross to it.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    release: Arc<Release<Artifact>>,
    modules: Vec<ModuleSwap>,
    processes: u64,
    /// Times of the node's clock.
    noticed: u64,
    committed: u64,
}

impl Open {
    fn report(self, superseded_by: Option<u64>, now: u64) -> Event {
        let progress = &self.release.progress;
        let microseconds = |q| progress.pauses.quantile(q) as f64 / 1e3;
        let milliseconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
        let first = progress.first_crossing.load(Ordering::Relaxed);
        Event::Settled(SettledReport {
            release: self.release.id,
            back: self.release.origin != self.release.id,
            superseded_by,
            processes: self.processes,
            crossed: progress
                .paths()
                .into_iter()
                .map(|(path, count)| (path.name(), count))
                .collect(),
            swept: progress.swept.load(Ordering::Relaxed),
            stuck: progress.stuck.load(Ordering::Relaxed),
            returned: progress.returned.load(Ordering::Relaxed),
            left: progress.left.load(Ordering::Relaxed),
            pause_us: [microseconds(0.5), microseconds(0.99), microseconds(1.0)],
            running_ms: (first > 0).then(|| milliseconds(self.noticed, first)),
            took_ms: milliseconds(self.committed, now),
            modules: self.modules,
        })
    }
}

/// A release as whoever committed it knows it.
pub(crate) struct Committed {
    pub(crate) release: Arc<Release<Artifact>>,
    pub(crate) modules: Vec<ModuleSwap>,
    /// Processes of the changed modules.
    pub(crate) processes: u64,
    /// When the change was noticed, by the node's clock.
    pub(crate) noticed: u64,
}

impl Node {
    /// Follows a release that was committed just now, after saying `line`. The
    /// one before is superseded, if it was still followed.
    pub(crate) fn follow(&self, committed: Committed, line: Option<Event>) {
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
        // Where nobody has to cross there is nothing more to say.
        if committed.processes > 0 || inner.code.pending(&committed.release) > 0 {
            following.open = Some(Open {
                release: committed.release,
                modules: committed.modules,
                processes: committed.processes,
                noticed: committed.noticed,
                committed: now,
            });
        }
    }

    /// Whether processes have still to cross to the release that is followed.
    /// Says what became of it when none has.
    pub(crate) fn is_crossing(&self) -> bool {
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

    /// Follows the current release if code has gone back by itself meanwhile.
    /// Only for who holds `Inner::swapping`: between a commit and `follow` it
    /// would speak too early.
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
            processes: self.concerned(&current, &versions),
            noticed: inner.system.clock.now(),
            release: current,
        };
        // The way back itself was told when it happened.
        self.follow(committed, None);
    }
}
