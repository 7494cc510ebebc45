//! A turn of one process: from the signals that have arrived to its next rest. The scheduler calls
//! it and knows a process only by a number.
//!
//! The steps of a turn: sort the signals; upgrade if new code is due and the process is at rest;
//! get a frame; enter `run`, or resume it; act on how that ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use exuvia_abi::{Reason, RunResult, receive};
use exuvia_image::After;
use exuvia_instrument::SLICE;
use exuvia_process::transaction::{self, Transaction};
use exuvia_process::{Body, ExitReason, Payload, Slot, Transition, Turn, turn};

use crate::error::UpgradeError;
use crate::executor::{Executor, ExecutorState};
use crate::frames::Turnstile;
use crate::frames::frame::{OnThread, panic_text, run_here};
use crate::frames::slots::FrameLease;
use crate::guest::{Guest, GuestProcess, Location};
use crate::host::FinishTurn;
use crate::host_calls::wasi::tell;
use crate::instance::Outcome;
use crate::process::acquire::AcquireError;
use crate::suspend::thread::TurnResult;
use crate::upgrade::rollback::RollbackTarget;
use crate::upgrade::upgrade_failed;

/// Maximum number of entries in one turn, so that a process that returns after each message gets as
/// much done as one that loops, and no more.
const ENTRIES: u32 = 16;

impl Executor {
    /// Drops all processes and frames. Call it only when no scheduler runs any more.
    pub fn clear(&self) {
        let system = &self.0.host.system;
        for index in system.table.indices() {
            let Some(mut process) = system
                .table
                .slot(index)
                .and_then(|slot| slot.take_process())
            else {
                continue;
            };
            self.abort_transaction(&mut process);
            if let Some(guest) = process.guest() {
                guest.take_location();
            }
        }
        self.0.frames.clear();
    }

