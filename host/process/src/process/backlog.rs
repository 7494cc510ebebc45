//! The backlog of a process: signals that have arrived together and are too many to sort in one turn.
//! Each part is a turn like any other, so no other process waits longer because one has received many
//! signals.
//!
//! A process with a backlog is never idle: its runner queues it again
//! ([`Process::has_pending_signals`]).

use std::collections::VecDeque;
use std::{fmt, vec};

use exuvia_abi::Pid;

use super::signals::Moment;
use super::{ExitNotifications, Process};
use crate::ExitReason;
use crate::item::{Control, Item};
use crate::mailbox::Arrivals;
use crate::signal::Signal;
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
    pub(super) items: vec::IntoIter<Item<G>>,
    /// Controls that came up in the middle of a turn. They run at the beginning of the next one,
    /// before the items.
    controls: VecDeque<Control<G>>,
    /// The messages among these that count against the mailbox's limits, and their bytes.
    messages: u32,
    bytes: u64,
    /// Processes that wait until these are taken over; notified when all are sorted.
    pub(super) waiters: vec::IntoIter<Pid>,
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
}
