//! A turn of one process, from the signals that have arrived to the next rest.
//! The scheduler calls it and knows no more than a number.
//!
//! A turn goes: take over signals; cross if new code is due and the process is at
//! rest; get into a frame; enter `run` or resume it; act on how that ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use exuvia_abi::{Reason, RunResult, receive};
use exuvia_process::{Body, ExitReason, Payload, Slot, Then, Turn, turn};

use crate::aside::WayBack;
use crate::body::Outcome;
use crate::calls::wasi::tell;
use crate::error::CrossError;
use crate::executor::Executor;
use crate::frame::{OnThread, panic_text, run_here};
use crate::frames::Turnstile;
use crate::guest::{Guest, GuestOwn, Residence};
use crate::image::After;
use crate::instrument::SLICE;
use crate::places::Seated;
use crate::probation::State;
use crate::seat::NotSeated;
use crate::transaction::{Transaction, take_transaction};
use crate::upgrade::upgrade_failed;

/// Entries of one turn at most, so that a process that returns after each
/// message gets as much done as one that loops, and no more.
const ENTRIES: u32 = 16;

/// What became of a process in its turn.
#[derive(Debug)]
pub enum Ran {
    /// It waits, or it is no more.
    Idle,
    /// It has more to do: its state is QUEUED, and the caller puts it into a queue.
    Again,
    /// Its turn goes on on another thread, which needs a scheduler: the way back
    /// leads there.
    Elsewhere(Arc<dyn WayBack>),
    /// Its turn has ended elsewhere: this thread has stepped aside in it, and is
    /// no scheduler's any more.
    Ended,
}

