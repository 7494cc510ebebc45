//! Releases, the pointer at the current one, and the way back.
//!
//! Invariants: release ids only grow, also when code goes back: going back is
//! a new release with the former versions. `id` of [`Code`] is stored after
//! the pointer, so a process that sees a new id finds a release at least as
//! new. Commits are serialised by the history's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use parking_lot::Mutex;

use crate::progress::Progress;
use crate::version::{Digest, Version};

/// An immutable choice of one version for each module.
#[derive(Debug)]
pub struct Release<A> {
    /// Grows with every commit; the empty release has 0.
    pub id: u64,
    /// The release whose choice this is: itself, or the one it went back to.
    pub origin: u64,
    modules: HashMap<Arc<str>, Arc<Version<A>>, FixedState>,
    /// Whoever deployed it consents to lost state where none can cross.
    pub fresh: bool,
    /// How far it has come.
    pub progress: Progress,
}

impl<A> Release<A> {
    /// The version of a module.
    pub fn version(&self, module: &str) -> Option<&Arc<Version<A>>> {
        self.modules.get(module)
    }

    /// All versions, in no order.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Version<A>>> {
        self.modules.values()
    }
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// Another commit came first.
    #[error("release {current} was committed meanwhile (this one was prepared on {base})")]
    Conflict {
        /// The release it was prepared on.
        base: u64,
        /// The current one.
        current: u64,
    },
    /// There is no earlier release.
    #[error("there is no earlier release to go back to")]
    NoEarlier,
}

/// What a failure of new code leads to.
#[derive(Debug)]
#[must_use]
pub enum Verdict<A> {
    /// The release stays.
    Stays,
    /// The threshold was passed: this release, with the former versions, is current now.
    WentBack(Arc<Release<A>>),
}

/// All code of a node.
#[derive(Debug)]
pub struct Code<A> {
    current: ArcSwap<Release<A>>,
    id: AtomicU64,
    /// Failures of one release that make it go back.
    threshold: u64,
    history: Mutex<History<A>>,
}

#[derive(Debug)]
struct History<A> {
    /// Releases that can be gone back to, oldest first; the current one's origin is the last.
    releases: Vec<Arc<Release<A>>>,
    /// Versions that are loaded, oldest first for each module.
    loaded: Vec<Arc<Version<A>>>,
    numbers: HashMap<Arc<str>, u32, FixedState>,
}

/// Releases that can be gone back to.
const HISTORY: usize = 16;

impl<A> Code<A> {
    /// No code yet. `threshold`: failures of one release that make it go back.
    pub fn new(threshold: u64) -> Code<A> {
        let empty = Arc::new(Release {
            id: 0,
            origin: 0,
            modules: HashMap::default(),
            fresh: false,
            progress: Progress::default(),
        });
        Code {
            current: ArcSwap::new(empty),
            id: AtomicU64::new(0),
            threshold: threshold.max(1),
            history: Mutex::new(History {
                releases: Vec::new(),
                loaded: Vec::new(),
                numbers: HashMap::default(),
            }),
        }
    }

    /// The id of the current release: what a process compares on its way in.
    #[inline]
    pub fn current_id(&self) -> u64 {
        // Pairs with the Release in `publish`.
        self.id.load(Ordering::Acquire)
    }

    /// The current release.
    pub fn current(&self) -> Arc<Release<A>> {
        self.current.load_full()
    }

    /// The loaded version with these bytes, if there is one.
    pub fn find(&self, module: &str, digest: Digest) -> Option<Arc<Version<A>>> {
        let history = self.history.lock();
        history
            .loaded
            .iter()
            .find(|version| &*version.module == module && version.digest == digest)
            .cloned()
    }

    /// Makes a version of compiled code. It is loaded, but in no release.
    pub fn load(&self, module: &str, digest: Digest, artifact: A) -> Arc<Version<A>> {
        let mut history = self.history.lock();
        let name: Arc<str> = module.into();
        let number = history.numbers.entry(name.clone()).or_insert(0);
        *number += 1;
        let version = Arc::new(Version::new(name, *number, digest, artifact));
        history.loaded.push(version.clone());
        version
    }

    /// Drops a version that did not make it into a release.
    pub fn discard(&self, version: &Arc<Version<A>>) {
        let mut history = self.history.lock();
        let History {
            loaded, numbers, ..
        } = &mut *history;
        loaded.retain(|other| !Arc::ptr_eq(other, version));
        // Its number was never seen by a process, so it is free again.
        if let Some(number) = numbers.get_mut(&version.module)
            && *number == version.number
        {
            *number -= 1;
        }
    }

