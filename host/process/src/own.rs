//! The half of a process that only its runner touches: the inner mailbox, its
//! relations to other processes, and the body that does the work.
//!
//! Signals are sorted here: `drain` takes what has arrived in the outer
//! mailbox, in order, applies everything that is not a message, and answers
//! the reason if one of the signals ends the process.
//!
//! Longer than most files: what signals do to the fields and what the process
//! does to them are the two halves of each protocol, and are read together.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use exuvia_abi::{Kind, Pid, Reason, limits, receive};

use crate::account::{Account, Charge};
use crate::limits::Limits;
use crate::mailbox::Refused;
use crate::native::Native;
use crate::signal::{Envelope, Signal};
use crate::small::SmallMap;
use crate::system::System;
use crate::{ExitReason, Payload};

/// Obituaries and the like in a mailbox, from which on an `EXIT` comes without
/// its reason's bytes: it may be of a process that linked itself only to end,
/// and with so many of 64 KiB a mailbox holds 64 MiB.
const DETAILED: usize = 1_000;
/// References that a process draws in one go, so that processes seldom meet
/// on the counter.
const REFERENCES: u64 = 64;
/// The first reference that nobody has drawn; a multiple of [`REFERENCES`].
/// One for all, so that a reference is unique on its node.
static DRAWN: AtomicU64 = AtomicU64::new(0);

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

/// A process's own half.
#[derive(Debug)]
pub struct Own<G> {
    pid: Pid,
    inbox: VecDeque<Envelope>,
    /// Of the inbox: messages that count against the limits, and their bytes.
    inbox_limited: u32,
    inbox_bytes: u64,
    /// The outer queue's other buffer. Empty, but after the end: then it holds
    /// what arrived behind the signal that ended the process.
    spare: Vec<Signal<G>>,
    /// Why a signal ended the process.
    end: Option<ExitReason>,
    relations: Option<Box<Relations>>,
    next_reference: u64,
    /// Set until the start is acknowledged: who waits for that, and under
    /// which reference; [`Pid::NONE`] if nobody does.
    starter: Option<(Pid, u64)>,
    limits: Arc<Limits>,
    /// The parent's count of children, which this process is part of.
    counted: Option<Arc<AtomicU32>>,
    trap_exit: bool,
    /// It has sent to a process that is far behind.
    crowded: bool,
    /// Reductions since birth.
    pub reductions: u64,
    /// What does the work.
    pub body: Body<G>,
}

/// Relations to other processes; most processes have few, many none.
#[derive(Debug, Default)]
struct Relations {
    links: SmallMap<Pid, Link>,
    /// Whom this process monitors or awaits a reply from, by reference.
    monitors: SmallMap<u64, Pid>,
    /// Who monitors this process or awaits its reply.
    watchers: SmallMap<(Pid, u64), ()>,
    /// What is counted elsewhere; few processes have children or timers.
    counts: Option<Box<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How many children live.
    children: Arc<AtomicU32>,
    /// Timers and exit signals under way.
    account: Option<Arc<Account>>,
}

/// A link as OTP's link protocol has it (ERTS, "Link protocol").
#[derive(Debug, PartialEq, Eq)]
enum Link {
    Active,
    /// Unlinked here; a `Link` that arrives before the answer was sent before
    /// the other side saw the unlink, and is void.
    Unlinking(u64),
}

