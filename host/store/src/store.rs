//! The store: what may be asked of the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use exuvia_code::Digest;
use parking_lot::Mutex;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use crate::error::StoreError;
use crate::file::{File, MODULES, Open, PINS, RELEASES, at};
use crate::modules;
use crate::record::{Origin, Outcome, ReleaseRecord};
use crate::retention::{MAX_PINS, Retention, excess};

/// The release store of an app. One program at a time has it open.
#[derive(Debug)]
pub struct Store {
    file: File,
    retention: Retention,
    /// The modules of commits that are under way, each with how many there are.
    staged: Mutex<HashMap<Digest, usize>>,
}

/// Modules that are in the store for a release to come. Until this is dropped they are not removed.
#[derive(Debug)]
pub struct Staged<'a> {
    store: &'a Store,
    digests: Vec<Digest>,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        let mut staged = self.store.staged.lock();
        for digest in &self.digests {
            if let Some(users) = staged.get_mut(digest) {
                *users -= 1;
                if *users == 0 {
                    staged.remove(digest);
                }
            }
        }
    }
}

impl Store {
    /// Opens the store of an app in a file. The file and its folder are made if they are missing.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, another program has it open, or it is not one that this Exuvia knows.
    pub fn open(path: &Path, app: &str, retention: Retention) -> Result<Store, StoreError> {
        Store::open_by(path, app, at(path), retention)
    }

    pub(crate) fn open_by(
        path: &Path,
        app: &str,
        open: Open,
        retention: Retention,
    ) -> Result<Store, StoreError> {
        Ok(Store {
            file: File::open(path, app, open)?,
            retention,
            staged: Mutex::default(),
        })
    }

    /// Closes the store, so that another program can open it, whoever still holds this one. All that follows fails.
    pub fn close(&self) {
        self.file.close();
    }

    /// Returns the file of the store.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Returns the last release: the one that a start of the node goes on with. `None`: there is none yet.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged.
    pub fn head(&self) -> Result<Option<ReleaseRecord>, StoreError> {
        let last = self.file.read(|transaction| {
            let table = transaction.open_table(RELEASES)?;
            let last = table.last()?;
            Ok(last.map(|(_, value)| value.value().to_vec()))
        })?;
        last.map(|bytes| self.record(&bytes)).transpose()
    }

    /// Returns a release.
    ///
    /// # Errors
    ///
    /// If there is none of this number, or the file cannot be read or is damaged.
    pub fn release(&self, number: u64) -> Result<ReleaseRecord, StoreError> {
        let found = self.file.read(|transaction| {
            let table = transaction.open_table(RELEASES)?;
            let found = table.get(number)?;
            Ok(found.map(|value| value.value().to_vec()))
        })?;
        self.record(&found.ok_or(StoreError::NoRelease(number))?)
    }

    /// Returns all releases, newest first, each with whether it is pinned.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is damaged.
    pub fn releases(&self) -> Result<Vec<(ReleaseRecord, bool)>, StoreError> {
        let found = self.file.read(|transaction| {
            let (table, pins) = (
                transaction.open_table(RELEASES)?,
                transaction.open_table(PINS)?,
            );
            let mut found = Vec::new();
            for entry in table.iter()?.rev() {
                let (number, value) = entry?;
                let pinned = pins.get(number.value())?.is_some();
                found.push((value.value().to_vec(), pinned));
            }
            Ok(found)
        })?;
        let records = found.into_iter();
        records
            .map(|(bytes, pinned)| Ok((self.record(&bytes)?, pinned)))
            .collect()
    }

    /// Returns the bytes of a module, which have this digest.
    ///
    /// # Errors
    ///
    /// If it is not there, or the file cannot be read or is damaged.
    pub fn module(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let found = (self.file).read(|transaction| modules::read(transaction, digest))?;
        self.checked(digest, found)
    }

    fn checked(&self, digest: Digest, found: Option<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
        let bytes = found.ok_or(StoreError::NoModule(digest))?;
        match Digest(*blake3::hash(&bytes).as_bytes()) == digest {
            true => Ok(bytes),
            false => Err(self.damaged(format!("module {digest:?} has other bytes"))),
        }
    }

