//! Shared tables of bytes by bytes that many processes read (Erlang: ETS, ordered sets). A table
//! belongs to a process; when the process terminates, the table is deleted or goes to its heir. A
//! table is not part of any process's memory, so an upgrade does not affect it.
//!
//! Lock order: the directory, then the rows of one table. Neither is held while a mailbox's lock is
//! taken.

use std::collections::HashMap;
use std::sync::Arc;

use exuvia_abi::{Pid, limits};
use foldhash::fast::FixedState;
use parking_lot::{Mutex, RwLock};

use crate::Payload;
use crate::limits::Limits;

mod rows;

pub use rows::{Before, Put};
use rows::{Budget, Rows};

/// Maximum length of a row's key, in bytes.
const KEY: usize = limits::TABLE_KEY as usize;

/// Access rights to a table for processes other than its owner, which may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All processes may read.
    Protected,
    /// No other process has access.
    Private,
    /// All processes may read and write.
    Public,
}

/// Why an operation on a table failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// There is no such table, or it no longer exists.
    Unknown,
    /// The process lacks access rights, or is not the owner.
    Denied,
    /// Another table has this name.
    Taken,
    /// A name or a key is empty or too long, or a value is not a number.
    Invalid,
    /// The owner has as many tables, or as many bytes in them, as its limits allow.
    Full,
    /// The process has terminated.
    Dead,
}

/// One table. Rows are ordered by the bytes of their keys.
#[derive(Debug)]
pub struct SharedTable {
    id: u64,
    name: Option<Arc<str>>,
    access: Access,
    owner: RwLock<Owner>,
    rows: RwLock<Rows>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    pid: Pid,
    /// The process that gets the table when the owner terminates, and the tag of the message it
    /// gets.
    heir: Option<(Pid, u32)>,
}

impl SharedTable {
    /// Returns its number, which no other table of the node ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns its owner.
    pub fn owner(&self) -> Pid {
        self.owner.read().pid
    }

    /// Returns the number of rows and the bytes that they count.
    pub fn size(&self) -> (usize, u64) {
        self.rows.read().size()
    }

    fn reads(&self, reader: Pid) -> Result<(), TableError> {
        let may = self.access != Access::Private || self.owner() == reader;
        may.then_some(()).ok_or(TableError::Denied)
    }

    fn writes(&self, writer: Pid) -> Result<(), TableError> {
        let may = self.access == Access::Public || self.owner() == writer;
        may.then_some(()).ok_or(TableError::Denied)
    }

    /// Returns the value of a key, or [`TableError::Denied`].
    pub fn get(&self, reader: Pid, key: &[u8]) -> Result<Option<Payload>, TableError> {
        self.reads(reader)?;
        Ok(self.rows.read().get(key).cloned())
    }

    /// Returns the first key after this one; after an empty key, the first of all. Fails with
    /// [`TableError::Denied`].
    pub fn next(&self, reader: Pid, key: &[u8]) -> Result<Option<Box<[u8]>>, TableError> {
        self.reads(reader)?;
        Ok(self.rows.read().behind(key))
    }

    /// Stores a row unless one exists and `replace` is false. Returns the value that was there.
    /// Fails as [`SharedTable::put_undoably`] does.
    pub fn put(
        &self,
        writer: Pid,
        key: &[u8],
        value: &Payload,
        replace: bool,
    ) -> Result<Option<Payload>, TableError> {
        Ok(match self.put_undoably(writer, key, value, replace)? {
            Put::Stored(before) => before.into_value(),
            Put::There(value) => Some(value),
        })
    }

    /// Does the same as [`SharedTable::put`], and returns the previous state for
    /// [`SharedTable::undo`]. Fails with [`TableError::Denied`], [`TableError::Invalid`] (the key)
    /// or [`TableError::Full`].
    pub fn put_undoably(
        &self,
        writer: Pid,
        key: &[u8],
        value: &Payload,
        replace: bool,
    ) -> Result<Put, TableError> {
        self.writes(writer)?;
        if key.is_empty() || key.len() > KEY {
            return Err(TableError::Invalid);
        }
        let mut rows = self.rows.write();
        match rows.get(key) {
            Some(there) if !replace => Ok(Put::There(there.clone())),
            _ => rows.store(key, value.clone()).map(Put::Stored),
        }
    }

    /// Removes a row. Returns the value that was there, or [`TableError::Denied`].
    pub fn remove(&self, writer: Pid, key: &[u8]) -> Result<Option<Payload>, TableError> {
        self.writes(writer)?;
        Ok(self.rows.write().remove(key)?.into_value())
    }

    /// Removes a row in such a way that the removal can be undone until the returned value is
    /// dropped. `None`: there was no such row. Fails with [`TableError::Denied`].
    pub fn remove_undoably(
        self: &Arc<SharedTable>,
        writer: Pid,
        key: &[u8],
    ) -> Result<Option<Removed>, TableError> {
        self.writes(writer)?;
        let mut rows = self.rows.write();
        if rows.get(key).is_none() {
            return Ok(None);
        }
        let before = rows.remove_for_now(key)?;
        Ok(Some(Removed {
            table: self.clone(),
            key: key.into(),
            before: Some(before),
        }))
    }

