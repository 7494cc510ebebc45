//! What a process holds of the system outside of its memory: open files, and later sockets and stores.
//!
//! A [`Resource`] is all that one process holds of one kind: it owns the things, the numbers under which the
//! guest's memory knows them, and what is buffered of them. The process's table of them is [`Resources`].
//! What all processes of a node may hold together is a [`Quota`].
//!
//! A resource belongs to the process, not to its code or its state: it outlives frames, images and versions, and
//! is not part of a snapshot. The runner tells it of what happens to the process: an upgrade, a rollback, the end.
//! Copies of a process, which verify an upgrade, have no resources.
//!
//! Dropping a resource closes what it owns, and does not wait for the system.
//!
//! Deliberately absent: how a guest uses a resource. Its functions are with its implementation, which takes it out
//! of the table for the time of a call (`Resources::lend`), so that nothing of a resource is on the way of an entry
//! or a host call that needs none.

mod quota;
mod table;

use std::any::Any;
use std::fmt;

pub use quota::{Quota, Share};
pub use table::{Detached, Resources};

use crate::ExitReason;

/// All that one process holds of one kind. A process has at most one of each Rust type.
pub trait Resource: Any + Send + fmt::Debug {
    /// Returns what it holds now. A process that holds something cannot be captured.
    fn holding(&self) -> Holding;

    /// The process has moved to other code, and its memory is now this one. Returns whether the resource stays
    /// with the process. A detached one comes back if the process is reverted to the state from before the
    /// upgrade, and is dropped as soon as that cannot happen any more.
    fn on_upgrade(&mut self, memory: Memory) -> Decision;

    /// New code has failed the process, which was reverted to old code, and its memory is now this one. A detached
    /// resource is dropped: nothing leads back to the new code's state. Unless an implementation says otherwise,
    /// this is as [`Resource::on_upgrade`].
    fn on_rollback(&mut self, memory: Memory) -> Decision {
        self.on_upgrade(memory)
    }

    /// The process has left the memory that the resource belongs to, and the resource with it, as
    /// [`Resource::on_upgrade`] or [`Resource::on_rollback`] has decided. It may come back, and is not told if it is
    /// dropped instead: what it has to write to the log, it writes now. `log` is as for [`Resource::on_exit`].
    fn on_detach(&mut self, log: &mut dyn FnMut(i32, &str)) {
        let _ = log;
    }

    /// The process ends for this reason; the resource is dropped next. `log` writes a line to the log of the
    /// process, with a level of `exuvia_abi::log`.
    fn on_exit(&mut self, reason: &ExitReason, log: &mut dyn FnMut(i32, &str)) {
        let _ = (reason, log);
    }
}

/// What a process holds of one kind, for display and for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The kind, in the plural: `open files`.
    pub kind: &'static str,
    /// How many of it.
    pub count: usize,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.count)
    }
}

/// Which memory a process has after it has moved to other code. It decides whether the numbers that the guest
/// knows still mean something to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// That which it had: the guest knows what it has opened.
    Same,
    /// A new one, of `load` or of a reset. It knows only what `save` has handed over.
    New,
    /// That from before an upgrade which had made a new one. What was detached then comes back with it; what the
    /// new memory has opened since is unknown to it.
    Restored,
}

/// Whether a resource stays with a process.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep,
    /// It belongs to the memory that the process no longer has.
    Detach,
}
