//! Tables of bytes by bytes that many processes read (Erlang: ETS, ordered
//! sets). A table belongs to a process and ends with it, or goes to its heir;
//! what is in it is no part of anybody's memory, so code that is swapped leaves
//! it alone.
//!
//! Lock order: the directory, then the rows of one table. Neither is held
//! while a mailbox is asked for anything.

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

/// A row's longest key, bytes.
const KEY: usize = limits::TABLE_KEY as usize;

/// Who may do what with a table; its owner may do all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody reads.
    Protected,
    /// Nobody else.
    Private,
    /// Everybody reads and writes.
    Public,
}

/// Why a table did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// There is no such table (any more).
    Unknown,
    /// It belongs to somebody else.
    Denied,
    /// The name belongs to another table.
    Taken,
    /// A name or a key is empty or too long, or a value is no number.
    Invalid,
    /// The owner has as many tables, or as many bytes in them, as it may have.
    Full,
    /// The process has ended.
    Dead,
}

/// One table. Rows are in the order of their keys' bytes.
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
    /// Who gets it after that one's end, and with which tag that one is told.
    heir: Option<(Pid, u32)>,
}

impl SharedTable {
    /// Its number; no other table of the node ever has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whom it belongs to.
    pub fn owner(&self) -> Pid {
        self.owner.read().pid
    }

    /// Rows, and the bytes that they count.
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

    /// The value of a key.
    pub fn get(&self, reader: Pid, key: &[u8]) -> Result<Option<Payload>, TableError> {
        self.reads(reader)?;
        Ok(self.rows.read().get(key).cloned())
    }

    /// The first key behind this one; behind none, the first of all.
    pub fn next(&self, reader: Pid, key: &[u8]) -> Result<Option<Box<[u8]>>, TableError> {
        self.reads(reader)?;
        Ok(self.rows.read().behind(key))
    }

    /// Stores a row, if there is none yet or `replace`; answers what was there.
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

    /// The same, for [`SharedTable::undo`].
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

    /// Removes a row; answers what was there.
    pub fn remove(&self, writer: Pid, key: &[u8]) -> Result<Option<Payload>, TableError> {
        self.writes(writer)?;
        Ok(self.rows.write().remove(key)?.into_value())
    }

    /// The same, until the answer is undone or dropped; `None`: there was no such
    /// row.
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

    /// Adds to a number of 8 bytes, little-endian, wrapping; 0 if there is no such
    /// row. Answers what was there, and what is there now.
    pub fn add(&self, writer: Pid, key: &[u8], amount: i64) -> Result<(Before, i64), TableError> {
        self.writes(writer)?;
        if key.is_empty() || key.len() > KEY {
            return Err(TableError::Invalid);
        }
        self.rows.write().add(key, amount)
    }

    /// Puts back what was there before a change, unless somebody has changed
    /// the row since.
    pub fn undo(&self, key: &[u8], before: Before) {
        self.rows.write().undo(key, before);
    }

    /// Takes back an addition. If others have added since, theirs stay; if
    /// somebody has stored another row, there is nothing to take back.
    pub fn undo_add(&self, key: &[u8], amount: i64, before: Before) {
        self.rows.write().undo_add(key, amount, before);
    }

    /// Counts with another owner from now on, if there is room.
    fn moves_to(&self, budget: &Arc<Budget>) -> Result<(), TableError> {
        self.rows.write().moves_to(budget)
    }
}

/// A row that was removed. Nobody can put it back any more when this is dropped.
#[derive(Debug)]
pub struct Removed {
    table: Arc<SharedTable>,
    key: Box<[u8]>,
    before: Option<Before>,
}

impl Removed {
    /// Puts the row back, unless somebody has stored it meanwhile.
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
    /// What is left of tables that were large when they ended. Freeing a million rows takes longer
    /// than a slice: see [`Tables::sweep`].
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

/// Rows that whoever ends a table frees at once.
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

    /// Forgets an owner that has no tables. One whose last large table is still
    /// being freed has those bytes until then.
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

    /// The table of that number.
    pub fn get(&self, id: u64) -> Result<Arc<SharedTable>, TableError> {
        let inner = self.inner.read();
        inner.by_id.get(&id).cloned().ok_or(TableError::Unknown)
    }

    /// The number of the table of that name.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.inner.read().by_name.get(name).copied()
    }

    /// The tables of a process, oldest first.
    pub fn of(&self, owner: Pid) -> Vec<Arc<SharedTable>> {
        let inner = self.inner.read();
        let owned = inner.by_owner.get(&owner);
        let ids = owned.map_or(&[][..], |owned| &owned.tables);
        ids.iter()
            .filter_map(|id| inner.by_id.get(id).cloned())
            .collect()
    }

    /// Ends a table of this owner.
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

    /// Names who gets a table of this owner after its end, or nobody; answers who
    /// it was to be.
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

    /// The owner has new limits.
    pub(crate) fn set_limits(&self, owner: Pid, limits: &Limits) {
        if let Some(owned) = self.inner.read().by_owner.get(&owner) {
            owned.budget.set_most(limits.tables);
        }
    }

    /// The owner has ended: its tables go to their heirs, if `limits` knows those, or end.
    /// Answers which table went to whom, and with which tag that one is told.
    pub(crate) fn owner_ended(
        &self,
        owner: Pid,
        limits: impl Fn(Pid) -> Option<Arc<Limits>>,
    ) -> Vec<(u64, Pid, u32)> {
        let heirs: Vec<_> = self
            .of(owner)
            .into_iter()
            .filter_map(|table| table.owner.read().heir)
            // Before the lock: mailboxes are asked.
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

    /// Frees what is left of large tables that have ended. Not for a
    /// scheduler's thread: it takes as long as it takes.
    pub fn sweep(&self) {
        let ended = std::mem::take(&mut *self.ended.lock());
        drop(ended);
    }
}
