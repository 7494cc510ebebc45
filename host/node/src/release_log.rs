//! The log of releases: what the store is told of them, and which module files the node has read.
//!
//! A deployment is written before it is committed in memory, and refused if that fails. A rollback comes first and is
//! written then, since it must always be possible: if that fails it is tried again until it succeeds, and an event says
//! so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use exuvia_code::{Digest, Release, Version};
use exuvia_engine::Artifact;
use exuvia_store::{Origin, Outcome, ReleaseRecord, Retention, Store, StoreError};
use parking_lot::Mutex;

use crate::error::SwapError;
use crate::event::{Event, Events};
use crate::report::UpgradeReport;
use crate::request::{DeployOptions, ModuleBytes};

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

/// The releases so far.
#[derive(Debug)]
pub(crate) struct ReleaseLog {
    store: Option<Store>,
    events: Events,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The module files as they were last read.
    files: BTreeMap<String, Digest>,
    /// What could not be written; the last release that needs it.
    unwritten: Option<ReleaseRecord>,
}

impl ReleaseLog {
    pub(crate) fn new(store: Option<Store>, events: Events) -> ReleaseLog {
        ReleaseLog {
            store,
            events,
            state: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Returns the digest of a module's file as the node last read it for a release.
    pub(crate) fn file(&self, module: &str) -> Option<Digest> {
        self.state.lock().files.get(module).copied()
    }

    /// Begins with what the node has started with; a new release is written.
    pub(crate) fn begin(
        &self,
        record: &ReleaseRecord,
        is_new: bool,
        given: &[(Digest, &[u8])],
    ) -> Result<(), StoreError> {
        if let Some(store) = &self.store {
            match is_new {
                true => store.commit(record, given)?,
                false => store.set_files(record.number, &record.files)?,
            }
        }
        self.state.lock().files.clone_from(&record.files);
        Ok(())
    }

    /// Commits a deployment, which will be the release after `current`: with these versions, of which some were given.
    pub(crate) fn commit(
        &self,
        current: &Release<Artifact>,
        versions: &[Arc<Version<Artifact>>],
        given: &[(Digest, ModuleBytes)],
        options: &DeployOptions,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
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
            files: state.files.clone(),
            outcome: Outcome::Committed,
        };
        let mut new = Vec::new();
        for version in versions {
            let module = version.module.to_string();
            record.modules.insert(module, version.digest);
        }
        for (digest, module) in given {
            if options.from_files {
                record.files.insert(module.name.clone(), *digest);
            }
            new.push((*digest, module.bytes.as_slice()));
        }
        if let Some(store) = &self.store {
            // A rollback before it that could not be written is replaced: this release has what it had.
            store.commit(&record, &new)?;
            state.unwritten = None;
        }
        state.files = record.files;
        Ok(())
    }

    /// Returns the number of the release before the one that runs: the one that it was rolled back to, or it.
    pub(crate) fn before(&self, current: &Release<Artifact>) -> Result<Option<u64>, StoreError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let log = store.releases()?;
        let record = log.iter().find(|(record, _)| record.number == current.id);
        let runs = match record.map(|(record, _)| record.origin) {
            Some(Origin::Rollback(to) | Origin::Failure(to)) => to,
            _ => current.id,
        };
        let mut numbers = log.iter().map(|(record, _)| record.number);
        Ok(numbers.find(|number| *number < runs))
    }

    /// Returns the modules of a release of the store of which the current one has other versions.
    pub(crate) fn modules_of(
        &self,
        number: u64,
        current: &Release<Artifact>,
    ) -> Result<Vec<ModuleBytes>, SwapError> {
        let store = self.store.as_ref().ok_or(SwapError::NoStore)?;
        let mut modules = Vec::new();
        for (name, digest) in store.release(number)?.modules {
            if current.version(&name).is_some_and(|it| it.digest == digest) {
                continue;
            }
            modules.push(ModuleBytes {
                bytes: store.module(digest)?,
                source: format!("{name} of release {number}"),
                name,
                noticed: None,
            });
        }
        Ok(modules)
    }

    /// Notes that files were read which have what runs already.
    pub(crate) fn read(&self, current: u64, given: &[(Digest, ModuleBytes)]) {
        let mut state = self.state.lock();
        let before = state.files.clone();
        for (digest, module) in given {
            state.files.insert(module.name.clone(), *digest);
        }
        if state.files != before
            && let Some(store) = &self.store
            && let Err(error) = store.set_files(current, &state.files)
        {
            tracing::warn!("{error}");
        }
    }

    /// Writes a release to which the node has rolled back.
    pub(crate) fn rolled_back(&self, release: &Release<Artifact>, author: &str, by_itself: bool) {
        let mut state = self.state.lock();
        if self.store.is_none() {
            return;
        }
        state.unwritten = Some(ReleaseRecord {
            number: release.id,
            at: now(),
            origin: match by_itself {
                true => Origin::Failure(release.origin),
                false => Origin::Rollback(release.origin),
            },
            author: author.to_owned(),
            message: String::new(),
            modules: modules_of(release),
            files: state.files.clone(),
            outcome: Outcome::Committed,
        });
        self.write(&mut state, true);
    }

    /// Tries once more to write what could not be written.
    pub(crate) fn retry(&self) {
        let mut state = self.state.lock();
        self.write(&mut state, false);
    }

    fn write(&self, state: &mut State, is_first: bool) {
        let (Some(record), Some(store)) = (&state.unwritten, &self.store) else {
            return;
        };
        match store.commit(record, &[]) {
            Ok(()) => {
                if !is_first {
                    let release = record.number;
                    self.events.send(Event::ReleaseWritten { release });
                }
                state.unwritten = None;
            }
            Err(error) if is_first => self.events.send(Event::ReleaseUnwritten {
                release: record.number,
                reason: error.to_string(),
            }),
            Err(_) => {}
        }
    }

    /// Notes that no process is left to be upgraded to a release.
    pub(crate) fn completed(&self, report: &UpgradeReport) {
        let Some(store) = &self.store else { return };
        let outcome = Outcome::Complete {
            upgraded: report.upgraded.iter().map(|(_, count)| count).sum(),
            failed: report.failed,
            reverted: report.reverted,
        };
        if let Err(error) = store.set_outcome(report.release, outcome) {
            tracing::warn!("{error}");
        }
    }
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
