//! The state that all processes of a node share (the table, names, groups, shared tables, timers
//! and the clock), and the operations that involve more than one process.
//!
//! Lock order: a mailbox's lock is the innermost; no other lock is taken while it is held. The
//! names' lock may be held while a mailbox is asked whether its process lives.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use exuvia_abi::{Kind, Pid, Priority, Reason, limits};

use crate::account::{Charge, NodeAccount};
use crate::children::Member;
use crate::clock::Clock;
use crate::groups::{Groups, Membership};
use crate::item::Item;
use crate::limits::Limits;
use crate::mailbox::{Closed, Refused};
use crate::names::{NameError, Names, Registration};
use crate::process::{Body, ExitNotifications, Process, SIGNALS_PER_TURN};
use crate::signal::{Envelope, Signal};
use crate::state::Transition;
use crate::table::{Requester, Slot, Table};
use crate::tables::{Access, TableError, Tables};
use crate::timers::{Due, Timers};
use crate::{ExitReason, Payload};

/// Puts processes into run queues. The node implements it with the scheduler.
pub trait Schedule: Send + Sync {
    /// Schedules the process of this slot, which has something to do.
    fn schedule(&self, slot: u32);
    /// Schedules a process that only this scheduler may run.
    fn schedule_on(&self, scheduler: u8, slot: u32) {
        let _ = scheduler;
        self.schedule(slot);
    }
    /// Schedules a process with a priority other than normal.
    fn schedule_as(&self, priority: Priority, slot: u32) {
        let _ = priority;
        self.schedule(slot);
    }
    /// Returns the shard of timers and free slots that belongs to the calling thread.
    fn shard(&self) -> usize {
        0
    }
    /// Notes that the shard's first timer is now an earlier one: a thread that sleeps until it must
    /// check again.
    fn timer_moved(&self, shard: usize) {
        let _ = shard;
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The process has terminated.
    Dead,
    /// The receiver's mailbox is full.
    Full,
    /// No process of this node ever had this pid.
    Unknown,
}

/// Why a process could not be spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The node has as many processes as it may have, or as there is memory for.
    TableFull,
}

/// How a process is spawned.
#[derive(Debug)]
pub struct SpawnSpec<G> {
    /// What does the work.
    pub body: Body<G>,
    /// Its limits.
    pub limits: Arc<Limits>,
    /// The arguments: the payload of its first message.
    pub arguments: Payload,
    /// The charge for them on the parent.
    pub charge: Option<Charge>,
    /// The parent; [`Pid::NONE`] for the host.
    pub parent: Pid,
    /// Whether to link it to the parent.
    pub link: bool,
    /// If set, the parent monitors it under this reference.
    pub monitor: Option<u64>,
    /// If set, the parent waits for its acknowledgement under this reference.
    pub starter: Option<u64>,
    /// Its entry in the parent's count of children.
    pub counted: Option<Member>,
    /// The only scheduler that may run it; below 255.
    pub pinned_to: Option<u8>,
}

impl<G> SpawnSpec<G> {
    /// Returns the spec of a process without a parent.
    pub fn new(body: Body<G>, limits: Arc<Limits>, arguments: Payload) -> SpawnSpec<G> {
        SpawnSpec {
            body,
            limits,
            arguments,
            charge: None,
            parent: Pid::NONE,
            link: false,
            monitor: None,
            starter: None,
            counted: None,
            pinned_to: None,
        }
    }
}

/// All processes of a node, and what they share.
pub struct System<G> {
    /// The process table.
    pub table: Table<G>,
    /// Registered names.
    pub names: Names,
    /// Process groups.
    pub groups: Groups,
    /// Tables that processes share.
    pub tables: Tables,
    /// Timers.
    pub timers: Timers,
    /// The clock.
    pub clock: Clock,
    /// Charges for messages that bypass mailbox limits.
    pub(crate) account: Arc<NodeAccount>,
    /// Maximum number of signals that are sorted, or exit notifications that are sent, in one turn.
    pub(crate) signals_per_turn: usize,
    node: u64,
    schedule: OnceLock<Arc<dyn Schedule>>,
}

impl<G> fmt::Debug for System<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("node", &self.node)
            .field("alive", &self.table.alive())
            .finish_non_exhaustive()
    }
}

