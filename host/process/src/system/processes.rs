//! How processes come and go: pids are reserved, processes started and terminated.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Pid, Priority};

use super::{SpawnError, SpawnSpec, System};
use crate::ExitReason;
use crate::item::Item;
use crate::limits::Limits;
use crate::mailbox::Closed;
use crate::process::{ExitNotifications, Process};
use crate::signal::Signal;
use crate::state::Transition;
use crate::table::{Requester, Slot};

impl<G: 'static> System<G> {
    /// Reserves a slot and pid for a process that the host starts later; signals collect there
    /// meanwhile. Returns [`SpawnError::TableFull`] if there is no slot.
    pub fn reserve(&self, limits: &Arc<Limits>) -> Result<Pid, SpawnError> {
        self.reserve_for(Requester::Host, limits)
    }

    /// Does the same on behalf of the host or of a guest.
    pub fn reserve_for(&self, whose: Requester, limits: &Arc<Limits>) -> Result<Pid, SpawnError> {
        let index = self.table.allocate(self.shard(), whose);
        let index = index.ok_or(SpawnError::TableFull)?;
        let slot = self.table.slot(index).ok_or(SpawnError::TableFull)?;
        slot.state.reserve();
        let least = self.table.least_generation();
        let generation = slot.mailbox.open(limits.clone(), least);
        self.prepare(slot, limits);
        Ok(Pid::new(self.node, index, generation))
    }

    /// Resets what a slot publishes, for a new process.
    pub(crate) fn prepare(&self, slot: &Slot<G>, limits: &Limits) {
        slot.stats.inbox_messages.store(0, Ordering::Relaxed);
        slot.stats.inbox_limited.store(0, Ordering::Relaxed);
        slot.stats.inbox_bytes.store(0, Ordering::Relaxed);
        slot.ran.store(true, Ordering::Relaxed);
        slot.set_priority(limits.priority.min(Priority::Normal));
    }

    /// Starts the process of a reserved pid and schedules it.
    pub fn start(&self, pid: Pid, spec: SpawnSpec<G>) {
        let Some(slot) = self.slot(pid) else { return };
        slot.pin(spec.pinned_to);
        let process = Box::new(Process::new(pid, spec));
        slot.put_process(process);
        self.apply(pid.slot(), slot.state.occupy());
    }

    /// Spawns a process. Returns [`SpawnError::TableFull`] if there is no slot.
    pub fn spawn(&self, spec: SpawnSpec<G>) -> Result<Pid, SpawnError> {
        let pid = self.reserve(&spec.limits)?;
        self.start(pid, spec);
        Ok(pid)
    }

    /// Releases a reserved pid whose process will not be started.
    pub fn abandon(&self, pid: Pid) {
        if let Some(slot) = self.slot(pid)
            && slot.mailbox.generation() == Some(pid.generation())
        {
            let closed = self.close(pid, slot);
            let notifying = slot.begin_notifying();
            self.vacate(pid, slot, closed.usable);
            for waiter in closed.waiters {
                let _ = self.signal(waiter, Signal::Capacity { from: pid });
            }
            for item in closed.items {
                self.respond_for_dead(pid, item);
            }
            drop(notifying);
        }
    }

    /// Releases everything that the process had except its slot. From now on it is dead to all
    /// other processes.
    pub(super) fn close(&self, pid: Pid, slot: &Slot<G>) -> Closed<Item<G>> {
        // Before the close: whoever learns that the process is dead may use its names at once.
        self.release_belongings(pid, slot);
        let closed = slot.mailbox.close();
        // And after it: either a name that is given concurrently is seen here, or the thread that
        // gives it sees that the process has terminated.
        self.release_belongings(pid, slot);
        closed
    }

    fn release_belongings(&self, pid: Pid, slot: &Slot<G>) {
        // The load keeps the exclusive access away from nearly all processes, which have nothing.
        if slot.named.load(Ordering::SeqCst) && slot.named.swap(false, Ordering::SeqCst) {
            self.release_names(pid);
        }
        if slot.timed.load(Ordering::Relaxed) && slot.timed.swap(false, Ordering::Relaxed) {
            self.timers.cancel_all(pid);
        }
    }

    /// Frees the slot for another process, or retires it.
    pub(super) fn vacate(&self, pid: Pid, slot: &Slot<G>, usable: bool) {
        slot.state.vacate();
        if usable {
            self.table.release(self.shard(), pid.slot());
        } else {
            self.table.retire();
        }
    }

    /// Terminates a process: releases its names, notifies linked and monitoring processes and frees
    /// its slot. Only its runner may call this.
    ///
    /// If more notifications are due than one turn may send, the process keeps its slot meanwhile,
    /// although it is dead to all others. Its runner then queues it again, as the returned
    /// transition says, and calls [`System::continue_termination`] in its next turn.
    pub fn terminate(&self, mut process: Box<Process<G>>, reason: &ExitReason) -> Transition {
        let pid = process.pid();
        let Some(slot) = self.slot(pid) else {
            return Transition::Nothing;
        };
        let closed = self.close(pid, slot);
        // First, so that a parent that is notified of the exit can spawn again.
        process.clear_spawn_info();
        if process.ends_unnoticed(&closed, self.signals_per_turn) {
            self.vacate(pid, slot, closed.usable);
            return Transition::Nothing;
        }
        let mut notifications = process.exit_notifications(reason, closed);
        if notifications.len() > self.signals_per_turn {
            return self.notify_links_and_monitors(process, slot, Box::new(notifications));
        }
        // The slot is freed before, for the same reason. The process itself is not restored until
        // all are notified: old signals would reach its new relations.
        let notifying = slot.begin_notifying();
        self.vacate(pid, slot, notifications.usable);
        notifications.notify(self);
        drop(notifying);
        Transition::Nothing
    }

    /// Continues the termination of a process for which [`Process::is_exiting`] is true.
    pub fn continue_termination(&self, mut process: Box<Process<G>>) -> Transition {
        match (self.slot(process.pid()), process.take_exit_notifications()) {
            (Some(slot), Some(notifications)) => {
                self.notify_links_and_monitors(process, slot, notifications)
            }
            _ => Transition::Nothing,
        }
    }

    pub(super) fn notify_links_and_monitors(
        &self,
        mut process: Box<Process<G>>,
        slot: &Slot<G>,
        mut notifications: Box<ExitNotifications<G>>,
    ) -> Transition {
        if notifications.notify(self) {
            self.vacate(process.pid(), slot, notifications.usable);
            return Transition::Nothing;
        }
        process.put_exit_notifications(notifications);
        slot.put_process(process);
        slot.state.yield_now()
    }
}
