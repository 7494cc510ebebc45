//! The exit of a process: which processes are notified of it, in parts if they are many. Each part is a turn like
//! any other, so no other process waits longer because one has many relations.
//!
//! A process that sends exit notifications is dead to all other processes and has no name, timer or
//! body any more; it keeps its slot so that the remaining parts are run. It is never idle: its runner
//! queues it again ([`Process::is_exiting`]).

use std::vec;

use exuvia_abi::Pid;

use super::backlog::Unfinished;
use super::{Body, Process};
use crate::ExitReason;
use crate::inbox::Inbox;
use crate::item::Item;
use crate::mailbox::Closed;
use crate::relations::{Link, Monitor, Relations};
use crate::signal::Signal;
use crate::small::Entries;
use crate::system::System;

impl<G: 'static> Process<G> {
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
    pub(crate) fn notify(&mut self, system: &System<G>) -> bool {
        for _ in 0..system.signals_per_turn {
            if !self.notify_one(system) {
                break;
            }
        }
        self.len() == 0
    }

    /// Does one step. Returns whether there was one.
    fn notify_one(&mut self, system: &System<G>) -> bool {
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
