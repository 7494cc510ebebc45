//! The private half of a process, which only its runner touches: the inner mailbox, its relations
//! to other processes, and the body that does the work.
//!
//! Signals are sorted here: `drain` takes what has arrived in the outer mailbox, in order, applies
//! everything that is not a message, and returns the reason if a signal terminates the process.
//!
//! This file is longer than most: what signals do to the fields and what the process does to them
//! are the two halves of each protocol, and are read together.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Kind, Pid, Reason, limits};

use crate::account::{Account, Charge, MaybeCharged};
use crate::children::{Children, Member};
use crate::inbox::Inbox;
use crate::item::Item;
use crate::limits::Limits;
use crate::mailbox::{Arrivals, Refused};
use crate::native::Native;
use crate::relations::{Link, Relations};
use crate::signal::{Envelope, Signal};
use crate::small::SmallMap;
use crate::system::{SpawnSpec, System};
use crate::{ExitReason, Payload};

mod parts;
mod relations_info;

use parts::{Backlog, Unfinished};
pub(crate) use parts::{ExitNotifications, SIGNALS_PER_TURN};
pub use relations_info::RelationsInfo;

/// From this many unlimited messages in a mailbox on (exit notifications and the like), an `EXIT`
/// is delivered without its reason's bytes: it may come from a process that linked itself only to
/// exit, and so many of them with 64 KiB each take 64 MiB.
const EXIT_DETAIL_LIMIT: usize = 1_000;
/// Bytes of a message's payload that a failure report includes.
const REPORT_PAYLOAD_BYTES: usize = 1024;
/// Bits of a reference that a process creates. Timers' references have one more bit (see `timers`),
/// so that a request and a timer never have the same reference.
const REFERENCE_BITS: u32 = 63;

/// What does the work: a native process of the host, or a guest.
pub enum Body<G> {
    /// Rust code of the host; `None` while it runs.
    Native(Option<Box<dyn Native<G>>>),
    /// A guest: the engine's data about it.
    Guest(G),
}

impl<G> fmt::Debug for Body<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Body::Native(_) => "Native",
            Body::Guest(_) => "Guest",
        })
    }
}

/// The private half of a process. What most idle processes do without is boxed: there may be
/// millions of them.
#[derive(Debug)]
pub struct Process<G> {
    pid: Pid,
    /// What it needs while it runs; freed by [`Process::trim`].
    active: Option<Box<ActiveState<G>>>,
    relations: Option<Box<Relations>>,
    /// Its parent and its arguments.
    spawn_info: Option<Box<SpawnInfo>>,
    limits: Arc<Limits>,
    /// Reductions since it was spawned.
    pub reductions: u64,
    /// Its `INIT` is not in the mailbox yet.
    init_pending: bool,
    /// Its start is not acknowledged yet.
    starting: bool,
    trap_exit: bool,
    /// It has sent to a process whose mailbox is congested.
    congested: bool,
    /// The congested process that it waits for has capacity again.
    has_capacity: bool,
    /// Whether the messages that it receives and sends are traced.
    pub traced: bool,
    /// Whether it stops receiving messages when it next becomes idle (OTP: `sys:suspend`). Checked
    /// by its runner.
    pub suspended: bool,
    /// What does the work.
    pub body: Body<G>,
}

/// When a process takes over what has arrived. It decides whether controls run (see `item`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeginningOfTurn,
    MiddleOfTurn,
}

/// What a process needs while it has something to do.
#[derive(Debug)]
struct ActiveState<G> {
    inbox: Inbox,
    /// The second buffer of the outer queue. Empty, except after a signal has terminated the
    /// process: then it holds the signals that arrived after that one.
    spare: Option<Box<Arrivals<Item<G>>>>,
    /// The reason, once the process is to terminate.
    end: Option<ExitReason>,
    /// Work that takes more than one turn, if there is some.
    unfinished: Option<Box<Unfinished<G>>>,
    /// The message that is being handled, for a failure report.
    current: Option<Envelope>,
}

impl<G> Default for ActiveState<G> {
    fn default() -> ActiveState<G> {
        ActiveState {
            inbox: Inbox::default(),
            spare: None,
            end: None,
            unfinished: None,
            current: None,
        }
    }
}

