//! Releases, the pointer to the current one, and rollback.
//!
//! Invariants: release ids only grow, also on rollback: a rollback is a new release
//! with the former versions. `id` of [`CodeServer`] is stored after the pointer, so a
//! process that sees a new id finds a release at least as new. Commits are serialized
//! by the lock of `history`, and versions are unloaded under it. Versions of the
//! current release are never unloaded.
//!
//! Lock order: `history` is the only lock of this crate.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::progress::Progress;
use crate::sync::{AtomicU64, Mutex, Ordering, Pointer};
use crate::unload::RequiredVersions;
use crate::version::{Digest, Version, VersionRef};

/// An immutable choice of one version for each module.
#[derive(Debug)]
pub struct Release<A> {
    /// Id of the release, one more than that of the release before; the empty release has 0.
    pub id: u64,
    /// Id of the release that chose these versions: this one, or the target of the
    /// rollback that made it.
    pub origin: u64,
    modules: HashMap<Arc<str>, Arc<Version<A>>, FixedState>,
    /// Whether the operator consents to discarding state that can be neither reused nor
    /// migrated (`--fresh`).
    pub fresh: bool,
    /// The progress of its upgrades.
    pub progress: Progress,
}

impl<A> Release<A> {
    /// Returns the version of a module. `None`: the release has no such module.
    pub fn version(&self, module: &str) -> Option<&Arc<Version<A>>> {
        self.modules.get(module)
    }

    /// Returns all versions, in no particular order.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Version<A>>> {
        self.modules.values()
    }
}

/// Why a commit or a rollback failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// The current release has other versions of these modules than the base.
    #[error("release {current} was committed meanwhile (this one was prepared on {base})")]
    Conflict {
        /// The release on which it was prepared.
        base: u64,
        /// The current release.
        current: u64,
    },
    /// There is no earlier release.
    #[error("there is no earlier release to roll back to")]
    NoEarlier,
}

/// How a release is committed.
#[derive(Debug)]
pub struct HowToCommit<'a, A> {
    /// The release that must be current: the new one then has the number after it.
    pub on: Option<&'a Release<A>>,
    /// Whether state that can be neither reused nor migrated may be discarded.
    pub fresh: bool,
    /// The earlier release whose versions these are: [`Release::origin`].
    pub restores: Option<u64>,
}

impl<A> Default for HowToCommit<'_, A> {
    fn default() -> Self {
        HowToCommit {
            on: None,
            fresh: false,
            restores: None,
        }
    }
}

/// The effect of a failure of new code on the release.
#[derive(Debug)]
#[must_use]
pub enum Verdict<A> {
    /// The release is not rolled back.
    Stays,
    /// The threshold was reached: this release, with the former versions, is current now.
    RolledBack(Arc<Release<A>>),
}

/// All code of a node: the current release, earlier releases and loaded versions.
#[derive(Debug)]
pub struct CodeServer<A> {
    current: Pointer<Release<A>>,
    id: AtomicU64,
    /// Number of failures of one release at which it is rolled back.
    threshold: u64,
    history: Mutex<History<A>>,
}

#[derive(Debug)]
struct History<A> {
    /// Rollback targets, oldest first. The last entry is the origin of the current release.
    releases: Vec<Arc<Release<A>>>,
    /// Loaded versions, oldest first for each module.
    loaded: Vec<Arc<Version<A>>>,
    numbers: HashMap<Arc<str>, u32, FixedState>,
}

/// The most entries of [`History::releases`].
const HISTORY: usize = 16;

impl<A> CodeServer<A> {
    /// Creates a server without code. `threshold` is the number of failures of one
    /// release at which it is rolled back, at least 1.
    pub fn new(threshold: u64) -> CodeServer<A> {
        CodeServer::after(0, threshold)
    }

    /// Creates a server without code, as [`CodeServer::new`] does, whose first release has the number after `last`.
    pub fn after(last: u64, threshold: u64) -> CodeServer<A> {
        let empty = Arc::new(Release {
            id: last,
            origin: last,
            modules: HashMap::default(),
            fresh: false,
            progress: Progress::default(),
        });
        CodeServer {
            current: Pointer::new(empty),
            id: AtomicU64::new(last),
            threshold: threshold.max(1),
            history: Mutex::new(History {
                releases: Vec::new(),
                loaded: Vec::new(),
                numbers: HashMap::default(),
            }),
        }
    }

    /// Returns the id of the current release, which a process compares before each handler.
    #[inline]
    pub fn current_id(&self) -> u64 {
        // Pairs with the Release in `publish`.
        self.id.load(Ordering::Acquire)
    }

    /// Returns the current release.
    pub fn current(&self) -> Arc<Release<A>> {
        self.current.load()
    }

    /// Returns a reference for a process of a module's current version, with the
    /// release's id. `None`: the release has no such module.
    pub fn enter(&self, module: &str) -> Option<(u64, VersionRef<A>)> {
        self.acquire(module, Version::enter, |release| release.id)
    }