    /// Runs the process of a slot for one turn.
    pub fn run(&self, index: u32) -> TurnResult {
        let system = &self.0.host.system;
        let Some(slot) = system.table.slot(index) else {
            return TurnResult::Idle;
        };
        if !slot.state.transition_to_running() {
            return TurnResult::Idle;
        }
        let mut cell = slot.take_process();
        if let Some(process) = cell.take_if(|process| process.is_exiting()) {
            return more(system.continue_termination(process));
        }
        let pid = cell.as_ref().map(|process| process.pid());
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut cell)));
        let turn = match turn {
            Ok(AfterTurn::Turn(turn)) => turn,
            Ok(AfterTurn::Away(ran)) => return ran,
            Err(panic) => failed(panic),
        };
        let Some(process) = cell else {
            // The process was lost in a panic; its slot must not remain taken.
            tracing::error!(?pid, "a process was lost; this is a bug in Exuvia");
            self.0.frames.drop_frame_of(index);
            if let Some(pid) = pid {
                system.abandon(pid);
            }
            return TurnResult::Idle;
        };
        self.leave(slot, process, turn)
    }

    /// Ends a turn.
    fn leave(&self, slot: &Slot<Guest>, mut process: Box<GuestProcess>, turn: Turn) -> TurnResult {
        let system = &self.0.host.system;
        let turn = match turn {
            // It has not sorted all signals that have arrived.
            Turn::Rest if process.has_pending_signals() => Turn::Again,
            turn => turn,
        };
        let then = match turn {
            Turn::Rest => {
                let place = process.guest().and_then(|guest| guest.evictable_slot());
                process.publish_stats(system);
                slot.put_process(process);
                let then = slot.state.transition_to_idle();
                if then == Transition::Nothing
                    && let Some(place) = place
                {
                    self.0.frames.note_at_rest(place);
                }
                then
            }
            Turn::Again => {
                process.publish_stats(system);
                slot.put_process(process);
                slot.state.yield_now()
            }
            Turn::Exit(reason) => self.end(process, &reason),
        };
        more(then)
    }

    fn turn(&self, cell: &mut Option<Box<GuestProcess>>) -> AfterTurn {
        match cell {
            None => AfterTurn::Turn(Turn::Rest),
            Some(process) => match process.body {
                Body::Native(_) => AfterTurn::Turn(turn(process, &self.0.host.system)),
                Body::Guest(_) => match self.guest_turn(cell) {
                    AfterEntry::Stop(turn) => AfterTurn::Turn(turn),
                    AfterEntry::Continue => AfterTurn::Turn(Turn::Again),
                    AfterEntry::NoFrame => AfterTurn::Turn(Turn::Rest),
                    AfterEntry::Away(ran) => AfterTurn::Away(ran),
                },
            },
        }
    }

    /// Ends a process: gives back its frame and notifies all that must know. A panic in one step
    /// does not keep the others from being done.
    fn end(&self, mut process: Box<GuestProcess>, reason: &ExitReason) -> Transition {
        let shared = &self.0;
        let pid = process.pid();
        let guarded = |what: &str, act: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
                let text = panic_text(&*panic);
                tracing::error!(%pid, "the host failed to {what} of a process that exits: {text}");
            }
        };
        guarded("undo the effects", &mut || {
            self.abort_transaction(&mut process)
        });
        self.0.frames.waiters.leave(pid.slot());
        guarded("take the frame", &mut || self.take_frame(&mut process));
        guarded("close the files", &mut || {
            if let Some(wasi) = process.guest().and_then(|guest| guest.take_wasi()) {
                tell(&shared.host, &mut process, wasi.printed.take(true));
            }
        });
        // A process that is done before its start was acknowledged has failed to start.
        let failed = if reason.is_normal() {
            process.is_awaited()
        } else {
            !reason.is_orderly()
        };
        if failed && let Body::Guest(guest) = &process.body {
            let version = guest.version.version();
            guarded("report the failure", &mut || {
                shared
                    .host
                    .observer
                    .failed(pid, version, reason, process.handled());
            });
        }
        if process.traced {
            shared.host.tracers.ended(pid);
        }
        shared.host.system.terminate(process, reason)
    }

    fn take_frame(&self, process: &mut GuestProcess) {
        let shared = &self.0;
        let pid = process.pid();
        let Some(guest) = process.guest() else { return };
        if let Some(timer) = guest.wait.take().and_then(|wait| wait.timer) {
            shared.host.system.timers.cancel(pid, timer);
        }
        if let Location::Frame {
            frame, suspended, ..
        } = guest.take_location()
            && let Some(mut lease) = shared.frames.lease(frame)
        {
            if suspended {
                lease.frame.cancel();
            }
            shared.frames.retire(lease);
        }
    }

    /// Runs the turn of a guest. Returns [`AfterEntry::Continue`] if it has more to do.
    fn guest_turn(&self, cell: &mut Option<Box<GuestProcess>>) -> AfterEntry {
        let shared = &self.0;
        let Some(process) = cell else {
            return AfterEntry::Stop(Turn::Rest);
        };
        let slot = process.pid().slot();
        if let Some(reason) = process.drain(&shared.host.system) {
            return AfterEntry::Stop(Turn::Exit(reason));
        }
        let waiters = &shared.frames.waiters;
        let has_frame = process.guest().is_some_and(|guest| guest.has_frame());
        let called = match has_frame {
            true => Turnstile::Free,
            false => waiters.may_try(slot),
        };
        let called = match called {
            // New code may need no frame of the version that it waits for.
            Turnstile::Waits if shared.host.upgrade_due(process) && self.may_upgrade(process) => {
                waiters.leave(slot);
                None
            }
            // New signals do not get it a frame sooner.
            Turnstile::Waits => return AfterEntry::Stop(Turn::Rest),
            Turnstile::Called { others } => Some(others),
            Turnstile::Free => None,
        };
        let mut frame = false;
        let mut entered = self.entries(cell, &mut frame);
        if matches!(entered, AfterEntry::NoFrame)
            && let Some(process) = cell
        {
            let version = process.guest().map(|guest| guest.version.artifact.id);
            waiters.join(slot, &shared.frames.pool(version.unwrap_or_default()));
            // One may have become free before it was in the queue.
            entered = self.entries(cell, &mut frame);
            if !matches!(entered, AfterEntry::NoFrame) {
                waiters.leave(slot);
            } else if let Some(others) = called {
                // What it was called for may be of use to another version.
                waiters.pass_on(others);
            }
        } else if called.is_some() && !frame {
            // It did not want it any more.
            waiters.call();
        }
        entered
    }

    /// Enters the guest until its turn is over. Sets `frame` if it got a frame.
    fn entries(&self, cell: &mut Option<Box<GuestProcess>>, frame: &mut bool) -> AfterEntry {
        let shared = &self.0;
        let Some(process) = cell else {
            return AfterEntry::Stop(Turn::Rest);
        };
        // Used again while it rests in a frame: the pager keeps it there. This counts turns, not
        // entries: a process that handles two messages in one turn was used once.
        let in_frame = (process.guest()).is_some_and(|guest| guest.evictable_slot().is_some());
        // All entries of a turn share a slice.
        let until = process.reductions + u64::from(SLICE.cast_unsigned());
        for entry in 0..ENTRIES {
            let Some(process) = cell else {
                return AfterEntry::Stop(Turn::Rest);
            };
            if entry > 0 && process.reductions >= until {
                return AfterEntry::Continue;
            }
            if Executor::is_rolling_back(process) {
                match self.roll_back(process, true) {
                    AfterEntry::Continue => {}
                    stop => return stop,
                }
            }
            let due = shared.host.upgrade_due(process);
            let suspended = process.guest().is_some_and(|guest| guest.is_suspended());
            let still = process.suspended && stands_still(process);
            if suspended {
                let leaves = due && process.guest().and_then(|g| g.loops()) == Some(true);
                if still && !leaves {
                    return AfterEntry::Stop(Turn::Rest);
                }
                if !self.wait_is_over(process, due) {
                    return match process.guest() {
                        Some(guest) if guest.is_preempted() => AfterEntry::Continue,
                        _ => AfterEntry::Stop(Turn::Rest),
                    };
                }
            } else {
                if due && self.may_upgrade(process) {
                    match self.upgrade(process) {
                        Ok(()) => {}
                        Err(UpgradeError::NoFrame) => return AfterEntry::NoFrame,
                        Err(error) => {
                            return AfterEntry::Stop(Turn::Exit(upgrade_failed(
                                &error.to_string(),
                            )));
                        }
                    }
                }
                if still || process.position(receive::ANY, 0).is_none() {
                    return AfterEntry::Stop(Turn::Rest);
                }
                if entry == 0
                    && let Some(guest) = process.guest()
                {
                    guest.referenced = in_frame;
                }
            }
            let continues = process.guest().is_some_and(|guest| guest.is_waiting());
            let mut lease = match self.acquire_frame(process) {
                Ok(lease) => lease,
                Err(AcquireError::NoFrame) => return AfterEntry::NoFrame,
                Err(AcquireError::Broken(reason)) => return AfterEntry::Stop(Turn::Exit(reason)),
            };
            *frame = true;
            lease.frame.set_continues(continues);
            match self.enter(cell, lease, suspended) {
                AfterEntry::Continue => {}
                stop => return stop,
            }
        }
        AfterEntry::Continue
    }

    fn wait_is_over(&self, process: &mut GuestProcess, due: bool) -> bool {
        let Some(wait) = process.guest().and_then(|guest| guest.wait.take()) else {
            return true;
        };
        let now = if wait.deadline.is_some() {
            self.0.host.system.clock.now()
        } else {
            0
        };
        let over = wait.is_over(process, now, due);
        if let Some(guest) = process.guest() {
            guest.wait.set(wait);
        }
        over
    }

    fn enter(
        &self,
        cell: &mut Option<Box<GuestProcess>>,
        mut lease: FrameLease,
        suspended: bool,
    ) -> AfterEntry {
        let shared = &self.0;
        let Some(mut process) = cell.take() else {
            return AfterEntry::Stop(Turn::Rest);
        };
        if let Some(guest) = process.guest() {
            guest.has_run = true;
            if suspended {
                shared.frames.unpin(&lease);
            } else if let Some(probation) = &mut guest.probation {
                // The state before the message: it is restored if new code fails.
                if probation.state.is_none() && lease.frame.reusable {
                    probation.state = lease.frame.save(After::Keep).ok().map(RollbackTarget::New);
                }
                probation.transaction = Some(Transaction::default());
            }
        }
        let (lease, process, outcome) = match run(lease, process) {
            Entry::Ended(lease, process, outcome) => (lease, process, outcome),
            Entry::Away(ran) => return AfterEntry::Away(ran),
            Entry::Lost => {
                return AfterEntry::Stop(Turn::Exit(ExitReason::new(Reason::INTERNAL)));
            }
        };
        let process = cell.insert(process);
        match outcome {
            Outcome::Returned { result, taken } => self.returned(process, lease, result, taken),
            Outcome::Suspended => {
                if let Some(guest) = process.guest() {
                    guest.set_location(shared.frames.put_back(lease, true, false));
                }
                AfterEntry::Stop(self.suspended(process))
            }
            // An exit that a signal causes in the middle is not the release's fault.
            Outcome::Ended(reason) => {
                shared.frames.retire(lease);
                AfterEntry::Stop(Turn::Exit(reason))
            }
            Outcome::Exited(reason) => {
                shared.frames.retire(lease);
                self.commit(process);
                let reason = match reason.code() == Reason::NORMAL.0 && reason.bytes().is_empty() {
                    true => ended_well(process, "it called `exit` with 0 (NORMAL)"),
                    false => reason,
                };
                AfterEntry::Stop(Turn::Exit(self.blame(process, reason)))
            }
            Outcome::Panicked(reason) => {
                drop(lease);
                AfterEntry::Stop(Turn::Exit(reason))
            }
            Outcome::Trapped(reason) => {
                shared.frames.retire(lease);
                self.trapped(process, reason)
            }
        }
    }

    /// Commits the transaction of a handler that has ended without failure.
    fn commit(&self, process: &mut GuestProcess) {
        if let Some(transaction) = transaction::take(process) {
            let sends = transaction.commit(process, &self.0.host.system);
            process.reductions += u64::from(sends);
        }
    }

    fn returned(
        &self,
        process: &mut GuestProcess,
        lease: FrameLease,
        result: i32,
        taken: u32,
    ) -> AfterEntry {
        let shared = &self.0;
        process.has_handled();
        if let Some(guest) = process.guest() {
            guest.version.artifact.stack_policy.returned();
        }
        let waiting = match result {
            r if r == RunResult::Rest as i32 => false,
            r if r == RunResult::Waiting as i32 => true,
            r if r == RunResult::Done as i32 => {
                shared.frames.retire(lease);
                self.commit(process);
                // If it has refused its start, that is the reason.
                let reason = process
                    .drain_new_signals(&shared.host.system)
                    .unwrap_or_else(|| ended_well(process, "`run` returned 2 (DONE)"));
                return AfterEntry::Stop(Turn::Exit(reason));
            }
            r => {
                shared.frames.retire(lease);
                let text =
                    format!("`run` returned {r}: it must return 0 (REST), 1 (WAITING) or 2 (DONE)");
                let reason = ExitReason::with(Reason::CONTRACT.0, text.as_bytes());
                return self.trapped(process, reason);
            }
        };
        if let Some(guest) = process.guest() {
            guest.set_location(shared.frames.put_back(lease, false, waiting));
            if let Some(probation) = &mut guest.probation {
                // An entry without visible effects may be undone together with the next one.
                let unseen = probation
                    .transaction
                    .as_ref()
                    .is_some_and(|t| t.is_unseen());
                if !unseen {
                    probation.state = None;
                    probation.files = None;
                }
                if taken > 0 {
                    probation.left = probation.left.saturating_sub(1);
                }
            }
        }
        self.commit(process);
        if let Some(guest) = process.guest()
            && guest
                .probation
                .as_ref()
                .is_some_and(|probation| probation.left == 0)
        {
            guest.probation = None;
        }
        if process.is_starting() {
            process.acknowledge(&shared.host.system, 0, Payload::empty());
        }
        if let Some(reason) = process.drain_new_signals(&shared.host.system) {
            return AfterEntry::Stop(Turn::Exit(reason));
        }
        if taken == 0 && (waiting || !shared.host.upgrade_due(process)) {
            // It wants none of the messages that are there: it waits for another one.
            return AfterEntry::Stop(Turn::Rest);
        }
        AfterEntry::Continue
    }

    /// Ends the turn of a process whose guest has been suspended in its frame.
    fn suspended(&self, process: &mut GuestProcess) -> Turn {
        let shared = &self.0;
        let (mut preempted, mut to) = (false, None);
        if let Some(guest) = process.guest() {
            guest.version.artifact.stack_policy.waited();
            preempted = guest.is_preempted();
            to = guest.waits_for_capacity_of();
            // A wait for a congested receiver is brief: the frame is not pinned for it.
            if !preempted
                && to.is_none()
                && let Location::Frame { frame, .. } = guest.location
            {
                shared.frames.pin(frame);
            }
        }
        if preempted || to.is_some_and(|to| !process.wait_for_capacity(&shared.host.system, to)) {
            return Turn::Again;
        }
        if to.is_some() {
            return Turn::Rest;
        }
        let in_wasi = (process.guest()).is_some_and(|guest| guest.is_in_wasi());
        if process.is_starting() && !in_wasi {
            process.acknowledge(&shared.host.system, 0, Payload::empty());
        }
        Turn::Rest
    }
}

