//! The half of a process that only its runner touches: the inner mailbox, its
//! relations to other processes, and the body that does the work.
//!
//! Signals are sorted here: `drain` takes what has arrived in the outer
//! mailbox, in order, applies everything that is not a message, and answers
//! the reason if one of the signals ends the process.
//!
//! Longer than most files: what signals do to the fields and what the process
//! does to them are the two halves of each protocol, and are read together.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Kind, Pid, Reason, limits};

use crate::account::{Account, Charge};
use crate::children::{Children, Member};
use crate::inbox::Inbox;
use crate::limits::Limits;
use crate::mailbox::{Arrivals, Refused};
use crate::native::Native;
use crate::relations::{Link, Relations};
use crate::signal::{Envelope, Signal};
use crate::small::SmallMap;
use crate::system::{Birth, System};
use crate::{ExitReason, Payload};

mod parts;
mod ties;

use parts::{Flood, Late};
pub(crate) use parts::{Obituary, PART};
pub use ties::Ties;

/// Obituaries and the like in a mailbox, from which on an `EXIT` comes without
/// its reason's bytes: it may be of a process that linked itself only to end,
/// and with so many of 64 KiB a mailbox holds 64 MiB.
const DETAILED: usize = 1_000;
/// Bytes of a message's payload that a report of a failure has.
const KEPT: usize = 1024;
/// Bits of a reference of this kind; those of timers have one more (see `timers`),
/// so that no request has a timer's.
const REFERENCE_BITS: u32 = 63;

/// What does the work: a native process of the host, or a guest.
pub enum Body<G> {
    /// Rust code of the host; taken out while it runs.
    Native(Option<Box<dyn Native<G>>>),
    /// A guest: what the engine knows of it.
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

/// A process's own half. What most processes that rest do without stands in
/// boxes: there may be millions of them.
#[derive(Debug)]
pub struct Own<G> {
    pid: Pid,
    /// What it works with; given back by [`Own::trim`].
    desk: Option<Box<Desk<G>>>,
    relations: Option<Box<Relations>>,
    /// Whose child it is, and with which arguments.
    lineage: Option<Box<Lineage>>,
    limits: Arc<Limits>,
    /// Reductions since birth.
    pub reductions: u64,
    /// Its `INIT` is not in the mailbox yet.
    newborn: bool,
    /// The start was not acknowledged yet.
    starting: bool,
    trap_exit: bool,
    /// It has sent to a process that is far behind.
    crowded: bool,
    /// The one that it waits for is no longer far behind.
    has_room: bool,
    /// Somebody looks at what it receives and sends.
    pub traced: bool,
    /// It takes no message from its next rest on (OTP: `sys:suspend`). Whoever runs it looks.
    pub suspended: bool,
    /// What does the work.
    pub body: Body<G>,
}

/// What a process needs while it has something to do.
#[derive(Debug)]
struct Desk<G> {
    inbox: Inbox,
    /// The outer queue's other buffer. Empty, but after the end: then it holds
    /// what arrived behind the signal that ended the process.
    spare: Option<Box<Arrivals<Signal<G>>>>,
    /// Why a signal ended the process.
    end: Option<ExitReason>,
    /// What it is in the middle of, if that is more than a turn is for.
    late: Option<Box<Late<G>>>,
    /// The message that is being handled, for the report of a failure.
    current: Option<Envelope>,
}

impl<G> Default for Desk<G> {
    fn default() -> Desk<G> {
        Desk {
            inbox: Inbox::default(),
            spare: None,
            end: None,
            late: None,
            current: None,
        }
    }
}

/// What a process was born with, if it has a parent or arguments.
#[derive(Debug)]
struct Lineage {
    parent: Pid,
    /// A fresh start delivers them again.
    arguments: Payload,
    /// Under which reference the parent waits for the start to be acknowledged.
    starter: Option<NonZeroU64>,
    /// Its place among the parent's children.
    counted: Option<Member>,
}

impl<G> Own<G> {
    /// Puts `INIT` into the mailbox, the first time that somebody looks. Until
    /// then it takes no memory: millions may be born before they run.
    #[inline]
    pub(crate) fn begin_life(&mut self) {
        if self.newborn {
            self.newborn = false;
            let init = self.init();
            self.deliver(init);
        }
    }