    /// Returns the length of each module that is there, in bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn sizes(&self) -> Result<HashMap<Digest, u64>, StoreError> {
        (self.file).read(|transaction| modules::sizes(&transaction.open_table(MODULES)?))
    }

    /// Returns a release with the bytes of all its modules, by name.
    ///
    /// # Errors
    ///
    /// If there is none of this number, or the file cannot be read or is damaged.
    pub fn release_with_modules(
        &self,
        number: u64,
    ) -> Result<Vec<(String, Digest, Vec<u8>)>, StoreError> {
        let found = self.file.read(|transaction| {
            let table = transaction.open_table(RELEASES)?;
            let Some(value) = table.get(number)? else {
                return Ok(None);
            };
            let record = serde_json::from_slice::<ReleaseRecord>(value.value());
            let mut bytes = Vec::new();
            for digest in record.iter().flat_map(|record| record.modules.values()) {
                bytes.push(modules::read(transaction, *digest)?);
            }
            Ok(Some((record, bytes)))
        })?;
        let (record, bytes) = found.ok_or(StoreError::NoRelease(number))?;
        let record = record.map_err(|error| self.unreadable(&error))?;
        let modules = record.modules.into_iter().zip(bytes);
        modules
            .map(|((name, digest), bytes)| Ok((name, digest, self.checked(digest, bytes)?)))
            .collect()
    }

    /// Writes modules for a release to come, so that its commit is short.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn stage(&self, given: &[(Digest, &[u8])]) -> Result<Staged<'_>, StoreError> {
        let digests: Vec<Digest> = given.iter().map(|(digest, _)| *digest).collect();
        {
            let mut staged = self.staged.lock();
            for digest in &digests {
                *staged.entry(*digest).or_default() += 1;
            }
        }
        let staged = Staged {
            store: self,
            digests,
        };
        self.file.write(|transaction| {
            for (digest, bytes) in given {
                modules::write(transaction, *digest, bytes)?;
            }
            Ok(())
        })?;
        Ok(staged)
    }

    /// Commits releases, oldest first, whose modules are in the store, and removes what need not be kept; `roots` are
    /// kept in any case. Releases of the first number or a later one that are there were written and never ran; they go.
    ///
    /// # Errors
    ///
    /// If they cannot be written, or a module is not there. The last release may be the last of these all the same, if
    /// nothing but the disk's last confirmation was missing: see [`Store::end_with`].
    pub fn commit(
        &self,
        records: &[ReleaseRecord],
        roots: &HashSet<Digest>,
    ) -> Result<(), StoreError> {
        let Some(first) = records.first() else {
            return Ok(());
        };
        let mut encoded = Vec::new();
        for record in records {
            encoded.push((record, self.encoded(record)?));
        }
        let retention = self.retention;
        let roots: HashSet<Digest> = roots.union(&self.staged()).copied().collect();
        let missing = self.file.write(|transaction| {
            let digests = records.iter().flat_map(|record| record.modules.values());
            if let Some(missing) = modules::missing(&transaction.open_table(MODULES)?, digests)? {
                return Ok(Some(missing));
            }
            remove_from(transaction, first.number)?;
            for (record, bytes) in &encoded {
                let mut table = transaction.open_table(RELEASES)?;
                table.insert(record.number, bytes.as_slice())?;
                drop(table);
                if let Origin::Rollback(_) | Origin::Failure(_) = record.origin
                    && let Some(before) = record.number.checked_sub(1)
                {
                    set_outcome(transaction, before, Outcome::RolledBack(record.number))?;
                }
            }
            prune(transaction, retention, &roots)?;
            Ok(None)
        })?;
        match missing {
            None => Ok(()),
            Some(missing) => Err(StoreError::NoModule(missing)),
        }
    }

    /// Removes all releases after this one: they never ran.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn end_with(&self, number: u64) -> Result<(), StoreError> {
        self.file
            .write(|transaction| remove_from(transaction, number.saturating_add(1)))
    }

    fn staged(&self) -> HashSet<Digest> {
        self.staged.lock().keys().copied().collect()
    }

    /// Notes what became of a release; nothing if it is not there any more, or was undone.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn set_outcome(&self, number: u64, outcome: Outcome) -> Result<(), StoreError> {
        self.file
            .write(|transaction| set_outcome(transaction, number, outcome))
    }

    /// Notes which module files the node has read since a release: [`ReleaseRecord::files`].
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn set_files(
        &self,
        number: u64,
        files: &BTreeMap<String, Digest>,
    ) -> Result<(), StoreError> {
        self.file.write(|transaction| {
            amend(transaction, number, |record| record.files.clone_from(files))
        })
    }

    /// Pins a release, so that it is kept, or no longer. Returns whether that is a change.
    ///
    /// # Errors
    ///
    /// If there is no such release, so many are pinned already, or it cannot be written.
    pub fn pin(&self, number: u64, on: bool) -> Result<bool, StoreError> {
        enum Pinned {
            Changed(bool),
            NoRelease,
            TooMany,
        }
        let done = self.file.write(|transaction| {
            if transaction.open_table(RELEASES)?.get(number)?.is_none() {
                return Ok(Pinned::NoRelease);
            }
            let mut pins = transaction.open_table(PINS)?;
            let is_pinned = pins.get(number)?.is_some();
            if is_pinned == on {
                return Ok(Pinned::Changed(false));
            }
            match on {
                true if pins.len()? >= MAX_PINS as u64 => return Ok(Pinned::TooMany),
                true => drop(pins.insert(number, ())?),
                false => drop(pins.remove(number)?),
            }
            Ok(Pinned::Changed(true))
        })?;
        match done {
            Pinned::Changed(changed) => Ok(changed),
            Pinned::NoRelease => Err(StoreError::NoRelease(number)),
            Pinned::TooMany => Err(StoreError::TooManyPins(MAX_PINS)),
        }
    }

    fn record(&self, bytes: &[u8]) -> Result<ReleaseRecord, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> StoreError {
        self.damaged(format!("a release cannot be read: {error}"))
    }

    fn encoded(&self, record: &ReleaseRecord) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(record).map_err(|error| StoreError::Write {
            path: self.file.path.clone(),
            why: error.to_string(),
        })
    }

    fn damaged(&self, what: String) -> StoreError {
        let path: PathBuf = self.file.path.clone();
        StoreError::Damaged { path, what }
    }
}

