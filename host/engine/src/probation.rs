//! Probation: the first messages of a process after a crossing, each handled
//! as a transaction that old code takes over if new code fails.
//!
//! What a handler does to the system meanwhile is deferred, or undone (see
//! `transaction`). A call that waits, or that cannot be taken back, ends the
//! transaction early.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_code::{Path, Release, Tenancy, Verdict};
use exuvia_process::{ExitReason, Turn};

use crate::artifact::Artifact;
use crate::crossing;
use crate::error::CrossError;
use crate::executor::Executor;
use crate::guest::{Guest, GuestOwn, Residence};
use crate::image::Image;
use crate::transaction::{Transaction, take_transaction};
use crate::turn::Entered;
use crate::upgrade::{Origin, upgrade_failed};
use crate::wasi::Wasi;

/// Probation after a crossing: what is needed to go back.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Messages that are still transactions.
    pub(crate) left: u32,
    /// The release that the crossing was for.
    pub(crate) release: u64,
    /// The version before.
    pub(crate) before: Tenancy<Artifact>,
    /// Where it goes back to if the next message fails.
    pub(crate) state: Option<State>,
    /// Set by a crossing that has made its memory anew: what it had of the system before,
    /// since the numbers of its files are in the old one's. It goes with [`State::Old`].
    pub(crate) files: Option<OldFiles>,
    pub(crate) transaction: Option<Transaction>,
    /// Why new code has failed it, once it has: it is to go back.
    pub(crate) failed: Option<ExitReason>,
}

/// What a process had of the system in a memory that may come back, if anything.
#[derive(Debug)]
pub(crate) struct OldFiles(pub(crate) Option<Box<Wasi>>);

impl OldFiles {
    /// The old memory is back: these are its files, and none that were opened since.
    pub(crate) fn come_back(self, guest: &mut Guest) {
        guest.take_wasi();
        if let Some(wasi) = self.0 {
            guest.put_wasi(wasi);
        }
    }
}

/// The state a process in probation goes back to.
#[derive(Debug)]
pub(crate) enum State {
    /// Of the old version, before the crossing: exact.
    Old(Image),
    /// Of the new version, before the message: crosses back.
    New(Image),
}

impl Executor {
    pub(crate) fn take_back(&self, own: &mut GuestOwn) {
        if let Some(transaction) = take_transaction(own) {
            transaction.abandon(own, &self.0.system);
        }
    }

    /// A failure during a release's trial is the release's.
    pub(crate) fn blame(&self, own: &mut GuestOwn, reason: ExitReason) -> ExitReason {
        let Some(trial) = own.guest().and_then(|guest| guest.trial.as_ref()) else {
            return reason;
        };
        if reason.is_orderly() {
            return reason;
        }
        let release = trial.release;
        self.count_failure(release, &reason);
        reason.caused_by_release()
    }

    pub(crate) fn count_failure(&self, release: u64, reason: &ExitReason) {
        if let Verdict::WentBack(now) = self.0.code.failed(release) {
            self.0
                .observer
                .went_back(release, &now, &reason.to_string());
        }
    }

    /// The guest trapped, or did what counts as that: in a transaction the process
    /// goes back to old code and old code gets the message; else it ends.
    pub(crate) fn trapped(&self, own: &mut GuestOwn, reason: ExitReason) -> Entered {
        let Some(transaction) = take_transaction(own) else {
            return Entered::Stop(Turn::Exit(self.blame(own, reason)));
        };
        transaction.abandon(own, &self.0.system);
        if let Some(guest) = own.guest()
            && let Some(trial) = &mut guest.trial
        {
            match trial.state.take() {
                Some(State::New(image)) => guest.residence = Residence::at_rest(image),
                old => trial.state = old,
            }
            trial.failed = Some(reason);
        }
        let entered = self.go_back(own, false);
        if matches!(entered, Entered::NoFrame)
            && let Some(trial) = own.guest().and_then(|guest| guest.trial.as_ref())
            && let Some(reason) = &trial.failed
        {
            // The release is judged now, however long the process waits.
            let (release, reason) = (trial.release, reason.clone());
            self.count_failure(release, &reason);
        }
        entered
    }

