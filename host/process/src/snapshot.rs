//! Snapshots: everything of a process at rest, as plain data in one file.
//!
//! A snapshot is made by [`Process::capture`](crate::Process::capture) and becomes a process again,
//! under the same pid, by [`System::restore`]. What the guest computes is opaque here: the engine
//! adds its half as bytes ([`GuestSnapshot`]). The bytes of a whole snapshot are made and read in
//! `snapshot/codec.rs`; `notes/snapshots.md` says what is in, what is not, and what peers see.
//!
//! A snapshot is the host's own data. Its checksum finds damage, not forgery: what it grants is
//! granted.
//!
//! Deliberately absent: where snapshots are stored, and when they are made.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use exuvia_abi::{Pid, Priority, limits};
use foldhash::fast::FixedState;

use crate::names::NameError;
use crate::process::{Body, Counted, Process};
use crate::resource::Holding;
use crate::signal::{Envelope, Half, Signal};
use crate::system::System;
use crate::timers::Due;
use crate::{ExitReason, Limits, Payload};

mod codec;

pub use codec::DecodeError;

/// Everything of a process at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSnapshot {
    /// Its pid, under which it is restored.
    pub pid: Pid,
    /// What the engine knows of it.
    pub guest: GuestSnapshot,
    /// Its messages, in order: those of the mailbox's both halves.
    pub inbox: Vec<Envelope>,
    /// Its links, in the order of the pids.
    pub links: Vec<LinkSnapshot>,
    /// The processes that it monitors or awaits replies from, in the order of the references.
    pub monitors: Vec<MonitorSnapshot>,
    /// The processes that monitor it or await its replies, with their references, in order.
    pub watchers: Vec<(Pid, u64)>,
    /// The process that spawned it; [`Pid::NONE`] for the host.
    pub parent: Pid,
    /// Its arguments, which it gets again after a reset.
    pub arguments: Payload,
    /// The reference under which its parent awaits the acknowledgement of its start.
    pub starter: Option<u64>,
    /// Whether it counts among its parent's children.
    pub counted: bool,
    /// Its message timers, in the order of the references.
    pub timers: Vec<TimerSnapshot>,
    /// Its names, in the order in which they were registered.
    pub names: Vec<String>,
    /// Its groups, in the order in which it joined them.
    pub groups: Vec<String>,
    /// Its limits and grants.
    pub limits: Limits,
    /// Its flags.
    pub flags: Flags,
    /// Reductions since it was spawned.
    pub reductions: u64,
}

/// The engine's half of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSnapshot {
    /// The name of its module.
    pub module: String,
    /// The digest of the module file whose code it runs.
    pub digest: [u8; 32],
    /// Its state: an image, in the engine's format. `None`: it has none yet, as it has not started.
    pub state: Option<Vec<u8>>,
    /// Whether it has ever run.
    pub has_run: bool,
    /// Its upgrades so far.
    pub upgrades: u32,
    /// Set if it stays on its version although another one is current.
    pub stays: Option<StaysOnVersion>,
}

/// Why a process stays on its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaysOnVersion {
    /// The digest of the module file of the current version: it is upgraded to any other.
    pub current: [u8; 32],
    /// The reason.
    pub because: StayReason,
}

/// A reason why a process is not upgraded to the current version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StayReason {
    /// It is exempt: an operator has left it.
    Exempt,
    /// Its upgrade failed, for this reason.
    Failed(String),
    /// New code failed it, in this way, and it was reverted.
    Reverted(String),
}

/// One link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// The other process.
    pub to: Pid,
    /// If set, it was unlinked under this number, which the other has not acknowledged.
    pub unlinking: Option<u64>,
}

/// One monitor or pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorSnapshot {
    /// Its reference.
    pub reference: u64,
    /// The other process.
    pub of: Pid,
    /// Whether a reply is awaited, not only the end.
    pub awaits_reply: bool,
}

/// One message timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerSnapshot {
    /// Its reference.
    pub reference: u64,
    /// Nanoseconds from the capture until it is due.
    pub remaining: u64,
    /// The receiver.
    pub to: Pid,
    /// The message.
    pub envelope: Envelope,
}

/// The flags of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Exit signals arrive as messages.
    pub trap_exit: bool,
    /// Its start is not acknowledged yet.
    pub starting: bool,
    /// An operator has suspended it.
    pub suspended: bool,
    /// Its priority.
    pub priority: Priority,
    /// The only scheduler that may run it.
    pub pinned_to: Option<u8>,
}

