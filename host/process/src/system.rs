//! The state that all processes of a node share (the table, names, groups, shared tables, timers
//! and the clock), and the operations that involve more than one process.
//!
//! Lock order: a mailbox's lock is the innermost; no other lock is taken while it is held. The
//! names' lock may be held while a mailbox is asked whether its process lives.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use exuvia_abi::{Kind, Pid, Priority, Reason, limits};

use crate::account::{AccountRef, Charge, Most, NodeAccount, Use};
use crate::children::Member;
use crate::clock::Clock;
use crate::groups::Groups;
use crate::item::Item;
use crate::limits::Limits;
use crate::mailbox::Refused;
use crate::names::Names;
use crate::process::{Body, Process, SIGNALS_PER_TURN};
use crate::signal::{Envelope, Half, Signal};
use crate::state::Transition;
use crate::table::{Slot, Table};
use crate::tables::Tables;
use crate::timers::Timers;
use crate::{ExitReason, Payload};

mod belongings;
mod processes;
mod timing;

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

impl From<Refused> for SendError {
    fn from(refused: Refused) -> SendError {
        match refused {
            Refused::Dead => SendError::Dead,
            Refused::Full => SendError::Full,
        }
    }
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
    fn schedule(&self, index: u32, slot: &Slot<G>) {
        let Some(schedule) = self.schedule.get() else {
            return;
        };
        match (slot.pinned_to(), slot.priority()) {
            (None, Priority::Normal) => schedule.schedule(index),
            (None, priority) => schedule.schedule_as(priority, index),
            (Some(scheduler), _) => schedule.schedule_on(scheduler, index),
        }
    }

    /// Notes that something was put into the mailbox of a process, which is in this slot.
    #[inline]
    fn notify(&self, pid: Pid, slot: &Slot<G>) {
        if slot.state.notify() == Transition::Schedule {
            self.schedule(pid.slot(), slot);
        }
    }

    /// Does what a transition of a process's run state requires.
    #[inline]
    pub fn apply(&self, index: u32, then: Transition) {
        if then == Transition::Schedule
            && let Some(slot) = self.table.slot(index)
        {
            self.schedule(index, slot);
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
    pub(crate) fn slot(&self, pid: Pid) -> Option<&Slot<G>> {
        (pid.node == self.node)
            .then(|| self.table.slot(pid.slot()))
            .flatten()
    }

    /// Sends a message, if the receiver's limits allow. Messages that the limits do not count are
    /// always accepted. Returns an error if the receiver is dead, unknown, or its mailbox is full.
    #[inline]
    pub fn send(&self, to: Pid, envelope: Envelope) -> Result<(), SendError> {
        let slot = self.slot(to).ok_or(SendError::Unknown)?;
        self.send_to(slot, to, envelope)
    }

    /// Does the same for a process whose slot is known.
    #[inline]
    pub(crate) fn send_to(
        &self,
        slot: &Slot<G>,
        to: Pid,
        envelope: Envelope,
    ) -> Result<(), SendError> {
        if !envelope.is_limited() {
            let sent = self.signal(to, Signal::Message(envelope));
            return sent.map_err(|_| SendError::Dead);
        }
        let inner = || slot.stats.inbox_counts();
        let cost = envelope.cost();
        slot.mailbox
            .push_message(
                to.generation(),
                Signal::Message(envelope).into(),
                cost,
                inner,
            )
            .map_err(SendError::from)?;
        self.notify(to, slot);
        Ok(())
    }

    /// Returns whether [`System::send`] would accept a message now, with its error if not.
    pub fn would_accept(&self, to: Pid, envelope: &Envelope) -> Result<(), SendError> {
        let slot = self.slot(to).ok_or(SendError::Unknown)?;
        if !envelope.is_limited() {
            return Ok(());
        }
        let inner = || slot.stats.inbox_counts();
        let fits = (slot.mailbox).would_accept(to.generation(), envelope.cost(), inner);
        fits.map_err(SendError::from)
    }

    /// Returns whether a message could be sent to a process if its mailbox were empty. True for a process that has ended:
    /// sending says so.
    pub fn could_accept(&self, to: Pid, envelope: &Envelope) -> bool {
        let limits = self
            .slot(to)
            .and_then(|slot| slot.mailbox.limits_of(to.generation()));
        limits.is_none_or(|limits| {
            limits.mailbox_messages > 0 && envelope.cost() <= limits.mailbox_bytes
        })
    }

    /// Charges a process as [`Process::charge`] does, between its turns: for a reply of the host to it, whose message counts
    /// so many bytes.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if it would exceed a limit.
    pub fn charge(&self, of: Pid, account: &AccountRef, bytes: u64) -> Result<Charge, SendError> {
        let slot = self.slot(of).ok_or(SendError::Unknown)?;
        let limits = slot.mailbox.limits_of(of.generation());
        let most = Most::of_signals(&*limits.ok_or(SendError::Dead)?);
        let charge = account.0.charge(Use::Signal, bytes, most);
        charge.ok_or(SendError::Full)
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
        self.notify(to, slot);
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
            Signal::Confirm {
                from,
                reference,
                half,
            } => match half {
                Half::Waits => self.down(from, dead, reference, &noproc),
                Half::IsWatched => {
                    let demonitor = Signal::Demonitor {
                        from: dead,
                        reference,
                    };
                    let _ = self.signal(from, demonitor);
                }
            },
            Signal::Message(envelope) if envelope.kind == Kind::Request => {
                self.down(envelope.sender, dead, envelope.reference, &noproc);
            }
            _ => {}
        }
    }

    /// Returns the calling thread's shard of the resources that are split by scheduler.
    #[inline]
    pub(crate) fn shard(&self) -> usize {
        self.schedule.get().map_or(0, |schedule| schedule.shard())
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

    /// Wakes a process without a signal, so that it checks its state again.
    pub fn wake(&self, pid: Pid) {
        if let Some(slot) = self.slot(pid)
            && slot.mailbox.generation() == Some(pid.generation())
        {
            self.notify(pid, slot);
        }
    }
}