    /// The first message of its life, which a fresh start gets again.
    pub fn init(&self) -> Envelope {
        let (parent, arguments) = match &self.lineage {
            Some(lineage) => (lineage.parent, lineage.arguments.clone()),
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

    fn desk(&mut self) -> &mut Desk<G> {
        self.desk.get_or_insert_default()
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.desk.as_ref().map(|desk| &desk.inbox)
    }

    /// Why a signal ended the process.
    fn end(&self) -> Option<&ExitReason> {
        self.desk.as_ref()?.end.as_ref()
    }

    /// Puts a message to the back, past all limits. Of a request it is
    /// remembered from now on who waits, not only from when it is taken: who
    /// gives up meanwhile must leave nothing behind.
    pub fn deliver(&mut self, envelope: Envelope) {
        if envelope.kind == Kind::Request {
            let waiter = (envelope.sender, envelope.reference);
            self.relations().watchers.insert(waiter, ());
        }
        self.desk().inbox.push_back(envelope);
    }
}

impl<G: 'static> Own<G> {
    pub(crate) fn new(pid: Pid, birth: Birth<G>) -> Own<G> {
        let orphan = birth.parent == Pid::NONE;
        let bare = orphan && birth.arguments.is_empty() && birth.counted.is_none();
        let mut own = Own {
            pid,
            desk: None,
            relations: None,
            lineage: (!bare).then(|| {
                let starter = birth.starter.filter(|_| !orphan);
                Box::new(Lineage {
                    parent: birth.parent,
                    arguments: birth.arguments,
                    starter: starter.and_then(NonZeroU64::new),
                    counted: birth.counted,
                })
            }),
            limits: birth.limits,
            reductions: 0,
            newborn: true,
            starting: true,
            trap_exit: false,
            crowded: false,
            has_room: false,
            traced: false,
            suspended: false,
            body: birth.body,
        };
        if birth.link {
            own.relations().links.insert(birth.parent, Link::Active);
        }
        for reference in birth.monitor.into_iter().chain(birth.starter) {
            own.relations()
                .watchers
                .insert((birth.parent, reference), ());
        }
        own
    }

    /// The process's pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process's limits.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Changes the limits.
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

    /// The engine's half of a guest.
    pub fn guest(&mut self) -> Option<&mut G> {
        match &mut self.body {
            Body::Guest(guest) => Some(guest),
            Body::Native(_) => None,
        }
    }

    /// A reference of the process's own; never 0.
    ///
    /// A reference is a right: whoever knows it and whose it is may answer the
    /// request. So it is drawn at random, by a generator whose numbers cannot be
    /// told from those before: one guess is right once in 2^63. For the same reason
    /// it is as good as unique. One that is open is never drawn again; one whose
    /// answer may still be on the way is with a chance of one in 2^63 for each such
    /// answer. With a thousand of them at all times, and a million requests a
    /// second, that happens once in three hundred years.
    pub fn new_reference(&mut self) -> u64 {
        let open = self.relations.as_ref().map(|r| &r.monitors);
        let reference = loop {
            let drawn = rand::random::<u64>() >> (u64::BITS - REFERENCE_BITS);
            if drawn != 0 && open.is_none_or(|open| open.get(drawn).is_none()) {
                break drawn;
            }
        };
        if let Some(desk) = &mut self.desk {
            desk.inbox.mark_reference(reference);
        }
        reference
    }

    // ---- the mailbox ------------------------------------------------------

    /// Takes over what has arrived, or a part of it if it is very much: then
    /// [`Own::has_more`]. Answers the reason if a signal ends the process, and from
    /// then on always; what arrived behind that signal is left for
    /// [`System::bury`] to answer.
    pub fn drain(&mut self, system: &System<G>) -> Option<ExitReason> {
        if let Some(end) = self.end() {
            return Some(end.clone());
        }
        let late = self.desk.as_mut().and_then(|desk| desk.late.take());
        if let Some(late) = late
            && let Late::Flood(flood) = *late
            && !flood.is_over()
        {
            return self.sort_a_part(system, flood);
        }
        let slot = system.table.slot(self.pid.slot())?;
        let mut spare = self.desk.as_mut().and_then(|desk| desk.spare.take());
        let stats = &slot.stats;
        let mut limited = (0, 0);
        let moved = |messages, bytes| {
            limited = (messages, bytes);
            // Written by this runner only; exact again when it publishes.
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
            if arrived.items.len() + arrived.waiting() > system.part {
                let flood = Flood::new(arrived, limited);
                return self.sort_a_part(system, flood);
            }
            for waiter in arrived.take_waiters() {
                let _ = system.signal(waiter, Signal::Room { from: self.pid });
            }
            let mut signals = arrived.drain();
            while let Some(signal) = signals.next() {
                if let Some(end) = self.apply(system, signal) {
                    let unseen = signals.collect();
                    arrived.items = unseen;
                    let desk = self.desk();
                    desk.spare = spare;
                    desk.end = Some(end.clone());
                    return Some(end);
                }
            }
            drop(signals);
            self.publish(slot);
        }
        if spare.is_some() {
            self.desk().spare = spare;
        }
        None
    }

    /// The same for a process that has called [`Own::drain`] in this turn
    /// already: costs nothing if nothing has arrived since the turn began, and
    /// nothing is left from before. What is under way at this moment may be missed;
    /// it makes another turn.
    #[inline]
    pub fn drain_news(&mut self, system: &System<G>) -> Option<ExitReason> {
        if self.end().is_none() && !self.has_news(system) && !self.has_more() {
            return None;
        }
        self.drain(system)
    }

    /// Whether something has arrived since the turn began, taken over or not. A
    /// hint, as in [`Own::drain_news`].
    #[inline]
    pub fn has_news(&self, system: &System<G>) -> bool {
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

    /// Publishes what senders check limits against.
    pub fn publish_stats(&self, system: &System<G>) {
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            self.publish(slot);
        }
    }

    /// Gives back memory that an idle process does not need.
    pub fn trim(&mut self, system: &System<G>) {
        if let Some(desk) = &mut self.desk
            && desk.end.is_none()
            && desk.late.is_none()
        {
            if desk.inbox.is_empty() {
                self.desk = None;
            } else {
                desk.spare = None;
            }
        }
        if self.relations.as_mut().is_some_and(|r| r.trim()) {
            self.relations = None;
        }
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            slot.mailbox.trim();
        }
    }

