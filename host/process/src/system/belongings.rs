//! Names, group memberships and tables of processes: given to living processes only, and released when
//! these terminate.

use std::sync::atomic::Ordering;

use exuvia_abi::{Kind, Pid};

use super::System;
use crate::Payload;
use crate::account::Charge;
use crate::groups::Membership;
use crate::item::Item;
use crate::limits::Limits;
use crate::names::{NameError, Registration};
use crate::signal::{Envelope, Signal};
use crate::tables::{Access, TableError};

impl<G: 'static> System<G> {
    /// Releases the names, group memberships and tables of a terminated process.
    pub(super) fn release_names(&self, pid: Pid) {
        self.names.remove_all(pid);
        self.groups.leave_all(pid);
        let limits = |heir| self.slot(heir)?.mailbox.limits_of(Pid::generation(heir));
        for (table, heir, tag) in self.tables.owner_ended(pid, limits) {
            // Not charged: the sender no longer exists, and the number of tables limits these
            // messages.
            self.table_given(table, pid, heir, tag, None);
        }
    }

    /// Notes that a process has a name, a group membership or a table now. Returns whether the
    /// process lives; if not, these are released again.
    pub(super) fn mark_named(&self, pid: Pid) -> bool {
        if let Some(slot) = self.slot(pid) {
            slot.named.store(true, Ordering::SeqCst);
        }
        // After the mark: a process that terminates concurrently sees the mark, or its end is seen
        // here.
        let alive = self.is_alive(pid);
        if !alive {
            self.release_names(pid);
        }
        alive
    }

    /// Registers a name for a living process. Fails with a [`NameError`].
    pub fn register(&self, name: &str, pid: Pid) -> Result<(), NameError> {
        self.register_undoably(name, pid).map(drop)
    }

    /// Registers a name and returns the argument for `Names::undo`; `None` if the process had the
    /// name already.
    pub fn register_undoably(
        &self,
        name: &str,
        pid: Pid,
    ) -> Result<Option<Registration>, NameError> {
        let new = self.names.insert(name, pid)?;
        let alive = self.mark_named(pid);
        alive.then_some(new).ok_or(NameError::Dead)
    }

    /// Undoes [`Names::take`](crate::Names::take): the process has the name again, if it lives and the name is free.
    pub fn undo_unregister(&self, name: &str, registration: Registration) {
        self.names.restore(name, registration);
        self.mark_named(registration.pid);
    }

    /// Undoes [`Groups::take`](crate::Groups::take): the process is in the group again, if it lives.
    pub fn undo_leave(&self, group: &str, pid: Pid, membership: Membership) {
        self.groups.restore(group, pid, membership);
        self.mark_named(pid);
    }

    /// Adds a living process to a group. Returns whether it was not in it. Fails with a
    /// [`NameError`].
    pub fn join(&self, group: &str, pid: Pid) -> Result<bool, NameError> {
        self.join_undoably(group, pid).map(|new| new.is_some())
    }

    /// Adds a living process to a group and returns the argument for `Groups::undo`; `None` if it
    /// was in the group already.
    pub fn join_undoably(&self, group: &str, pid: Pid) -> Result<Option<Membership>, NameError> {
        let new = self.groups.join(group, pid)?;
        let alive = self.mark_named(pid);
        alive.then_some(new).ok_or(NameError::Dead)
    }

    /// Creates a table. Returns its number, or a [`TableError`].
    pub fn new_table(
        &self,
        owner: Pid,
        limits: &Limits,
        name: Option<&str>,
        access: Access,
    ) -> Result<u64, TableError> {
        let table = self.tables.create(owner, limits, name, access)?;
        let alive = self.mark_named(owner);
        alive.then_some(table).ok_or(TableError::Dead)
    }

    /// Gives a table of `owner` to a living process, which gets a message. The message is charged
    /// to `charge`, since no mailbox refuses it. Returns a [`TableError`] if the owner does not own
    /// it, or the new owner is dead or has no capacity for it.
    pub fn give_table(
        &self,
        owner: Pid,
        table: u64,
        to: Pid,
        tag: u32,
        charge: Option<Charge>,
    ) -> Result<(), TableError> {
        let slot = self.slot(to).ok_or(TableError::Dead)?;
        let limits = slot.mailbox.limits_of(to.generation());
        let limits = limits.ok_or(TableError::Dead)?;
        self.tables.give(owner, table, to, &limits)?;
        self.table_given(table, owner, to, tag, charge);
        Ok(())
    }

    /// Notifies the new owner of a table. If that has terminated meanwhile, the table would go to
    /// its heir; a table just given has none, so it is deleted.
    pub(super) fn table_given(
        &self,
        table: u64,
        from: Pid,
        to: Pid,
        tag: u32,
        charge: Option<Charge>,
    ) {
        if self.mark_named(to) {
            let envelope = Envelope {
                kind: Kind::Table,
                reference: table,
                ..Envelope::message(from, tag, Payload::empty())
            };
            let _ = self.put(to, Item::charged(Signal::Message(envelope), charge));
        }
    }
}
