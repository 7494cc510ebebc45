//! The log of releases: what the store is told of them, and which module files the node has read.
//!
//! A deployment is written before it is committed in memory, and refused if that fails. A rollback comes first and is
//! written then, since it must always be possible; a thread writes it, and tries again until it succeeds. So nobody waits
//! for a disk while new code fails, and at the end the store has what runs.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exuvia_code::{CodeServer, Digest, Release, Version};
use exuvia_engine::Artifact;
use exuvia_manifest::{MAX_MODULE_BYTES, files};
use exuvia_store::{Origin, Outcome, ReleaseRecord, Retention, Staged, Store, StoreError};
use parking_lot::{Condvar, Mutex};

use crate::error::SwapError;
use crate::event::{Event, Events};
use crate::report::UpgradeReport;
use crate::request::{DeployOptions, ModuleBytes, digest_of};

/// How long after a failure the store is tried again; then twice as long, up to [`SELDOM`].
const SOON: Duration = Duration::from_secs(1);
/// The longest time between two tries.
const SELDOM: Duration = Duration::from_secs(60);
/// How long a stop, and an operator's rollback, wait until everything is written.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most outcomes that wait to be written.
const MAX_OUTCOMES: usize = 64;

/// Where the releases of an app are kept, and which of them a start goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The file of the store, which is made if it is missing.
    pub path: PathBuf,
    /// Which releases are kept.
    pub retention: Retention,
    /// What the node starts with.
    pub start: StartWith,
}

/// What a node with a release store starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartWith {
    /// The last release; a module whose file was edited since comes from its file.
    #[default]
    Newer,
    /// The last release.
    Release,
    /// The release of this number, as after a rollback to it.
    Number(u64),
}

/// What the node has started with.
#[derive(Debug)]
pub(crate) struct FirstStart<'a> {
    pub(crate) record: &'a ReleaseRecord,
    /// Whether it is to be written.
    pub(crate) is_new: bool,
    /// Whether the files that were read are others than the store knows.
    pub(crate) has_new_files: bool,
    /// Its modules.
    pub(crate) given: Vec<(Digest, &'a [u8])>,
}

/// The releases so far.
#[derive(Debug)]
pub(crate) struct ReleaseLog(Arc<Shared>, Mutex<Option<JoinHandle<()>>>);

#[derive(Debug)]
struct Shared {
    store: Option<Store>,
    events: Events,
    /// Held while the log is written.
    writing: Mutex<()>,
    state: Mutex<State>,
    /// Something is to be written, or was.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The module files of the manifest.
    paths: BTreeMap<String, PathBuf>,
    /// Those files as they were last read.
    files: BTreeMap<String, Digest>,
    /// The number of the release that runs, as far as the log knows.
    runs: u64,
    todo: Todo,
    /// Whether the last try failed; an event has said so.
    is_failing: bool,
    is_stopping: bool,
    has_stopped: bool,
}

/// What the store does not have yet.
#[derive(Clone, Debug, Default)]
struct Todo {
    /// Rollbacks, oldest first, and the modules that the node needs.
    rollbacks: Vec<ReleaseRecord>,
    roots: HashSet<Digest>,
    /// How often it was noted that the store may have releases after the one that runs.
    has_later: u64,
    files: bool,
    outcomes: Vec<(u64, Outcome)>,
}

impl Todo {
    fn is_done(&self) -> bool {
        self.is_head_written() && !self.files && self.outcomes.is_empty()
    }

    fn is_head_written(&self) -> bool {
        self.rollbacks.is_empty() && self.has_later == 0
    }
}

/// A deployment that is in the store, and not yet in memory. If it does not get there, it goes from the store again.
#[derive(Debug)]
#[must_use]
pub(crate) struct Written<'a> {
    log: &'a ReleaseLog,
    record: Option<ReleaseRecord>,
}

impl Written<'_> {
    /// It is the current release.
    pub(crate) fn committed(mut self) {
        if let Some(record) = self.record.take() {
            let mut state = self.log.0.state.lock();
            state.runs = record.number;
            state.files = record.files;
        }
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.log.has_later();
        }
    }
}