/// Why a process cannot be captured now, or at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It has terminated, or never lived.
    NoProcess,
    /// It is running or about to run; it may be captured when it is at rest.
    Running,
    /// It has more signals than it takes over in one turn, or timers are firing at this moment.
    /// Try again.
    Signals,
    /// It is about to terminate.
    Ending(ExitReason),
    /// It is a native process: its state is Rust code of the host.
    Native,
    /// It has returned WAITING: the continuation in its memory belongs to this code.
    Waiting,
    /// It is in the middle of a handler, and waits in it (for what, in one word).
    Suspended(&'static str),
    /// It is on probation after an upgrade, for so many messages more: it may still be reverted.
    Probation(u32),
    /// It holds this of the system.
    Holds(Holding),
    /// It owns so many tables.
    Tables(usize),
    /// Its module is resident-only, for this reason: its state is no image.
    Resident(String),
    /// Its state could not be read, for this reason.
    State(String),
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::NoProcess => f.write_str("there is no such process"),
            WhyNot::Running => f.write_str("the process is running"),
            WhyNot::Signals => {
                f.write_str("the process has not sorted all signals that have arrived")
            }
            WhyNot::Ending(reason) => write!(f, "the process is about to exit ({reason})"),
            WhyNot::Native => f.write_str("the process is native code of the host"),
            WhyNot::Waiting => {
                f.write_str("the process returned WAITING: its memory holds a continuation")
            }
            WhyNot::Suspended(what) => {
                write!(f, "the process is in the middle of a handler ({what})")
            }
            WhyNot::Probation(left) => {
                write!(
                    f,
                    "the process is on probation after an upgrade, for {left} more messages"
                )
            }
            WhyNot::Holds(holding) => write!(f, "the process has {holding}"),
            WhyNot::Tables(count) => write!(f, "the process owns tables ({count})"),
            WhyNot::Resident(reason) => write!(f, "the module is resident-only: {reason}"),
            WhyNot::State(reason) => write!(f, "the state could not be read: {reason}"),
        }
    }
}

impl std::error::Error for WhyNot {}

/// Why a snapshot could not be restored. Nothing of it remains in the system then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// It is of a process of the node with this number.
    OtherNode(u64),
    /// Its slot is taken by another process, or beyond the node's limit on processes.
    SlotTaken,
    /// It has terminated, but not all processes with relations to it are notified yet. That takes
    /// a moment: try again.
    Ending,
    /// Another process has used its slot since, so that its pid must not come again.
    PidUsedUp,
    /// This name could not be registered.
    Name(String, NameError),
    /// This group could not be joined.
    Group(String, NameError),
    /// No version of this module with this digest is loaded.
    Version {
        /// The module.
        module: String,
        /// The digest of its file.
        digest: [u8; 32],
    },
    /// The engine refused the state, for this reason.
    State(String),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::OtherNode(node) => {
                write!(
                    f,
                    "the snapshot is of a process of another node (number {node})"
                )
            }
            RestoreError::SlotTaken => {
                f.write_str("its slot is taken, or the node may not have so many processes")
            }
            RestoreError::Ending => f.write_str(
                "it is ending: not all processes with relations to it are notified yet; try again",
            ),
            RestoreError::PidUsedUp => f.write_str(
                "another process has used its slot since, so its pid must not come again",
            ),
            RestoreError::Name(name, error) => {
                write!(
                    f,
                    "the name `{name}` could not be registered: {}",
                    why(*error)
                )
            }
            RestoreError::Group(group, error) => {
                write!(
                    f,
                    "the group `{group}` could not be joined: {}",
                    why(*error)
                )
            }
            RestoreError::Version { module, digest } => {
                write!(f, "no version of `{module}` with the digest ")?;
                digest[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))?;
                f.write_str(" is loaded, and the state belongs to that version")
            }
            RestoreError::State(reason) => write!(f, "the state was refused: {reason}"),
        }
    }
}

impl std::error::Error for RestoreError {}

fn why(error: NameError) -> &'static str {
    match error {
        NameError::Taken => "another process has it",
        NameError::Invalid => "it is empty or too long",
        NameError::Dead => "the process has terminated",
        NameError::TooMany => "the process has too many",
    }
}

/// Limits that were seen before, so that processes with equal limits share them.
#[derive(Debug, Default)]
pub(crate) struct SharedLimits(Vec<Arc<Limits>>);

impl SharedLimits {
    /// Number of different limits that are remembered: as many as a node has kinds of processes.
    const MOST: usize = 32;

    fn of(&mut self, limits: &Limits) -> Arc<Limits> {
        if let Some(at) = self.0.iter().position(|known| **known == *limits) {
            return self.0[at].clone();
        }
        let limits = Arc::new(limits.clone());
        if self.0.len() >= Self::MOST {
            self.0.remove(0);
        }
        self.0.push(limits.clone());
        limits
    }
}