impl<G: 'static> Own<G> {
    pub(crate) fn new(pid: Pid, limits: Arc<Limits>, body: Body<G>) -> Own<G> {
        Own {
            pid,
            // INIT is all that most of those newly born wait for; growing by
            // itself it would begin with room for four.
            inbox: VecDeque::with_capacity(1),
            inbox_limited: 0,
            inbox_bytes: 0,
            spare: Vec::new(),
            end: None,
            relations: None,
            next_reference: 0,
            starter: None,
            limits,
            counted: None,
            trap_exit: false,
            crowded: false,
            reductions: 0,
            body,
        }
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

    fn relations(&mut self) -> &mut Relations {
        self.relations.get_or_insert_default()
    }

    /// A reference that no process of this node used before; never 0.
    pub fn new_reference(&mut self) -> u64 {
        if self.next_reference.is_multiple_of(REFERENCES) {
            // Relaxed: nothing but the number is shared.
            self.next_reference = DRAWN.fetch_add(REFERENCES, Ordering::Relaxed);
        }
        self.next_reference += 1;
        self.next_reference
    }

    // ---- the mailbox ------------------------------------------------------

    /// Takes over what has arrived. Answers the reason if a signal ends the
    /// process, and from then on always; what arrived behind that signal is
    /// left for [`System::bury`] to answer.
    pub fn drain(&mut self, system: &System<G>) -> Option<ExitReason> {
        if self.end.is_some() {
            return self.end.clone();
        }
        let slot = system.table.slot(self.pid.slot())?;
        let mut arrived = std::mem::take(&mut self.spare);
        let stats = &slot.stats;
        let moved = |messages, bytes| {
            // Written by this runner only; exact again when it publishes.
            let limited = stats.inbox_limited.load(Ordering::Relaxed);
            let inbox_bytes = stats.inbox_bytes.load(Ordering::Relaxed);
            stats
                .inbox_limited
                .store(limited.saturating_add(messages), Ordering::Relaxed);
            stats
                .inbox_bytes
                .store(inbox_bytes.saturating_add(bytes), Ordering::Relaxed);
        };
        if slot.mailbox.take_into(&mut arrived, moved) {
            let mut signals = arrived.drain(..);
            for signal in signals.by_ref() {
                self.end = self.apply(system, signal);
                if self.end.is_some() {
                    break;
                }
            }
            if self.end.is_some() {
                self.spare = signals.collect();
                return self.end.clone();
            }
            drop(signals);
            self.publish(slot);
        }
        self.spare = arrived;
        None
    }

    /// The same for a process that has called [`Own::drain`] in this turn
    /// already: costs nothing if nothing has arrived since the turn began. What
    /// is under way at this moment may be missed; it makes another turn.
    #[inline]
    pub fn drain_news(&mut self, system: &System<G>) -> Option<ExitReason> {
        let slot = system.table.slot(self.pid.slot());
        if self.end.is_none() && slot.is_some_and(|slot| !slot.state.notified()) {
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
        let messages = u32::try_from(self.inbox.len()).unwrap_or(u32::MAX);
        stats.inbox_messages.store(messages, Ordering::Relaxed);
        stats
            .inbox_limited
            .store(self.inbox_limited, Ordering::Relaxed);
        stats.inbox_bytes.store(self.inbox_bytes, Ordering::Relaxed);
    }

    /// Publishes what `ps` shows and what senders check limits against.
    pub fn publish_stats(&self, system: &System<G>) {
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            self.publish(slot);
            slot.stats
                .reductions
                .store(self.reductions, Ordering::Relaxed);
        }
    }

    /// Gives back memory that an idle process does not need.
    pub fn trim(&mut self, system: &System<G>) {
        if self.end.is_none() {
            self.spare = Vec::new();
        }
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
        if let Some(slot) = system.table.slot(self.pid.slot()) {
            slot.mailbox.trim();
        }
    }

    /// Where the first wanted message is (modes of [`receive`]).
    #[inline]
    pub fn position(&self, mode: i32, key: u64) -> Option<usize> {
        match mode {
            // What an obituary has for a tag is no sender's choice.
            receive::TAG => self.inbox.iter().position(|m| {
                u64::from(m.tag) == key && !matches!(m.kind, Kind::Exit | Kind::Down)
            }),
            // References are unique for the process that made them, so those
            // of other processes' requests must not match.
            receive::REFERENCE => self.inbox.iter().position(|m| {
                m.reference == key && matches!(m.kind, Kind::Reply | Kind::Down | Kind::Timer)
            }),
            _ => (!self.inbox.is_empty()).then_some(0),
        }
    }

    /// A message in the inner mailbox.
    pub fn peek(&self, position: usize) -> Option<&Envelope> {
        self.inbox.get(position)
    }

    /// Takes a message out. A request stays remembered until it is answered.
    pub fn take(&mut self, position: usize) -> Option<Envelope> {
        let envelope = if position == 0 {
            self.inbox.pop_front()?
        } else {
            self.inbox.remove(position)?
        };
        if envelope.is_limited() {
            self.inbox_limited -= 1;
            self.inbox_bytes -= envelope.cost();
        }
        Some(envelope)
    }

    /// Puts a message back to the front: its handler's effects never happened.
    /// Whoever sent a request and gave it up meanwhile stays forgotten.
    pub fn put_back(&mut self, envelope: Envelope) {
        self.count(&envelope);
        self.inbox.push_front(envelope);
    }

    /// Puts a message to the back, past all limits. Of a request it is
    /// remembered from now on who waits, not only from when it is taken: who
    /// gives up meanwhile must leave nothing behind.
    pub fn deliver(&mut self, envelope: Envelope) {
        if envelope.kind == Kind::Request {
            let waiter = (envelope.sender, envelope.reference);
            self.relations().watchers.insert(waiter, ());
        }
        self.count(&envelope);
        self.inbox.push_back(envelope);
    }

    fn count(&mut self, envelope: &Envelope) {
        if envelope.is_limited() {
            self.inbox_limited += 1;
            self.inbox_bytes += envelope.cost();
        }
    }

    /// Messages in the inner mailbox.
    pub fn inbox_len(&self) -> usize {
        self.inbox.len()
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
        self.inbox.len() - self.inbox_limited as usize
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
    /// asked last. Whoever runs it lets it wait then while
    /// [`System::is_crowded`] says so: what no limit counts must not pile up.
    pub fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
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
        } else if flush
            && let Some(at) = self.inbox.iter().position(|m| {
                m.reference == reference && matches!(m.kind, Kind::Down | Kind::Reply)
            })
        {
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
        let Some((starter, reference)) = self.starter.take() else {
            return false;
        };
        if starter != Pid::NONE {
            self.reply(system, starter, reference, status, detail);
        }
        true
    }

    /// Whether the start was not acknowledged yet.
    pub fn is_starting(&self) -> bool {
        self.starter.is_some()
    }

    /// Whether somebody waits for that acknowledgement.
    pub fn is_awaited(&self) -> bool {
        self.starter
            .is_some_and(|(starter, _)| starter != Pid::NONE)
    }

    /// Those this process is linked to.
    pub fn links(&self) -> Vec<Pid> {
        let links = self.relations.as_ref().map(|r| &r.links);
        links.map_or(Vec::new(), |links| {
            let mut to = links.keys();
            to.retain(|peer| links.get(*peer) == Some(&Link::Active));
            to
        })
    }

    /// How many relations it has: links, with those whose unlinking was not
    /// answered yet; its monitors and requests under way; those of others that
    /// point here.
    pub fn relation_counts(&self) -> (usize, usize, usize) {
        self.relations.as_ref().map_or((0, 0, 0), |r| {
            (r.links.len(), r.monitors.len(), r.watchers.len())
        })
    }

    /// The count of living children, made at the first child.
    pub fn children(&mut self) -> Arc<AtomicU32> {
        let counts = self.relations().counts.get_or_insert_default();
        counts.children.clone()
    }

    // ---- birth and death, for `System` ------------------------------------

    pub(crate) fn born_to(
        &mut self,
        counted: Option<Arc<AtomicU32>>,
        link: Option<Pid>,
        watcher: Option<(Pid, u64)>,
        starter: Option<(Pid, u64)>,
    ) {
        // A start that nobody waits for can fail as well.
        self.starter = starter.or(Some((Pid::NONE, 0)));
        self.counted = counted;
        if link.is_none() && watcher.is_none() && starter.is_none() {
            return;
        }
        let relations = self.relations();
        if let Some(parent) = link {
            relations.links.insert(parent, Link::Active);
        }
        for watcher in watcher.into_iter().chain(starter) {
            relations.watchers.insert(watcher, ());
        }
    }

    /// The parent's side of a birth: the relations the child was born with.
    pub fn has_born(&mut self, child: Pid, linked: bool, references: &[u64]) {
        if linked {
            self.relations().links.insert(child, Link::Active);
        }
        for reference in references {
            self.relations().monitors.insert(*reference, child);
        }
    }

    /// Tells everybody that this process is gone. Answers what arrived behind
    /// the signal that ended it.
    pub(crate) fn obituaries(mut self, system: &System<G>, reason: &ExitReason) -> Vec<Signal<G>> {
        let unseen = std::mem::take(&mut self.spare);
        // First, so that a parent that is told of the end can spawn again.
        if let Some(count) = self.counted.take() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(mut relations) = self.relations.take() else {
            return unseen;
        };
        for (to, link) in relations.links.take() {
            if link == Link::Active {
                let exit = Signal::Exit {
                    from: self.pid,
                    reason: reason.clone(),
                    linked: true,
                    charge: None,
                };
                let _ = system.signal(to, exit);
            }
        }
        for ((watcher, reference), ()) in relations.watchers.take() {
            system.down(watcher, self.pid, reference, reason);
        }
        for (reference, to) in relations.monitors.take() {
            self.forget_me(system, to, reference);
        }
        unseen
    }
}
