//! Tables of bytes by bytes that many processes read (Erlang: ETS, ordered
//! sets). A table belongs to a process and ends with it, or goes to its heir;
//! what is in it is no part of anybody's memory, so code that is swapped leaves
//! it alone.
//!
//! Lock order: the directory, then the rows of one table. Neither is held
//! while a mailbox is asked for anything.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_abi::{Pid, limits};
use foldhash::fast::FixedState;
use parking_lot::{Mutex, RwLock};

use crate::Payload;
use crate::limits::Limits;

/// What a row counts beside its key and value, bytes: about what the tree and
/// the allocator take for it.
const ROW: u64 = 96;
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

/// What all tables of a process hold, and may hold.
#[derive(Debug, Default)]
struct Budget {
    bytes: AtomicU64,
    most: AtomicU64,
}

impl Budget {
    fn take(&self, bytes: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |has| {
                has.checked_add(bytes).filter(|sum| *sum <= most)
            });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
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

#[derive(Debug)]
struct Rows {
    map: BTreeMap<Box<[u8]>, Payload>,
    bytes: u64,
    budget: Arc<Budget>,
}

fn cost(key: &[u8], value: &Payload) -> u64 {
    (key.len() + value.len()) as u64 + ROW
}

impl Rows {
    /// Stores, removes or leaves a row as it is; answers what was there.
    fn set(&mut self, key: &[u8], value: Option<&Payload>) -> Result<Option<Payload>, TableError> {
        let had = self.map.get(key).map_or(0, |old| cost(key, old));
        let wants = value.map_or(0, |value| cost(key, value));
        if wants > had && !self.budget.take(wants - had) {
            return Err(TableError::Full);
        }
        if had > wants {
            self.budget.give_back(had - wants);
        }
        self.bytes = self.bytes - had + wants;
        Ok(match value {
            None => self.map.remove(key),
            Some(value) => match self.map.get_mut(key) {
                Some(place) => Some(std::mem::replace(place, value.clone())),
                None => self.map.insert(key.into(), value.clone()),
            },
        })
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
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
        let rows = self.rows.read();
        (rows.map.len(), rows.bytes)
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
        Ok(self.rows.read().map.get(key).cloned())
    }

    /// The first key behind this one; behind none, the first of all.
    pub fn next(&self, reader: Pid, key: &[u8]) -> Result<Option<Box<[u8]>>, TableError> {
        self.reads(reader)?;
        let rows = self.rows.read();
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        // No key is empty: behind the empty one come all.
        let mut keys = rows.map.range::<[u8], _>(behind);
        Ok(keys.next().map(|(key, _)| key.clone()))
    }

    /// Stores a row, if there is none yet or `replace`; answers what was there.
    pub fn put(
        &self,
        writer: Pid,
        key: &[u8],
        value: &Payload,
        replace: bool,
    ) -> Result<Option<Payload>, TableError> {
        self.writes(writer)?;
        if key.is_empty() || key.len() > KEY {
            return Err(TableError::Invalid);
        }
        let mut rows = self.rows.write();
        if !replace && let Some(there) = rows.map.get(key) {
            return Ok(Some(there.clone()));
        }
        rows.set(key, Some(value))
    }

    /// Removes a row; answers what was there.
    pub fn remove(&self, writer: Pid, key: &[u8]) -> Result<Option<Payload>, TableError> {
        self.writes(writer)?;
        self.rows.write().set(key, None)
    }

    /// Adds to a number of 8 bytes, little-endian, wrapping; 0 if there is no such
    /// row. Answers what was there, and what is there now.
    pub fn add(
        &self,
        writer: Pid,
        key: &[u8],
        amount: i64,
    ) -> Result<(Option<Payload>, i64), TableError> {
        self.writes(writer)?;
        if key.is_empty() || key.len() > KEY {
            return Err(TableError::Invalid);
        }
        let mut rows = self.rows.write();
        let before = match rows.map.get(key) {
            None => 0,
            Some(value) => {
                let bytes = value.as_slice().try_into();
                i64::from_le_bytes(bytes.map_err(|_| TableError::Invalid)?)
            }
        };
        let sum = before.wrapping_add(amount);
        let old = rows.set(key, Some(&Payload::new(&sum.to_le_bytes())))?;
        Ok((old, sum))
    }

    /// Puts back what was there before a change, unless somebody has changed
    /// the row since.
    pub fn undo(&self, key: &[u8], changed: Option<&Payload>, before: Option<&Payload>) {
        let mut rows = self.rows.write();
        if rows.map.get(key) == changed {
            // Full meanwhile: what was there is lost, as if it had been refused.
            let _ = rows.set(key, before);
        }
    }

    /// Counts with another owner from now on, if there is room.
    fn moves_to(&self, budget: &Arc<Budget>) -> Result<(), TableError> {
        let mut rows = self.rows.write();
        if !budget.take(rows.bytes) {
            return Err(TableError::Full);
        }
        let before = std::mem::replace(&mut rows.budget, budget.clone());
        before.give_back(rows.bytes);
        Ok(())
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
        owned.budget.most.store(limits.tables, Ordering::Relaxed);
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
        let idle = self.by_owner.get(&pid).is_some_and(|owned| {
            owned.tables.is_empty() && owned.budget.bytes.load(Ordering::Relaxed) == 0
        });
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
        let rows = Rows {
            map: BTreeMap::new(),
            bytes: 0,
            budget,
        };
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
            owned.budget.most.store(limits.tables, Ordering::Relaxed);
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
