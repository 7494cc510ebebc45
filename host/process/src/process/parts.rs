//! Work of a process that is split into parts because it may be large: sorting a backlog of
//! signals, and sending exit notifications. Each part is a turn like any other, so no other process
//! waits longer because one has received many signals or has many relations.
//!
//! A process in the middle of either is never idle: its runner queues it again
//! ([`Process::has_pending_signals`], [`Process::is_exiting`]). One that sends exit notifications
//! is dead to all other processes and has no name, timer or body any more; it keeps its slot so
//! that the remaining parts are run.

use std::collections::VecDeque;
use std::{fmt, vec};

use exuvia_abi::Pid;

use super::signals::Moment;
use super::{Body, Process};
use crate::ExitReason;
use crate::inbox::Inbox;
use crate::item::{Control, Item};
use crate::mailbox::{Arrivals, Closed};
use crate::relations::{Link, Monitor, Relations};
use crate::signal::Signal;
use crate::small::Entries;
use crate::system::System;

/// Maximum number of signals that are sorted, or exit notifications that are sent, in one part: it
/// takes about as long as a slice of other work.
pub(crate) const SIGNALS_PER_TURN: usize = 500;
/// Reductions charged for each signal of a backlog, so that one part uses up a slice.
const REDUCTIONS: u64 = 8;

/// Work that a process has not finished in one turn.
#[derive(Debug)]
pub(super) enum Unfinished<G> {
    Backlog(Backlog<G>),
    Exit(Box<ExitNotifications<G>>),
}

/// Signals that have been taken out of the outer mailbox together and are not sorted yet.
pub(super) struct Backlog<G> {
    items: vec::IntoIter<Item<G>>,
    /// Controls that came up in the middle of a turn. They run at the beginning of the next one,
    /// before the items.
    controls: VecDeque<Control<G>>,
    /// The messages among these that count against the mailbox's limits, and their bytes.
    messages: u32,
    bytes: u64,
    /// Processes that wait until these are taken over; notified when all are sorted.
    waiters: vec::IntoIter<Pid>,
}

impl<G> fmt::Debug for Backlog<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("items", &self.items)
            .field("controls", &self.controls.len())
            .field("waiters", &self.waiters)
            .finish_non_exhaustive()
    }
}

impl<G> Backlog<G> {
    /// Makes a backlog of what has arrived, behind controls that have waited longer.
    pub(super) fn new(
        arrived: &mut Arrivals<Item<G>>,
        (messages, bytes): (u32, u64),
        controls: VecDeque<Control<G>>,
    ) -> Self {
        Backlog {
            items: std::mem::take(&mut arrived.items).into_iter(),
            controls,
            waiters: arrived.take_waiters().into_iter(),
            messages,
            bytes,
        }
    }

    /// Makes a backlog of controls only.
    pub(super) fn of(controls: VecDeque<Control<G>>) -> Self {
        Backlog {
            items: Vec::new().into_iter(),
            controls,
            messages: 0,
            bytes: 0,
            waiters: Vec::new().into_iter(),
        }
    }

    /// Returns the controls that are left if nothing else is.
    pub(super) fn into_controls(self) -> Result<VecDeque<Control<G>>, Self> {
        match self.items.len() + self.waiters.len() {
            0 => Ok(self.controls),
            _ => Err(self),
        }
    }

    fn next(&mut self) -> Option<Item<G>> {
        let item = self.items.next()?;
        if let Item::Signal(signal) = &item
            && let Signal::Message(envelope) = &**signal
            && envelope.is_limited()
        {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(envelope.cost());
        }
        Some(item)
    }
}

impl<G> Process<G> {
    fn backlog(&self) -> Option<&Backlog<G>> {
        match self.active.as_ref()?.unfinished.as_deref()? {
            Unfinished::Backlog(backlog) => Some(backlog),
            Unfinished::Exit(_) => None,
        }
    }

    /// Returns whether a backlog is pending: signals that are not sorted yet, controls that have not
    /// run, or an outer mailbox that was not checked since the last part. Such a process must get another turn, whatever it
    /// waits for.
    #[inline]
    pub fn has_pending_signals(&self) -> bool {
        self.backlog().is_some()
    }

    /// Returns whether signals have arrived that are not sorted yet. What the process waits for may
    /// be among them, so a wait must not time out until they are sorted.
    pub fn has_backlog(&self) -> bool {
        self.backlog()
            .is_some_and(|backlog| backlog.items.len() > 0)
    }

    /// Returns the messages in the backlog that count against the limits, and their bytes.
    pub(super) fn unsorted(&self) -> (u32, u64) {
        let backlog = self.backlog();
        backlog.map_or((0, 0), |backlog| (backlog.messages, backlog.bytes))
    }
}