    /// Where the first wanted message is (modes of [`exuvia_abi::receive`]).
    #[inline]
    pub fn position(&self, mode: i32, key: u64) -> Option<usize> {
        self.inbox()?.position(mode, key)
    }

    /// How many messages [`Own::position`] has looked at since somebody asked, beyond
    /// a few.
    #[inline]
    pub fn take_looked(&self) -> u32 {
        self.inbox().map_or(0, Inbox::take_looked)
    }

    /// A message in the inner mailbox.
    pub fn peek(&self, position: usize) -> Option<&Envelope> {
        self.inbox()?.get(position)
    }

    /// Takes a message out. A request stays remembered until it is answered.
    pub fn take(&mut self, position: usize) -> Option<Envelope> {
        self.desk.as_mut()?.inbox.take(position)
    }

    /// Notes which message is being handled from now on. Of a large one the
    /// beginning is kept: the process may wait with it, and nobody counts it.
    #[inline]
    pub fn handles(&mut self, mut message: Envelope) {
        if message.payload.len() > KEPT {
            message.payload = Payload::new(&message.payload.as_slice()[..KEPT]);
        }
        self.desk().current = Some(message);
    }

    /// Notes that none is any more.
    #[inline]
    pub fn has_handled(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.current = None;
        }
    }

    /// The message that is being handled, as far as it is kept.
    pub fn handled(&self) -> Option<&Envelope> {
        self.desk.as_ref()?.current.as_ref()
    }

    /// Puts a message back to where it was taken from: its handler's effects never
    /// happened. Whoever sent a request and gave it up meanwhile stays forgotten.
    pub fn put_back(&mut self, position: usize, envelope: Envelope) {
        self.desk().inbox.insert(position, envelope);
    }

    /// Messages in the inner mailbox.
    pub fn inbox_len(&self) -> usize {
        self.inbox().map_or(0, Inbox::len)
    }