/// The modules of a deployment, in the store.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    _staged: Option<Staged<'a>>,
    /// Those that are what their file is.
    files: Vec<(String, Digest)>,
}

impl ReleaseLog {
    pub(crate) fn new(store: Option<Store>, events: Events) -> ReleaseLog {
        let shared = Arc::new(Shared {
            store,
            events,
            writing: Mutex::new(()),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut thread = None;
        if shared.store.is_some() {
            let writer = Arc::clone(&shared);
            let started = std::thread::Builder::new()
                .name("exuvia-releases".into())
                .spawn(move || writer.write_all());
            match started {
                Ok(started) => thread = Some(started),
                Err(error) => {
                    tracing::error!("rollbacks are not written to the release store: {error}");
                    shared.state.lock().has_stopped = true;
                }
            }
        }
        ReleaseLog(shared, Mutex::new(thread))
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.0.store.as_ref()
    }

    /// Returns the digest of a module's file as the node last read it for a release.
    pub(crate) fn file(&self, module: &str) -> Option<Digest> {
        self.0.state.lock().files.get(module).copied()
    }

    /// Begins with what the node has started with; a new release is written.
    pub(crate) fn begin(
        &self,
        first: &FirstStart<'_>,
        paths: BTreeMap<String, PathBuf>,
    ) -> Result<(), StoreError> {
        let record = first.record;
        let is_written = first.is_new && !record.modules.is_empty();
        if let (Some(store), true) = (&self.0.store, is_written) {
            let _staged = store.stage(&first.given)?;
            store.commit(std::slice::from_ref(record), &HashSet::new())?;
        }
        let mut state = self.0.state.lock();
        state.paths = paths;
        state.files.clone_from(&record.files);
        state.runs = record.number;
        state.todo.files = first.has_new_files && !is_written;
        self.0.changed.notify_all();
        Ok(())
    }

    /// Writes the modules of a deployment, so that its commit is short.
    pub(crate) fn prepare(
        &self,
        given: &[(Digest, ModuleBytes)],
        options: &DeployOptions,
    ) -> Result<Prepared<'_>, StoreError> {
        let staged = match &self.0.store {
            None => None,
            Some(store) => {
                let modules = given.iter();
                let modules: Vec<_> = modules
                    .map(|(digest, module)| (*digest, module.bytes.as_slice()))
                    .collect();
                Some(store.stage(&modules)?)
            }
        };
        let is_its_file = |digest: Digest, name: &str| {
            let path = self.0.state.lock().paths.get(name).cloned();
            let bytes = path.and_then(|path| files::read(&path, MAX_MODULE_BYTES).ok());
            bytes.is_some_and(|bytes| digest_of(&bytes) == digest)
        };
        let same = given
            .iter()
            .filter(|(digest, module)| options.from_files || is_its_file(*digest, &module.name));
        Ok(Prepared {
            files: same
                .map(|(digest, module)| (module.name.clone(), *digest))
                .collect(),
            _staged: staged,
        })
    }

    /// Commits a deployment, which will be the release after `current`, with these new versions.
    pub(crate) fn commit(
        &self,
        code: &CodeServer<Artifact>,
        current: &Release<Artifact>,
        versions: &[Arc<Version<Artifact>>],
        prepared: &Prepared<'_>,
        options: &DeployOptions,
    ) -> Result<Written<'_>, StoreError> {
        let _writing = self.0.writing.lock();
        let mut records = self.0.state.lock().todo.rollbacks.clone();
        let mut record = ReleaseRecord {
            number: current.id + 1,
            at: now(),
            origin: match (options.restores, options.from_files) {
                (Some(number), _) => Origin::Rollback(number),
                (None, true) => Origin::Files,
                (None, false) => Origin::Deploy,
            },
            author: options.author.clone(),
            message: options.message.clone(),
            modules: modules_of(current),
            files: self.0.state.lock().files.clone(),
            outcome: Outcome::Committed,
        };
        for version in versions {
            let module = version.module.to_string();
            record.modules.insert(module, version.digest);
        }
        record.files.extend(prepared.files.iter().cloned());
        if let Some(store) = &self.0.store {
            records.push(record.clone());
            if let Err(error) = store.commit(&records, &roots(code)) {
                // It may be there all the same.
                self.has_later();
                return Err(error);
            }
            // Nothing is after it.
            let mut state = self.0.state.lock();
            state.todo.rollbacks.clear();
            state.todo.has_later = 0;
        }
        Ok(Written {
            log: self,
            record: Some(record),
        })
    }

