//! One entry of a guest: into `run` or back into the middle of it, and what follows from how that
//! ended.

use exuvia_abi::{Reason, RunResult};
use exuvia_image::After;
use exuvia_process::transaction::{self, Transaction};
use exuvia_process::{ExitReason, Payload, Turn};

use crate::executor::{Executor, Stop};
use crate::frames::enter;
use crate::frames::slots::FrameLease;
use crate::guest::{GuestProcess, Location, RollbackTarget, RunPhase};
use crate::instance::Outcome;
use crate::process::step::{AfterEntry, EntryResult, after_entry};
use crate::process::turn::Held;

impl Executor {
    /// Enters or resumes the guest in this frame. Returns `Ok` if the process may be entered again
    /// in the same turn. If the process stays in its frame, `held` has the lease afterwards.
    pub(super) fn enter(
        &self,
        held: &mut Held,
        mut lease: FrameLease,
        resumes: bool,
    ) -> Result<(), Stop> {
        let frames = &self.0.frames;
        let Some(mut process) = held.process.take() else {
            return Err(Stop::Turn(Turn::Rest));
        };
        if let Some(guest) = process.guest() {
            guest.has_run = true;
            if resumes {
                frames.unpin(&lease);
            } else if let Some(probation) = &mut guest.probation {
                // The state before the message: it is restored if new code fails.
                if probation.state.is_none() && lease.frame.reusable {
                    probation.state = lease.frame.save(After::Keep).ok().map(RollbackTarget::New);
                }
                probation.transaction = Some(Transaction::default());
            }
        }
        let ended = enter::run(lease, process).map_err(Stop::Away)?;
        // Otherwise a bug of the host has lost the process.
        let (lease, process, outcome) = ended.ok_or_else(|| Stop::exit(Reason::INTERNAL))?;
        let process = held.process.insert(process);
        match outcome {
            Outcome::Returned {
                result,
                taken,
                unseen,
            } => self.returned(held, lease, result, taken, unseen),
            Outcome::Suspended => {
                if let Some(guest) = process.guest() {
                    guest.set_location(frames.location(&lease, RunPhase::Suspended));
                    held.lease = Some(lease);
                }
                Err(Stop::Turn(self.suspended(process)))
            }
            // An exit that a signal causes in the middle is not the release's fault.
            Outcome::Ended(reason) => {
                frames.retire(lease);
                Err(Stop::Turn(Turn::Exit(reason)))
            }
            Outcome::Exited(reason) => {
                frames.retire(lease);
                self.commit(process);
                let reason = match reason.code() == Reason::NORMAL.0 && reason.bytes().is_empty() {
                    true => ended_well(process, "it called `exit` with 0 (NORMAL)"),
                    false => reason,
                };
                Err(Stop::Turn(Turn::Exit(self.blame(process, reason))))
            }
            Outcome::Panicked(reason) => {
                drop(lease);
                Err(Stop::Turn(Turn::Exit(reason)))
            }
            Outcome::Trapped(reason) => {
                frames.retire(lease);
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
        held: &mut Held,
        lease: FrameLease,
        result: i32,
        taken: u32,
        unseen: bool,
    ) -> Result<(), Stop> {
        let state = &self.0;
        let Some(process) = &mut held.process else {
            return Err(Stop::Turn(Turn::Rest));
        };
        process.has_handled();
        if let Some(guest) = process.guest() {
            guest.version.artifact.stack_policy.returned();
        }
        let phase = match result {
            r if r == RunResult::Rest as i32 => RunPhase::Rest,
            r if r == RunResult::Waiting as i32 => RunPhase::Waiting,
            r if r == RunResult::Done as i32 => {
                state.frames.retire(lease);
                self.commit(process);
                // If it has refused its start, that is the reason.
                let reason = process
                    .drain_new_signals(&state.host.system)
                    .unwrap_or_else(|| ended_well(process, "`run` returned 2 (DONE)"));
                return Err(Stop::Turn(Turn::Exit(reason)));
            }
            r => {
                state.frames.retire(lease);
                let text =
                    format!("`run` returned {r}: it must return 0 (REST), 1 (WAITING) or 2 (DONE)");
                let reason = ExitReason::with(Reason::CONTRACT.0, text.as_bytes());
                return self.trapped(process, reason);
            }
        };
        let on_probation = match process.guest() {
            Some(guest) => {
                guest.set_location(state.frames.location(&lease, phase));
                held.lease = Some(lease);
                guest.probation.is_some()
            }
            None => false,
        };
        if on_probation {
            self.one_more_on_probation(process, taken > 0);
        }
        if process.is_starting() {
            process.acknowledge(&state.host.system, 0, Payload::empty());
        }
        if let Some(reason) = process.drain_new_signals(&state.host.system) {
            return Err(Stop::Turn(Turn::Exit(reason)));
        }
        let result = EntryResult {
            waiting: phase == RunPhase::Waiting,
            has_taken: taken > 0,
            unseen,
        };
        match after_entry(result, || state.host.upgrade_due(process)) {
            AfterEntry::NextStep => Ok(()),
            AfterEntry::Rest => Err(Stop::Turn(Turn::Rest)),
        }
    }

    /// Commits an entry of a process whose new code is on probation, and ends that if this was the
    /// last one.
    #[cold]
    fn one_more_on_probation(&self, process: &mut GuestProcess, has_taken: bool) {
        if let Some(guest) = process.guest()
            && let Some(probation) = &mut guest.probation
        {
            // An entry without visible effects may be undone together with the next one.
            let unseen = probation
                .transaction
                .as_ref()
                .is_some_and(|t| t.is_unseen());
            if !unseen {
                probation.state = None;
            }
            if has_taken {
                probation.left = probation.left.saturating_sub(1);
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
    }

    /// Ends the turn of a process whose guest has been suspended in its frame.
    pub(super) fn suspended(&self, process: &mut GuestProcess) -> Turn {
        let state = &self.0;
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
                state.frames.pin(frame);
            }
        }
        if preempted || to.is_some_and(|to| !process.wait_for_capacity(&state.host.system, to)) {
            return Turn::Again;
        }
        if to.is_some() {
            return Turn::Rest;
        }
        let in_host = (process.guest()).is_some_and(|guest| guest.is_in_host());
        if process.is_starting() && !in_host {
            process.acknowledge(&state.host.system, 0, Payload::empty());
        }
        Turn::Rest
    }
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
