//! Releases, the pointer at the current one, and the way back.
//!
//! Invariants: release ids only grow, also when code goes back: going back is
//! a new release with the former versions. `id` of [`Code`] is stored after
//! the pointer, so a process that sees a new id finds a release at least as
//! new. Commits are serialised by the history's lock, and versions are unloaded
//! under it: those of the current release never are.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::progress::Progress;
use crate::sync::{AtomicU64, Mutex, Ordering, Pointer};
use crate::unload::Steps;
use crate::version::{Digest, Tenancy, Version};

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
    /// Meanwhile the current release has other versions of these modules.
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
    current: Pointer<Release<A>>,
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
            current: Pointer::new(empty),
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
        self.current.load()
    }

    /// Moves into a module's current version. Answers the release's id with it;
    /// `None`: the release has no such module.
    pub fn enter(&self, module: &str) -> Option<(u64, Tenancy<A>)> {
        self.come(module, Version::enter)
            .map(|(release, tenancy)| (release.id, tenancy))
    }

    /// Holds a module's current version. Answers the release with it; `None`:
    /// the release has no such module.
    pub fn hold(&self, module: &str) -> Option<(Arc<Release<A>>, Tenancy<A>)> {
        self.come(module, Version::hold)
    }

    fn come(
        &self,
        module: &str,
        come: impl Fn(&Arc<Version<A>>) -> Option<Tenancy<A>>,
    ) -> Option<(Arc<Release<A>>, Tenancy<A>)> {
        loop {
            let release = self.current();
            // What was unloaded since is not current any more: another release is.
            if let Some(tenancy) = come(release.version(module)?) {
                return Some((release, tenancy));
            }
        }
    }

    /// The loaded version with these bytes, if there is one, held.
    pub fn find(&self, module: &str, digest: Digest) -> Option<Tenancy<A>> {
        let history = self.history.lock();
        let mut loaded = history.loaded.iter();
        loaded
            .find(|version| &*version.module == module && version.digest == digest)?
            .hold()
    }

    /// The loaded versions between two of the same module, held, in the
    /// direction from the one to the other: state may pass through them.
    pub fn between(&self, from: &Version<A>, to: &Version<A>) -> Vec<Tenancy<A>> {
        let (low, high) = (from.number.min(to.number), from.number.max(to.number));
        let history = self.history.lock();
        let mut between: Vec<Tenancy<A>> = history
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

    /// Makes a version of compiled code. It is loaded, but in no release: it is
    /// there as long as it is held.
    pub fn load(&self, module: &str, digest: Digest, artifact: A) -> Tenancy<A> {
        let mut history = self.history.lock();
        let name: Arc<str> = module.into();
        let number = history.numbers.entry(name.clone()).or_insert(0);
        *number += 1;
        let version = Arc::new(Version::new(name, *number, digest, artifact));
        let held = version.hold().expect("it is open: nobody has seen it");
        history.loaded.push(version);
        held
    }

    /// Drops a version that did not make it into a release. Answers whether it
    /// is gone: not if it is used, or in a release after all.
    pub fn discard(&self, held: Tenancy<A>) -> bool {
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
        // Its number was never seen by a process, so it is free again.
        if let Some(number) = numbers.get_mut(&version.module)
            && *number == version.number
        {
            *number -= 1;
        }
        true
    }

    /// Makes `versions` current, those of all other modules staying. One
    /// store: every handler that begins after it runs the new code. `fresh`:
    /// state that cannot cross may be lost.
    ///
    /// # Errors
    ///
    /// If the current release has not the same versions of these modules as the
    /// one on which they were prepared.
    pub fn commit(
        &self,
        base: &Release<A>,
        versions: &[Arc<Version<A>>],
        fresh: bool,
    ) -> Result<Arc<Release<A>>, CommitError> {
        let mut history = self.history.lock();
        let current = self.current.load();
        let moved = |version: &Arc<Version<A>>| {
            let of = |release: &Release<A>| release.version(&version.module).map(Arc::as_ptr);
            of(base) != of(&current)
        };
        if versions.iter().any(moved) {
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
        let id = current.id + 1;
        let release = self.publish(&current, id, modules, fresh);
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
        let current = self.current.load();
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
        Ok(self.publish(&current, former.origin, modules, false))
    }

    /// `origin`: the release whose choice it is.
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
                version.begins(id);
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

    /// New code has failed a process. Counted only while `release` is current
    /// and is no way back itself.
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

    /// Unloads versions that nobody uses and nobody can need: answers them. Kept
    /// are those of the current release, of the `keep` before it to go back to,
    /// and those between a process's version and the current one through which
    /// its state may have to pass (see `unload`): `schema` is that of a version's
    /// state.
    pub fn unload(&self, keep: usize, schema: impl Fn(&A) -> i32) -> Vec<Arc<Version<A>>> {
        let mut history = self.history.lock();
        let current = self.current.load();
        let excess = history.releases.len().saturating_sub(keep + 1);
        history.releases.drain(..excess);
        let History {
            releases, loaded, ..
        } = &mut *history;
        let steps = Steps::new(loaded, &current, schema);
        let kept = releases.iter().chain([&current]);
        let (stay, go): (Vec<_>, Vec<_>) = loaded.drain(..).partition(|version| {
            is_in(kept.clone(), version) || steps.include(version) || !version.close()
        });
        *loaded = stay;
        go
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
