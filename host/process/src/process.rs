//! The private half of a process, which only its runner touches: the inner mailbox, its relations
//! to other processes, and the body that does the work.
//!
//! This file has the fields. What arrives is in `process/signals.rs` and `process/messages.rs`, what
//! the process does to others in `process/relating.rs`, its start and its children in
//! `process/starting.rs`, signals that take several turns in `process/backlog.rs`, and
//! its end in `process/exit.rs`.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::Pid;

use crate::account::MaybeCharged;
use crate::children::Member;
use crate::inbox::Inbox;
use crate::item::Item;
use crate::limits::Limits;
use crate::mailbox::Arrivals;
use crate::native::Native;
use crate::relations::{Link, Relations};
use crate::signal::Envelope;
use crate::system::{SpawnSpec, System};
use crate::{ExitReason, Payload};

mod backlog;
mod capture;
mod exit;
mod messages;
mod relating;
mod relations_info;
mod signals;
mod starting;

pub(crate) use backlog::SIGNALS_PER_TURN;
use backlog::Unfinished;
pub(crate) use capture::Counted;
pub(crate) use exit::ExitNotifications;
pub use relations_info::RelationsInfo;

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
        if let Some(counts) = self.relations.as_mut().and_then(|r| r.counts.as_mut()) {
            counts.limits = None;
            if let Some(children) = &counts.children {
                children.set_most(limits.descendants);
            }
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

    /// Does what [`Process::publish_stats`] does, for the slot of the process.
    #[inline]
    pub fn publish_to(&self, slot: &crate::table::Slot<G>) {
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
            self.publish_to(slot);
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

    /// Terminates the process at its next [`Process::drain`], whatever else arrives.
    pub fn fail(&mut self, reason: ExitReason) {
        self.active().end.get_or_insert(reason);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