/// Removes the releases from a number on.
fn remove_from(transaction: &WriteTransaction, number: u64) -> Result<(), redb::Error> {
    (transaction.open_table(RELEASES)?).retain_in(number.., |_, _| false)?;
    (transaction.open_table(PINS)?).retain_in(number.., |_, ()| false)?;
    Ok(())
}

/// Changes the outcome of a release that was not undone.
fn set_outcome(
    transaction: &WriteTransaction,
    number: u64,
    outcome: Outcome,
) -> Result<(), redb::Error> {
    amend(transaction, number, |record| {
        if !matches!(record.outcome, Outcome::RolledBack(_)) {
            record.outcome = outcome;
        }
    })
}

/// Changes a record, if it is there and can be read.
fn amend(
    transaction: &WriteTransaction,
    number: u64,
    change: impl FnOnce(&mut ReleaseRecord),
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(RELEASES)?;
    let found = table.get(number)?.map(|value| value.value().to_vec());
    let Some(Ok(mut record)) = found.map(|bytes| serde_json::from_slice::<ReleaseRecord>(&bytes))
    else {
        return Ok(());
    };
    change(&mut record);
    // What was read from JSON can be written.
    if let Ok(bytes) = serde_json::to_vec(&record) {
        table.insert(number, bytes.as_slice())?;
    }
    Ok(())
}

/// Removes the releases that are not kept, and the modules that no release has; nothing if a record cannot be read, since
/// then nobody knows which modules it has.
fn prune(
    transaction: &WriteTransaction,
    retention: Retention,
    roots: &HashSet<Digest>,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(RELEASES)?;
    let pins = transaction.open_table(PINS)?;
    let mut log: Vec<(ReleaseRecord, bool)> = Vec::new();
    for entry in table.iter()?.rev() {
        let (number, value) = entry?;
        let Ok(record) = serde_json::from_slice(value.value()) else {
            return Ok(());
        };
        log.push((record, pins.get(number.value())?.is_some()));
    }
    let go = excess(
        &log,
        &modules::sizes(&transaction.open_table(MODULES)?)?,
        retention,
    );
    for number in &go {
        table.remove(number)?;
    }
    let stay = log
        .iter()
        .filter(|(record, _)| !go.contains(&record.number));
    let used: HashSet<Digest> = stay
        .flat_map(|(record, _)| record.modules.values().copied())
        .chain(roots.iter().copied())
        .collect();
    modules::keep(transaction, &used)
}
