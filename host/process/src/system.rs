//! What all processes of a node share: the table, the names, the timers, the
//! clock; and the operations that involve more than one process.
//!
//! Lock order: a mailbox's lock is the innermost; no other lock is taken
//! while one is held. The names' lock may be held while a mailbox is asked
//! whether its process lives.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use exuvia_abi::{Kind, Pid, Priority, Reason, limits};

use crate::account::{Charge, NodeAccount};
use crate::children::Member;
use crate::clock::Clock;
use crate::groups::{Groups, Membership};
use crate::limits::Limits;
use crate::mailbox::{Closed, Refused};
use crate::names::{NameError, Names, Registration};
use crate::own::{Body, Obituary, Own, PART};
use crate::signal::{Envelope, Signal};
use crate::state::Then;
use crate::table::{For, Slot, Table};
use crate::tables::{Access, TableError, Tables};
use crate::timers::{Due, Timers};
use crate::{ExitReason, Payload};

/// Puts processes into run queues; the node connects it with the scheduler.
pub trait Schedule: Send + Sync {
    /// The process of this slot has something to do.
    fn schedule(&self, slot: u32);
    /// The same, and only this scheduler may run it.
    fn schedule_on(&self, scheduler: u8, slot: u32) {
        let _ = scheduler;
        self.schedule(slot);
    }
    /// The process of this slot has something to do, sooner or later than others.
    fn schedule_as(&self, priority: Priority, slot: u32) {
        let _ = priority;
        self.schedule(slot);
    }
    /// The shard of timers and free slots that belongs to the calling thread.
    fn shard(&self) -> usize {
        0
    }
    /// The shard's first timer is now an earlier one: whoever sleeps until it
    /// must look again.
    fn timer_moved(&self, shard: usize) {
        let _ = shard;
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The process has ended.
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

/// How a process is born.
#[derive(Debug)]
pub struct Birth<G> {
    /// What does the work.
    pub body: Body<G>,
    /// Its limits.
    pub limits: Arc<Limits>,
    /// Its first message.
    pub arguments: Payload,
    /// The parent, [`Pid::NONE`] for the host.
    pub parent: Pid,
    /// Link it to the parent.
    pub link: bool,
    /// The parent monitors it under this reference.
    pub monitor: Option<u64>,
    /// The parent waits for its acknowledgement under this reference.
    pub starter: Option<u64>,
    /// Its place among the parent's children.
    pub counted: Option<Member>,
    /// The only scheduler that may run it; below 255.
    pub pinned_to: Option<u8>,
}

impl<G> Birth<G> {
    /// A birth without a parent.
    pub fn new(body: Body<G>, limits: Arc<Limits>, arguments: Payload) -> Birth<G> {
        Birth {
            body,
            limits,
            arguments,
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
    /// What processes have under way past the limits of mailboxes.
    pub(crate) account: Arc<NodeAccount>,
    /// Signals that are taken over, or told, in one turn.
    pub(crate) part: usize,
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
    /// A node's processes: `node` is its number (not 0), `limit` the most
    /// processes, `shards` the number of schedulers.
    pub fn new(node: u64, limit: usize, shards: usize, clock: Clock) -> System<G> {
        System {
            table: Table::new(limit, shards),
            names: Names::default(),
            groups: Groups::default(),
            tables: Tables::default(),
            timers: Timers::new(shards),
            clock,
            account: Arc::new(NodeAccount::new(limit)),
            part: PART,
            node,
            schedule: OnceLock::new(),
        }
    }

    /// The same, where a turn is for no more than so many signals.
    #[must_use]
    pub fn in_parts_of(self, part: usize) -> System<G> {
        System {
            part: part.max(1),
            ..self
        }
    }

    /// Connects the run queues, once.
    pub fn connect(&self, schedule: Arc<dyn Schedule>) {
        let _ = self.schedule.set(schedule);
    }

    /// The node's number.
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

    /// Carries out what a transition of a process's state asks for.
    #[inline]
    pub fn then(&self, slot: u32, then: Then) {
        if then == Then::Schedule {
            self.schedule(slot);
        }
    }

    /// The pid of the living process in a slot.
    pub fn pid(&self, slot: u32) -> Option<Pid> {
        let generation = self.table.slot(slot)?.mailbox.generation()?;
        Some(Pid::new(self.node, slot, generation))
    }

    /// Whether the process lives.
    pub fn is_alive(&self, pid: Pid) -> bool {
        pid.node == self.node && self.pid(pid.slot()) == Some(pid)
    }

    #[inline]
    fn slot(&self, pid: Pid) -> Option<&Slot<G>> {
        (pid.node == self.node)
            .then(|| self.table.slot(pid.slot()))
            .flatten()
    }

    /// Sends a message, if the receiver's limits allow. Those that the limits
    /// do not count are always accepted.
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
            .push_message(to.generation(), Signal::Message(envelope), cost, inner)
            .map_err(|refused| match refused {
                Refused::Dead => SendError::Dead,
                Refused::Full => SendError::Full,
            })?;
        self.then(to.slot(), slot.state.notify());
        Ok(())
    }

    /// Sends a signal that no limit counts; only death refuses it. Guests use
    /// [`Own::tell`].
    pub fn signal(&self, to: Pid, signal: Signal<G>) -> Result<(), Refused> {
        self.put(to, signal).map(drop)
    }

    /// The same; answers whether the receiver is crowded now.
    pub(crate) fn put(&self, to: Pid, signal: Signal<G>) -> Result<bool, Refused> {
        let slot = self.slot(to).ok_or(Refused::Dead)?;
        let weight = signal.weight();
        let crowded = slot.mailbox.push(to.generation(), signal, weight)?;
        self.then(to.slot(), slot.state.notify());
        Ok(crowded)
    }

    /// See [`Own::wait_for_room`].
    pub(crate) fn wait_for_room(&self, to: Pid, waiter: Pid) -> bool {
        self.slot(to)
            .is_some_and(|slot| slot.mailbox.wait_for_room(to.generation(), waiter))
    }

    /// Whether so much is in transit to a process that whoever sends it what
    /// no limit counts must wait: see [`Own::take_crowded`].
    pub fn is_crowded(&self, pid: Pid) -> bool {
        self.slot(pid).is_some_and(|slot| {
            slot.mailbox.generation() == Some(pid.generation()) && slot.mailbox.is_crowded()
        })
    }

    /// Whether others may link themselves to a process: not while it has left
    /// so many obituaries and timers untaken, or those that link and end would
    /// fill its mailbox.
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

    /// Answers a signal that reached a process after its end.
    pub(crate) fn answer_for_the_dead(&self, dead: Pid, signal: Signal<G>) {
        let noproc = ExitReason::new(Reason::NOPROC);
        match signal {
            Signal::Link { from } => {
                let exit = Signal::Exit {
                    from: dead,
                    reason: noproc,
                    linked: true,
                    charge: None,
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

    /// What belongs to the calling thread of what schedulers have one each of.
    #[inline]
    fn shard(&self) -> usize {
        self.schedule.get().map_or(0, |schedule| schedule.shard())
    }

    /// A slot and pid for a process to be born later, which a host's process or the
    /// node starts; signals collect there.
    pub fn reserve(&self, limits: &Arc<Limits>) -> Result<Pid, SpawnError> {
        self.reserve_for(For::Host, limits)
    }

    /// The same for whoever starts it.
    pub fn reserve_for(&self, whose: For, limits: &Arc<Limits>) -> Result<Pid, SpawnError> {
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

    /// Gives a reserved pid its process and schedules it.
    pub fn give_birth(&self, pid: Pid, birth: Birth<G>) {
        let Some(slot) = self.slot(pid) else { return };
        slot.pin(birth.pinned_to);
        let own = Box::new(Own::new(pid, birth));
        slot.put_own(own);
        self.then(pid.slot(), slot.state.occupy());
    }

    /// Spawns a process.
    pub fn spawn(&self, birth: Birth<G>) -> Result<Pid, SpawnError> {
        let pid = self.reserve(&birth.limits)?;
        self.give_birth(pid, birth);
        Ok(pid)
    }

    /// Ends a reserved pid whose process will not be born.
    pub fn abandon(&self, pid: Pid) {
        if let Some(slot) = self.slot(pid)
            && slot.mailbox.generation() == Some(pid.generation())
        {
            let closed = self.close(pid, slot);
            self.vacate(pid, slot, closed.usable);
            for waiter in closed.waiters {
                let _ = self.signal(waiter, Signal::Room { from: pid });
            }
            for signal in closed.items {
                self.answer_for_the_dead(pid, signal);
            }
        }
    }

    /// Frees what the process had, but for its slot. From now on it is dead to
    /// everybody.
    fn close(&self, pid: Pid, slot: &Slot<G>) -> Closed<Signal<G>> {
        let closed = slot.mailbox.close();
        // After the close, so that a name given meanwhile is seen here or its
        // giver sees that the process has ended.
        if slot.named.swap(false, Ordering::SeqCst) {
            self.disinherit(pid);
        }
        if slot.timed.swap(false, Ordering::Relaxed) {
            self.timers.cancel_all(pid);
        }
        closed
    }

    /// The slot is free for another, if it may be used again.
    fn vacate(&self, pid: Pid, slot: &Slot<G>, usable: bool) {
        slot.state.vacate();
        if usable {
            self.table.release(self.shard(), pid.slot());
        } else {
            self.table.retire();
        }
    }

    /// The end of a process: its names are free, everybody who wants to know
    /// is told, its slot is free. Only its runner may call this.
    ///
    /// If more are to be told than a turn is for, the process keeps its slot for
    /// that, dead as it is to all others: its runner queues it again, as the answer
    /// says, and calls [`System::bury_on`] in its next turn.
    pub fn bury(&self, mut own: Box<Own<G>>, reason: &ExitReason) -> Then {
        let pid = own.pid();
        let Some(slot) = self.slot(pid) else {
            return Then::Nothing;
        };
        let closed = self.close(pid, slot);
        // First, so that a parent that is told of the end can spawn again.
        own.is_no_child();
        if own.ends_unnoticed(&closed, self.part) {
            self.vacate(pid, slot, closed.usable);
            return Then::Nothing;
        }
        let mut obituary = own.ends(reason, closed);
        if obituary.len() > self.part {
            return self.tell_a_part(own, slot, Box::new(obituary));
        }
        // For the same reason.
        self.vacate(pid, slot, obituary.usable);
        obituary.tell(self);
        Then::Nothing
    }

    /// Goes on to bury a process for which [`Own::is_ending`] holds.
    pub fn bury_on(&self, mut own: Box<Own<G>>) -> Then {
        match (self.slot(own.pid()), own.take_obituary()) {
            (Some(slot), Some(obituary)) => self.tell_a_part(own, slot, obituary),
            _ => Then::Nothing,
        }
    }

    fn tell_a_part(
        &self,
        mut own: Box<Own<G>>,
        slot: &Slot<G>,
        mut obituary: Box<Obituary<G>>,
    ) -> Then {
        if obituary.tell(self) {
            self.vacate(own.pid(), slot, obituary.usable);
            return Then::Nothing;
        }
        own.put_obituary(obituary);
        slot.put_own(own);
        slot.state.again()
    }

    /// Frees what a process that has ended had in its own name.
    fn disinherit(&self, pid: Pid) {
        self.names.remove_all(pid);
        self.groups.leave_all(pid);
        let limits = |heir| self.slot(heir)?.mailbox.limits_of(Pid::generation(heir));
        for (table, heir, tag) in self.tables.owner_ended(pid, limits) {
            // Its sender is gone; whoever has so many tables gets no more of them.
            self.table_given(table, pid, heir, tag, None);
        }
    }

    /// Notes that a process has something in its own name now. Answers whether it lives; if not, it
    /// has nothing.
    fn has_in_its_name(&self, pid: Pid) -> bool {
        if let Some(slot) = self.slot(pid) {
            slot.named.store(true, Ordering::SeqCst);
        }
        // After the mark: whoever ends now sees it, or its end is seen here.
        let alive = self.is_alive(pid);
        if !alive {
            self.disinherit(pid);
        }
        alive
    }

    /// Registers a name for a living process.
    pub fn register(&self, name: &str, pid: Pid) -> Result<(), NameError> {
        self.register_undoably(name, pid).map(drop)
    }

    /// The same; answers what `Names::undo` takes, unless the name was its own
    /// already.
    pub fn register_undoably(
        &self,
        name: &str,
        pid: Pid,
    ) -> Result<Option<Registration>, NameError> {
        let new = self.names.insert(name, pid)?;
        let alive = self.has_in_its_name(pid);
        alive.then_some(new).ok_or(NameError::Dead)
    }

    /// Takes back that a name was taken from a process: it has it again, if it
    /// lives and the name is free.
    pub fn undo_unregister(&self, name: &str, registration: Registration) {
        self.names.restore(name, registration);
        self.has_in_its_name(registration.pid);
    }

    /// Takes back that a process was taken out of a group: it is in it again, if
    /// it lives.
    pub fn undo_leave(&self, group: &str, pid: Pid, membership: Membership) {
        self.groups.restore(group, pid, membership);
        self.has_in_its_name(pid);
    }

    /// Puts a living process into a group; answers whether it was not in it.
    pub fn join(&self, group: &str, pid: Pid) -> Result<bool, NameError> {
        self.join_undoably(group, pid).map(|new| new.is_some())
    }

    /// The same; answers what `Groups::undo` takes, unless it was in it already.
    pub fn join_undoably(&self, group: &str, pid: Pid) -> Result<Option<Membership>, NameError> {
        let new = self.groups.join(group, pid)?;
        let alive = self.has_in_its_name(pid);
        alive.then_some(new).ok_or(NameError::Dead)
    }

    /// Makes a table; answers its number.
    pub fn new_table(
        &self,
        owner: Pid,
        limits: &Limits,
        name: Option<&str>,
        access: Access,
    ) -> Result<u64, TableError> {
        let table = self.tables.create(owner, limits, name, access)?;
        let alive = self.has_in_its_name(owner);
        alive.then_some(table).ok_or(TableError::Dead)
    }

    /// Gives a table of `owner` to a living process, which is told.
    /// The message is `charge`d to somebody, since no mailbox refuses it.
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

    /// Tells the new owner of a table. If that one has ended meanwhile, the table goes on to its heir,
    /// of whom it has none yet: it ends.
    fn table_given(&self, table: u64, from: Pid, to: Pid, tag: u32, charge: Option<Charge>) {
        if self.has_in_its_name(to) {
            let payload = match charge {
                Some(charge) => Payload::empty().charged(charge),
                None => Payload::empty(),
            };
            let envelope = Envelope {
                kind: Kind::Table,
                reference: table,
                ..Envelope::message(from, tag, payload)
            };
            let _ = self.signal(to, Signal::Message(envelope));
        }
    }

    /// Has a process get its turns sooner or later than others, from its next one on; answers how it
    /// was. Only its runner may call this.
    pub fn set_priority(&self, pid: Pid, priority: Priority) -> Priority {
        let Some(slot) = self.slot(pid) else {
            return priority;
        };
        let before = slot.priority();
        slot.set_priority(priority);
        before
    }

    /// Sets a timer of `owner`, `delay` nanoseconds from now; answers its
    /// reference. A wake ends with its owner, a message does not. Only the
    /// owner's runner may call this in its name.
    pub fn set_timer(&self, owner: Pid, delay: u64, due: impl FnOnce(u64) -> Due) -> u64 {
        if let Some(slot) = self.slot(owner) {
            // Relaxed: set and read by the owner's runners, which the run state orders.
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

    /// The same for a timer that is held: it does not run before
    /// [`System::release_timer`].
    pub fn hold_timer(&self, owner: Pid, due: impl FnOnce(u64) -> Due) -> u64 {
        self.set_timer(owner, u64::MAX, due)
    }

    /// Lets a held timer run: it is due at `at`, unless it was cancelled.
    pub fn release_timer(&self, owner: Pid, reference: u64, at: u64) {
        if let Some(shard) = self.timers.move_to(owner, reference, at)
            && let Some(schedule) = self.schedule.get()
        {
            schedule.timer_moved(shard);
        }
    }

    /// Fires what is due in a shard. Answers the nanoseconds until its next
    /// timer, 0 if there is more to fire now; `None` if none is set.
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
                Due::Message { to, envelope } => {
                    // A timer's message is not refused: its sender is not there to be told.
                    let _ = self.signal(to, Signal::Message(envelope));
                }
                Due::Wake(pid) => self.wake(pid),
            }
        }
        match self.timers.next(shard) {
            u64::MAX => None,
            next => Some(next.saturating_sub(now)),
        }
    }

    /// Has a process look again, without a signal.
    pub fn wake(&self, pid: Pid) {
        if let Some(slot) = self.slot(pid)
            && slot.mailbox.generation() == Some(pid.generation())
        {
            self.then(pid.slot(), slot.state.notify());
        }
    }
}