    /// Whether new code has failed the process, which is to go back before it does
    /// anything else.
    pub(crate) fn is_going_back(own: &mut GuestOwn) -> bool {
        let trial = own.guest().and_then(|guest| guest.trial.as_ref());
        trial.is_some_and(|trial| trial.failed.is_some())
    }

    /// Brings the process back to old code. If there is no frame for it now, it is at
    /// rest with new code's state, and this is done again. `counted`: the release was
    /// told of the failure.
    pub(crate) fn go_back(&self, own: &mut GuestOwn, counted: bool) -> Entered {
        let shared = &self.0;
        let grants = own.limits().grants.clone();
        let Some(guest) = own.guest() else {
            return Entered::Stop(Turn::Exit(ExitReason::new(Reason::INTERNAL)));
        };
        let Some(mut trial) = guest.trial.take() else {
            return Entered::GoOn;
        };
        let reason = trial.failed.take();
        let reason = reason.unwrap_or_else(|| ExitReason::new(Reason::INTERNAL));
        let state = match trial.state.take() {
            Some(State::Old(image)) => Ok((image, false)),
            _ => match std::mem::replace(&mut guest.residence, Residence::Running) {
                Residence::Image { image, .. } => {
                    let (new, old) = (guest.tenancy.version().clone(), trial.before.version());
                    match crossing::cross(shared, &new, old, (&image, &grants), None) {
                        Err(CrossError::NoFrame) => {
                            guest.residence = Residence::at_rest(image);
                            trial.failed = Some(reason);
                            guest.trial = Some(trial);
                            return Entered::NoFrame;
                        }
                        Err(error) => Err(error.to_string()),
                        Ok(crossed) => {
                            let anew = crossed.path == Path::Migrated;
                            let image = crossed.state.into_image(shared);
                            image.map(|image| (image, anew))
                        }
                    }
                }
                _ => Err("its state before the message is not known".into()),
            },
        };
        match state {
            Ok((image, anew)) => {
                let release = trial.release;
                self.is_back(own, *trial, &reason, (image, anew));
                if !counted {
                    self.count_failure(release, &reason);
                }
                Entered::GoOn
            }
            Err(why) => {
                if !counted {
                    self.count_failure(trial.release, &reason);
                }
                let text = format!("new code failed ({reason}), and the way back is closed: {why}");
                let reason = upgrade_failed(&text).caused_by_release();
                Entered::Stop(Turn::Exit(reason))
            }
        }
    }

    /// The process lives in old code again, with this state; whether its memory was
    /// made anew.
    fn is_back(
        &self,
        own: &mut GuestOwn,
        trial: Trial,
        reason: &ExitReason,
        (image, anew): (Image, bool),
    ) {
        let shared = &self.0;
        let pid = own.pid();
        let Some(guest) = own.guest() else { return };
        // It leaves new code when that is told, not before: when nobody is left there,
        // all are told of.
        let left = std::mem::replace(&mut guest.tenancy, trial.before.enter());
        if anew {
            guest.take_wasi();
        } else if let Some(files) = trial.files {
            files.come_back(guest);
        }
        guest.residence = Residence::at_rest(image);
        guest.release = trial.release;
        guest.set_reverted(trial.release, &reason.to_string());
        guest.wait.take();
        (shared.observer).returned(pid, left.version(), trial.release, reason);
        let release = shared.code.current();
        if release.id == trial.release {
            release.progress.returned.fetch_add(1, Ordering::Relaxed);
            guest.tenancy.stay(release.id);
        }
        drop(left);
    }

    /// Probation for a crossing, unless it is a way back itself. A frame that
    /// cannot be read as an image is no way back.
    pub(crate) fn trial(
        &self,
        release: &Release<Artifact>,
        before: Tenancy<Artifact>,
        origin: Origin,
    ) -> Option<Box<Trial>> {
        let state = match origin {
            Origin::Image(image) => Some(State::Old(image)),
            Origin::Frame(_) => None,
        };
        (self.0.probation > 0 && release.origin == release.id).then(|| {
            Box::new(Trial {
                left: self.0.probation,
                release: release.id,
                before,
                state,
                files: None,
                transaction: None,
                failed: None,
            })
        })
    }
}
