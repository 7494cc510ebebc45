//! A turn of one process: from the signals that have arrived to its next rest. The scheduler calls
//! it and knows a process only by a number.
//!
//! A turn sorts the signals, and then takes one step after another: `step` decides which, and
//! [`Executor::steps`] executes it. What `run` has done is in `enter`, the end of a process in
//! `exit`.
//!
//! From the guest to the scheduler there are three results: [`Outcome`](crate::instance::Outcome)
//! says how an entry ended, [`Stop`] what the turn does then, [`TurnResult`] what the scheduler does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use exuvia_abi::Reason;
use exuvia_instrument::SLICE;
use exuvia_process::{Body, ExitReason, Slot, Transition, Turn, turn};

use crate::error::panic_text;
use crate::executor::{Executor, ExecutorState, Stop};
use crate::frames::slots::FrameLease;
use crate::frames::{Joined, Turnstile};
use crate::guest::{Guest, GuestProcess, Location};
use crate::host::FinishTurn;
use crate::process::step::{Position, Situation, Step, next_step};
use crate::suspend::thread::TurnResult;

/// Maximum number of entries in one turn, so that a process that returns after each message gets as
/// much done as one that loops, and no more.
const ENTRIES: u32 = 16;

/// What a turn works with. It is not lost when the host panics in the turn.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` while the guest runs, if another thread has the process, or if a bug of the host has
    /// lost it.
    pub(super) process: Option<Box<GuestProcess>>,
    /// The process's frame, from the first entry of the turn on. The process's location names it,
    /// as it does when the frame is in the table. It is put back when the turn ends, and before a
    /// step that may move the process out of it.
    pub(super) lease: Option<FrameLease>,
}

/// How far a turn has come in getting a frame.
#[derive(Debug, Default)]
struct Attempt {
    /// It got one.
    frame: bool,
    /// The process is in the queue of those that wait for one. It leaves when it has one, before it
    /// enters its guest: that may block this thread, and others may end the process meanwhile.
    joined: Option<Joined>,
}

impl Executor {
    /// Runs the process of a slot for one turn.
    pub fn run(&self, index: u32) -> TurnResult {
        let system = &self.0.host.system;
        let Some(slot) = system.table.slot(index) else {
            return TurnResult::Idle;
        };
        if !slot.state.transition_to_running() {
            return TurnResult::Idle;
        }
        let mut held = Held {
            process: slot.take_process(),
            lease: None,
        };
        if let Some(process) = held.process.take_if(|process| process.is_exiting()) {
            return more(system.continue_termination(process));
        }
        let pid = held.process.as_ref().map(|process| process.pid());
        let turn = match catch_unwind(AssertUnwindSafe(|| self.turn(&mut held))) {
            Ok(Stop::Turn(turn)) => turn,
            Ok(Stop::NoFrame) => Turn::Rest,
            Ok(Stop::Away(result)) => return result,
            Err(panic) => failed(panic),
        };
        let Some(process) = held.process else {
            // The process was lost in a panic, and the lease of its frame is dropped; its slot must
            // not remain taken. It waits for no frame, since it had one.
            tracing::error!(?pid, "a process was lost; this is a bug in Exuvia");
            if let Some(pid) = pid {
                system.abandon(pid);
            }
            return TurnResult::Idle;
        };
        if let Some(lease) = held.lease {
            self.0.frames.put_back(lease);
        }
        self.leave(slot, process, turn)
    }

    /// Ends a turn.
    fn leave(&self, slot: &Slot<Guest>, mut process: Box<GuestProcess>, turn: Turn) -> TurnResult {
        let turn = match turn {
            // It has not sorted all signals that have arrived.
            Turn::Rest if process.has_pending_signals() => Turn::Again,
            turn => turn,
        };
        let then = match turn {
            Turn::Rest => {
                let index = process.pid().slot();
                let at_rest = (process.guest()).and_then(|guest| {
                    let waits = guest.waits_for_frame.then_some(index);
                    Some((guest.evictable_slot()?, waits))
                });
                process.publish_to(slot);
                slot.put_process(process);
                let then = slot.state.transition_to_idle();
                if then == Transition::Nothing
                    && let Some((number, waits)) = at_rest
                {
                    self.0.frames.note_at_rest(number, waits);
                }
                then
            }
            Turn::Again => {
                process.publish_to(slot);
                slot.put_process(process);
                slot.state.yield_now()
            }
            Turn::Exit(reason) => self.end(process, &reason),
        };
        more(then)
    }

    fn turn(&self, held: &mut Held) -> Stop {
        match &mut held.process {
            None => Stop::Turn(Turn::Rest),
            Some(process) => match process.body {
                Body::Native(_) => Stop::Turn(turn(process, &self.0.host.system)),
                Body::Guest(_) => self.guest_turn(held),
            },
        }
    }

    /// Runs the turn of a guest: sorts its signals, and lets it through if other processes wait
    /// for frames.
    fn guest_turn(&self, held: &mut Held) -> Stop {
        let state = &self.0;
        let Some(process) = &mut held.process else {
            return Stop::Turn(Turn::Rest);
        };
        let slot = process.pid().slot();
        if let Some(reason) = process.drain(&state.host.system) {
            return Stop::Turn(Turn::Exit(reason));
        }
        let waiters = &state.frames.waiters;
        let waits = (process.guest()).is_some_and(|guest| guest.waits_for_frame);
        let called = match waits {
            true => waiters.may_try(slot),
            false => Turnstile::Free,
        };
        let called = match called {
            // New code may need no frame of the version that it waits for.
            Turnstile::Waits if state.host.upgrade_due(process) && self.may_upgrade(process) => {
                waiters.leave(slot);
                None
            }
            // New signals do not get it a frame sooner.
            Turnstile::Waits => return Stop::Turn(Turn::Rest),
            Turnstile::Called { others } => Some(others),
            Turnstile::Free => None,
        };
        if waits && let Some(guest) = process.guest() {
            guest.waits_for_frame = false;
        }
        let mut attempt = Attempt::default();
        let stop = self.steps(held, &mut attempt);
        if matches!(stop, Stop::NoFrame) {
            return self.try_once_more(held, called);
        }
        if called.is_some() && !attempt.frame {
            // It did not want it any more.
            waiters.call();
        }
        stop
    }