/// What a process was spawned with, if it has a parent or arguments.
#[derive(Debug)]
struct SpawnInfo {
    parent: Pid,
    /// Delivered again after a reset. The parent is charged for long ones as long as the child
    /// lives.
    arguments: MaybeCharged<Payload>,
    /// The reference under which the parent waits for the start to be acknowledged.
    starter: Option<NonZeroU64>,
    /// Its entry in the parent's count of children.
    counted: Option<Member>,
}

impl<G> Process<G> {
    /// Puts `INIT` into the mailbox when the process is first taken. Until then it takes no memory,
    /// since millions may be spawned before they run.
    #[inline]
    pub(crate) fn deliver_init(&mut self) {
        if self.init_pending {
            self.init_pending = false;
            let init = self.init();
            self.deliver(init);
        }
    }

    /// Returns the first message of the process, which it receives again after a reset.
    pub fn init(&self) -> Envelope {
        let (parent, arguments) = match &self.spawn_info {
            Some(spawn_info) => (spawn_info.parent, Payload::clone(&spawn_info.arguments)),
            None => (Pid::NONE, Payload::empty()),
        };
        Envelope {
            kind: Kind::Init,
            ..Envelope::message(parent, 0, arguments)
        }
    }

    fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    fn active(&mut self) -> &mut ActiveState<G> {
        self.active.get_or_insert_default()
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.active.as_ref().map(|active| &active.inbox)
    }

    /// Returns the reason if the process is to terminate.
    fn end(&self) -> Option<&ExitReason> {
        self.active.as_ref()?.end.as_ref()
    }

    /// Appends a message, regardless of all limits. The sender of a request is recorded as waiting
    /// from now on, not only when the request is received: if it gives up meanwhile, no record must
    /// remain.
    pub fn deliver(&mut self, envelope: Envelope) {
        self.deliver_charged(envelope.into());
    }

    #[inline]
    fn deliver_charged(&mut self, envelope: MaybeCharged<Envelope>) {
        if envelope.kind == Kind::Request {
            let waiter = (envelope.sender, envelope.reference);
            self.relations().watchers.insert(waiter, ());
        }
        self.active().inbox.push_back(envelope);
    }
}

