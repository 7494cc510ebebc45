//! What a process does in parts, since it may be very much: to take over a flood
//! of signals, and to tell everybody of its end. Each part is a turn like any
//! other, so nobody waits longer because somebody has received much or is known
//! to many.
//!
//! A process in the middle of either is never idle: its runner queues it again
//! ([`Own::has_more`]). One that tells of its end is dead to everybody else, and
//! has no name, no timer and no body any more; it has its slot, so that somebody
//! comes back to it.

use std::vec;

use exuvia_abi::Pid;

use super::{Body, Own};
use crate::ExitReason;
use crate::inbox::Inbox;
use crate::mailbox::{Arrivals, Closed};
use crate::relations::{Link, Relations};
use crate::signal::Signal;
use crate::small::Entries;
use crate::system::System;

/// Signals that are taken over, or told, in one part: about what they cost in
/// time is a slice of other work.
pub(crate) const PART: usize = 500;
/// Reductions for each signal of a flood that is taken over: a part is a slice.
const REDUCTIONS: u64 = 8;

/// What is left to do.
#[derive(Debug)]
pub(super) enum Late<G> {
    Flood(Flood<G>),
    End(Box<Obituary<G>>),
}

/// Signals that have been taken out of the outer mailbox together, and are
/// not sorted yet.
#[derive(Debug)]
pub(super) struct Flood<G> {
    signals: vec::IntoIter<Signal<G>>,
    /// Of these, messages that count against the mailbox's limits, and their bytes.
    messages: u32,
    bytes: u64,
    /// Those who wait until these are taken over: told when they are sorted.
    waiters: vec::IntoIter<Pid>,
}

impl<G> Flood<G> {
    pub(super) fn new(arrived: &mut Arrivals<Signal<G>>, (messages, bytes): (u32, u64)) -> Self {
        Flood {
            signals: std::mem::take(&mut arrived.items).into_iter(),
            waiters: arrived.take_waiters().into_iter(),
            messages,
            bytes,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.signals.len() + self.waiters.len() == 0
    }

    fn next(&mut self) -> Option<Signal<G>> {
        let signal = self.signals.next()?;
        if let Signal::Message(envelope) = &signal
            && envelope.is_limited()
        {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(envelope.cost());
        }
        Some(signal)
    }
}

impl<G> Own<G> {
    fn flood(&self) -> Option<&Flood<G>> {
        match self.desk.as_ref()?.late.as_deref()? {
            Late::Flood(flood) => Some(flood),
            Late::End(_) => None,
        }
    }

    /// Whether signals that have arrived are not sorted yet, or nobody has looked
    /// for others since: it must have another turn, whatever it waits for.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.flood().is_some()
    }

    /// Whether what it waits for may be among signals that have arrived and are not
    /// sorted yet. Until they are, no wait for a message has been in vain.
    pub fn is_flooded(&self) -> bool {
        self.flood().is_some_and(|flood| flood.signals.len() > 0)
    }

    /// Messages among them that count against the limits, and their bytes.
    pub(super) fn unsorted(&self) -> (u32, u64) {
        let flood = self.flood();
        flood.map_or((0, 0), |flood| (flood.messages, flood.bytes))
    }
}