    /// Makes `versions` current, those of all other modules staying. One
    /// store: every handler that begins after it runs the new code. `fresh`:
    /// state that cannot cross may be lost.
    pub fn commit(
        &self,
        base: u64,
        versions: &[Arc<Version<A>>],
        fresh: bool,
    ) -> Result<Arc<Release<A>>, CommitError> {
        let mut history = self.history.lock();
        let current = self.current.load_full();
        if current.id != base {
            return Err(CommitError::Conflict {
                base,
                current: current.id,
            });
        }
        let mut modules = current.modules.clone();
        let mut same = true;
        for version in versions {
            let before = modules.insert(version.module.clone(), version.clone());
            same &= before.is_some_and(|before| Arc::ptr_eq(&before, version));
        }
        let id = current.id + 1;
        let release = self.publish(id, id, modules, fresh);
        if same {
            // The same choice again, with other consent: whoever goes back
            // wants the choice before it.
            history.releases.pop();
        }
        history.releases.push(release.clone());
        if history.releases.len() > HISTORY {
            history.releases.remove(0);
        }
        Ok(release)
    }

    /// Goes back to the release before the current one's origin.
    pub fn go_back(&self) -> Result<Arc<Release<A>>, CommitError> {
        let mut history = self.history.lock();
        self.go_back_locked(&mut history)
    }

    fn go_back_locked(&self, history: &mut History<A>) -> Result<Arc<Release<A>>, CommitError> {
        let current = self.current.load_full();
        if history.releases.len() < 2 {
            return Err(CommitError::NoEarlier);
        }
        history.releases.pop();
        let Some(former) = history.releases.last() else {
            return Err(CommitError::NoEarlier);
        };
        // Modules that only the newer release has stay: processes run them.
        let mut modules = current.modules.clone();
        for (name, version) in &former.modules {
            modules.insert(name.clone(), version.clone());
        }
        Ok(self.publish(current.id + 1, former.origin, modules, false))
    }

    fn publish(
        &self,
        id: u64,
        origin: u64,
        modules: HashMap<Arc<str>, Arc<Version<A>>, FixedState>,
        fresh: bool,
    ) -> Arc<Release<A>> {
        let release = Arc::new(Release {
            id,
            origin,
            modules,
            fresh,
            progress: Progress::default(),
        });
        self.current.store(release.clone());
        // Release: pairs with the Acquire in `current_id`.
        self.id.store(id, Ordering::Release);
        release
    }

    /// New code has failed a process. Counted only while `release` is current
    /// and is no way back itself.
    pub fn failed(&self, release: u64) -> Verdict<A> {
        let current = self.current.load_full();
        if current.id != release || current.origin != current.id {
            return Verdict::Stays;
        }
        let failures = current.progress.failures.fetch_add(1, Ordering::AcqRel) + 1;
        if failures < self.threshold {
            return Verdict::Stays;
        }
        let mut history = self.history.lock();
        if self.current.load().id != release {
            return Verdict::Stays;
        }
        match self.go_back_locked(&mut history) {
            Ok(release) => Verdict::WentBack(release),
            Err(_) => Verdict::Stays,
        }
    }

    /// How many processes have still to cross for a release: those in other
    /// versions of its modules that do not stay there.
    pub fn pending(&self, release: &Release<A>) -> usize {
        let history = self.history.lock();
        history
            .loaded
            .iter()
            .filter(|version| {
                release
                    .version(&version.module)
                    .is_some_and(|current| !Arc::ptr_eq(current, version))
            })
            .map(|version| version.pending(release.id))
            .sum()
    }

    /// Versions of a module that are loaded, oldest first.
    pub fn versions(&self, module: &str) -> Vec<Arc<Version<A>>> {
        let history = self.history.lock();
        let mut versions: Vec<_> = history
            .loaded
            .iter()
            .filter(|version| &*version.module == module)
            .cloned()
            .collect();
        versions.sort_by_key(|version| version.number);
        versions
    }

    /// Everything that is loaded.
    pub fn loaded(&self) -> Vec<Arc<Version<A>>> {
        self.history.lock().loaded.clone()
    }

    /// Unloads versions that nobody lives in, that no release to go back to
    /// (at most `keep` of them) has, and through which no state must pass;
    /// answers them. Not while a version is being prepared: it is in no
    /// release yet.
    pub fn unload(&self, keep: usize) -> Vec<Arc<Version<A>>> {
        let mut history = self.history.lock();
        let current = self.current.load_full();
        let excess = history.releases.len().saturating_sub(keep + 1);
        history.releases.drain(..excess);
        let History {
            releases, loaded, ..
        } = &mut *history;
        let released = |version: &Arc<Version<A>>| {
            releases
                .iter()
                .chain([&current])
                .filter_map(|release| release.version(&version.module))
                .any(|other| Arc::ptr_eq(other, version))
        };
        let mut oldest: HashMap<Arc<str>, u32, FixedState> = HashMap::default();
        for version in loaded.iter().filter(|version| version.is_wanted()) {
            let entry = oldest
                .entry(version.module.clone())
                .or_insert(version.number);
            *entry = (*entry).min(version.number);
        }
        let between = |version: &Arc<Version<A>>| {
            let newest = current.version(&version.module).map_or(0, |v| v.number);
            oldest
                .get(&version.module)
                .is_some_and(|oldest| (*oldest..newest).contains(&version.number))
        };
        let (stay, go): (Vec<_>, Vec<_>) = loaded
            .drain(..)
            .partition(|version| version.is_wanted() || released(version) || between(version));
        *loaded = stay;
        go
    }
}