    /// Adds to a number of 8 bytes, little-endian, wrapping; a missing row counts as 0. Returns the
    /// previous state and the sum. Fails with [`TableError::Denied`], [`TableError::Invalid`] (the
    /// key, or the value is not a number) or [`TableError::Full`].
    pub fn add(&self, writer: Pid, key: &[u8], amount: i64) -> Result<(Before, i64), TableError> {
        self.writes(writer)?;
        if key.is_empty() || key.len() > KEY {
            return Err(TableError::Invalid);
        }
        self.rows.write().add(key, amount)
    }

    /// Restores the previous state of a row, unless it has been changed since.
    pub fn undo(&self, key: &[u8], before: Before) {
        self.rows.write().undo(key, before);
    }

    /// Undoes an addition. Later additions by other processes are kept; if another row was stored
    /// since, there is nothing to undo.
    pub fn undo_add(&self, key: &[u8], amount: i64, before: Before) {
        self.rows.write().undo_add(key, amount, before);
    }

    /// Charges another owner's budget from now on. Returns [`TableError::Full`] if it does not fit.
    fn moves_to(&self, budget: &Arc<Budget>) -> Result<(), TableError> {
        self.rows.write().moves_to(budget)
    }
}

/// A row that was removed. Once this is dropped, the removal cannot be undone.
#[derive(Debug)]
pub struct Removed {
    table: Arc<SharedTable>,
    key: Box<[u8]>,
    before: Option<Before>,
}

impl Removed {
    /// Restores the row, unless another was stored meanwhile.
    pub fn undo(mut self) {
        if let Some(before) = self.before.take() {
            self.table.undo(&self.key, before);
        }
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        self.table.rows.write().removed_for_good(&self.key, before);
    }
}

/// The tables of one node.
#[derive(Debug, Default)]
pub struct Tables {
    inner: RwLock<Inner>,
    /// Large tables that were deleted but not freed yet. Freeing a million rows takes longer than a
    /// slice: see [`Tables::sweep`].
    ended: Mutex<Vec<Arc<SharedTable>>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    by_id: HashMap<u64, Arc<SharedTable>, FixedState>,
    by_name: HashMap<Arc<str>, u64, FixedState>,
    by_owner: HashMap<Pid, Owned, FixedState>,
}

#[derive(Debug, Default)]
struct Owned {
    tables: Vec<u64>,
    budget: Arc<Budget>,
}

/// Maximum number of rows of a table that is freed at once, by the thread that deletes it.
const FEW: usize = 1_000;

impl Inner {
    fn owned(&mut self, pid: Pid, limits: &Limits) -> Result<&mut Owned, TableError> {
        let owned = self.by_owner.entry(pid).or_default();
        if owned.tables.len() >= limits::TABLES as usize {
            return Err(TableError::Full);
        }
        owned.budget.set_most(limits.tables);
        Ok(owned)
    }

    fn disowned(&mut self, pid: Pid, id: u64) {
        if let Some(owned) = self.by_owner.get_mut(&pid) {
            owned.tables.retain(|other| *other != id);
        }
        self.forget_if_idle(pid);
    }