    fn apply(&mut self, system: &System<G>, signal: Signal<G>) -> Option<ExitReason> {
        match signal {
            Signal::Message(envelope) => {
                if envelope.kind == Kind::Reply {
                    // None: a late reply; whoever waited has given up.
                    let asked = self
                        .relations
                        .as_mut()
                        .and_then(|r| r.monitors.remove(envelope.reference))?;
                    if asked != envelope.sender {
                        // Answered in another's name: the one that was asked
                        // still remembers who waits.
                        let reference = envelope.reference;
                        self.forget_me(system, asked, reference);
                    }
                }
                self.deliver(envelope);
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
                // A dead peer needs no answer.
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
                charge,
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
            Signal::Room { .. } => {
                self.has_room = true;
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
            Signal::Control(control) => {
                control(self, system);
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
        // An operator's kill: it has a text, and is no less a kill for that.
        if from == Pid::NONE && reason.code() == Reason::KILLED.0 {
            return Some(reason);
        }
        if self.trap_exit {
            let mut exit = Envelope::obituary(Kind::Exit, from, 0, &reason);
            if let Some(charge) = charge {
                exit.payload = exit.payload.charged(charge);
            } else if self.unlimited() >= DETAILED {
                exit.payload = Payload::empty();
            }
            self.deliver(exit);
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
            self.deliver(Envelope::obituary(Kind::Down, from, reference, reason));
        }
    }

    // ---- relations --------------------------------------------------------

    /// Traps exits, or no longer; answers what it was.
    pub fn set_trap_exit(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.trap_exit, on)
    }

    /// Messages in the inner mailbox that its limits do not count, since the
    /// process asked for them. It may not ask for more and more without
    /// taking them: they count as what it asked for until then.
    fn unlimited(&self) -> usize {
        self.inbox()
            .map_or(0, |inbox| inbox.len() - inbox.limited().0 as usize)
    }

    /// Whether the process may take up a link with `to` (`None`: with a child
    /// that is not born yet), when `promised` others will follow. Links that
    /// others make are never refused, but count.
    pub fn may_link(&self, to: Option<Pid>, promised: usize) -> bool {
        let links = self.relations.as_ref().map(|r| &r.links);
        let known =
            to.is_some_and(|to| to == self.pid || links.is_some_and(|l| l.get(to).is_some()));
        let has = links.map_or(0, SmallMap::len) + self.unlimited();
        known || has + promised < limits::LINKS as usize
    }

    /// Whether the process may have so many monitors and open requests more.
    pub fn may_monitor(&self, more: usize) -> bool {
        let has = self.relations.as_ref().map_or(0, |r| r.monitors.len());
        has + self.unlimited() + more <= limits::MONITORS as usize
    }

    /// Charges the process for a timer or an exit signal whose message counts
    /// so many bytes. `None`: it has as many under way as it may have, or more
    /// bytes than its own mailbox may hold, or the node has.
    pub fn charge(&mut self, system: &System<G>, bytes: u64) -> Option<Charge> {
        let most_bytes = self.limits.mailbox_bytes;
        let counts = self.relations().counts.get_or_insert_default();
        let new = || Arc::new(Account::new(system.account.clone()));
        let account = counts.account.get_or_insert_with(new);
        account.charge(bytes, limits::TIMERS, most_bytes)
    }

    /// Sends a signal in the name of this process; only death refuses it.
    pub fn tell(&mut self, system: &System<G>, to: Pid, signal: Signal<G>) -> Result<(), Refused> {
        self.crowded |= system.put(to, signal)?;
        Ok(())
    }

    /// Whether the process has sent to one that is far behind, since it was
    /// asked last. Whoever runs it lets it wait then ([`Own::wait_for_room`]): what
    /// no limit counts must not pile up.
    pub fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    /// Begins to wait until a process is no longer far behind: it is told by a
    /// signal, and [`Own::has_room`] then says so. False: there is nothing to wait for.
    pub fn wait_for_room(&mut self, system: &System<G>, to: Pid) -> bool {
        self.has_room = !system.wait_for_room(to, self.pid);
        !self.has_room
    }

    /// Whether that wait is over.
    pub fn has_room(&self) -> bool {
        self.has_room
    }

    /// Ends the process with its next [`Own::drain`], whatever else arrives.
    pub fn fail(&mut self, reason: ExitReason) {
        self.desk().end.get_or_insert(reason);
    }

    /// Whom the process monitors, or awaits an answer from, by a reference.
    pub fn monitored(&self, reference: u64) -> Option<Pid> {
        self.relations.as_ref()?.monitors.get(reference).copied()
    }

    /// Links this process to another. To a dead one: the exit signal
    /// `noproc` arrives, as in Erlang.
    pub fn link(&mut self, system: &System<G>, to: Pid) {
        if to == self.pid {
            return;
        }
        // A link taken up again before the unlink was answered is active here
        // at once; the answer, when it comes, finds no unlink of its number.
        let before = self.relations().links.insert(to, Link::Active);
        if before == Some(Link::Active) {
            return;
        }
        let link = Signal::Link { from: self.pid };
        if self.tell(system, to, link).is_err() {
            let gone = Signal::Exit {
                from: to,
                reason: ExitReason::new(Reason::NOPROC),
                linked: true,
                charge: None,
            };
            let _ = system.signal(self.pid, gone);
        }
    }

    /// Takes a link back: no exit signal comes along it any more.
    pub fn unlink(&mut self, system: &System<G>, to: Pid) {
        if self.relations().links.get(to) != Some(&Link::Active) {
            return;
        }
        let id = self.new_reference();
        self.relations().links.insert(to, Link::Unlinking(id));
        let unlink = Signal::Unlink { from: self.pid, id };
        if self.tell(system, to, unlink).is_err() {
            // Answered here, behind what the dead had sent: a `Link` of its
            // own may be among that, and must find the link taken back.
            let _ = system.signal(self.pid, Signal::UnlinkAck { from: to, id });
        }
    }

    /// Monitors a process under a reference of [`Own::new_reference`]. Of a
    /// dead one the `DOWN` with `noproc` comes at once, yet behind what the
    /// dead had sent: with the next [`Own::drain`].
    pub fn monitor(&mut self, system: &System<G>, to: Pid, reference: u64) {
        self.relations().monitors.insert(reference, to);
        let monitor = Signal::Monitor {
            from: self.pid,
            reference,
        };
        if self.tell(system, to, monitor).is_err() {
            system.down(self.pid, to, reference, &ExitReason::new(Reason::NOPROC));
        }
    }

    fn forget_me(&mut self, system: &System<G>, to: Pid, reference: u64) {
        let demonitor = Signal::Demonitor {
            from: self.pid,
            reference,
        };
        // The dead have forgotten already.
        let _ = self.tell(system, to, demonitor);
    }

    /// Ends a monitor or gives up a request. With `flush` its `DOWN` or
    /// `REPLY` is dropped if it is already here.
    pub fn demonitor(&mut self, system: &System<G>, reference: u64, flush: bool) {
        let known = self
            .relations
            .as_mut()
            .and_then(|r| r.monitors.remove(reference));
        if let Some(to) = known {
            self.forget_me(system, to, reference);
        } else if flush && let Some(at) = self.inbox().and_then(|inbox| inbox.answer(reference)) {
            self.take(at);
        }
    }

    /// Sends a request under a reference of [`Own::new_reference`]: a reply or
    /// a `DOWN` with that reference comes later, never both.
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

    /// Has a request that was not sent answered all the same: by a `DOWN` with
    /// this reason, which comes with the next [`Own::drain`].
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

    /// Answers a request. Whoever has given up waiting does not notice. A
    /// reply is always accepted: its receiver asked for it. A request to
    /// another process can be answered too, by who was told its sender and
    /// reference.
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
        let _ = self.tell(system, to, Signal::Message(envelope));
    }

    /// Acknowledges the start: status 0 for success. Answers whether this was
    /// the first acknowledgement; the others do nothing.
    pub fn acknowledge(&mut self, system: &System<G>, status: u32, detail: Payload) -> bool {
        if !std::mem::take(&mut self.starting) {
            return false;
        }
        if let Some((parent, reference)) = self.starter() {
            self.reply(system, parent, reference, status, detail);
        }
        true
    }

    /// Who waits for the start, and under which reference.
    fn starter(&self) -> Option<(Pid, u64)> {
        let lineage = self.lineage.as_ref()?;
        Some((lineage.parent, lineage.starter?.get()))
    }

    /// Whether the start was not acknowledged yet.
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// Whether somebody waits for that acknowledgement.
    pub fn is_awaited(&self) -> bool {
        self.starting && self.starter().is_some()
    }

    /// The place of its children, made at the first one.
    pub fn children(&mut self) -> Arc<Children> {
        let most = self.limits.descendants;
        let lineage = self.lineage.as_ref();
        let above = lineage.and_then(|lineage| lineage.counted.as_ref()?.descent().cloned());
        let counts = self.relations().counts.get_or_insert_default();
        let new = || Arc::new(Children::of(most, above.as_ref()));
        counts.children.get_or_insert_with(new).clone()
    }

    // ---- birth and death, for `System` ------------------------------------

    /// The parent's side of a birth: the relations the child was born with.
    pub fn has_born(&mut self, child: Pid, linked: bool, references: &[u64]) {
        if linked {
            self.relations().links.insert(child, Link::Active);
        }
        for reference in references {
            self.relations().monitors.insert(*reference, child);
        }
    }

    /// It is none of its parent's children from now on.
    pub(crate) fn is_no_child(&mut self) {
        self.lineage = None;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
