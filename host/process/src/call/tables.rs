//! Calls about tables. A handler's changes in a transaction are applied at once, and undone if it
//! traps, unless another process has changed the row since.

use std::sync::Arc;

use exuvia_abi::{Code, Pid, table};

use super::names::valid_name;
use super::{CallResult, CallServices, Caller, Runner};
use crate::Payload;
use crate::tables::{Access, Put, SharedTable};

/// Bytes that a TABLE message on its way is charged to the process that gave the table.
const TABLE_BYTES: u64 = 128;

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Creates a table; an empty name is none. Returns its number, [`Code::NameTaken`],
    /// [`Code::Limit`] if the process has too many tables, or [`Code::BadArgument`].
    pub fn table_new(&mut self, name: &[u8], access: i32) -> CallResult<u64> {
        let access = match access {
            table::PROTECTED => Access::Protected,
            table::PRIVATE => Access::Private,
            table::PUBLIC => Access::Public,
            _ => return Err(Code::BadArgument.into()),
        };
        let name = match name {
            [] => None,
            name => Some(valid_name(name)?),
        };
        let (owner, limits) = (self.process.pid(), self.process.limits());
        let id = self.system.new_table(owner, limits, name, access)?;
        self.on_rollback(move |process, system| {
            let _ = system.tables.end(process.pid(), id);
        });
        Ok(id)
    }

    /// Returns the number of the table that has a name, or [`Code::NoProc`].
    pub fn table_find(&mut self, name: &[u8]) -> CallResult<u64> {
        let found = self.system.tables.find(valid_name(name)?);
        Ok(found.ok_or(Code::NoProc)?)
    }

    fn table(&self, id: u64) -> Result<Arc<SharedTable>, Code> {
        self.system.tables.get(id).map_err(Code::from)
    }

    /// Stores a row. Returns whether there was one; [`Code::NoProc`], [`Code::Denied`],
    /// [`Code::BadArgument`], [`Code::MessageTooLarge`] or [`Code::Limit`].
    pub fn table_put(&mut self, id: u64, key: &[u8], value: &[u8], flags: i32) -> CallResult<bool> {
        if flags & !table::NEW != 0 {
            return Err(Code::BadArgument.into());
        }
        let replace = flags & table::NEW == 0;
        let value = self.payload(value)?;
        let table = self.table(id)?;
        let put = table.put_undoably(self.process.pid(), key, &value, replace)?;
        let before = match put {
            Put::There(_) => return Ok(true),
            Put::Stored(before) => before,
        };
        self.count_payload(value.len());
        let was = before.was_there();
        if self.transaction().is_some() {
            let key: Box<[u8]> = key.into();
            self.on_rollback(move |_, _| table.undo(&key, before));
        }
        Ok(was)
    }

    /// Returns the value of a row, if there is one; [`Code::NoProc`] or [`Code::Denied`].
    pub fn table_get(&mut self, id: u64, key: &[u8]) -> CallResult<Option<Payload>> {
        Ok(self.table(id)?.get(self.process.pid(), key)?)
    }

    /// Returns the first key after this one, if there is one; errors as [`Caller::table_get`].
    pub fn table_next(&mut self, id: u64, key: &[u8]) -> CallResult<Option<Box<[u8]>>> {
        Ok(self.table(id)?.next(self.process.pid(), key)?)
    }

    /// Removes a row. Returns whether there was one; errors as [`Caller::table_get`].
    pub fn table_delete(&mut self, id: u64, key: &[u8]) -> CallResult<bool> {
        let table = self.table(id)?;
        let owner = self.process.pid();
        if self.transaction().is_none() {
            return Ok(table.remove(owner, key)?.is_some());
        }
        let Some(removed) = table.remove_undoably(owner, key)? else {
            return Ok(false);
        };
        self.on_rollback(move |_, _| removed.undo());
        Ok(true)
    }

    /// Adds to a number. Returns the sum; errors as [`Caller::table_put`].
    pub fn table_add(&mut self, id: u64, key: &[u8], amount: i64) -> CallResult<i64> {
        let table = self.table(id)?;
        let (before, sum) = table.add(self.process.pid(), key, amount)?;
        if self.transaction().is_some() {
            let key: Box<[u8]> = key.into();
            self.on_rollback(move |_, _| table.undo_add(&key, amount, before));
        }
        Ok(sum)
    }

    /// Returns a number about a table: [`table::ROWS`] or [`table::BYTES`].
    pub fn table_info(&mut self, id: u64, what: i32) -> CallResult<u64> {
        let (rows, bytes) = self.table(id)?.size();
        match what {
            table::ROWS => Ok(rows as u64),
            table::BYTES => Ok(bytes),
            _ => Err(Code::BadArgument.into()),
        }
    }

    /// Names the process that gets a table when the process ends, and the tag of its message.
    /// Returns [`Code::NoProc`], [`Code::Denied`] or [`Code::BadArgument`].
    pub fn table_heir(&mut self, id: u64, heir: Option<(Pid, u32)>) -> CallResult<()> {
        if let Some((heir, _)) = heir {
            self.known(heir)?;
        }
        let before = (self.system.tables).set_heir(self.process.pid(), id, heir)?;
        self.on_rollback(move |process, system| {
            let _ = system.tables.set_heir(process.pid(), id, before);
        });
        Ok(())
    }

    /// Gives a table to another process. Errors as [`Caller::table_heir`], and [`Code::Limit`].
    pub fn table_give(&mut self, id: u64, to: Pid, tag: u32) -> CallResult<()> {
        self.known(to)?;
        if to == self.process.pid() {
            return Err(Code::BadArgument.into());
        }
        self.commits();
        let charge = self.charge(TABLE_BYTES)?;
        let owner = self.process.pid();
        Ok((self.system).give_table(owner, id, to, tag, Some(charge))?)
    }

    /// Ends a table. Returns [`Code::NoProc`] or [`Code::Denied`].
    pub fn table_end(&mut self, id: u64) -> CallResult<()> {
        self.commits();
        Ok(self.system.tables.end(self.process.pid(), id)?)
    }
}