impl FinishTurn for ExecutorState {
    fn continue_after_block(self: Arc<Self>, mut process: Box<GuestProcess>) -> TurnResult {
        let executor = Executor(self);
        let system = executor.0.host.system.clone();
        let Some(slot) = system.table.slot(process.pid().slot()) else {
            return TurnResult::Idle;
        };
        let turn = catch_unwind(AssertUnwindSafe(|| executor.suspended(&mut process)));
        let turn = turn.unwrap_or_else(failed);
        executor.leave(slot, process, turn)
    }
}

/// Returns whether a process that is suspended by an operator takes no message now: it is not in
/// the middle of one.
#[cold]
fn stands_still(process: &mut GuestProcess) -> bool {
    process.guest().is_some_and(|guest| guest.stands_still())
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

/// Returns the exit reason of a process that ends because its work is done. If another process
/// waits for its start, the start fails, and the reason says why.
fn ended_well(process: &GuestProcess, how: &str) -> ExitReason {
    if !process.is_awaited() {
        return ExitReason::new(Reason::NORMAL);
    }
    let text = format!(
        "{how} before the start was acknowledged; to keep running, return 0 (REST); to finish at once, call `init_ack` with status 0 first"
    );
    ExitReason::with(Reason::NORMAL.0, text.as_bytes())
}

/// What happens with a turn after an entry.
pub(crate) enum AfterEntry {
    Continue,
    Stop(Turn),
    /// The process is at rest, and continues when there is a frame for it.
    NoFrame,
    /// Another thread has the process; this is the result of the turn here.
    Away(TurnResult),
}

/// How an entry has ended.
enum Entry {
    /// The process is back, in a frame that need not be the one it began in.
    Ended(FrameLease, Box<GuestProcess>, Outcome),
    /// Another thread has the process; this is the result of the turn here.
    Away(TurnResult),
    /// It was lost by a bug of the host.
    Lost,
}

/// Enters or resumes the guest in this frame.
fn run(mut lease: FrameLease, process: Box<GuestProcess>) -> Entry {
    if let Some(held) = lease.frame.take_blocked() {
        return Entry::Away(TurnResult::Elsewhere(held.resume(process, lease)));
    }
    let (mut lease, process) = match run_here(lease, process) {
        Ok(OnThread::Ended(lease, process, outcome)) => {
            return Entry::Ended(lease, process, outcome);
        }
        Ok(OnThread::Elsewhere) => return Entry::Away(TurnResult::Ended),
        Ok(OnThread::Lost) => return Entry::Lost,
        Err(fiber) => fiber,
    };
    match lease.frame.run(process) {
        Some((process, outcome)) => Entry::Ended(lease, process, outcome),
        None => Entry::Lost,
    }
}

/// How a turn has ended.
enum AfterTurn {
    Turn(Turn),
    /// Another thread has the process; this is the result of the turn here.
    Away(TurnResult),
}