impl<G: 'static> Process<G> {
    pub(crate) fn new(pid: Pid, spec: SpawnSpec<G>) -> Process<G> {
        let orphan = spec.parent == Pid::NONE;
        let bare = orphan && spec.arguments.is_empty() && spec.counted.is_none();
        let mut process = Process {
            pid,
            active: None,
            relations: None,
            spawn_info: (!bare).then(|| {
                let starter = spec.starter.filter(|_| !orphan);
                Box::new(SpawnInfo {
                    parent: spec.parent,
                    arguments: MaybeCharged::new(spec.arguments, spec.charge),
                    starter: starter.and_then(NonZeroU64::new),
                    counted: spec.counted,
                })
            }),
            limits: spec.limits,
            reductions: 0,
            init_pending: true,
            starting: true,
            trap_exit: false,
            congested: false,
            has_capacity: false,
            traced: false,
            suspended: false,
            body: spec.body,
        };
        if spec.link {
            process.relations().links.insert(spec.parent, Link::Active);
        }
        for reference in spec.monitor.into_iter().chain(spec.starter) {
            process
                .relations()
                .watchers
                .insert((spec.parent, reference), ());
        }
        process
    }

    /// Returns the process's pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the process's limits.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Changes the limits, also of its mailbox, tables, descendants and priority.
    pub fn set_limits(&mut self, system: &System<G>, limits: Arc<Limits>) {
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            slot.mailbox.set_limits(limits.clone());
            slot.set_priority(slot.priority().min(limits.priority));
        }
        system.tables.set_limits(self.pid, &limits);
        let counts = self.relations.as_ref().and_then(|r| r.counts.as_ref());
        if let Some(children) = counts.and_then(|counts| counts.children.as_ref()) {
            children.set_most(limits.descendants);
        }
        self.limits = limits;
    }

    /// Returns the engine's half of a guest; `None` for a native process.
    pub fn guest(&mut self) -> Option<&mut G> {
        match &mut self.body {
            Body::Guest(guest) => Some(guest),
            Body::Native(_) => None,
        }
    }

    /// Returns a new reference of this process; never 0.
    ///
    /// A reference is a capability: any process that knows it, and its owner, may reply to the
    /// request. So it is drawn from a cryptographic random generator: a guess succeeds with a
    /// probability of one in 2^63. For the same reason it is practically unique. A reference that
    /// is open is never drawn again; one whose reply may still be in transit is drawn with a
    /// probability of one in 2^63 for each such reply. With a thousand of them at all times, and a
    /// million requests per second, that happens once in three hundred years.
    pub fn new_reference(&mut self) -> u64 {
        let open = self.relations.as_ref().map(|r| &r.monitors);
        let reference = loop {
            let drawn = rand::random::<u64>() >> (u64::BITS - REFERENCE_BITS);
            if drawn != 0 && open.is_none_or(|open| open.get(drawn).is_none()) {
                break drawn;
            }
        };
        if let Some(active) = &mut self.active {
            active.inbox.mark_reference(reference);
        }
        reference
    }

    // ---- the mailbox ------------------------------------------------------

    /// Takes over the signals that have arrived, or a part of them if there are many; then
    /// [`Process::has_pending_signals`] is true. Returns the reason if a signal terminates the
    /// process, and the same reason on every later call; signals that arrived after that one are
    /// left for [`System::terminate`]. To be called at the beginning of a turn: it runs controls.
    pub fn drain(&mut self, system: &System<G>) -> Option<ExitReason> {
        self.drain_at(system, Moment::BeginningOfTurn)
    }

    fn drain_at(&mut self, system: &System<G>, at: Moment) -> Option<ExitReason> {
        if let Some(end) = self.end() {
            return Some(end.clone());
        }
        let late = self
            .active
            .as_mut()
            .and_then(|active| active.unfinished.take());
        if let Some(late) = late
            && let Unfinished::Backlog(backlog) = *late
            && !backlog.is_over()
        {
            return self.drain_backlog(system, backlog, at);
        }
        let slot = system.table.slot(self.pid.slot())?;
        let mut spare = self.active.as_mut().and_then(|active| active.spare.take());
        let stats = &slot.stats;
        let mut limited = (0, 0);
        let moved = |messages, bytes| {
            limited = (messages, bytes);
            // Only this runner writes them; they are exact again after the next `publish`.
            let inbox_limited = stats.inbox_limited.load(Ordering::Relaxed);
            let inbox_bytes = stats.inbox_bytes.load(Ordering::Relaxed);
            stats
                .inbox_limited
                .store(inbox_limited.saturating_add(messages), Ordering::Relaxed);
            stats
                .inbox_bytes
                .store(inbox_bytes.saturating_add(bytes), Ordering::Relaxed);
        };
        if slot.mailbox.take_into(&mut spare, moved)
            && let Some(arrived) = &mut spare
        {
            // A control is no matter for the middle of a turn.
            let stops = at == Moment::MiddleOfTurn && arrived.items.iter().any(Item::is_control);
            if stops || arrived.items.len() + arrived.waiting() > system.signals_per_turn {
                let backlog = Backlog::new(arrived, limited);
                return self.drain_backlog(system, backlog, at);
            }
            for waiter in arrived.take_waiters() {
                let _ = system.signal(waiter, Signal::Capacity { from: self.pid });
            }
            let mut items = arrived.drain();
            while let Some(item) = items.next() {
                if let Some(end) = self.apply(system, item) {
                    let unseen = items.collect();
                    arrived.items = unseen;
                    let active = self.active();
                    active.spare = spare;
                    active.end = Some(end.clone());
                    return Some(end);
                }
            }
            drop(items);
            self.publish(slot);
        }
        if spare.is_some() {
            self.active().spare = spare;
        }
        None
    }

    /// Does the same for a process that has called [`Process::drain`] in this turn already, and may be
    /// in the middle of a handler: runs no control, and takes over nothing behind one until the next
    /// turn. Costs nothing if nothing has arrived since the turn began and no backlog is pending.
    /// Signals that arrive concurrently may be missed; they cause another turn.
    #[inline]
    pub fn drain_new_signals(&mut self, system: &System<G>) -> Option<ExitReason> {
        if self.end().is_none() && !self.has_new_signals(system) && !self.has_pending_signals() {
            return None;
        }
        self.drain_at(system, Moment::MiddleOfTurn)
    }

    /// Returns whether signals have arrived since the turn began, taken over or not. A hint, as in
    /// [`Process::drain_new_signals`].
    #[inline]
    pub fn has_new_signals(&self, system: &System<G>) -> bool {
        let slot = system.table.slot(self.pid.slot());
        slot.is_some_and(|slot| slot.state.notified())
    }

    fn publish(&self, slot: &crate::table::Slot<G>) {
        let stats = &slot.stats;
        let messages = u32::try_from(self.messages()).unwrap_or(u32::MAX);
        let (limited, bytes) = self.inbox().map_or((0, 0), Inbox::limited);
        let unsorted = self.unsorted();
        let limited = limited.saturating_add(unsorted.0);
        let bytes = bytes.saturating_add(unsorted.1);
        stats.inbox_messages.store(messages, Ordering::Relaxed);
        stats.inbox_limited.store(limited, Ordering::Relaxed);
        stats.inbox_bytes.store(bytes, Ordering::Relaxed);
        slot.ran.store(true, Ordering::Relaxed);
    }

    /// Publishes the figures against which senders check limits.
    pub fn publish_stats(&self, system: &System<G>) {
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            self.publish(slot);
        }
    }

    /// Frees memory that an idle process does not need.
    pub fn trim(&mut self, system: &System<G>) {
        if let Some(active) = &mut self.active
            && active.end.is_none()
            && active.unfinished.is_none()
        {
            if active.inbox.is_empty() {
                self.active = None;
            } else {
                active.spare = None;
            }
        }
        if self.relations.as_mut().is_some_and(|r| r.trim()) {
            self.relations = None;
        }
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            slot.mailbox.trim();
        }
    }

    /// Returns the position of the first wanted message (modes of [`exuvia_abi::receive`]).
    #[inline]
    pub fn position(&self, mode: i32, key: u64) -> Option<usize> {
        self.inbox()?.position(mode, key)
    }

    /// Returns how many messages [`Process::position`] has examined since the last call. Searches
    /// of a short inbox do not count.
    #[inline]
    pub fn take_scanned(&self) -> u32 {
        self.inbox().map_or(0, Inbox::take_scanned)
    }

    /// Returns a message in the inner mailbox.
    pub fn peek(&self, position: usize) -> Option<&Envelope> {
        self.inbox()?.get(position)
    }

    /// Removes a message from the inner mailbox. A request's sender stays recorded until it gets a
    /// reply.
    pub fn take(&mut self, position: usize) -> Option<Envelope> {
        self.active.as_mut()?.inbox.take(position)
    }

    /// Records the message that is being handled from now on. Only the beginning of a large payload
    /// is kept: the process may become idle meanwhile, and these bytes count against no limit.
    #[inline]
    pub fn handles(&mut self, mut message: Envelope) {
        if message.payload.len() > REPORT_PAYLOAD_BYTES {
            message.payload = Payload::new(&message.payload.as_slice()[..REPORT_PAYLOAD_BYTES]);
        }
        self.active().current = Some(message);
    }

    /// Records that no message is being handled any more.
    #[inline]
    pub fn has_handled(&mut self) {
        if let Some(active) = &mut self.active {
            active.current = None;
        }
    }

    /// Returns the message that is being handled, as far as it is kept.
    pub fn handled(&self) -> Option<&Envelope> {
        self.active.as_ref()?.current.as_ref()
    }

    /// Puts a message back to its former position because its handler's effects were rolled back. A
    /// sender that has given up its request meanwhile is not recorded again.
    pub fn put_back(&mut self, position: usize, envelope: Envelope) {
        self.active().inbox.insert(position, envelope);
    }

    /// Returns the number of messages in the inner mailbox.
    pub fn inbox_len(&self) -> usize {
        self.inbox().map_or(0, Inbox::len)
    }

    fn apply(&mut self, system: &System<G>, item: Item<G>) -> Option<ExitReason> {
        let (signal, charge) = match item {
            Item::Signal(signal) => signal.into_parts(),
            Item::Control(control) => {
                control(self, system);
                return None;
            }
        };
        match signal {
            Signal::Message(envelope) => {
                if envelope.kind == Kind::Reply {
                    // `None`: a late reply; the process has given up the request.
                    let asked = self
                        .relations
                        .as_mut()
                        .and_then(|r| r.monitors.remove(envelope.reference))?;
                    if asked != envelope.sender {
                        // Another process has replied: the one that was asked still records this
                        // process as waiting.
                        let reference = envelope.reference;
                        self.remove_watcher(system, asked, reference);
                    }
                }
                self.deliver_charged(MaybeCharged::new(envelope, charge));
                None
            }
            Signal::Link { from } => {
                let links = &mut self.relations().links;
                if links.get(from).is_none() {
                    links.insert(from, Link::Active);
                }
                None
            }
            Signal::Unlink { from, id } => {
                if let Some(relations) = &mut self.relations
                    && relations.links.get(from) == Some(&Link::Active)
                {
                    relations.links.remove(from);
                }
                let ack = Signal::UnlinkAck { from: self.pid, id };
                // A dead peer needs no acknowledgement.
                let _ = system.signal(from, ack);
                None
            }
            Signal::UnlinkAck { from, id } => {
                if let Some(relations) = &mut self.relations
                    && relations.links.get(from) == Some(&Link::Unlinking(id))
                {
                    relations.links.remove(from);
                }
                None
            }
            Signal::Exit {
                from,
                reason,
                linked,
            } => self.exit_signal(from, reason, linked, charge),
            Signal::Kill { .. } => Some(ExitReason::new(Reason::KILLED)),
            Signal::Monitor { from, reference } => {
                self.relations().watchers.insert((from, reference), ());
                None
            }
            Signal::Demonitor { from, reference } => {
                if let Some(relations) = &mut self.relations {
                    relations.watchers.remove((from, reference));
                }
                None
            }
            Signal::Capacity { .. } => {
                self.has_capacity = true;
                None
            }
            Signal::Down {
                from,
                reference,
                reason,
            } => {
                self.down(from, reference, &reason);
                None
            }
        }
    }

    fn exit_signal(
        &mut self,
        from: Pid,
        reason: ExitReason,
        linked: bool,
        charge: Option<Charge>,
    ) -> Option<ExitReason> {
        if linked {
            let was = self.relations.as_mut()?.links.remove(from)?;
            if was != Link::Active {
                return None;
            }
        }
        // An operator's kill: it has details, and still kills unconditionally.
        if from == Pid::NONE && reason.code() == Reason::KILLED.0 {
            return Some(reason);
        }
        if self.trap_exit {
            let mut exit = Envelope::exit_notification(Kind::Exit, from, 0, &reason);
            if charge.is_none() && self.unlimited() >= EXIT_DETAIL_LIMIT {
                exit.payload = Payload::empty();
            }
            self.deliver_charged(MaybeCharged::new(exit, charge));
            None
        } else if reason.is_normal() && from != self.pid {
            None
        } else {
            Some(reason)
        }
    }

    fn down(&mut self, from: Pid, reference: u64, reason: &ExitReason) {
        let known = self
            .relations
            .as_mut()
            .and_then(|r| r.monitors.remove(reference));
        if known.is_some() {
            self.deliver(Envelope::exit_notification(
                Kind::Down,
                from,
                reference,
                reason,
            ));
        }
    }

    // ---- relations --------------------------------------------------------

    /// Sets whether the process traps exits. Returns the previous value.
    pub fn set_trap_exit(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.trap_exit, on)
    }

    /// Returns the number of messages in the inner mailbox that its limits do not count because the
    /// process asked for them. Until they are received they count as pending requests, so that a
    /// process cannot ask for more and more without receiving.
    fn unlimited(&self) -> usize {
        self.inbox()
            .map_or(0, |inbox| inbox.len() - inbox.limited().0 as usize)
    }

    /// Returns whether the process may create a link with `to` (`None`: with a child that is not
    /// spawned yet) while it has reserved `promised` further links. Links that other processes
    /// create are never refused, but count.
    pub fn may_link(&self, to: Option<Pid>, promised: usize) -> bool {
        let links = self.relations.as_ref().map(|r| &r.links);
        let known =
            to.is_some_and(|to| to == self.pid || links.is_some_and(|l| l.get(to).is_some()));
        let has = links.map_or(0, SmallMap::len) + self.unlimited();
        known || has + promised < limits::LINKS as usize
    }

    /// Returns whether the process may have `more` further monitors and pending requests.
    pub fn may_monitor(&self, more: usize) -> bool {
        let has = self.relations.as_ref().map_or(0, |r| r.monitors.len());
        has + self.unlimited() + more <= limits::MONITORS as usize
    }

    /// Charges the process for a timer or an exit signal whose message counts so many bytes.
    /// `None`: the process would exceed the limit on such messages, or the bytes that its own
    /// mailbox may hold, or the node would exceed its limits.
    pub fn charge(&mut self, system: &System<G>, bytes: u64) -> Option<Charge> {
        let most_bytes = self.limits.mailbox_bytes;
        self.account(system)
            .charge(bytes, limits::TIMERS, most_bytes)
    }

    /// Charges the process for the arguments of a child, which the child keeps as long as it
    /// lives. `None`: the living children would hold more bytes than the process's own mailbox
    /// may hold, or the node would exceed its limits.
    pub fn charge_arguments(&mut self, system: &System<G>, bytes: u64) -> Option<Charge> {
        let most_bytes = self.limits.mailbox_bytes;
        self.account(system).charge(bytes, u32::MAX, most_bytes)
    }

    fn account(&mut self, system: &System<G>) -> &Arc<Account> {
        let counts = self.relations().counts.get_or_insert_default();
        let new = || Arc::new(Account::new(system.account.clone()));
        counts.account.get_or_insert_with(new)
    }

    /// Sends a signal from this process. Fails with [`Refused::Dead`] only.
    pub fn send_signal(
        &mut self,
        system: &System<G>,
        to: Pid,
        signal: Signal,
    ) -> Result<(), Refused> {
        self.congested |= system.put(to, signal.into())?;
        Ok(())
    }

    /// Does the same with a signal that the process is charged for until it is received or dropped.
    pub fn send_charged(
        &mut self,
        system: &System<G>,
        to: Pid,
        signal: Signal,
        charge: Charge,
    ) -> Result<(), Refused> {
        self.congested |= system.put(to, Item::charged(signal, Some(charge)))?;
        Ok(())
    }

    /// Returns whether the process has sent to a congested mailbox since the last call. If so, its
    /// runner has it wait ([`Process::wait_for_capacity`]), so that signals that no limit counts do
    /// not accumulate.
    pub fn take_backpressure(&mut self) -> bool {
        std::mem::take(&mut self.congested)
    }

    /// Starts to wait until a process is no longer congested: a signal arrives then, and
    /// [`Process::has_capacity`] returns true. Returns false if there is nothing to wait for.
    pub fn wait_for_capacity(&mut self, system: &System<G>, to: Pid) -> bool {
        self.has_capacity = !system.wait_for_capacity(to, self.pid);
        !self.has_capacity
    }

    /// Returns whether that wait is over.
    pub fn has_capacity(&self) -> bool {
        self.has_capacity
    }

    /// Terminates the process at its next [`Process::drain`], whatever else arrives.
    pub fn fail(&mut self, reason: ExitReason) {
        self.active().end.get_or_insert(reason);
    }

    /// Returns the process that this one monitors, or awaits a reply from, under a reference.
    pub fn monitored(&self, reference: u64) -> Option<Pid> {
        self.relations.as_ref()?.monitors.get(reference).copied()
    }

    /// Links this process to another. If that one is dead, the exit signal `noproc` arrives, as in
    /// Erlang.
    pub fn link(&mut self, system: &System<G>, to: Pid) {
        if to == self.pid {
            return;
        }
        // A link that is created again before the unlink was acknowledged is active here at once;
        // the acknowledgement, when it arrives, finds no unlink with its number.
        let before = self.relations().links.insert(to, Link::Active);
        if before == Some(Link::Active) {
            return;
        }
        let link = Signal::Link { from: self.pid };
        if self.send_signal(system, to, link).is_err() {
            let gone = Signal::Exit {
                from: to,
                reason: ExitReason::new(Reason::NOPROC),
                linked: true,
            };
            let _ = system.signal(self.pid, gone);
        }
    }

    /// Removes a link: no exit signal arrives along it any more.
    pub fn unlink(&mut self, system: &System<G>, to: Pid) {
        if self.relations().links.get(to) != Some(&Link::Active) {
            return;
        }
        let id = self.new_reference();
        self.relations().links.insert(to, Link::Unlinking(id));
        let unlink = Signal::Unlink { from: self.pid, id };
        if self.send_signal(system, to, unlink).is_err() {
            // Acknowledged here, but after the signals that the dead process had sent: these may
            // include a `Link` of its own, which must find the link removed.
            let _ = system.signal(self.pid, Signal::UnlinkAck { from: to, id });
        }
    }

    /// Monitors a process under a reference from [`Process::new_reference`]. If it is dead, a
    /// `DOWN` with `noproc` arrives with the next [`Process::drain`], after everything that the
    /// dead process had sent.
    pub fn monitor(&mut self, system: &System<G>, to: Pid, reference: u64) {
        self.relations().monitors.insert(reference, to);
        let monitor = Signal::Monitor {
            from: self.pid,
            reference,
        };
        if self.send_signal(system, to, monitor).is_err() {
            system.down(self.pid, to, reference, &ExitReason::new(Reason::NOPROC));
        }
    }

    fn remove_watcher(&mut self, system: &System<G>, to: Pid, reference: u64) {
        let demonitor = Signal::Demonitor {
            from: self.pid,
            reference,
        };
        // A dead process has no record of it.
        let _ = self.send_signal(system, to, demonitor);
    }

    /// Removes a monitor or gives up a request. With `flush`, a `DOWN` or `REPLY` for it that has
    /// already arrived is dropped.
    pub fn demonitor(&mut self, system: &System<G>, reference: u64, flush: bool) {
        let known = self
            .relations
            .as_mut()
            .and_then(|r| r.monitors.remove(reference));
        if let Some(to) = known {
            self.remove_watcher(system, to, reference);
        } else if flush && let Some(at) = self.inbox().and_then(|inbox| inbox.reply(reference)) {
            self.take(at);
        }
    }

    /// Sends a request under a reference from [`Process::new_reference`]. Either a reply or a
    /// `DOWN` with that reference arrives later, never both. Returns an error if the receiver's
    /// mailbox is full, or if no process ever had this pid.
    pub fn request(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        tag: u32,
        payload: Payload,
    ) -> Result<(), crate::SendError> {
        let envelope = Envelope {
            reference,
            kind: Kind::Request,
            ..Envelope::message(self.pid, tag, payload)
        };
        match system.send(to, envelope) {
            Ok(()) => {
                self.relations().monitors.insert(reference, to);
                Ok(())
            }
            Err(crate::SendError::Dead) => {
                self.fail_request(system, to, reference, &ExitReason::new(Reason::NOPROC));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Completes a request that was not sent with a `DOWN` with this reason, which arrives with the
    /// next [`Process::drain`].
    pub fn fail_request(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        reason: &ExitReason,
    ) {
        self.relations().monitors.insert(reference, to);
        system.down(self.pid, to, reference, reason);
    }

    /// Replies to a request. If the requester has given up waiting, it does not notice the reply. A
    /// reply is always accepted, since its receiver asked for it. A process can also reply to a
    /// request that was sent to another process, if it was told the request's sender and reference.
    pub fn reply(
        &mut self,
        system: &System<G>,
        to: Pid,
        reference: u64,
        tag: u32,
        payload: Payload,
    ) {
        if let Some(relations) = &mut self.relations {
            relations.watchers.remove((to, reference));
        }
        let envelope = Envelope {
            reference,
            kind: Kind::Reply,
            ..Envelope::message(self.pid, tag, payload)
        };
        let _ = self.send_signal(system, to, Signal::Message(envelope));
    }

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
    fn starter(&self) -> Option<(Pid, u64)> {
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

    // ---- spawn and exit, for `System` -------------------------------------

    /// Adds the relations to a child that was just spawned, on the parent's side.
    pub fn add_child(&mut self, child: Pid, linked: bool, references: &[u64]) {
        if linked {
            self.relations().links.insert(child, Link::Active);
        }
        for reference in references {
            self.relations().monitors.insert(*reference, child);
        }
    }

    /// Stops counting it among its parent's children.
    pub(crate) fn clear_spawn_info(&mut self) {
        self.spawn_info = None;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