    /// Puts a process that has found no frame into the queue, and tries once more: a frame may have
    /// become free before it was in there. `called`: it was called, and if it tries in vain, so many
    /// other versions are called.
    fn try_once_more(&self, held: &mut Held, called: Option<usize>) -> Stop {
        let waiters = &self.0.frames.waiters;
        let Some(process) = &mut held.process else {
            return Stop::NoFrame;
        };
        let slot = process.pid().slot();
        let Some(guest) = process.guest() else {
            return Stop::NoFrame;
        };
        let mut attempt = Attempt {
            frame: false,
            joined: Some(waiters.join(slot, guest.version.artifact.id)),
        };
        let stop = self.steps(held, &mut attempt);
        let guest = (held.process.as_mut()).and_then(|process| process.guest());
        match (stop, attempt.joined, guest) {
            (Stop::NoFrame, Some(joined), Some(guest)) => {
                guest.waits_for_frame = true;
                let in_frame = matches!(guest.location, Location::Frame { .. });
                waiters.wait(joined, in_frame);
                if let Some(others) = called {
                    // What it was called for may be of use to another version.
                    waiters.pass_on(others);
                }
                Stop::NoFrame
            }
            // It had one, and needs another one now. It is in no queue.
            (Stop::NoFrame, None, _) => Stop::Turn(Turn::Again),
            (stop, joined, _) => {
                if let Some(joined) = joined {
                    waiters.leave(joined.slot);
                }
                stop
            }
        }
    }

    /// Takes steps until the turn is over.
    fn steps(&self, held: &mut Held, attempt: &mut Attempt) -> Stop {
        match self.try_steps(held, attempt) {
            Ok(()) => Stop::Turn(Turn::Again),
            Err(stop) => stop,
        }
    }

    /// Does the same; returns `Ok` if the turn is over because it has taken long enough.
    fn try_steps(&self, held: &mut Held, attempt: &mut Attempt) -> Result<(), Stop> {
        let host = &self.0.host;
        let lost = Stop::Turn(Turn::Rest);
        let Some(process) = &mut held.process else {
            return Err(lost);
        };
        // Used again while it rests in a frame: the pager keeps it there. This counts turns, not
        // entries: a process that handles two messages in one turn was used once.
        let in_frame = (process.guest()).is_some_and(|guest| guest.evictable_slot().is_some());
        // All entries of a turn share a slice.
        let until = process.reductions + u64::from(SLICE.cast_unsigned());
        let mut entries = 0;
        loop {
            let Some(process) = &mut held.process else {
                return Err(lost);
            };
            let due = host.upgrade_due(process);
            let situation = Situation::of(process, due, entries > 0, &host.system.clock);
            let step = next_step(situation);
            match step {
                Step::RollBack | Step::Upgrade => {
                    // Both move the process out of its frame, wherever that is.
                    if let Some(lease) = held.lease.take() {
                        self.0.frames.put_back(lease);
                    }
                    match step {
                        Step::Upgrade => self.upgrade(process)?,
                        _ => self.roll_back(process, true)?,
                    }
                }
                Step::Rest => return Err(Stop::Turn(Turn::Rest)),
                Step::Again => return Err(Stop::Turn(Turn::Again)),
                Step::Enter | Step::Resume => {
                    let resumes = step == Step::Resume;
                    if entries == 0
                        && !resumes
                        && let Some(guest) = process.guest()
                    {
                        guest.referenced = in_frame;
                    }
                    let continues = situation.position == Position::Waiting;
                    let mut lease = self.acquire_frame(process, held.lease.take())?;
                    attempt.frame = true;
                    if let Some(joined) = attempt.joined.take() {
                        self.0.frames.waiters.leave(joined.slot);
                    }
                    lease.frame.set_continues(continues);
                    self.enter(held, lease, resumes)?;
                    entries += 1;
                    let used_up = (held.process.as_ref()).is_some_and(|p| p.reductions >= until);
                    if entries == ENTRIES || used_up {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl FinishTurn for ExecutorState {
    fn continue_after_block(self: Arc<Self>, mut process: Box<GuestProcess>) -> TurnResult {
        let executor = Executor(self);
        let Some(slot) = (executor.0.host.system.table).slot(process.pid().slot()) else {
            return TurnResult::Idle;
        };
        let turn = catch_unwind(AssertUnwindSafe(|| executor.suspended(&mut process)));
        executor.leave(slot, process, turn.unwrap_or_else(failed))
    }
}

/// Returns what a transition of the run state asks of the scheduler.
fn more(then: Transition) -> TurnResult {
    match then {
        Transition::Schedule => TurnResult::Ready,
        Transition::Nothing => TurnResult::Idle,
    }
}

/// Ends a turn in which the host has panicked.
fn failed(panic: Box<dyn std::any::Any + Send>) -> Turn {
    let text = format!("the host failed: {}", panic_text(&*panic));
    Turn::Exit(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
}
