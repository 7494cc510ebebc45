//! The file: opens it, and opens it again after an error of the disk, after which `redb` takes nothing more.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, TableDefinition,
    WriteTransaction,
};

use crate::error::StoreError;

/// The format that this crate writes. A new one is needed if old code must not read the file.
pub(crate) const FORMAT: u32 = 1;

/// The tables: their names and types are the format.
pub(crate) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Whose store it is: `name`.
pub(crate) const APP: TableDefinition<'_, &str, &str> = TableDefinition::new("app");
/// The log: [`crate::ReleaseRecord`] in JSON, by number.
pub(crate) const RELEASES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("releases");
/// The numbers of pinned releases.
pub(crate) const PINS: TableDefinition<'_, u64, ()> = TableDefinition::new("pins");
/// The length of each module.
pub(crate) const MODULES: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("modules");
/// The bytes of each module, in parts.
pub(crate) const PARTS: TableDefinition<'_, ([u8; 32], u32), &[u8]> = TableDefinition::new("parts");

/// Bytes of the file that are kept in memory.
pub(crate) const CACHE: usize = 4 << 20;

/// Opens the database. Another one than that of the path for tests.
pub(crate) type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

pub(crate) struct File {
    pub(crate) path: PathBuf,
    open: Open,
    /// With which file it was, if it is one; `None` after an error, until it is used again.
    database: Mutex<Option<(Database, Option<Identity>)>>,
    is_closed: AtomicBool,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl File {
    /// Opens the file of an app, which is made if it is missing.
    pub(crate) fn open(path: &Path, app: &str, open: Open) -> Result<File, StoreError> {
        let file = File {
            path: path.to_owned(),
            open,
            database: Mutex::new(None),
            is_closed: AtomicBool::new(false),
        };
        let found = file.read(|transaction| match transaction.open_table(META) {
            Ok(table) => Ok(table.get("format")?.map(|found| found.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        match found {
            Some(FORMAT) => {}
            None => file.begin()?,
            Some(found) => {
                return Err(StoreError::Newer {
                    path: file.path,
                    found,
                    known: FORMAT,
                });
            }
        }
        file.belongs_to(app)?;
        Ok(file)
    }

    /// Makes the tables of an empty database.
    fn begin(&self) -> Result<(), StoreError> {
        let is_empty = self.read(|transaction| Ok(transaction.list_tables()?.next().is_none()))?;
        if !is_empty {
            return Err(StoreError::Foreign(self.path.clone()));
        }
        self.write(tables)
    }

    /// Checks whose it is; a new one is this app's from now on.
    fn belongs_to(&self, app: &str) -> Result<(), StoreError> {
        let owner = self.read(|transaction| match transaction.open_table(APP) {
            Ok(table) => Ok(table.get("name")?.map(|name| name.value().to_owned())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        match owner {
            None => self.write(|transaction| {
                transaction.open_table(APP)?.insert("name", app)?;
                Ok(())
            }),
            Some(owner) if owner == app => Ok(()),
            Some(owner) => Err(StoreError::OtherApp {
                path: self.path.clone(),
                app: owner,
            }),
        }
    }

    /// Reads a state of the file that does not change meanwhile.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let done = self.with(|database| read(&database.begin_read()?));
        done.map_err(|failed| self.failed(failed, |path, why| StoreError::Read { path, why }))
    }

    /// Writes all or nothing. When it returns, what was written is on the disk. After an error it may be there all the
    /// same, if nothing but the last confirmation of the disk was missing.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let done = self.with(|database| {
            let mut transaction = database.begin_write()?;
            // After a crash the file is not read through.
            transaction.set_quick_repair(true);
            let done = write(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        done.map_err(|failed| self.failed(failed, |path, why| StoreError::Write { path, why }))
    }

    /// One at a time: all are short but for the disk.
    fn with<T>(
        &self,
        action: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Failed> {
        let mut database = self.database.lock();
        // Relaxed: it is set under the lock.
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Failed::Closed);
        }
        let (open, identity) = match database.take() {
            Some(open) => open,
            None => {
                let open = guarded(|| (self.open)().map_err(Failed::Open))?;
                (open, self::identity(&self.path))
            }
        };
        // What is written to a file that was removed is lost with this program.
        if self::identity(&self.path) != identity {
            *database = Some((open, identity));
            return Err(Failed::Gone);
        }
        // After an error it is dropped here, and opened anew the next time, which also repairs what was cut off.
        let done = guarded(|| action(&open).map_err(Failed::Database))?;
        *database = Some((open, identity));
        Ok(done)
    }

    /// Closes the file, so that another program can open it. Nothing can be read or written any more.
    pub(crate) fn close(&self) {
        let mut database = self.database.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        *database = None;
    }

    fn failed(
        &self,
        failed: Failed,
        otherwise: impl FnOnce(PathBuf, String) -> StoreError,
    ) -> StoreError {
        let path = self.path.clone();
        let damaged = |path, what| StoreError::Damaged { path, what };
        match failed {
            Failed::Open(DatabaseError::DatabaseAlreadyOpen) => StoreError::InUse(path),
            Failed::Open(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() == ErrorKind::InvalidData =>
            {
                StoreError::Foreign(path)
            }
            Failed::Open(DatabaseError::UpgradeRequired(_)) => StoreError::Foreign(path),
            Failed::Open(DatabaseError::Storage(StorageError::Corrupted(what)))
            | Failed::Database(redb::Error::Corrupted(what)) => damaged(path, what),
            Failed::Database(redb::Error::TableDoesNotExist(table)) => {
                damaged(path, format!("its table `{table}` is missing"))
            }
            Failed::Open(error) => StoreError::Open {
                path,
                why: error.to_string(),
            },
            Failed::Gone => StoreError::Gone(path),
            Failed::Closed => otherwise(path, "the node has stopped".to_owned()),
            Failed::Panicked => damaged(path, "what is in it is not what it says".to_owned()),
            Failed::Database(redb::Error::Io(error)) => otherwise(path, error.to_string()),
            Failed::Database(error) => otherwise(path, error.to_string()),
        }
    }
}

enum Failed {
    Open(DatabaseError),
    Database(redb::Error),
    Panicked,
    /// The file at the path is another one, or none.
    Gone,
    Closed,
}

/// Which file it is: device and number.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Calls redb, which may panic if a file was changed by something else: a node must not end for that.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    // What the call uses is dropped afterwards.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Failed::Panicked))
}

fn tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert("format", FORMAT)?;
    transaction.open_table(APP)?;
    transaction.open_table(RELEASES)?;
    transaction.open_table(PINS)?;
    transaction.open_table(MODULES)?;
    transaction.open_table(PARTS)?;
    Ok(())
}

/// Opens the database of a path, which is made if it is missing, with its folder.
pub(crate) fn at(path: &Path) -> Open {
    let path = path.to_owned();
    Box::new(move || {
        if !path.try_exists().map_err(io)? {
            make(&path)?;
        }
        Database::builder().set_cache_size(CACHE).open(&path)
    })
}

/// Makes the file beside its place and then puts it there: one that is cut off while it is made could not be told from a
/// file of something else.
fn make(path: &Path) -> Result<(), DatabaseError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    // Left by a program that had this number.
    let _ = std::fs::remove_file(&beside);
    let done = made(&beside).and_then(|()| {
        match std::fs::hard_link(&beside, path) {
            // Another node was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            // Some file systems have no links; there nobody is told apart who makes it at the same time.
            Err(_) => std::fs::rename(&beside, path).map_err(io),
            Ok(()) => std::fs::remove_file(&beside).map_err(io),
        }
    });
    // Left if it could not be put there.
    let _ = std::fs::remove_file(&beside);
    done?;
    // So that a crash does not take the name away. Some file systems cannot do that, and need not.
    let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn made(path: &Path) -> Result<(), DatabaseError> {
    let storage =
        |error: redb::Error| DatabaseError::Storage(StorageError::Io(std::io::Error::other(error)));
    let database = Database::create(path)?;
    let transaction = database
        .begin_write()
        .map_err(|error| storage(error.into()))?;
    tables(&transaction).map_err(storage)?;
    transaction.commit().map_err(|error| storage(error.into()))
}

fn io(error: std::io::Error) -> DatabaseError {
    DatabaseError::Storage(StorageError::Io(error))
}
