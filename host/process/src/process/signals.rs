//! What arrives at a process: signals are taken over, in order, and applied. Messages go into the
//! inner mailbox; everything else changes the relations of the process, or ends it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use exuvia_abi::{Kind, Pid, Reason};

use super::backlog::Backlog;
use super::{Process, Unfinished};
use crate::account::{Charge, MaybeCharged};
use crate::item::{Control, Item};
use crate::mailbox::Arrivals;
use crate::relations::Link;
use crate::signal::{Envelope, Half, Signal};
use crate::system::System;
use crate::{ExitReason, Payload};

/// From this many unlimited messages in a mailbox on (exit notifications and the like), an `EXIT`
/// is delivered without its reason's bytes: it may come from a process that linked itself only to
/// exit, and so many of them with 64 KiB each take 64 MiB.
const EXIT_DETAIL_LIMIT: usize = 1_000;

/// When a process takes over what has arrived. It decides whether controls run (see `item`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    BeginningOfTurn,
    MiddleOfTurn,
}

impl<G: 'static> Process<G> {
    /// Takes over the signals that have arrived, or a part of them if there are many; then
    /// [`Process::has_pending_signals`] is true. Returns the reason if a signal terminates the
    /// process, and the same reason on every later call; signals that arrived after that one are
    /// left for [`System::terminate`]. To be called at the beginning of a turn: it runs controls.
    pub fn drain(&mut self, system: &System<G>) -> Option<ExitReason> {
        self.drain_at(system, Moment::BeginningOfTurn)
    }

    #[inline]
    pub(super) fn drain_at(&mut self, system: &System<G>, at: Moment) -> Option<ExitReason> {
        match &self.active {
            Some(active) if active.end.is_some() || active.unfinished.is_some() => {
                self.drain_unfinished(system, at)
            }
            _ => self.take_over(system, at, None),
        }
    }

    /// Continues with what is left from an earlier turn or another moment of this one, before new
    /// arrivals are taken over.
    #[cold]
    fn drain_unfinished(&mut self, system: &System<G>, at: Moment) -> Option<ExitReason> {
        if let Some(end) = self.end() {
            return Some(end.clone());
        }
        let late = self
            .active
            .as_mut()
            .and_then(|active| active.unfinished.take());
        let mut controls = VecDeque::new();
        if let Some(late) = late
            && let Unfinished::Backlog(backlog) = *late
        {
            match backlog.into_controls() {
                Ok(left) => controls = left,
                Err(backlog) => return self.drain_backlog(system, backlog, at),
            }
            if !controls.is_empty() && at == Moment::BeginningOfTurn {
                return self.drain_backlog(system, Backlog::of(controls), at);
            }
        }
        self.take_over(system, at, Some(controls).filter(|c| !c.is_empty()))
    }

    /// Takes over what has arrived. `controls`: those that are kept for the next turn.
    fn take_over(
        &mut self,
        system: &System<G>,
        at: Moment,
        controls: Option<VecDeque<Control<G>>>,
    ) -> Option<ExitReason> {
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
            let many = arrived.items.len() + arrived.waiting() > system.signals_per_turn;
            // In the middle of a turn a control is kept for the next one. Few are searched for it.
            let keeps = |items: &[Item<G>]| {
                at == Moment::MiddleOfTurn
                    && (controls.is_some() || items.iter().any(Item::is_control))
            };
            if many || keeps(&arrived.items) {
                let controls = controls.unwrap_or_default();
                let backlog = Backlog::new(arrived, limited, controls);
                return self.drain_backlog(system, backlog, at);
            }
            for waiter in arrived.take_waiters() {
                let _ = system.signal(waiter, Signal::Capacity { from: self.pid });
            }
            let end = match arrived.items.len() {
                // Nearly always.
                1 => (arrived.items.pop()).and_then(|item| self.apply(system, item)),
                _ => self.apply_all(system, arrived),
            };
            if let Some(end) = end {
                let active = self.active();
                active.spare = spare;
                active.end = Some(end.clone());
                return Some(end);
            }
            self.publish_to(slot);
        }
        if spare.is_some() {
            self.active().spare = spare;
        }
        if let Some(controls) = controls {
            let backlog = Unfinished::Backlog(Backlog::of(controls));
            self.active().unfinished = Some(Box::new(backlog));
        }
        None
    }

    /// Does the same for a process that has called [`Process::drain`] in this turn already, and may be
    /// in the middle of a handler: runs no control, which waits for the next turn. Costs nothing if nothing has arrived since the turn began and no backlog is pending.
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

    /// Applies items in order. Returns the reason if one of them terminates the process; those behind
    /// it are left.
    fn apply_all(
        &mut self,
        system: &System<G>,
        arrived: &mut Arrivals<Item<G>>,
    ) -> Option<ExitReason> {
        let mut applied = arrived.drain();
        while let Some(item) = applied.next() {
            if let Some(end) = self.apply(system, item) {
                let unseen = applied.collect();
                arrived.items = unseen;
                return Some(end);
            }
        }
        None
    }

    #[inline]
    pub(super) fn apply(&mut self, system: &System<G>, item: Item<G>) -> Option<ExitReason> {
        match item {
            // Nearly all items. Moved as few times as possible.
            Item::Signal(MaybeCharged::Free(Signal::Message(envelope)))
                if envelope.kind != Kind::Reply =>
            {
                self.deliver(envelope);
                None
            }
            item => self.apply_other(system, item),
        }
    }

    fn apply_other(&mut self, system: &System<G>, item: Item<G>) -> Option<ExitReason> {
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
                        .and_then(|r| r.monitors.remove(envelope.reference))?
                        .pid();
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
            Signal::Confirm {
                from,
                reference,
                half,
            } => {
                self.confirm(system, from, reference, half);
                None
            }
        }
    }

    pub(super) fn exit_signal(
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

    /// Lets a restored process know if this one does not hold the other half of a relation.
    fn confirm(&mut self, system: &System<G>, from: Pid, reference: u64, half: Half) {
        let relations = self.relations.as_ref();
        match half {
            Half::Waits => {
                let waits = relations.is_some_and(|r| r.watchers.get((from, reference)).is_some());
                if !waits {
                    system.down(from, self.pid, reference, &ExitReason::new(Reason::NOPROC));
                }
            }
            Half::IsWatched => {
                if self.monitored(reference) != Some(from) {
                    self.remove_watcher(system, from, reference);
                }
            }
        }
    }

    pub(super) fn down(&mut self, from: Pid, reference: u64, reason: &ExitReason) {
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

    /// Returns the number of messages in the inner mailbox that its limits do not count because the
    /// process asked for them. Until they are received they count as pending requests, so that a
    /// process cannot ask for more and more without receiving.
    pub(super) fn unlimited(&self) -> usize {
        self.inbox()
            .map_or(0, |inbox| inbox.len() - inbox.limited().0 as usize)
    }
}
