//! What a turn does next. This is decided here and nowhere else, from a few facts, with no effect;
//! `turn` executes it.

use exuvia_process::{Body, Clock, Selector};

use crate::guest::{Guest, GuestProcess, RunPhase};

/// The next step of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// New code has failed the process: revert it.
    RollBack,
    /// Bring it to the current release.
    Upgrade,
    /// Enter `run` for the next message.
    Enter,
    /// Resume the guest, which is suspended in the middle of `run`.
    Resume,
    /// It waits for a signal.
    Rest,
    /// It cannot continue in this turn, and no signal will wake it: it gets another turn.
    Again,
}

/// What the next step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(crate) position: Position,
    /// New code has failed it.
    pub(crate) failed: bool,
    /// The current release has another version of its module.
    pub(crate) upgrade_due: bool,
    /// It has run in this turn, and signals or controls have arrived that it has not processed: one
    /// may be an operator's, which concerns the upgrade.
    pub(crate) unprocessed: bool,
    /// An operator has suspended it, and it is not in the middle of a message.
    pub(crate) paused: bool,
    /// There is a message; if it is suspended: what it waits for has happened.
    pub(crate) ready: bool,
}

/// Where in its code a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// `run` has returned REST, or the process has not started.
    AtRest,
    /// `run` has returned WAITING.
    Waiting,
    /// In the middle of `run`.
    Suspended {
        /// It waits in a loop that takes UPGRADE.
        takes_upgrade: bool,
        /// Its slice was used up.
        preempted: bool,
    },
}

impl Situation {
    /// Returns the situation of a process.
    #[inline]
    pub(crate) fn of(
        process: &GuestProcess,
        upgrade_due: bool,
        has_run: bool,
        clock: &Clock,
    ) -> Situation {
        let Body::Guest(guest) = &process.body else {
            return Situation {
                position: Position::AtRest,
                failed: false,
                upgrade_due: false,
                unprocessed: false,
                paused: true,
                ready: false,
            };
        };
        let has_message = || process.position(&Selector::Any).is_some();
        let (position, ready) = match guest.phase() {
            RunPhase::Rest => (Position::AtRest, has_message()),
            RunPhase::Waiting => (Position::Waiting, has_message()),
            RunPhase::Suspended => {
                let position = Position::Suspended {
                    takes_upgrade: guest.loops() == Some(true),
                    preempted: guest.is_preempted(),
                };
                (position, wait_is_over(process, guest, upgrade_due, clock))
            }
        };
        Situation {
            position,
            failed: (guest.probation.as_ref()).is_some_and(|probation| probation.failed.is_some()),
            upgrade_due,
            unprocessed: upgrade_due && has_run && process.has_pending_signals(),
            paused: process.suspended && guest.stands_still(),
            ready,
        }
    }
}

fn wait_is_over(process: &GuestProcess, guest: &Guest, upgrade_due: bool, clock: &Clock) -> bool {
    guest.wait.get().is_none_or(|wait| {
        let now = if wait.deadline.is_some() {
            clock.now()
        } else {
            0
        };
        wait.is_over(process, now, upgrade_due)
    })
}

/// Decides the next step.
#[inline]
pub(crate) fn next_step(situation: Situation) -> Step {
    let Situation {
        position,
        failed,
        upgrade_due,
        unprocessed,
        paused,
        ready,
    } = situation;
    if failed {
        return Step::RollBack;
    }
    match position {
        Position::AtRest if upgrade_due && unprocessed => Step::Again,
        Position::AtRest if upgrade_due => Step::Upgrade,
        Position::AtRest | Position::Waiting if paused || !ready => Step::Rest,
        Position::AtRest | Position::Waiting => Step::Enter,
        Position::Suspended { takes_upgrade, .. } if paused && !(upgrade_due && takes_upgrade) => {
            Step::Rest
        }
        Position::Suspended { .. } if ready => Step::Resume,
        Position::Suspended {
            preempted: true, ..
        } => Step::Again,
        Position::Suspended { .. } => Step::Rest,
    }
}

/// An entry that has returned REST or WAITING, as far as what follows depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryResult {
    /// `run` returned WAITING.
    pub(crate) waiting: bool,
    /// The guest has taken a message.
    pub(crate) has_taken: bool,
    /// There may be messages that it has not seen.
    pub(crate) unseen: bool,
}