    /// Returns a reference that keeps a module's current version loaded, with the
    /// release. `None`: the release has no such module.
    pub fn hold(&self, module: &str) -> Option<(Arc<Release<A>>, VersionRef<A>)> {
        self.acquire(module, Version::hold, Arc::clone)
    }

    fn acquire<R>(
        &self,
        module: &str,
        come: impl Fn(&Arc<Version<A>>) -> Option<VersionRef<A>>,
        of: impl Fn(&Arc<Release<A>>) -> R,
    ) -> Option<(R, VersionRef<A>)> {
        loop {
            let acquired = self.current.with(|release| {
                let version_ref = come(release.version(module)?);
                Some(version_ref.map(|version_ref| (of(release), version_ref)))
            });
            // A version that was unloaded since is not in the current release any more:
            // read the pointer again.
            if let Some(acquired) = acquired? {
                return Some(acquired);
            }
        }
    }

    /// Returns a reference to the loaded version with this digest, if there is one.
    pub fn find(&self, module: &str, digest: Digest) -> Option<VersionRef<A>> {
        let history = self.history.lock();
        let mut loaded = history.loaded.iter();
        loaded
            .find(|version| &*version.module == module && version.digest == digest)?
            .hold()
    }

    /// Returns references to the loaded versions between two of the same module, ordered
    /// from `from` to `to`. State may be migrated through them.
    pub fn between(&self, from: &Version<A>, to: &Version<A>) -> Vec<VersionRef<A>> {
        let (low, high) = (from.number.min(to.number), from.number.max(to.number));
        let history = self.history.lock();
        let mut between: Vec<VersionRef<A>> = history
            .loaded
            .iter()
            .filter(|it| it.module == from.module && low < it.number && it.number < high)
            .filter_map(Version::hold)
            .collect();
        between.sort_by_key(|version| version.number);
        if from.number > to.number {
            between.reverse();
        }
        between
    }

    /// Loads compiled code as a new version and returns a reference to it. The version
    /// is in no release yet, so it stays loaded only as long as it is referenced.
    pub fn load(&self, module: &str, digest: Digest, artifact: A) -> VersionRef<A> {
        let mut history = self.history.lock();
        let name: Arc<str> = module.into();
        let number = history.numbers.entry(name.clone()).or_insert(0);
        *number += 1;
        let version = Arc::new(Version::new(name, *number, digest, artifact));
        let held = version.hold().expect("it is open: no thread has seen it");
        history.loaded.push(version);
        held
    }

    /// Unloads a version that was not committed. Returns whether it was unloaded: it is
    /// not if it has other users, or is in a release after all.
    pub fn discard(&self, held: VersionRef<A>) -> bool {
        let mut history = self.history.lock();
        let version = held.version().clone();
        drop(held);
        let History {
            releases,
            loaded,
            numbers,
        } = &mut *history;
        if is_in(releases.iter(), &version) || !version.close() {
            return false;
        }
        loaded.retain(|other| !Arc::ptr_eq(other, &version));
        // No process has seen its number, so the number can be used again.
        if let Some(number) = numbers.get_mut(&version.module)
            && *number == version.number
        {
            *number -= 1;
        }
        true
    }

    /// Makes `versions` current and keeps those of all other modules. Returns the new
    /// release. The commit is one store: every handler that begins after it runs the new
    /// code. `fresh`: state that can be neither reused nor migrated may be discarded.
    ///
    /// # Errors
    ///
    /// Returns [`CommitError::Conflict`] if the current release does not have the same
    /// versions of these modules as `base`, on which they were prepared.
    pub fn commit(
        &self,
        base: &Release<A>,
        versions: &[Arc<Version<A>>],
        fresh: bool,
    ) -> Result<Arc<Release<A>>, CommitError> {
        let how = HowToCommit {
            fresh,
            ..HowToCommit::default()
        };
        self.commit_with(base, versions, &how)
    }

    /// Commits as [`CodeServer::commit`] does, with more said of it.
    ///
    /// # Errors
    ///
    /// Returns [`CommitError::Conflict`] as [`CodeServer::commit`], and if another release is current than the one that
    /// was expected.
    pub fn commit_with(
        &self,
        base: &Release<A>,
        versions: &[Arc<Version<A>>],
        how: &HowToCommit<'_, A>,
    ) -> Result<Arc<Release<A>>, CommitError> {
        let mut history = self.history.lock();
        let current = self.current.load();
        check_base(base, &current, versions)?;
        if how.on.is_some_and(|expected| expected.id != current.id) {
            return Err(CommitError::Conflict {
                base: base.id,
                current: current.id,
            });
        }
        let mut modules = current.modules.clone();
        let mut same = true;
        for version in versions {
            let before = modules.insert(version.module.clone(), version.clone());
            same &= before.is_some_and(|before| Arc::ptr_eq(&before, version));
        }
        let origin = how.restores.unwrap_or(current.id + 1);
        let release = self.publish(&current, origin, modules, how.fresh);
        if how.restores.is_some() {
            // As after a rollback: what came after that release is not rolled back to.
            history.releases.retain(|release| release.origin < origin);
        } else if same {
            // The same versions again, with other consent: a rollback must restore the
            // versions before them.
            history.releases.pop();
        }
        history.releases.push(release.clone());
        if history.releases.len() > HISTORY {
            history.releases.remove(0);
        }
        Ok(release)
    }