    /// Notes that files were read, whose modules run already or were refused.
    pub(crate) fn read(&self, given: &[(Digest, ModuleBytes)]) {
        let mut state = self.0.state.lock();
        let before = state.files.clone();
        for (digest, module) in given {
            state.files.insert(module.name.clone(), *digest);
        }
        state.todo.files |= state.files != before;
        self.0.changed.notify_all();
    }

    /// Notes a release to which the node was rolled back, by itself if nobody did that. It is written soon.
    pub(crate) fn rolled_back(
        &self,
        code: &CodeServer<Artifact>,
        release: &Release<Artifact>,
        by: Option<&DeployOptions>,
    ) {
        let mut state = self.0.state.lock();
        state.runs = release.id;
        if self.0.store.is_none() {
            return;
        }
        let record = ReleaseRecord {
            number: release.id,
            at: now(),
            origin: match by {
                None => Origin::Failure(release.origin),
                Some(_) => Origin::Rollback(release.origin),
            },
            author: by.map_or_else(String::new, |by| by.author.clone()),
            message: by.map_or_else(String::new, |by| by.message.clone()),
            modules: modules_of(release),
            files: state.files.clone(),
            outcome: Outcome::Committed,
        };
        state.todo.rollbacks.push(record);
        state.todo.roots = roots(code);
        self.0.changed.notify_all();
    }

    /// Notes that no process is left to be upgraded to a release.
    pub(crate) fn completed(&self, report: &UpgradeReport) {
        let mut state = self.0.state.lock();
        if self.0.store.is_none() || state.todo.outcomes.len() == MAX_OUTCOMES {
            return;
        }
        let outcome = Outcome::Complete {
            upgraded: report.upgraded.iter().map(|(_, count)| count).sum(),
            failed: report.failed,
            reverted: report.reverted,
        };
        state.todo.outcomes.push((report.release, outcome));
        self.0.changed.notify_all();
    }

    /// Waits until the store has the release that runs, for a moment at most.
    pub(crate) fn wait(&self) {
        let mut state = self.0.state.lock();
        self.0.changed.wait_while_for(
            &mut state,
            |state| !state.todo.is_head_written() && !state.is_failing && !state.has_stopped,
            PATIENCE,
        );
    }

    /// Ends the thread, which tries once more to write what is to be written.
    pub(crate) fn stop(&self) {
        let mut state = self.0.state.lock();
        state.is_stopping = true;
        self.0.changed.notify_all();
        if self.0.store.is_some() {
            let goes_on = |state: &mut State| !state.has_stopped;
            self.0.changed.wait_while_for(&mut state, goes_on, PATIENCE);
        }
        let has_stopped = state.has_stopped;
        drop(state);
        // A disk that hangs does not hold up the end.
        if let (true, Some(thread)) = (has_stopped, self.1.lock().take()) {
            let _ = thread.join();
        }
        if let (true, Some(store)) = (has_stopped, &self.0.store) {
            store.close();
        }
    }

    fn has_later(&self) {
        if self.0.store.is_some() {
            self.0.state.lock().todo.has_later += 1;
            self.0.changed.notify_all();
        }
    }

