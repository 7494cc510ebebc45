//! The start of a process and of its children, and what a process is charged for.

use std::sync::Arc;

use exuvia_abi::Pid;

use super::Process;
use crate::Payload;
use crate::account::{Account, AccountRef, Charge, Most, Use};
use crate::children::Children;
use crate::limits::Limits;
use crate::relations::{Link, Monitor};
use crate::system::System;

impl<G: 'static> Process<G> {
    /// Acknowledges the start: status 0 means success. Returns whether this was the first
    /// acknowledgement; later ones have no effect.
    pub fn acknowledge(&mut self, system: &System<G>, status: u32, detail: Payload) -> bool {
        if !std::mem::take(&mut self.starting) {
            return false;
        }
        if let Some((parent, reference)) = self.starter() {
            self.reply(system, parent, reference, status, detail);
        }
        true
    }

    /// Returns the process that waits for the start, and the reference.
    pub(super) fn starter(&self) -> Option<(Pid, u64)> {
        let spawn_info = self.spawn_info.as_ref()?;
        Some((spawn_info.parent, spawn_info.starter?.get()))
    }

    /// Returns whether the start is not acknowledged yet.
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// Returns whether a process waits for that acknowledgement.
    pub fn is_awaited(&self) -> bool {
        self.starting && self.starter().is_some()
    }

    /// Returns the counters of its children, creating them on first use.
    pub fn children(&mut self) -> Arc<Children> {
        let most = self.limits.descendants;
        let spawn_info = self.spawn_info.as_ref();
        let above =
            spawn_info.and_then(|spawn_info| spawn_info.counted.as_ref()?.descent().cloned());
        let counts = self.relations().counts.get_or_insert_default();
        let new = || Arc::new(Children::of(most, above.as_ref()));
        counts.children.get_or_insert_with(new).clone()
    }

    /// Returns the limits of a child that asks for none: those of the process. Its children share a copy,
    /// since each start and each end writes to the count of references, and most processes of a node have
    /// the same limits: all schedulers would write to one line.
    pub fn limits_of_child(&mut self) -> Arc<Limits> {
        let counts = self
            .relations
            .as_ref()
            .and_then(|relations| relations.counts.as_ref());
        if let Some(limits) = counts.and_then(|counts| counts.limits.as_ref()) {
            return limits.clone();
        }
        let copy = Arc::new(Limits::clone(&self.limits));
        let counts = self.relations().counts.get_or_insert_default();
        counts.limits.insert(copy).clone()
    }

    /// Adds the relations to a child that was just spawned, on the parent's side.
    pub fn add_child(&mut self, child: Pid, linked: bool, references: &[u64]) {
        if linked {
            self.relations().links.insert(child, Link::Active);
        }
        for reference in references {
            (self.relations().monitors).insert(*reference, Monitor::Exit(child));
        }
    }

    /// Stops counting it among its parent's children.
    pub(crate) fn clear_spawn_info(&mut self) {
        self.spawn_info = None;
    }

    /// Charges the process for a timer or an exit signal whose message counts so many bytes.
    /// `None`: the process would exceed the limit on such messages, or the bytes that its own
    /// mailbox may hold, or the node would exceed its limits.
    pub fn charge(&mut self, system: &System<G>, bytes: u64) -> Option<Charge> {
        let most = Most::of_signals(&self.limits);
        self.account(system).charge(Use::Signal, bytes, most)
    }

    /// Returns the account of the process, for whoever charges it between its turns. The process keeps it
    /// as long as this exists.
    pub fn account_ref(&mut self, system: &System<G>) -> AccountRef {
        AccountRef(self.account(system).clone())
    }

    /// Charges the process for the arguments of a child, which the child keeps as long as it
    /// lives. `None`: the living children would hold more bytes than the process's own mailbox
    /// may hold, or the node would exceed its limits.
    pub fn charge_arguments(&mut self, system: &System<G>, bytes: u64) -> Option<Charge> {
        // The number of children limits how many.
        let most = Most {
            count: u32::MAX,
            bytes: self.limits.mailbox_bytes,
        };
        self.account(system).charge(Use::Arguments, bytes, most)
    }

    pub(super) fn account(&mut self, system: &System<G>) -> &Arc<Account> {
        let counts = self.relations().counts.get_or_insert_default();
        let new = || Arc::new(Account::new(system.account.clone()));
        counts.account.get_or_insert_with(new)
    }
}