    /// Rolls back to the release before the origin of the current one. Returns the new
    /// release, which has the former versions.
    ///
    /// # Errors
    ///
    /// Returns [`CommitError::NoEarlier`] if there is no earlier release.
    pub fn roll_back(&self) -> Result<Arc<Release<A>>, CommitError> {
        let mut history = self.history.lock();
        self.roll_back_locked(&mut history)
    }

    fn roll_back_locked(&self, history: &mut History<A>) -> Result<Arc<Release<A>>, CommitError> {
        let current = self.current.load();
        if history.releases.len() < 2 {
            return Err(CommitError::NoEarlier);
        }
        history.releases.pop();
        let Some(former) = history.releases.last() else {
            return Err(CommitError::NoEarlier);
        };
        // Modules that only the newer release has are kept: processes run them.
        let mut modules = current.modules.clone();
        for (name, version) in &former.modules {
            modules.insert(name.clone(), version.clone());
        }
        Ok(self.publish(&current, former.origin, modules, false))
    }

    /// Returns the releases that can be rolled back to, newest first.
    pub fn rollback_targets(&self) -> Vec<Arc<Release<A>>> {
        let history = self.history.lock();
        // The last entry is the origin of the current release.
        let targets = history.releases.iter().rev().skip(1);
        targets.cloned().collect()
    }

    /// Publishes a new release as the current one. `origin`: see [`Release::origin`].
    fn publish(
        &self,
        before: &Release<A>,
        origin: u64,
        modules: HashMap<Arc<str>, Arc<Version<A>>, FixedState>,
        fresh: bool,
    ) -> Arc<Release<A>> {
        let id = before.id + 1;
        for (name, version) in &modules {
            if !before
                .version(name)
                .is_some_and(|it| Arc::ptr_eq(it, version))
            {
                version.set_current_since(id);
            }
        }
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

    /// Records that new code has failed in a process, and rolls the release back at the
    /// threshold. The failure counts only while `release` is current, and only if it is
    /// not a rollback itself. Without an earlier release the release stays.
    pub fn failed(&self, release: u64) -> Verdict<A> {
        let current = self.current.load();
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
        match self.roll_back_locked(&mut history) {
            Ok(release) => Verdict::RolledBack(release),
            Err(_) => Verdict::Stays,
        }
    }

    /// Returns the number of processes that are pending for a release: those on other
    /// versions of its modules that are not exempt.
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

    /// Returns the loaded versions of a module, oldest first.
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

    /// Returns all loaded versions.
    pub fn loaded(&self) -> Vec<Arc<Version<A>>> {
        self.history.lock().loaded.clone()
    }

    /// Unloads the versions that have no users and cannot be needed, and returns them.
    /// Kept are the versions of the current release, those of the `keep` rollback targets
    /// before it, and those between a process's version and the current one through which
    /// its state may have to be migrated (see `unload`). `schema` returns the schema
    /// number of an artifact's state.
    pub fn unload(&self, keep: usize, schema: impl Fn(&A) -> i32) -> Vec<Arc<Version<A>>> {
        let mut history = self.history.lock();
        let current = self.current.load();
        let excess = history.releases.len().saturating_sub(keep + 1);
        history.releases.drain(..excess);
        let History {
            releases, loaded, ..
        } = &mut *history;
        let steps = RequiredVersions::new(loaded, &current, schema);
        let kept = releases.iter().chain([&current]);
        let (stay, go): (Vec<_>, Vec<_>) = loaded.drain(..).partition(|version| {
            is_in(kept.clone(), version) || steps.include(version) || !version.close()
        });
        *loaded = stay;
        go
    }
}

/// Checks that a release has the same versions of these modules as the one on which they were prepared.
///
/// # Errors
///
/// Returns [`CommitError::Conflict`] if it has not.
pub fn check_base<A>(
    base: &Release<A>,
    current: &Release<A>,
    versions: &[Arc<Version<A>>],
) -> Result<(), CommitError> {
    let moved = |version: &Arc<Version<A>>| {
        let of = |release: &Release<A>| release.version(&version.module).map(Arc::as_ptr);
        of(base) != of(current)
    };
    match versions.iter().any(moved) {
        true => Err(CommitError::Conflict {
            base: base.id,
            current: current.id,
        }),
        false => Ok(()),
    }
}

fn is_in<'a, A: 'a>(
    mut releases: impl Iterator<Item = &'a Arc<Release<A>>>,
    version: &Arc<Version<A>>,
) -> bool {
    releases.any(|release| {
        release
            .version(&version.module)
            .is_some_and(|other| Arc::ptr_eq(other, version))
    })
}