impl<G: 'static> System<G> {
    /// Creates the processes' shared state. `node` is the node's number (not 0), `limit` the
    /// maximum number of processes, `shards` the number of schedulers.
    pub fn new(node: u64, limit: usize, shards: usize, clock: Clock) -> System<G> {
        System {
            table: Table::new(limit, shards),
            names: Names::default(),
            groups: Groups::default(),
            tables: Tables::default(),
            timers: Timers::new(shards),
            clock,
            account: Arc::new(NodeAccount::new(limit)),
            signals_per_turn: SIGNALS_PER_TURN,
            node,
            schedule: OnceLock::new(),
        }
    }

    /// Changes the maximum number of signals that one turn processes.
    #[must_use]
    pub fn with_signals_per_turn(self, part: usize) -> System<G> {
        System {
            signals_per_turn: part.max(1),
            ..self
        }
    }

    /// Connects the run queues. Only the first call has an effect.
    pub fn connect(&self, schedule: Arc<dyn Schedule>) {
        let _ = self.schedule.set(schedule);
    }

    /// Returns the node's number.
    pub fn node(&self) -> u64 {
        self.node
    }

    #[inline]
    fn schedule(&self, slot: u32) {
        let Some(schedule) = self.schedule.get() else {
            return;
        };
        let Some(its) = self.table.slot(slot) else {
            return;
        };
        match (its.pinned_to(), its.priority()) {
            (None, Priority::Normal) => schedule.schedule(slot),
            (None, priority) => schedule.schedule_as(priority, slot),
            (Some(scheduler), _) => schedule.schedule_on(scheduler, slot),
        }
    }

    /// Does what a transition of a process's run state requires.
    #[inline]
    pub fn apply(&self, slot: u32, then: Transition) {
        if then == Transition::Schedule {
            self.schedule(slot);
        }
    }

    /// Returns the pid of the living process in a slot.
    pub fn pid(&self, slot: u32) -> Option<Pid> {
        let generation = self.table.slot(slot)?.mailbox.generation()?;
        Some(Pid::new(self.node, slot, generation))
    }

    /// Returns whether the process lives.
    pub fn is_alive(&self, pid: Pid) -> bool {
        pid.node == self.node && self.pid(pid.slot()) == Some(pid)
    }

    #[inline]
    fn slot(&self, pid: Pid) -> Option<&Slot<G>> {
        (pid.node == self.node)
            .then(|| self.table.slot(pid.slot()))
            .flatten()
    }

    /// Sends a message, if the receiver's limits allow. Messages that the limits do not count are
    /// always accepted. Returns an error if the receiver is dead, unknown, or its mailbox is full.
    #[inline]
    pub fn send(&self, to: Pid, envelope: Envelope) -> Result<(), SendError> {
        let slot = self.slot(to).ok_or(SendError::Unknown)?;
        if !envelope.is_limited() {
            let sent = self.signal(to, Signal::Message(envelope));
            return sent.map_err(|_| SendError::Dead);
        }
        let inner = || {
            (
                slot.stats.inbox_limited.load(Ordering::Relaxed),
                slot.stats.inbox_bytes.load(Ordering::Relaxed),
            )
        };
        let cost = envelope.cost();
        slot.mailbox
            .push_message(
                to.generation(),
                Signal::Message(envelope).into(),
                cost,
                inner,
            )
            .map_err(|refused| match refused {
                Refused::Dead => SendError::Dead,
                Refused::Full => SendError::Full,
            })?;
        self.apply(to.slot(), slot.state.notify());
        Ok(())
    }

    /// Sends a signal that no limit counts. Fails with [`Refused::Dead`] only. Guests use
    /// [`Process::send_signal`].
    pub fn signal(&self, to: Pid, signal: Signal) -> Result<(), Refused> {
        self.put(to, signal.into()).map(drop)
    }

    /// Has a function of the host run on a process, at the beginning of one of its turns (see
    /// [`Control`](crate::Control)). It is dropped if the process terminates before. Fails with
    /// [`Refused::Dead`] only.
    pub fn control(
        &self,
        to: Pid,
        control: impl FnOnce(&mut Process<G>, &System<G>) + Send + 'static,
    ) -> Result<(), Refused> {
        self.put(to, Item::Control(Box::new(control))).map(drop)
    }

    /// Puts an item that no limit counts into a mailbox. Returns whether the receiver is congested
    /// now. Fails with [`Refused::Dead`] only.
    pub(crate) fn put(&self, to: Pid, item: Item<G>) -> Result<bool, Refused> {
        let slot = self.slot(to).ok_or(Refused::Dead)?;
        let weight = item.weight();
        let congested = slot.mailbox.push(to.generation(), item, weight)?;
        self.apply(to.slot(), slot.state.notify());
        Ok(congested)
    }

    /// Implements [`Process::wait_for_capacity`].
    pub(crate) fn wait_for_capacity(&self, to: Pid, waiter: Pid) -> bool {
        self.slot(to)
            .is_some_and(|slot| slot.mailbox.wait_for_capacity(to.generation(), waiter))
    }

    /// Returns whether a process's mailbox is congested, so that senders of signals that no limit
    /// counts must wait: see [`Process::take_backpressure`].
    pub fn is_congested(&self, pid: Pid) -> bool {
        self.slot(pid).is_some_and(|slot| {
            slot.mailbox.generation() == Some(pid.generation()) && slot.mailbox.is_congested()
        })
    }

    /// Returns whether other processes may link themselves to a process. They may not while it has
    /// too many exit notifications and timer messages that it has not received, or processes that
    /// link and exit would fill its mailbox.
    pub fn may_be_linked(&self, pid: Pid) -> bool {
        self.slot(pid).is_none_or(|slot| {
            let messages = slot.stats.inbox_messages.load(Ordering::Relaxed);
            let limited = slot.stats.inbox_limited.load(Ordering::Relaxed);
            messages.saturating_sub(limited) < limits::LINKS
        })
    }

    pub(crate) fn down(&self, to: Pid, from: Pid, reference: u64, reason: &ExitReason) {
        let down = Signal::Down {
            from,
            reference,
            reason: reason.clone(),
        };
        let _ = self.signal(to, down);
    }

    /// Responds to what reached a process after its termination.
    pub(crate) fn respond_for_dead(&self, dead: Pid, item: Item<G>) {
        let noproc = ExitReason::new(Reason::NOPROC);
        let Item::Signal(signal) = item else { return };
        match signal.into_value() {
            Signal::Link { from } => {
                let exit = Signal::Exit {
                    from: dead,
                    reason: noproc,
                    linked: true,
                };
                let _ = self.signal(from, exit);
            }
            Signal::Unlink { from, id } => {
                let _ = self.signal(from, Signal::UnlinkAck { from: dead, id });
            }
            Signal::Monitor { from, reference } => self.down(from, dead, reference, &noproc),
            Signal::Message(envelope) if envelope.kind == Kind::Request => {
                self.down(envelope.sender, dead, envelope.reference, &noproc);
            }
            _ => {}
        }
    }

    /// Returns the calling thread's shard of the resources that are split by scheduler.
    #[inline]
    fn shard(&self) -> usize {
        self.schedule.get().map_or(0, |schedule| schedule.shard())
    }

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
        let generation = slot.mailbox.open(limits.clone());
        slot.stats.inbox_messages.store(0, Ordering::Relaxed);
        slot.stats.inbox_limited.store(0, Ordering::Relaxed);
        slot.stats.inbox_bytes.store(0, Ordering::Relaxed);
        slot.ran.store(true, Ordering::Relaxed);
        slot.set_priority(limits.priority.min(Priority::Normal));
        Ok(Pid::new(self.node, index, generation))
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
            self.vacate(pid, slot, closed.usable);
            for waiter in closed.waiters {
                let _ = self.signal(waiter, Signal::Capacity { from: pid });
            }
            for item in closed.items {
                self.respond_for_dead(pid, item);
            }
        }
    }

    /// Releases everything that the process had except its slot. From now on it is dead to all
    /// other processes.
    fn close(&self, pid: Pid, slot: &Slot<G>) -> Closed<Item<G>> {
        let closed = slot.mailbox.close();
        // After the close: either a name that is given concurrently is seen here, or the thread
        // that gives it sees that the process has terminated.
        if slot.named.swap(false, Ordering::SeqCst) {
            self.release_names(pid);
        }
        if slot.timed.swap(false, Ordering::Relaxed) {
            self.timers.cancel_all(pid);
        }
        closed
    }

    /// Frees the slot for another process, or retires it.
    fn vacate(&self, pid: Pid, slot: &Slot<G>, usable: bool) {
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
        // For the same reason.
        self.vacate(pid, slot, notifications.usable);
        notifications.tell(self);
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

    fn notify_links_and_monitors(
        &self,
        mut process: Box<Process<G>>,
        slot: &Slot<G>,
        mut notifications: Box<ExitNotifications<G>>,
    ) -> Transition {
        if notifications.tell(self) {
            self.vacate(process.pid(), slot, notifications.usable);
            return Transition::Nothing;
        }
        process.put_exit_notifications(notifications);
        slot.put_process(process);
        slot.state.yield_now()
    }

    /// Releases the names, group memberships and tables of a terminated process.
    fn release_names(&self, pid: Pid) {
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
    fn mark_named(&self, pid: Pid) -> bool {
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

    /// Undoes [`Names::take`]: the process has the name again, if it lives and the name is free.
    pub fn undo_unregister(&self, name: &str, registration: Registration) {
        self.names.restore(name, registration);
        self.mark_named(registration.pid);
    }

    /// Undoes [`Groups::take`]: the process is in the group again, if it lives.
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
    fn table_given(&self, table: u64, from: Pid, to: Pid, tag: u32, charge: Option<Charge>) {
        if self.mark_named(to) {
            let envelope = Envelope {
                kind: Kind::Table,
                reference: table,
                ..Envelope::message(from, tag, Payload::empty())
            };
            let _ = self.put(to, Item::charged(Signal::Message(envelope), charge));
        }
    }

    /// Changes a process's scheduling priority from its next turn on. Returns the previous one.
    /// Only its runner may call this.
    pub fn set_priority(&self, pid: Pid, priority: Priority) -> Priority {
        let Some(slot) = self.slot(pid) else {
            return priority;
        };
        let before = slot.priority();
        slot.set_priority(priority);
        before
    }

    /// Sets a timer of `owner`, due `delay` nanoseconds from now. Returns its reference. A wake is
    /// cancelled when its owner terminates, a message is not. Only the owner's runner may call this
    /// on its behalf.
    pub fn set_timer(&self, owner: Pid, delay: u64, due: impl FnOnce(u64) -> Due) -> u64 {
        if let Some(slot) = self.slot(owner) {
            // Relaxed: set and read by the owner's runners, which are ordered by the run state.
            slot.timed.store(true, Ordering::Relaxed);
        }
        let shard = self.shard();
        let at = self.clock.now().saturating_add(delay);
        let (reference, first) = self.timers.set(shard, owner, at, due);
        if first && let Some(schedule) = self.schedule.get() {
            schedule.timer_moved(shard);
        }
        reference
    }

    /// Sets a timer that does not run until [`System::release_timer`]. Returns its reference.
    pub fn hold_timer(&self, owner: Pid, due: impl FnOnce(u64) -> Due) -> u64 {
        self.set_timer(owner, u64::MAX, due)
    }

    /// Starts a held timer: it is due at `at`, unless it was cancelled.
    pub fn release_timer(&self, owner: Pid, reference: u64, at: u64) {
        if let Some(shard) = self.timers.move_to(owner, reference, at)
            && let Some(schedule) = self.schedule.get()
        {
            schedule.timer_moved(shard);
        }
    }

    /// Fires the timers of a shard that are due. Returns the nanoseconds until its next timer, 0 if
    /// more are due now; `None` if none is set.
    pub fn fire_timers(&self, shard: usize) -> Option<u64> {
        let next = self.timers.next(shard);
        if next == u64::MAX {
            return None;
        }
        let now = self.clock.now();
        if next > now {
            return Some(next - now);
        }
        for due in self.timers.take_due(shard, now) {
            match due {
                Due::Message {
                    to,
                    envelope,
                    charge,
                } => {
                    // A timer's message is never refused: there is no sender to return an error to.
                    let _ = self.put(to, Item::charged(Signal::Message(envelope), charge));
                }
                Due::Wake(pid) => self.wake(pid),
            }
        }
        match self.timers.next(shard) {
            u64::MAX => None,
            next => Some(next.saturating_sub(now)),
        }
    }

    /// Wakes a process without a signal, so that it checks its state again.
    pub fn wake(&self, pid: Pid) {
        if let Some(slot) = self.slot(pid)
            && slot.mailbox.generation() == Some(pid.generation())
        {
            self.apply(pid.slot(), slot.state.notify());
        }
    }
}