impl<G: 'static> Process<G> {
    /// Returns the number of messages that have arrived: those in the inner mailbox, and those in
    /// the backlog that count against the limits.
    pub fn messages(&self) -> usize {
        self.inbox_len() + self.unsorted().0 as usize
    }

    /// Sorts one part of a backlog. In the middle of a turn its controls stay for the next one.
    /// Returns the reason if a signal terminates the process.
    #[cold]
    pub(super) fn drain_backlog(
        &mut self,
        system: &System<G>,
        mut backlog: Backlog<G>,
        at: Moment,
    ) -> Option<ExitReason> {
        let mut end = None;
        for _ in 0..system.signals_per_turn {
            let control = match at {
                Moment::BeginningOfTurn => backlog.controls.pop_front(),
                Moment::MiddleOfTurn => None,
            };
            self.reductions += REDUCTIONS;
            if let Some(control) = control {
                control(self, system);
            } else if let Some(item) = backlog.next() {
                match item {
                    Item::Control(control) if at == Moment::MiddleOfTurn => {
                        backlog.controls.push_back(control);
                    }
                    item => end = self.apply(system, item),
                }
                if end.is_some() {
                    break;
                }
            } else if let Some(waiter) = backlog.waiters.next() {
                let _ = system.signal(waiter, Signal::Capacity { from: self.pid });
            } else {
                break;
            }
        }
        let active = self.active();
        active.end.clone_from(&end);
        // Kept even when it is empty, since the outer mailbox was not checked meanwhile.
        active.unfinished = Some(Box::new(Unfinished::Backlog(backlog)));
        self.publish_stats(system);
        end
    }

    /// Returns whether the process is sending exit notifications.
    #[inline]
    pub fn is_exiting(&self) -> bool {
        let late = self
            .active
            .as_ref()
            .and_then(|active| active.unfinished.as_deref());
        matches!(late, Some(Unfinished::Exit(_)))
    }

    /// Returns whether no process must be notified of this process's exit, and dropping its mailbox
    /// fits in one turn. This is so for most processes, and [`ExitNotifications`] is large.
    pub(crate) fn ends_unnoticed(&self, closed: &Closed<Item<G>>, most: usize) -> bool {
        let relations = self.relations.as_ref();
        let active = self.active.as_ref();
        closed.items.is_empty()
            && closed.waiters.is_empty()
            && relations.is_none_or(|relations| relations.is_empty())
            && active.is_none_or(|active| {
                let unseen = active.spare.as_ref().map_or(0, |spare| spare.items.len());
                active.unfinished.is_none() && unseen == 0 && active.inbox.len() <= most
            })
    }

    /// Removes everything that this process still has and returns the exit notifications to send.
    /// `closed` is the former contents of its mailbox.
    pub(crate) fn exit_notifications(
        &mut self,
        reason: &ExitReason,
        closed: Closed<Item<G>>,
    ) -> ExitNotifications<G> {
        let active = self.active.take().map(|active| *active);
        let (inbox, spare, late) = match active {
            Some(active) => (active.inbox, active.spare, active.unfinished),
            None => Default::default(),
        };
        let (unsorted, waiters) = match late.map(|late| *late) {
            Some(Unfinished::Backlog(backlog)) => (backlog.items, backlog.waiters),
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
        self.spawn_info = None;
        self.body = Body::Native(None);
        ExitNotifications {
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

    /// Stores the remaining notifications for the next turn.
    pub(crate) fn put_exit_notifications(&mut self, notifications: Box<ExitNotifications<G>>) {
        self.active().unfinished = Some(Box::new(Unfinished::Exit(notifications)));
    }

    pub(crate) fn take_exit_notifications(&mut self) -> Option<Box<ExitNotifications<G>>> {
        match *self.active.as_mut()?.unfinished.take()? {
            Unfinished::Exit(notifications) => Some(notifications),
            Unfinished::Backlog(_) => None,
        }
    }
}

/// The exit notifications of a process that are not sent yet, and its remaining messages.
#[derive(Debug)]
pub(crate) struct ExitNotifications<G> {
    of: Pid,
    reason: ExitReason,
    links: Entries<Pid, Link>,
    watchers: Entries<(Pid, u64), ()>,
    monitors: Entries<u64, Monitor>,
    /// What it has not processed, in order of arrival.
    unseen: [vec::IntoIter<Item<G>>; 3],
    /// Processes that wait until it takes over what they have sent.
    waiters: [vec::IntoIter<Pid>; 2],
    /// Its messages, which are dropped in parts too, since dropping takes time.
    inbox: Inbox,
    /// Whether another process may use its slot.
    pub(crate) usable: bool,
}

impl<G: 'static> ExitNotifications<G> {
    /// Returns the number of steps that remain.
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

    /// Sends one part. Returns whether that was all.
    ///
    /// Existing relations come first, with the true reason: a second `Link` of a linked process
    /// among the unprocessed signals must not turn a normal exit into `noproc`.
    pub(crate) fn tell(&mut self, system: &System<G>) -> bool {
        for _ in 0..system.signals_per_turn {
            if !self.tell_one(system) {
                break;
            }
        }
        self.len() == 0
    }

    /// Does one step. Returns whether there was one.
    fn tell_one(&mut self, system: &System<G>) -> bool {
        if let Some((to, link)) = self.links.next() {
            if link == Link::Active {
                let exit = Signal::Exit {
                    from: self.of,
                    reason: self.reason.clone(),
                    linked: true,
                };
                let _ = system.signal(to, exit);
            }
        } else if let Some(((watcher, reference), ())) = self.watchers.next() {
            system.down(watcher, self.of, reference, &self.reason);
        } else if let Some((reference, monitor)) = self.monitors.next() {
            let demonitor = Signal::Demonitor {
                from: self.of,
                reference,
            };
            // A dead process has no record of it.
            let _ = system.signal(monitor.pid(), demonitor);
        } else if let Some(item) = self.unseen.iter_mut().find_map(Iterator::next) {
            system.respond_for_dead(self.of, item);
        } else if let Some(waiter) = self.waiters.iter_mut().find_map(Iterator::next) {
            let _ = system.signal(waiter, Signal::Capacity { from: self.of });
        } else {
            return self.inbox.take(0).is_some();
        }
        true
    }
}