impl<G: 'static> Own<G> {
    /// Messages that have arrived: those that it can receive and those among what is
    /// not sorted yet.
    pub fn messages(&self) -> usize {
        self.inbox_len() + self.unsorted().0 as usize
    }

    /// Sorts a part of a flood, and forgets it when nothing was left.
    #[cold]
    pub(super) fn sort_a_part(
        &mut self,
        system: &System<G>,
        mut flood: Flood<G>,
    ) -> Option<ExitReason> {
        let mut end = None;
        for _ in 0..system.part {
            self.reductions += REDUCTIONS;
            if let Some(signal) = flood.next() {
                end = self.apply(system, signal);
                if end.is_some() {
                    break;
                }
            } else if let Some(waiter) = flood.waiters.next() {
                let _ = system.signal(waiter, Signal::Room { from: self.pid });
            } else {
                break;
            }
        }
        let desk = self.desk();
        desk.end.clone_from(&end);
        // Kept also when it is empty: nobody has looked at what has arrived since.
        desk.late = Some(Box::new(Late::Flood(flood)));
        self.publish_stats(system);
        end
    }

    /// Whether the process tells of its end.
    #[inline]
    pub fn is_ending(&self) -> bool {
        let late = self.desk.as_ref().and_then(|desk| desk.late.as_deref());
        matches!(late, Some(Late::End(_)))
    }

    /// Whether there is nobody to tell of the end of this process, and no more of its
    /// mailbox to drop than a turn is for. So it is with most, and [`Obituary`] is large.
    pub(crate) fn ends_unnoticed(&self, closed: &Closed<Signal<G>>, most: usize) -> bool {
        let relations = self.relations.as_ref();
        let desk = self.desk.as_ref();
        closed.items.is_empty()
            && closed.waiters.is_empty()
            && relations.is_none_or(|relations| relations.is_empty())
            && desk.is_none_or(|desk| {
                let unseen = desk.spare.as_ref().map_or(0, |spare| spare.items.len());
                desk.late.is_none() && unseen == 0 && desk.inbox.len() <= most
            })
    }

    /// What there is to tell of the end of this process, which has nothing else any
    /// more. `closed` is what its mailbox has left.
    pub(crate) fn ends(&mut self, reason: &ExitReason, closed: Closed<Signal<G>>) -> Obituary<G> {
        let desk = self.desk.take().map(|desk| *desk);
        let (inbox, spare, late) = match desk {
            Some(desk) => (desk.inbox, desk.spare, desk.late),
            None => Default::default(),
        };
        let (unsorted, waiters) = match late.map(|late| *late) {
            Some(Late::Flood(flood)) => (flood.signals, flood.waiters),
            _ => Default::default(),
        };
        let relations = self.relations.take().map(|relations| *relations);
        let Relations {
            links,
            monitors,
            watchers,
            counts: _,
        } = relations.unwrap_or_default();
        let unseen = spare.map(|spare| spare.items).unwrap_or_default();
        self.lineage = None;
        self.body = Body::Native(None);
        Obituary {
            of: self.pid,
            reason: reason.clone(),
            links: links.into_entries(),
            watchers: watchers.into_entries(),
            monitors: monitors.into_entries(),
            unseen: [unsorted, unseen.into_iter(), closed.items.into_iter()],
            waiters: [waiters, closed.waiters.into_iter()],
            inbox,
            usable: closed.usable,
        }
    }

    /// It goes on telling in another turn.
    pub(crate) fn put_obituary(&mut self, obituary: Box<Obituary<G>>) {
        self.desk().late = Some(Box::new(Late::End(obituary)));
    }

    pub(crate) fn take_obituary(&mut self) -> Option<Box<Obituary<G>>> {
        match *self.desk.as_mut()?.late.take()? {
            Late::End(obituary) => Some(obituary),
            Late::Flood(_) => None,
        }
    }
}

/// Who has still to be told of the end of a process, and what it has left.
#[derive(Debug)]
pub(crate) struct Obituary<G> {
    of: Pid,
    reason: ExitReason,
    links: Entries<Pid, Link>,
    watchers: Entries<(Pid, u64), ()>,
    monitors: Entries<u64, Pid>,
    /// What it has not seen of what was sent to it, in the order in which it arrived.
    unseen: [vec::IntoIter<Signal<G>>; 3],
    /// Those who wait until it takes over what they have sent.
    waiters: [vec::IntoIter<Pid>; 2],
    /// Its messages: that they are dropped takes time too.
    inbox: Inbox,
    /// Whether another process may have its slot.
    pub(crate) usable: bool,
}

impl<G: 'static> Obituary<G> {
    /// How much there is to do.
    pub(crate) fn len(&self) -> usize {
        let unseen = self.unseen.iter().map(ExactSizeIterator::len);
        let waiters = self.waiters.iter().map(ExactSizeIterator::len);
        self.links.len()
            + self.watchers.len()
            + self.monitors.len()
            + unseen.sum::<usize>()
            + waiters.sum::<usize>()
            + self.inbox.len()
    }

    /// Tells a part. Answers whether that was all.
    ///
    /// The relations that stand come first, with the true reason: a second `Link` of
    /// a linked process among the unseen must not turn a normal end into `noproc`.
    pub(crate) fn tell(&mut self, system: &System<G>) -> bool {
        for _ in 0..system.part {
            if !self.tell_one(system) {
                break;
            }
        }
        self.len() == 0
    }

    /// Answers whether there was one.
    fn tell_one(&mut self, system: &System<G>) -> bool {
        if let Some((to, link)) = self.links.next() {
            if link == Link::Active {
                let exit = Signal::Exit {
                    from: self.of,
                    reason: self.reason.clone(),
                    linked: true,
                    charge: None,
                };
                let _ = system.signal(to, exit);
            }
        } else if let Some(((watcher, reference), ())) = self.watchers.next() {
            system.down(watcher, self.of, reference, &self.reason);
        } else if let Some((reference, to)) = self.monitors.next() {
            let demonitor = Signal::Demonitor {
                from: self.of,
                reference,
            };
            // The dead have forgotten already.
            let _ = system.signal(to, demonitor);
        } else if let Some(signal) = self.unseen.iter_mut().find_map(Iterator::next) {
            system.answer_for_the_dead(self.of, signal);
        } else if let Some(waiter) = self.waiters.iter_mut().find_map(Iterator::next) {
            let _ = system.signal(waiter, Signal::Room { from: self.of });
        } else {
            return self.inbox.take(0).is_some();
        }
        true
    }
}
