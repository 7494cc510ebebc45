//! The run state of a process: one atomic byte, changed only by the transitions of [`StateWord`]:
//!
//! ```text
//!   reserve                FREE -> RUNNING
//!   occupy                 RUNNING or NOTIFIED (reserved) -> QUEUED
//!   notify                 IDLE -> QUEUED, RUNNING -> NOTIFIED
//!   transition_to_running  QUEUED -> RUNNING
//!   transition_to_idle     RUNNING -> IDLE, NOTIFIED -> QUEUED
//!   yield_now              RUNNING or NOTIFIED -> QUEUED
//!   claim                  IDLE -> RUNNING
//!   vacate                 any -> FREE
//! ```
//!
//! The one invariant: a notification is never lost between a `notify` and the next
//! `transition_to_running` (or a further turn of a running process). A sender first puts its signal
//! into the queue, under the queue's lock, then notifies. A runner that ends its turn either finds
//! RUNNING, in which case the next notifier finds IDLE and schedules the process, or finds
//! NOTIFIED and queues the process again. A notifier that finds QUEUED or NOTIFIED has nothing to
//! do: the runner takes the queue's lock after it has left that state, so it sees the signal.
//!
//! Modelled with loom in `tests/loom.rs`.

use crate::sync::{AtomicU8, Ordering, replace};

const FREE: u8 = 0;
const IDLE: u8 = 1;
const QUEUED: u8 = 2;
const RUNNING: u8 = 3;
const NOTIFIED: u8 = 4;

/// The run state of a process, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The slot has no process.
    Free,
    /// It waits: it is in no run queue.
    Idle,
    /// It is in a run queue.
    Queued,
    /// A scheduler runs it.
    Running,
}

/// What the caller of a transition must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Put the process into a run queue.
    Schedule,
    /// Nothing.
    Nothing,
}

/// The atomic run state of one slot.
#[derive(Debug)]
pub struct StateWord(AtomicU8);

impl Default for StateWord {
    fn default() -> StateWord {
        StateWord(AtomicU8::new(FREE))
    }
}

impl StateWord {
    /// A reserved slot gets its process, which must be scheduled at once.
    pub fn occupy(&self) -> Transition {
        // Release: pairs with the Acquire in `transition_to_running`, so that the runner sees the
        // record.
        replace(&self.0, QUEUED);
        Transition::Schedule
    }

    /// Reserves a slot for a process that is started later. Signals collect meanwhile.
    pub fn reserve(&self) {
        replace(&self.0, RUNNING);
    }

    /// Frees the slot: the process has terminated.
    pub fn vacate(&self) {
        replace(&self.0, FREE);
    }

    /// Notes that something was put into the queue.
    pub fn notify(&self) -> Transition {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let next = match seen {
                IDLE => QUEUED,
                RUNNING => NOTIFIED,
                _ => return Transition::Nothing,
            };
            // AcqRel: pairs with `transition_to_running` and `transition_to_idle`.
            match self
                .0
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if next == QUEUED => return Transition::Schedule,
                Ok(_) => return Transition::Nothing,
                Err(now) => seen = now,
            }
        }
    }

    /// Marks a process as running that a scheduler took from a queue. Returns false if the queue
    /// entry is stale.
    #[must_use]
    pub fn transition_to_running(&self) -> bool {
        self.0
            .compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes an idle process out of the schedulers' reach for a short time, to page it out or to
    /// inspect it. Returns false if it is not idle. End with [`StateWord::transition_to_idle`].
    #[must_use]
    pub fn claim(&self) -> bool {
        // SeqCst, as in `transition_to_idle`: if a thread registers as waiting for a process to
        // become idle, and then finds it running, the runner sees the registration after
        // `transition_to_idle`.
        self.0
            .compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Ends a turn after which the process has nothing more to do that it knows of. If it was
    /// notified meanwhile, it is queued again.
    pub fn transition_to_idle(&self) -> Transition {
        match self
            .0
            .compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::Acquire)
        {
            Ok(_) => Transition::Nothing,
            Err(_) => self.yield_now(),
        }
    }

    /// Ends a turn after which the process has more to do.
    pub fn yield_now(&self) -> Transition {
        replace(&self.0, QUEUED);
        Transition::Schedule
    }

    /// Returns whether the process was notified since its turn began. A hint.
    pub fn notified(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTIFIED
    }

    /// Returns the state for display; it may be stale by the time it is read.
    pub fn get(&self) -> RunState {
        match self.0.load(Ordering::Relaxed) {
            FREE => RunState::Free,
            IDLE => RunState::Idle,
            QUEUED => RunState::Queued,
            _ => RunState::Running,
        }
    }
}