    /// Returns the number of the release before the one that runs, as far as it was not undone: rollbacks count as what
    /// they restore.
    pub(crate) fn before(&self, current: &Release<Artifact>) -> Result<Option<u64>, StoreError> {
        let Some(store) = &self.0.store else {
            return Ok(None);
        };
        let stored: Vec<ReleaseRecord> = store.releases()?.into_iter().map(|(it, _)| it).collect();
        let unwritten = self.0.state.lock().todo.rollbacks.clone();
        let find = |number: u64| {
            let mut log = unwritten.iter().chain(&stored);
            log.find(|record| record.number == number)
        };
        // What a release has the modules of. A rollback is to an earlier release, so this ends.
        let resolved = |mut number: u64| {
            while let Some(Origin::Rollback(to) | Origin::Failure(to)) =
                find(number).map(|record| record.origin)
                && to < number
            {
                number = to;
            }
            number
        };
        let runs = resolved(current.origin.min(current.id)).min(resolved(current.id));
        let earlier = stored.iter().filter(|record| record.number < runs);
        let good = earlier.filter(|record| !matches!(record.outcome, Outcome::RolledBack(_)));
        let mut targets = good.map(|record| resolved(record.number));
        Ok(targets.find(|target| *target < runs && find(*target).is_some()))
    }

    /// Returns all modules of a release of the store.
    pub(crate) fn modules_of(&self, number: u64) -> Result<Vec<ModuleBytes>, SwapError> {
        let store = self.0.store.as_ref().ok_or(SwapError::NoStore)?;
        let modules = store.release_with_modules(number)?.into_iter();
        let modules = modules.map(|(name, _, bytes)| ModuleBytes {
            bytes,
            source: format!("{name} of release {number}"),
            name,
            noticed: None,
        });
        Ok(modules.collect())
    }
}

impl Drop for ReleaseLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Writes what is to be written, until it is stopped.
    fn write_all(&self) {
        let mut pause = SOON;
        loop {
            let mut state = self.state.lock();
            if state.is_failing && !state.is_stopping {
                // What comes meanwhile is tried no sooner.
                let goes_on = |state: &mut State| !state.is_stopping;
                self.changed.wait_while_for(&mut state, goes_on, pause);
                pause = (pause * 2).min(SELDOM);
            }
            self.changed.wait_while(&mut state, |state| {
                state.todo.is_done() && !state.is_stopping
            });
            let is_last = state.is_stopping;
            drop(state);
            if self.write() {
                pause = SOON;
            }
            let mut state = self.state.lock();
            if is_last {
                state.has_stopped = true;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Writes all that is to be written now. Returns whether that succeeded.
    fn write(&self) -> bool {
        let _writing = self.writing.lock();
        let (todo, runs, files) = {
            let state = self.state.lock();
            (state.todo.clone(), state.runs, state.files.clone())
        };
        let Some(store) = &self.store else {
            return true;
        };
        let done = (|| {
            store.commit(&todo.rollbacks, &todo.roots)?;
            if todo.has_later > 0 {
                store.end_with(runs)?;
            }
            if todo.files {
                store.set_files(runs, &files)?;
            }
            let mut outcomes = todo.outcomes.iter();
            outcomes.try_for_each(|(number, outcome)| store.set_outcome(*number, *outcome))
        })();
        let mut state = self.state.lock();
        if done.is_ok() {
            // What came meanwhile stays.
            state.todo.rollbacks.drain(..todo.rollbacks.len());
            state.todo.outcomes.drain(..todo.outcomes.len());
            if state.todo.has_later == todo.has_later {
                state.todo.has_later = 0;
            }
            state.todo.files &= state.files != files || state.runs != runs;
        }
        let release = state.runs;
        match (&done, state.is_failing) {
            (Ok(()), true) => self.events.send(Event::ReleaseWritten { release }),
            (Err(error), false) => self.events.send(Event::ReleaseUnwritten {
                release,
                reason: error.to_string(),
            }),
            _ => {}
        }
        state.is_failing = done.is_err();
        self.changed.notify_all();
        done.is_ok()
    }
}

/// Returns the modules that the node runs, and those that it can roll back to by itself.
fn roots(code: &CodeServer<Artifact>) -> HashSet<Digest> {
    let targets = code.rollback_targets();
    let current = code.current();
    let releases = targets.iter().chain([&current]);
    releases
        .flat_map(|release| release.versions())
        .map(|version| version.digest)
        .collect()
}

fn modules_of(release: &Release<Artifact>) -> BTreeMap<String, Digest> {
    let versions = release.versions();
    versions
        .map(|version| (version.module.to_string(), version.digest))
        .collect()
}

/// Returns the time in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock is for people, and nothing is decided by it"
)]
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