impl Executor {
    /// Gives the process of a slot one turn.
    pub fn run(&self, index: u32) -> Ran {
        let system = &self.0.system;
        let Some(slot) = system.table.slot(index) else {
            return Ran::Idle;
        };
        if !slot.state.begin() {
            return Ran::Idle;
        }
        let mut cell = slot.take_own();
        if let Some(own) = cell.take_if(|own| own.is_ending()) {
            return more(system.bury_on(own));
        }
        let pid = cell.as_ref().map(|own| own.pid());
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&mut cell)));
        let turn = match turn {
            Ok(Went::Turn(turn)) => turn,
            Ok(Went::Away(ran)) => return ran,
            Err(panic) => failed(panic),
        };
        let Some(own) = cell else {
            // The process was lost in a panic: its slot must not stay taken.
            tracing::error!(?pid, "a process was lost; this is a bug of the host");
            if let Some(pid) = pid {
                system.abandon(pid);
            }
            return Ran::Idle;
        };
        self.leave(slot, own, turn)
    }

    /// A guest waits on the stack of the thread that ran it. This is what is
    /// left to do of its turn, on the thread that goes on as the scheduler.
    pub(crate) fn stepped_aside(&self, mut own: Box<GuestOwn>, seated: Seated) -> Ran {
        let Some(slot) = self.0.system.table.slot(own.pid().slot()) else {
            return Ran::Idle;
        };
        let turn = catch_unwind(AssertUnwindSafe(|| self.suspended(&mut own, seated)));
        let turn = turn.unwrap_or_else(failed);
        self.leave(slot, own, turn)
    }

    /// The end of a turn.
    fn leave(&self, slot: &Slot<Guest>, mut own: Box<GuestOwn>, turn: Turn) -> Ran {
        let system = &self.0.system;
        let turn = match turn {
            // It has not looked at all that has arrived.
            Turn::Rest if own.has_more() => Turn::Again,
            turn => turn,
        };
        let then = match turn {
            Turn::Rest => {
                let place = own.guest().and_then(|guest| guest.place_at_rest());
                own.publish_stats(system);
                slot.put_own(own);
                let then = slot.state.end();
                if then == Then::Nothing
                    && let Some(place) = place
                {
                    self.0.frames.rest(place);
                }
                then
            }
            Turn::Again => {
                own.publish_stats(system);
                slot.put_own(own);
                slot.state.again()
            }
            Turn::Exit(reason) => self.end(own, &reason),
        };
        more(then)
    }

    fn turn(&self, cell: &mut Option<Box<GuestOwn>>) -> Went {
        match cell {
            None => Went::Turn(Turn::Rest),
            Some(own) => match own.body {
                Body::Native(_) => Went::Turn(turn(own, &self.0.system)),
                Body::Guest(_) => match self.guest_turn(cell) {
                    Entered::Stop(turn) => Went::Turn(turn),
                    Entered::GoOn => Went::Turn(Turn::Again),
                    Entered::NoFrame => Went::Turn(Turn::Rest),
                    Entered::Away(ran) => Went::Away(ran),
                },
            },
        }
    }

    /// The end of a process: its frame goes back, everybody is told. What
    /// panics in it does not keep the rest from being done.
    fn end(&self, mut own: Box<GuestOwn>, reason: &ExitReason) -> Then {
        let shared = &self.0;
        let pid = own.pid();
        let guarded = |what: &str, act: &mut dyn FnMut()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(act)) {
                let text = panic_text(&*panic);
                tracing::error!(%pid, "the host failed to {what} of a process that ends: {text}");
            }
        };
        guarded("take back the effects", &mut || self.take_back(&mut own));
        self.0.frames.waiters.leave(pid.slot());
        guarded("take the frame", &mut || self.take_frame(&mut own));
        guarded("close the files", &mut || {
            if let Some(wasi) = own.guest().and_then(|guest| guest.take_wasi()) {
                tell(shared, &mut own, wasi.printed.take(true));
            }
        });
        // Who is done before its start is acknowledged has failed to start.
        let failed = if reason.is_normal() {
            own.is_awaited()
        } else {
            !reason.is_orderly()
        };
        if failed && let Body::Guest(guest) = &own.body {
            let version = guest.tenancy.version();
            guarded("tell of the failure", &mut || {
                shared.observer.failed(pid, version, reason, own.handled());
            });
        }
        if own.traced {
            shared.tracers.ended(pid);
        }
        shared.system.bury(own, reason)
    }

    fn take_frame(&self, own: &mut GuestOwn) {
        let shared = &self.0;
        let pid = own.pid();
        let Some(guest) = own.guest() else { return };
        if let Some(timer) = guest.wait.take().and_then(|wait| wait.timer) {
            shared.system.timers.cancel(pid, timer);
        }
        if let Residence::Frame {
            mut frame,
            suspended,
            ..
        } = std::mem::replace(&mut guest.residence, Residence::Running)
        {
            if suspended {
                frame.frame.cancel();
            }
            shared.frames.retire(frame);
        }
    }

    /// `GoOn`: it has more to do.
    fn guest_turn(&self, cell: &mut Option<Box<GuestOwn>>) -> Entered {
        let shared = &self.0;
        let Some(own) = cell else {
            return Entered::Stop(Turn::Rest);
        };
        let slot = own.pid().slot();
        if let Some(reason) = own.drain(&shared.system) {
            return Entered::Stop(Turn::Exit(reason));
        }
        let waiters = &shared.frames.waiters;
        let has_frame = own.guest().is_some_and(|guest| guest.has_frame());
        let called = match has_frame {
            true => Turnstile::Free,
            false => waiters.may_try(slot, shared),
        };
        let called = match called {
            // What has arrived does not get it a frame sooner.
            Turnstile::Waits => return Entered::Stop(Turn::Rest),
            Turnstile::Called => true,
            Turnstile::Free => false,
        };
        let mut frame = false;
        let mut entered = self.entries(cell, &mut frame);
        if matches!(entered, Entered::NoFrame) {
            waiters.join(slot, shared);
            // One may have become free before it was in the queue.
            entered = self.entries(cell, &mut frame);
            if !matches!(entered, Entered::NoFrame) {
                waiters.leave(slot);
            }
        } else if called && !frame {
            // It did not want it any more.
            waiters.call_next();
        }
        entered
    }

    /// Enters the guest until its turn is over. `frame`: whether it had one.
    fn entries(&self, cell: &mut Option<Box<GuestOwn>>, frame: &mut bool) -> Entered {
        let shared = &self.0;
        let Some(own) = cell else {
            return Entered::Stop(Turn::Rest);
        };
        // Asked again while it rests in a frame: the pager lets it stay. By turns,
        // not entries: one that handles two messages in one was asked once.
        let in_frame = (own.guest()).is_some_and(|guest| guest.place_at_rest().is_some());
        // All entries of a turn share a slice.
        let until = own.reductions + u64::from(SLICE.cast_unsigned());
        for entry in 0..ENTRIES {
            let Some(own) = cell else {
                return Entered::Stop(Turn::Rest);
            };
            if entry > 0 && own.reductions >= until {
                return Entered::GoOn;
            }
            if Executor::is_going_back(own) {
                match self.go_back(own, true) {
                    Entered::GoOn => {}
                    stop => return stop,
                }
            }
            let due = shared.crossing_due(own);
            let suspended = own.guest().is_some_and(|guest| guest.is_suspended());
            let still = own.suspended && stands_still(own);
            if suspended {
                let leaves = due && own.guest().and_then(|g| g.loops()) == Some(true);
                if still && !leaves {
                    return Entered::Stop(Turn::Rest);
                }
                if !self.wait_is_over(own, due) {
                    return match own.guest() {
                        Some(guest) if guest.is_preempted() => Entered::GoOn,
                        _ => Entered::Stop(Turn::Rest),
                    };
                }
            } else {
                if due && self.may_cross(own) {
                    match self.cross(own) {
                        Ok(()) => {}
                        Err(CrossError::NoFrame) => return Entered::NoFrame,
                        Err(error) => {
                            return Entered::Stop(Turn::Exit(upgrade_failed(&error.to_string())));
                        }
                    }
                }
                if still || own.position(receive::ANY, 0).is_none() {
                    return Entered::Stop(Turn::Rest);
                }
                if entry == 0
                    && let Some(guest) = own.guest()
                {
                    guest.touched = in_frame;
                }
            }
            let continues = own.guest().is_some_and(|guest| guest.is_waiting());
            let mut seated = match self.seat(own) {
                Ok(seated) => seated,
                Err(NotSeated::Later) => return Entered::NoFrame,
                Err(NotSeated::Broken(reason)) => return Entered::Stop(Turn::Exit(reason)),
            };
            *frame = true;
            seated.frame.goes_on(continues);
            match self.enter(cell, seated, suspended) {
                Entered::GoOn => {}
                stop => return stop,
            }
        }
        Entered::GoOn
    }

    fn wait_is_over(&self, own: &mut GuestOwn, due: bool) -> bool {
        let Some(wait) = own.guest().and_then(|guest| guest.wait.take()) else {
            return true;
        };
        let now = if wait.deadline.is_some() {
            self.0.system.clock.now()
        } else {
            0
        };
        let over = wait.is_over(own, now, due);
        if let Some(guest) = own.guest() {
            guest.wait.set(wait);
        }
        over
    }

    fn enter(
        &self,
        cell: &mut Option<Box<GuestOwn>>,
        mut seated: Seated,
        suspended: bool,
    ) -> Entered {
        let shared = &self.0;
        let Some(mut own) = cell.take() else {
            return Entered::Stop(Turn::Rest);
        };
        if let Some(guest) = own.guest() {
            guest.has_run = true;
            if suspended {
                seated.let_go();
            } else if let Some(trial) = &mut guest.trial {
                // The state before the message: where the process goes back
                // to if new code fails it.
                if trial.state.is_none() && seated.frame.reusable {
                    trial.state = seated.frame.save(After::Keep).ok().map(State::New);
                }
                trial.transaction = Some(Transaction::default());
            }
        }
        let (seated, own, outcome) = match run(seated, own) {
            Entry::Ended(seated, own, outcome) => (seated, own, outcome),
            Entry::Away(ran) => return Entered::Away(ran),
            Entry::Lost => {
                return Entered::Stop(Turn::Exit(ExitReason::new(Reason::INTERNAL)));
            }
        };
        let own = cell.insert(own);
        match outcome {
            Outcome::Returned { result, taken } => self.returned(own, seated, result, taken),
            Outcome::Suspended => Entered::Stop(self.suspended(own, seated)),
            // What a signal ends in the middle is not the release's fault.
            Outcome::Ended(reason) => {
                shared.frames.retire(seated);
                Entered::Stop(Turn::Exit(reason))
            }
            Outcome::Exited(reason) => {
                shared.frames.retire(seated);
                self.release(own);
                let reason = match reason.code() == Reason::NORMAL.0 && reason.bytes().is_empty() {
                    true => ended_well(own, "it called `exit` with 0 (NORMAL)"),
                    false => reason,
                };
                Entered::Stop(Turn::Exit(self.blame(own, reason)))
            }
            Outcome::Panicked(reason) => {
                drop(seated);
                Entered::Stop(Turn::Exit(reason))
            }
            Outcome::Trapped(reason) => {
                shared.frames.retire(seated);
                self.trapped(own, reason)
            }
        }
    }

    /// The handler has ended well: what it did on probation happens.
    fn release(&self, own: &mut GuestOwn) {
        if let Some(transaction) = take_transaction(own) {
            let sends = transaction.release(own, &self.0.system);
            own.reductions += u64::from(sends);
        }
    }

    fn returned(&self, own: &mut GuestOwn, seated: Seated, result: i32, taken: u32) -> Entered {
        let shared = &self.0;
        own.has_handled();
        if let Some(guest) = own.guest() {
            guest.tenancy.artifact.manner.returned();
        }
        let waiting = match result {
            r if r == RunResult::Rest as i32 => false,
            r if r == RunResult::Waiting as i32 => true,
            r if r == RunResult::Done as i32 => {
                shared.frames.retire(seated);
                self.release(own);
                // A start that it has refused says why it ends.
                let reason = own
                    .drain(&shared.system)
                    .unwrap_or_else(|| ended_well(own, "`run` answered 2 (DONE)"));
                return Entered::Stop(Turn::Exit(reason));
            }
            r => {
                shared.frames.retire(seated);
                let text =
                    format!("`run` answered {r}: it must answer 0 (REST), 1 (WAITING) or 2 (DONE)");
                let reason = ExitReason::with(Reason::CONTRACT.0, text.as_bytes());
                return self.trapped(own, reason);
            }
        };
        if let Some(guest) = own.guest() {
            guest.residence = Residence::Frame {
                frame: seated,
                suspended: false,
                waiting,
            };
            if let Some(trial) = &mut guest.trial {
                // An entry that nobody has seen may be undone with the next one.
                let unseen = trial.transaction.as_ref().is_some_and(|t| t.is_unseen());
                if !unseen {
                    trial.state = None;
                    trial.files = None;
                }
                if taken > 0 {
                    trial.left = trial.left.saturating_sub(1);
                }
            }
        }
        self.release(own);
        if let Some(guest) = own.guest()
            && guest.trial.as_ref().is_some_and(|trial| trial.left == 0)
        {
            guest.trial = None;
        }
        if own.is_starting() {
            own.acknowledge(&shared.system, 0, Payload::empty());
        }
        if let Some(reason) = own.drain_news(&shared.system) {
            return Entered::Stop(Turn::Exit(reason));
        }
        if taken == 0 && (waiting || !shared.crossing_due(own)) {
            // It wants none of what is there: it waits for something else.
            return Entered::Stop(Turn::Rest);
        }
        Entered::GoOn
    }

    fn suspended(&self, own: &mut GuestOwn, mut seated: Seated) -> Turn {
        let shared = &self.0;
        let (mut preempted, mut to) = (false, None);
        if let Some(guest) = own.guest() {
            guest.tenancy.artifact.manner.waited();
            preempted = guest.is_preempted();
            to = guest.wants_room();
            // Who waits for room does so for moments.
            if !preempted && to.is_none() {
                seated.hold();
            }
            guest.residence = Residence::Frame {
                frame: seated,
                suspended: true,
                waiting: false,
            };
        }
        if preempted || to.is_some_and(|to| !own.wait_for_room(&shared.system, to)) {
            return Turn::Again;
        }
        if to.is_some() {
            return Turn::Rest;
        }
        let in_wasi = (own.guest()).is_some_and(|guest| guest.is_in_wasi());
        if own.is_starting() && !in_wasi {
            own.acknowledge(&shared.system, 0, Payload::empty());
        }
        Turn::Rest
    }
}