/// Whether the turn goes on after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterEntry {
    /// [`next_step`] decides.
    NextStep,
    /// The process rests, although there may be messages: it wants none of them, and waits for
    /// another one. What has arrived since this turn began causes another turn; what was taken over
    /// before does not, so it must not be unseen.
    Rest,
}

/// Decides whether the turn goes on after an entry. `upgrade_due` is asked only if the decision
/// depends on it: a process that must be upgraded does not rest before that, except in the middle of
/// what it waits for.
#[inline]
pub(crate) fn after_entry(result: EntryResult, upgrade_due: impl FnOnce() -> bool) -> AfterEntry {
    if result.has_taken || result.unseen || (!result.waiting && upgrade_due()) {
        AfterEntry::NextStep
    } else {
        AfterEntry::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_rests_after_an_entry_that_wanted_none_of_the_messages() {
        let vain = EntryResult {
            waiting: false,
            has_taken: false,
            unseen: false,
        };
        let waiting = EntryResult {
            waiting: true,
            ..vain
        };
        assert_eq!(after_entry(vain, || false), AfterEntry::Rest);
        assert_eq!(after_entry(waiting, || false), AfterEntry::Rest);
        // New code may want them, but a process that waits in the middle is not upgraded.
        assert_eq!(after_entry(vain, || true), AfterEntry::NextStep);
        assert_eq!(after_entry(waiting, || true), AfterEntry::Rest);
        for result in [vain, waiting] {
            let took = EntryResult {
                has_taken: true,
                ..result
            };
            let unseen = EntryResult {
                unseen: true,
                ..result
            };
            for result in [took, unseen] {
                let after = after_entry(result, || panic!("it does not matter"));
                assert_eq!(after, AfterEntry::NextStep);
            }
        }
    }

    const LOOP: Position = Position::Suspended {
        takes_upgrade: true,
        preempted: false,
    };
    const CALL: Position = Position::Suspended {
        takes_upgrade: false,
        preempted: false,
    };

    fn at(position: Position) -> Situation {
        Situation {
            position,
            failed: false,
            upgrade_due: false,
            unprocessed: false,
            paused: false,
            ready: true,
        }
    }

    #[test]
    fn a_process_runs_if_there_is_something_for_it() {
        for (position, step) in [
            (Position::AtRest, Step::Enter),
            (Position::Waiting, Step::Enter),
            (CALL, Step::Resume),
        ] {
            assert_eq!(next_step(at(position)), step);
            let idle = Situation {
                ready: false,
                ..at(position)
            };
            assert_eq!(next_step(idle), Step::Rest);
        }
    }

    #[test]
    fn only_a_process_at_rest_is_upgraded_and_before_its_next_message() {
        let due = |position| Situation {
            upgrade_due: true,
            ..at(position)
        };
        assert_eq!(next_step(due(Position::AtRest)), Step::Upgrade);
        assert_eq!(next_step(due(Position::Waiting)), Step::Enter);
        assert_eq!(next_step(due(CALL)), Step::Resume);
        let paused = Situation {
            paused: true,
            ready: false,
            ..due(Position::AtRest)
        };
        assert_eq!(next_step(paused), Step::Upgrade);
        let unprocessed = Situation {
            unprocessed: true,
            ..due(Position::AtRest)
        };
        assert_eq!(next_step(unprocessed), Step::Again);
    }

    #[test]
    fn a_process_that_an_operator_suspended_takes_no_message_but_leaves_its_loop_for_new_code() {
        for position in [Position::AtRest, Position::Waiting, LOOP] {
            let paused = Situation {
                paused: true,
                ..at(position)
            };
            assert_eq!(next_step(paused), Step::Rest);
        }
        let leaves = Situation {
            paused: true,
            upgrade_due: true,
            ..at(LOOP)
        };
        assert_eq!(next_step(leaves), Step::Resume);
    }

    #[test]
    fn a_process_that_new_code_failed_is_reverted_before_anything_else() {
        for position in [Position::AtRest, Position::Waiting, CALL] {
            let failed = Situation {
                failed: true,
                upgrade_due: true,
                ..at(position)
            };
            assert_eq!(next_step(failed), Step::RollBack);
        }
    }

    #[test]
    fn a_preempted_process_that_cannot_continue_gets_another_turn() {
        let position = Position::Suspended {
            takes_upgrade: false,
            preempted: true,
        };
        let waits = Situation {
            ready: false,
            ..at(position)
        };
        assert_eq!(next_step(waits), Step::Again);
    }
}
