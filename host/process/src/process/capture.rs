//! Captures a process as a [`ProcessSnapshot`], and makes a process of one. The rest of a restore is
//! in `snapshot`.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::{ActiveState, Body, Process, SpawnInfo};
use crate::Payload;
use crate::account::{Charge, MaybeCharged};
use crate::children::Member;
use crate::limits::Limits;
use crate::relations::{Link, Monitor};
use crate::snapshot::{
    Flags, GuestSnapshot, LinkSnapshot, MonitorSnapshot, ProcessSnapshot, TimerSnapshot, WhyNot,
};
use crate::system::System;
use exuvia_abi::{Kind, Pid, limits};

impl<G: 'static> Process<G> {
    /// Captures the process, which must be at rest and stays as it is, except that it takes over the
    /// signals that have arrived: so this is a [`Process::drain`]. Signals that arrive later are not
    /// in the snapshot. `guest` adds the engine's half. If anything was taken over, the caller gives the
    /// process a turn.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be captured.
    pub fn capture(
        &mut self,
        system: &System<G>,
        guest: impl FnOnce(&mut G) -> Result<GuestSnapshot, WhyNot>,
    ) -> Result<ProcessSnapshot, WhyNot> {
        if self.is_exiting() {
            return Err(WhyNot::NoProcess);
        }
        // Before the drain: a timer that fires in between is a message as well, but one that fires
        // after a drain would be neither.
        let now = system.clock.now();
        let timers = system.timers.messages_of(self.pid);
        let timers = timers.ok_or(WhyNot::Signals)?;
        if let Some(reason) = self.drain(system) {
            return Err(WhyNot::Ending(reason));
        }
        // The outer mailbox is empty then, except for what arrives from now on.
        if self.has_pending_signals() {
            return Err(WhyNot::Signals);
        }
        let guest = match &mut self.body {
            Body::Guest(own) => guest(own)?,
            Body::Native(_) => return Err(WhyNot::Native),
        };
        let tables = system.tables.of(self.pid).len();
        if tables > 0 {
            return Err(WhyNot::Tables(tables));
        }
        let slot = system.slot(self.pid).ok_or(WhyNot::NoProcess)?;
        let timer = |(reference, at, to, envelope): (u64, u64, Pid, _)| TimerSnapshot {
            reference,
            remaining: at.saturating_sub(now),
            to,
            envelope,
        };
        let mut timers: Vec<_> = timers.into_iter().map(timer).collect();
        self.drop_fired(&mut timers);
        let spawn_info = self.spawn_info.as_deref();
        let (links, monitors, watchers) = self.relation_snapshots();
        Ok(ProcessSnapshot {
            pid: self.pid,
            guest,
            inbox: (0..self.inbox_len())
                .filter_map(|at| self.peek(at).cloned())
                .collect(),
            links,
            monitors,
            watchers,
            parent: spawn_info.map_or(Pid::NONE, |info| info.parent),
            arguments: spawn_info.map_or(Payload::empty(), |info| Payload::clone(&info.arguments)),
            starter: spawn_info.and_then(|info| Some(info.starter?.get())),
            counted: spawn_info.is_some_and(|info| info.counted.is_some()),
            timers,
            names: texts(&system.names.of(self.pid)),
            groups: texts(&system.groups.of(self.pid)),
            limits: Limits::clone(&self.limits),
            flags: Flags {
                trap_exit: self.trap_exit,
                starting: self.starting,
                suspended: self.suspended,
                priority: slot.priority(),
                pinned_to: slot.pinned_to(),
            },
            reductions: self.reductions,
        })
    }

    /// Removes the timers whose message has arrived here since they were read.
    pub(super) fn drop_fired(&self, timers: &mut Vec<TimerSnapshot>) {
        if timers.is_empty() {
            return;
        }
        let arrived: HashSet<u64> = (0..self.inbox_len())
            .filter_map(|at| self.peek(at))
            .filter(|message| message.kind == Kind::Timer && message.sender == self.pid)
            .map(|message| message.reference)
            .collect();
        timers.retain(|timer| timer.to != self.pid || !arrived.contains(&timer.reference));
    }

    fn relation_snapshots(&self) -> (Vec<LinkSnapshot>, Vec<MonitorSnapshot>, Vec<(Pid, u64)>) {
        let Some(relations) = &self.relations else {
            return Default::default();
        };
        let mut links = Vec::new();
        for to in relations.links.keys() {
            let unlinking = match relations.links.get(to) {
                Some(Link::Unlinking(id)) => Some(*id),
                _ => None,
            };
            links.push(LinkSnapshot { to, unlinking });
        }
        links.sort_unstable_by_key(|link| (link.to.node, link.to.local));
        let mut monitors = Vec::new();
        for reference in relations.monitors.keys() {
            if let Some(monitor) = relations.monitors.get(reference) {
                monitors.push(MonitorSnapshot {
                    reference,
                    of: monitor.pid(),
                    awaits_reply: matches!(monitor, Monitor::Reply(_)),
                });
            }
        }
        monitors.sort_unstable_by_key(|monitor| monitor.reference);
        let mut watchers = relations.watchers.keys();
        watchers.sort_unstable_by_key(|(pid, reference)| (pid.node, pid.local, *reference));
        (links, monitors, watchers)
    }

    /// Makes the process of a snapshot.
    pub(crate) fn restored(
        snapshot: &ProcessSnapshot,
        limits: Arc<Limits>,
        body: Body<G>,
    ) -> Process<G> {
        let flags = snapshot.flags;
        let bare = snapshot.parent == Pid::NONE && snapshot.arguments.is_empty();
        let mut process = Process {
            pid: snapshot.pid,
            active: None,
            relations: None,
            spawn_info: (!bare).then(|| {
                Box::new(SpawnInfo {
                    parent: snapshot.parent,
                    arguments: snapshot.arguments.clone().into(),
                    starter: snapshot.starter.and_then(NonZeroU64::new),
                    counted: None,
                })
            }),
            limits,
            reductions: snapshot.reductions,
            // It is in the inbox, if it was not received.
            init_pending: false,
            starting: flags.starting,
            trap_exit: flags.trap_exit,
            congested: false,
            has_capacity: false,
            traced: false,
            suspended: flags.suspended,
            body,
        };
        if !snapshot.inbox.is_empty() {
            let mut active = ActiveState::default();
            for envelope in &snapshot.inbox {
                active.inbox.push_back(envelope.clone());
            }
            process.active = Some(Box::new(active));
        }
        for link in &snapshot.links {
            let state = link.unlinking.map_or(Link::Active, Link::Unlinking);
            process.relations().links.insert(link.to, state);
        }
        for monitor in &snapshot.monitors {
            let kind = match monitor.awaits_reply {
                true => Monitor::Reply(monitor.of),
                false => Monitor::Exit(monitor.of),
            };
            process.relations().monitors.insert(monitor.reference, kind);
        }
        for watcher in &snapshot.watchers {
            process.relations().watchers.insert(*watcher, ());
        }
        process
    }

    /// Counts a restored process among the children of its parent, and charges that for long
    /// arguments. Beyond a limit they are not charged: the parent has kept it before.
    pub(crate) fn count_restored(
        &mut self,
        system: &System<G>,
        arguments: u64,
        counts: bool,
    ) -> Counted {
        let charge = (arguments > u64::from(limits::ARGUMENTS_FREE))
            .then(|| self.charge_arguments(system, arguments));
        Counted {
            member: counts.then(|| self.children().admit_restored()).flatten(),
            charge: charge.flatten(),
        }
    }

    /// Has what this restored process starts count for its parent as soon as that counts it.
    pub(crate) fn await_count(&mut self) {
        if let Some(spawn_info) = &mut self.spawn_info {
            spawn_info.counted = Member::pending();
        }
    }

    /// Sets what its parent counts of this restored process.
    pub(crate) fn set_counted(&mut self, counted: Counted) {
        if let Some(spawn_info) = &mut self.spawn_info {
            if let (Some(pending), Some(member)) = (&spawn_info.counted, &counted.member) {
                pending.connect(member);
            }
            spawn_info.counted = counted.member;
            let arguments = Payload::clone(&spawn_info.arguments);
            spawn_info.arguments = MaybeCharged::new(arguments, counted.charge);
        }
    }
}

/// What the parent of a process counts of it.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    member: Option<Member>,
    charge: Option<Charge>,
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
