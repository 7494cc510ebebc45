//! The run state of a process: one atomic byte, changed only by the named
//! transitions below.
//!
//! ```text
//!            notify                begin
//!   IDLE ------------> QUEUED ------------> RUNNING ----+
//!    ^  \                ^                   |   ^      | notify
//!    |   +-- claim ------|-------------------|---+      v
//!    |                   +------ end --------|------ NOTIFIED
//!    +--------------------------- end -------+
//! ```
//!
//! The one invariant: between a `notify` and the next `begin` (or a further
//! turn of a running process) nobody forgets that there is something to do.
//! A sender first puts its signal into the queue, under the queue's lock, then
//! notifies. A runner that ends its turn either finds RUNNING, in which case
//! every notifier still to come finds IDLE and schedules the process, or finds
//! NOTIFIED and goes again. When a notifier finds QUEUED or NOTIFIED it has
//! nothing to do: the runner takes the queue's lock after it has left that
//! state, so it sees the signal.
//!
//! Modelled with loom in `tests/loom.rs`.

use crate::sync::{AtomicU8, Ordering, replace};

const FREE: u8 = 0;
const IDLE: u8 = 1;
const QUEUED: u8 = 2;
const RUNNING: u8 = 3;
const NOTIFIED: u8 = 4;

/// Where a process stands, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The slot has no process.
    Free,
    /// It waits: it is in no queue.
    Idle,
    /// It is in a run queue.
    Queued,
    /// A scheduler runs it.
    Running,
}

/// What the caller of a transition must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Put the process into a run queue.
    Schedule,
    /// Nothing.
    Nothing,
}

/// The atomic run state of one slot.
#[derive(Debug)]
pub struct State(AtomicU8);

impl Default for State {
    fn default() -> State {
        State(AtomicU8::new(FREE))
    }
}

impl State {
    /// A new process takes the slot; it is scheduled at once.
    pub fn occupy(&self) -> Then {
        // Release: pairs with the Acquire in `begin`, so that the runner sees the record.
        replace(&self.0, QUEUED);
        Then::Schedule
    }

    /// A reserved slot: its process is not born yet, signals collect.
    pub fn reserve(&self) {
        replace(&self.0, RUNNING);
    }

    /// The process is gone.
    pub fn vacate(&self) {
        replace(&self.0, FREE);
    }

    /// Something was put into the queue.
    pub fn notify(&self) -> Then {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let next = match seen {
                IDLE => QUEUED,
                RUNNING => NOTIFIED,
                _ => return Then::Nothing,
            };
            // AcqRel: pairs with `begin` and `end`.
            match self
                .0
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if next == QUEUED => return Then::Schedule,
                Ok(_) => return Then::Nothing,
                Err(now) => seen = now,
            }
        }
    }

    /// A scheduler took the process from a queue. False: the slot is stale.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.0
            .compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes an idle process out of the schedulers' reach for a moment, to
    /// page it out or to look at it. End with [`State::end`].
    #[must_use]
    pub fn claim(&self) -> bool {
        // SeqCst, as in `end`: who counts himself among those that wait for a process
        // to rest, and then finds it running, is seen by its runner after `end`.
        self.0
            .compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// The turn is over and the process has nothing more to do that it knows of.
    pub fn end(&self) -> Then {
        match self
            .0
            .compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::Acquire)
        {
            Ok(_) => Then::Nothing,
            Err(_) => self.again(),
        }
    }

    /// The turn is over and the process has more to do.
    pub fn again(&self) -> Then {
        replace(&self.0, QUEUED);
        Then::Schedule
    }

    /// Was it notified since its turn began? A hint.
    pub fn notified(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTIFIED
    }

    /// For display; may be stale when it is read.
    pub fn get(&self) -> RunState {
        match self.0.load(Ordering::Relaxed) {
            FREE => RunState::Free,
            IDLE => RunState::Idle,
            QUEUED => RunState::Queued,
            _ => RunState::Running,
        }
    }
}