    /// Removes the record of an owner without tables. If its last large table is not freed yet,
    /// those bytes stay charged until then.
    fn forget_if_idle(&mut self, pid: Pid) {
        let idle = self
            .by_owner
            .get(&pid)
            .is_some_and(|owned| owned.tables.is_empty() && owned.budget.is_unused());
        if idle {
            self.by_owner.remove(&pid);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<SharedTable>> {
        let table = self.by_id.remove(&id)?;
        if let Some(name) = &table.name {
            self.by_name.remove(name);
        }
        Some(table)
    }

    fn give(&mut self, table: &SharedTable, to: Pid, limits: &Limits) -> Result<(), TableError> {
        let owned = self.owned(to, limits)?;
        let moved = table.moves_to(&owned.budget);
        if moved.is_err() {
            self.forget_if_idle(to);
            return moved;
        }
        owned.tables.push(table.id);
        *table.owner.write() = Owner {
            pid: to,
            heir: None,
        };
        Ok(())
    }
}

impl Tables {
    pub(crate) fn create(
        &self,
        owner: Pid,
        limits: &Limits,
        name: Option<&str>,
        access: Access,
    ) -> Result<u64, TableError> {
        if name.is_some_and(|name| name.is_empty() || name.len() > limits::NAME as usize) {
            return Err(TableError::Invalid);
        }
        let mut inner = self.inner.write();
        if name.is_some_and(|name| inner.by_name.contains_key(name)) {
            return Err(TableError::Taken);
        }
        inner.last += 1;
        let id = inner.last;
        let owned = inner.owned(owner, limits)?;
        owned.tables.push(id);
        let budget = owned.budget.clone();
        let name: Option<Arc<str>> = name.map(Arc::from);
        if let Some(name) = &name {
            inner.by_name.insert(name.clone(), id);
        }
        let rows = Rows::new(budget);
        let table = SharedTable {
            id,
            name,
            access,
            owner: RwLock::new(Owner {
                pid: owner,
                heir: None,
            }),
            rows: RwLock::new(rows),
        };
        inner.by_id.insert(id, Arc::new(table));
        Ok(id)
    }

    /// Returns the table with this number, or [`TableError::Unknown`].
    pub fn get(&self, id: u64) -> Result<Arc<SharedTable>, TableError> {
        let inner = self.inner.read();
        inner.by_id.get(&id).cloned().ok_or(TableError::Unknown)
    }

    /// Returns the number of the table with this name.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.inner.read().by_name.get(name).copied()
    }

    /// Returns the tables of a process, oldest first.
    pub fn of(&self, owner: Pid) -> Vec<Arc<SharedTable>> {
        let inner = self.inner.read();
        let owned = inner.by_owner.get(&owner);
        let ids = owned.map_or(&[][..], |owned| &owned.tables);
        ids.iter()
            .filter_map(|id| inner.by_id.get(id).cloned())
            .collect()
    }

    /// Deletes a table of this owner. Fails with [`TableError::Unknown`] or [`TableError::Denied`].
    pub fn end(&self, owner: Pid, id: u64) -> Result<(), TableError> {
        let mut inner = self.inner.write();
        let table = inner.by_id.get(&id).ok_or(TableError::Unknown)?;
        if table.owner() != owner {
            return Err(TableError::Denied);
        }
        let table = inner.remove(id);
        inner.disowned(owner, id);
        drop(inner);
        self.free(table);
        Ok(())
    }

    /// Sets the process that gets a table when its owner terminates, or `None`. Returns the
    /// previous heir. Fails with [`TableError::Unknown`] or [`TableError::Denied`].
    pub fn set_heir(
        &self,
        owner: Pid,
        id: u64,
        heir: Option<(Pid, u32)>,
    ) -> Result<Option<(Pid, u32)>, TableError> {
        let table = self.get(id)?;
        let mut its = table.owner.write();
        if its.pid != owner {
            return Err(TableError::Denied);
        }
        Ok(std::mem::replace(&mut its.heir, heir))
    }

    pub(crate) fn give(
        &self,
        owner: Pid,
        id: u64,
        to: Pid,
        limits: &Limits,
    ) -> Result<(), TableError> {
        let mut inner = self.inner.write();
        let table = inner.by_id.get(&id).ok_or(TableError::Unknown)?.clone();
        if table.owner() != owner {
            return Err(TableError::Denied);
        }
        inner.give(&table, to, limits)?;
        inner.disowned(owner, id);
        Ok(())
    }

    /// Applies an owner's new limits.
    pub(crate) fn set_limits(&self, owner: Pid, limits: &Limits) {
        if let Some(owned) = self.inner.read().by_owner.get(&owner) {
            owned.budget.set_most(limits.tables);
        }
    }

    /// Handles the termination of an owner: its tables go to their heirs, if `limits` returns
    /// limits for those, or are deleted. Returns the tables given away, each with its new owner and
    /// the tag of the message to send.
    pub(crate) fn owner_ended(
        &self,
        owner: Pid,
        limits: impl Fn(Pid) -> Option<Arc<Limits>>,
    ) -> Vec<(u64, Pid, u32)> {
        let heirs: Vec<_> = self
            .of(owner)
            .into_iter()
            .filter_map(|table| table.owner.read().heir)
            // Before the lock, since `limits` locks mailboxes.
            .map(|(heir, _)| (heir, limits(heir)))
            .collect();
        let mut inner = self.inner.write();
        let ids = inner.by_owner.remove(&owner).unwrap_or_default().tables;
        let (mut given, mut ended) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(table) = inner.by_id.get(&id).cloned() else {
                continue;
            };
            let heir = table.owner.read().heir;
            let gets = heir.and_then(|(heir, tag)| {
                let (_, limits) = heirs.iter().find(|(known, _)| *known == heir)?;
                inner.give(&table, heir, limits.as_deref()?).ok()?;
                Some((id, heir, tag))
            });
            match gets {
                Some(gets) => given.push(gets),
                None => ended.push(inner.remove(id)),
            }
        }
        drop(inner);
        for table in ended {
            self.free(table);
        }
        given
    }

    fn free(&self, table: Option<Arc<SharedTable>>) {
        if let Some(table) = table
            && table.size().0 > FEW
        {
            self.ended.lock().push(table);
        }
    }

    /// Frees large tables that were deleted. Not to be called on a scheduler's thread, since it may
    /// take arbitrarily long.
    pub fn sweep(&self) {
        let ended = std::mem::take(&mut *self.ended.lock());
        drop(ended);
    }
}