/// Whether a process that is suspended by an operator takes no message now: it is not
/// in the middle of one.
#[cold]
fn stands_still(own: &mut GuestOwn) -> bool {
    own.guest().is_some_and(|guest| guest.stands_still())
}

/// What a transition of the run state asks the scheduler for.
fn more(then: Then) -> Ran {
    match then {
        Then::Schedule => Ran::Again,
        Then::Nothing => Ran::Idle,
    }
}

/// The end of a turn in which the host has panicked.
fn failed(panic: Box<dyn std::any::Any + Send>) -> Turn {
    let text = format!("the host failed: {}", panic_text(&*panic));
    Turn::Exit(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
}

/// The reason of a process that ends because its work is done. If somebody
/// waits for its start, that fails, and without a word nobody would see why.
fn ended_well(own: &GuestOwn, how: &str) -> ExitReason {
    if !own.is_awaited() {
        return ExitReason::new(Reason::NORMAL);
    }
    let text = format!(
        "{how} before the start was acknowledged; to stay, answer 0 (REST), and to do all the work at once, call `init_ack` with status 0 first"
    );
    ExitReason::with(Reason::NORMAL.0, text.as_bytes())
}

/// What becomes of a turn after an entry.
pub(crate) enum Entered {
    GoOn,
    Stop(Turn),
    /// It is at rest, and goes on when there is a frame for it.
    NoFrame,
    /// Somebody else has the process; this is what there is to say.
    Away(Ran),
}

/// How an entry has ended.
enum Entry {
    /// The process is back, in a seat that need not be the one it began in.
    Ended(Seated, Box<GuestOwn>, Outcome),
    /// Somebody else has the process; this is what there is to say.
    Away(Ran),
    /// A bug of the host has lost it.
    Lost,
}

/// Enters or resumes the guest that sits there.
fn run(mut seated: Seated, own: Box<GuestOwn>) -> Entry {
    if let Some(held) = seated.frame.take_aside() {
        return Entry::Away(Ran::Elsewhere(held.resume(own, seated)));
    }
    let (mut seated, own) = match run_here(seated, own) {
        Ok(OnThread::Ended(seated, own, outcome)) => return Entry::Ended(seated, own, outcome),
        Ok(OnThread::Elsewhere) => return Entry::Away(Ran::Ended),
        Ok(OnThread::Lost) => return Entry::Lost,
        Err(fiber) => fiber,
    };
    match seated.frame.run(own) {
        Some((own, outcome)) => Entry::Ended(seated, own, outcome),
        None => Entry::Lost,
    }
}

/// How a turn has ended.
enum Went {
    Turn(Turn),
    /// Somebody else has the process; this is what there is to say.
    Away(Ran),
}