/// One process of a set that is restored.
struct Restored<'a, G> {
    snapshot: &'a ProcessSnapshot,
    process: Result<Box<Process<G>>, RestoreError>,
    /// Its parent, which is in the same set, counts it.
    is_counted: bool,
}

impl<G: 'static> System<G> {
    /// Restores one process under its own pid, with this guest, and schedules it.
    ///
    /// The other halves of its relations are set again: the processes that it is linked to and that
    /// it monitors get signals. From those that have terminated it gets what Erlang delivers for a
    /// dead pid: an exit signal or a `DOWN` with `noproc`. So it does for a request whose receiver
    /// knows nothing of it any more.
    ///
    /// # Errors
    ///
    /// Returns a [`RestoreError`] if it cannot have its pid, its names or its groups. After
    /// [`RestoreError::Ending`] the caller tries again, when it has done something else.
    pub fn restore(&self, snapshot: &ProcessSnapshot, guest: G) -> Result<Pid, RestoreError> {
        let mut results = self.restore_set(vec![(snapshot, guest)]);
        results.pop().unwrap_or(Err(RestoreError::SlotTaken))
    }

    /// Restores several processes, which may have relations to one another: all of them have their
    /// pids before the first is started. Takes the least time if they are in the order of their
    /// slots. Returns a result for each, in their order.
    pub fn restore_all(
        &self,
        all: impl IntoIterator<Item = (ProcessSnapshot, G)>,
    ) -> Vec<Result<Pid, RestoreError>> {
        let (snapshots, guests): (Vec<_>, Vec<G>) = all.into_iter().unzip();
        self.restore_set(snapshots.iter().zip(guests).collect())
    }

    fn restore_set(&self, set: Vec<(&ProcessSnapshot, G)>) -> Vec<Result<Pid, RestoreError>> {
        let mut shared = SharedLimits::default();
        let mut restored: Vec<Restored<'_, G>> = set
            .into_iter()
            .map(|(snapshot, guest)| {
                let limits = self.reserve_pid_of(snapshot, &mut shared);
                let process = |limits| Process::restored(snapshot, limits, Body::Guest(guest));
                Restored {
                    snapshot,
                    process: limits.map(process).map(Box::new),
                    is_counted: false,
                }
            })
            .collect();
        self.count_children(&mut restored);
        let start = |it: Restored<'_, G>| {
            let is_counted = it.is_counted;
            self.start_restored(it.snapshot, it.process?, is_counted);
            Ok(it.snapshot.pid)
        };
        restored.into_iter().map(start).collect()
    }

    /// Counts the processes of a set among the children of their parents in the same set, before one
    /// of them runs: a parent may be at its limit. Those whose parent is not in the set wait until it
    /// counts them.
    fn count_children(&self, set: &mut [Restored<'_, G>]) {
        let whole = set.iter().enumerate().filter(|(_, it)| it.process.is_ok());
        let at: HashMap<Pid, usize, FixedState> =
            whole.map(|(at, it)| (it.snapshot.pid, at)).collect();
        let mut is_done = vec![false; set.len()];
        for first in 0..set.len() {
            // Ancestors first: the counters of a process are inside those of its parent.
            let mut line = Vec::new();
            let mut next = Some(first);
            while let Some(child) = next.filter(|child| !is_done[*child]) {
                is_done[child] = true;
                line.push(child);
                next = at.get(&set[child].snapshot.parent).copied();
            }
            for child in line.into_iter().rev() {
                let snapshot = set[child].snapshot;
                let parent = at.get(&snapshot.parent);
                let Some(Ok(parent)) = parent.map(|parent| &mut set[*parent].process) else {
                    if let Ok(process) = &mut set[child].process
                        && snapshot.counted
                        && self.is_alive(snapshot.parent)
                    {
                        process.await_count();
                    }
                    continue;
                };
                let arguments = snapshot.arguments.len() as u64;
                let counted = parent.count_restored(self, arguments, snapshot.counted);
                if let Ok(process) = &mut set[child].process {
                    process.set_counted(counted);
                    set[child].is_counted = true;
                }
            }
        }
    }

    /// Reserves the pid of a snapshot, with its names and groups. Signals collect there from now on.
    /// Returns the limits.
    fn reserve_pid_of(
        &self,
        snapshot: &ProcessSnapshot,
        shared: &mut SharedLimits,
    ) -> Result<Arc<Limits>, RestoreError> {
        let pid = snapshot.pid;
        if pid.node != self.node() {
            return Err(RestoreError::OtherNode(pid.node));
        }
        if !self.table.allocate_at(pid.slot()) {
            // It keeps its slot as long as it has many to notify.
            let ending = self.slot(pid);
            let ending = ending.is_some_and(|slot| slot.mailbox.has_ended(pid.generation()));
            return Err(match ending {
                true => RestoreError::Ending,
                false => RestoreError::SlotTaken,
            });
        }
        let slot = self.slot(pid).ok_or(RestoreError::SlotTaken)?;
        let limits = shared.of(&snapshot.limits);
        slot.state.reserve();
        let opened = match slot.is_notifying() {
            true => Err(RestoreError::Ending),
            false if slot.mailbox.reopen(pid.generation(), limits.clone()) => Ok(()),
            false => Err(RestoreError::PidUsedUp),
        };
        if let Err(error) = opened {
            slot.state.vacate();
            self.table.release(self.shard(), pid.slot());
            return Err(error);
        }
        self.prepare(slot, &limits);
        let names = snapshot.names.iter().try_for_each(|name| {
            let error = |error| RestoreError::Name(name.clone(), error);
            self.register(name, pid).map_err(error)
        });
        let groups = || {
            snapshot.groups.iter().try_for_each(|group| {
                let error = |error| RestoreError::Group(group.clone(), error);
                self.join(group, pid).map(drop).map_err(error)
            })
        };
        match names.and_then(|()| groups()) {
            Ok(()) => Ok(limits),
            Err(error) => {
                self.abandon(pid);
                Err(error)
            }
        }
    }

    fn start_restored(
        &self,
        snapshot: &ProcessSnapshot,
        mut process: Box<Process<G>>,
        is_counted: bool,
    ) {
        let pid = snapshot.pid;
        let Some(slot) = self.slot(pid) else { return };
        self.reassert_relations(snapshot);
        for timer in &snapshot.timers {
            // Beyond the node's limit it is not charged: the process's own limit it kept before.
            let charge = process.charge(self, timer.envelope.cost());
            let due = Due::Message {
                to: timer.to,
                envelope: timer.envelope.clone(),
                charge,
            };
            self.restore_timer(pid, timer.reference, timer.remaining, due);
        }
        slot.set_priority(snapshot.flags.priority.min(snapshot.limits.priority));
        let schedulers = self.timers.shards();
        let pinned_to = snapshot.flags.pinned_to;
        slot.pin(pinned_to.filter(|scheduler| usize::from(*scheduler) < schedulers));
        process.publish_stats(self);
        slot.put_process(process);
        self.apply(pid.slot(), slot.state.occupy());
        let is_long = snapshot.arguments.len() > limits::ARGUMENTS_FREE as usize;
        if !is_counted && (snapshot.counted || is_long) {
            self.count_in_turn(snapshot);
        }
    }

    /// Sets the other halves of a process's relations again. On behalf of a process that has
    /// terminated it gets the response that the dead always give.
    fn reassert_relations(&self, snapshot: &ProcessSnapshot) {
        let from = snapshot.pid;
        let assert = |to: Pid, signal: Signal| {
            if self.signal(to, signal.clone()).is_err() {
                self.respond_for_dead(to, signal.into());
            }
        };
        for LinkSnapshot { to, unlinking } in &snapshot.links {
            assert(
                *to,
                match unlinking {
                    None => Signal::Link { from },
                    Some(id) => Signal::Unlink { from, id: *id },
                },
            );
        }
        for monitor in &snapshot.monitors {
            let reference = monitor.reference;
            let half = Half::Waits;
            assert(
                monitor.of,
                match monitor.awaits_reply {
                    false => Signal::Monitor { from, reference },
                    true => Signal::Confirm {
                        from,
                        reference,
                        half,
                    },
                },
            );
        }
        for (watcher, reference) in &snapshot.watchers {
            let confirm = Signal::Confirm {
                from,
                reference: *reference,
                half: Half::IsWatched,
            };
            assert(*watcher, confirm);
        }
    }

    /// Counts a restored process among the children of its parent, if that is a guest, in the next
    /// turn of the parent.
    fn count_in_turn(&self, snapshot: &ProcessSnapshot) {
        let ProcessSnapshot {
            pid: child,
            parent,
            counted,
            ..
        } = *snapshot;
        let arguments = snapshot.arguments.len() as u64;
        let count = move |parent: &mut Process<G>, system: &System<G>| {
            let counted = match parent.guest() {
                Some(_) => parent.count_restored(system, arguments, counted),
                None => Counted::default(),
            };
            let set = |child: &mut Process<G>, _: &System<G>| child.set_counted(counted);
            // The count ends with a child that has terminated meanwhile.
            let _ = system.control(child, set);
        };
        // If the parent has terminated, there is no limit to count against.
        let _ = self.control(parent, count);
    }
}
