//! Rolling back: the first messages of a process after an upgrade are handled as transactions (its
//! probation); if new code fails in one, the process is reverted and old code handles the message.
//!
//! What a handler does to the system in a transaction is deferred, or undone on an abort (see
//! `exuvia_process::transaction`). A call that waits, or that cannot be undone, commits the
//! transaction early.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_code::{Release, UpgradePath, Verdict, VersionRef};
use exuvia_image::Image;
use exuvia_process::resource::Detached;
use exuvia_process::{ExitReason, Turn, transaction};

use crate::error::UpgradeError;
use crate::executor::{Executor, Stop};
use crate::guest::{Former, GuestProcess, Location, Probation, RollbackTarget};
use crate::module::info::Artifact;
use crate::upgrade::migrate;
use crate::upgrade::{memory_after, upgrade_failed};

impl Executor {
    pub(crate) fn abort_transaction(&self, process: &mut GuestProcess) {
        if let Some(transaction) = transaction::take(process) {
            transaction.abort(process, &self.0.host.system);
        }
    }

    /// Counts an abnormal exit during probation against the release. Returns the exit reason,
    /// marked as caused by the release if it is.
    pub(crate) fn blame(&self, process: &mut GuestProcess, reason: ExitReason) -> ExitReason {
        let Some(probation) = process.guest().and_then(|guest| guest.probation.as_ref()) else {
            return reason;
        };
        if reason.is_orderly() {
            return reason;
        }
        let release = probation.release;
        self.count_failure(release, &reason);
        reason.caused_by_release()
    }

    pub(crate) fn count_failure(&self, release: u64, reason: &ExitReason) {
        if let Verdict::RolledBack(now) = self.0.host.code.failed(release) {
            self.0
                .host
                .observer
                .rolled_back(release, &now, &reason.to_string());
        }
    }

    /// Handles a trap of the guest, or what counts as one. In a transaction the process is reverted
    /// and old code gets the message; otherwise the process exits.
    pub(crate) fn trapped(
        &self,
        process: &mut GuestProcess,
        reason: ExitReason,
    ) -> Result<(), Stop> {
        let Some(transaction) = transaction::take(process) else {
            return Err(Stop::Turn(Turn::Exit(self.blame(process, reason))));
        };
        transaction.abort(process, &self.0.host.system);
        if let Some(guest) = process.guest()
            && let Some(probation) = &mut guest.probation
        {
            probation.failed = Some(reason);
            match probation.state.take() {
                Some(RollbackTarget::New(image)) => {
                    guest.set_location(Location::image_at_rest(image));
                }
                old => probation.state = old,
            }
        }
        let reverted = self.roll_back(process, false);
        if matches!(reverted, Err(Stop::NoFrame))
            && let Some(probation) = process.guest().and_then(|guest| guest.probation.as_ref())
            && let Some(reason) = &probation.failed
        {
            // The failure counts now, however long the process waits.
            let (release, reason) = (probation.release, reason.clone());
            self.count_failure(release, &reason);
        }
        reverted
    }

    /// Reverts the process to old code. If no frame is free, the process rests with new code's
    /// state, and this is repeated later. `counted`: the failure was already counted for the
    /// release.
    pub(crate) fn roll_back(&self, process: &mut GuestProcess, counted: bool) -> Result<(), Stop> {
        let state = &self.0;
        let grants = process.limits().grants.clone();
        let Some(guest) = process.guest() else {
            return Err(Stop::exit(Reason::INTERNAL));
        };
        let Some(mut probation) = guest.probation.take() else {
            return Ok(());
        };
        let reason = probation.failed.take();
        let reason = reason.unwrap_or_else(|| ExitReason::new(Reason::INTERNAL));
        let reverted = match probation.state.take() {
            Some(RollbackTarget::Old(former)) => Ok(Reverted::Exactly(former)),
            _ => match guest.take_location() {
                Location::Image { image, .. } => {
                    let (new, old) = (guest.version.version().clone(), probation.before.version());
                    match migrate::upgrade_image(&state.frames, &new, old, (&image, &grants), None)
                    {
                        Err(UpgradeError::NoFrame) => {
                            guest.set_location(Location::image_at_rest(image));
                            probation.failed = Some(reason);
                            guest.probation = Some(probation);
                            return Err(Stop::NoFrame);
                        }
                        Err(error) => Err(error.to_string()),
                        Ok(upgraded) => {
                            let path = upgraded.path;
                            let image = upgraded.state.into_image(&state.frames);
                            image.map(|image| Reverted::By(path, image))
                        }
                    }
                }
                location => {
                    if let Location::Frame { frame, .. } = location {
                        drop(state.frames.lease(frame));
                    }
                    Err("its state before the message is unknown".into())
                }
            },
        };
        match reverted {
            Ok(reverted) => {
                let release = probation.release;
                self.rolled_back(process, *probation, &reason, reverted);
                if !counted {
                    self.count_failure(release, &reason);
                }
                Ok(())
            }
            Err(why) => {
                if !counted {
                    self.count_failure(probation.release, &reason);
                }
                let text =
                    format!("new code failed ({reason}), and it cannot be rolled back: {why}");
                let reason = upgrade_failed(&text).caused_by_release();
                Err(Stop::Turn(Turn::Exit(reason)))
            }
        }
    }

    /// Moves the process back to old code with this state.
    fn rolled_back(
        &self,
        process: &mut GuestProcess,
        probation: Probation,
        reason: &ExitReason,
        reverted: Reverted,
    ) {
        let state = &self.0;
        let pid = process.pid();
        let Some(guest) = process.guest() else { return };
        // It leaves new code only after that is reported: once no process is left there, all
        // are reported.
        let left = std::mem::replace(&mut guest.version, probation.before.enter());
        let mut log = |level: i32, text: &str| {
            (state.host.observer).log(pid, left.version(), level, text);
        };
        match reverted {
            Reverted::Exactly(former) => drop(restore(process, former, &mut log)),
            Reverted::By(path, image) => {
                if let Some(resources) = guest.resources_if_any() {
                    resources.roll_back(memory_after(path), &mut log);
                }
                guest.set_location(Location::image_at_rest(image));
            }
        }
        let Some(guest) = process.guest() else { return };
        guest.release = probation.release;
        guest.set_reverted(probation.release, &reason.to_string());
        guest.wait.take();
        (state.host.observer).reverted(pid, left.version(), probation.release, reason);
        let release = state.host.code.current();
        if release.id == probation.release {
            release.progress.reverted.fetch_add(1, Ordering::Relaxed);
            guest.version.exempt(release.id);
        }
        drop(left);
    }

    /// Returns the probation for an upgrade, or `None` if there is none: it is configured as 0
    /// messages, or the release is a rollback itself. `target` is what the process is reverted to if its
    /// first message fails. If it is `None`, the state is converted back.
    pub(crate) fn begin_probation(
        &self,
        release: &Release<Artifact>,
        before: VersionRef<Artifact>,
        target: Option<RollbackTarget>,
    ) -> Option<Box<Probation>> {
        (self.0.probation_messages > 0 && release.origin == release.id).then(|| {
            Box::new(Probation {
                left: self.0.probation_messages,
                release: release.id,
                before,
                state: target,
                transaction: None,
                failed: None,
            })
        })
    }
}

/// Makes a process what it was before an upgrade. Returns the resources that left: they belong to
/// the state that the process had until now.
pub(crate) fn restore(
    process: &mut GuestProcess,
    former: Former,
    log: &mut dyn FnMut(i32, &str),
) -> Detached {
    process.set_init_waiting(former.init_waits);
    let Some(guest) = process.guest() else {
        return former.detached;
    };
    guest.has_run = former.image.is_some();
    guest.set_location(match former.image {
        Some(image) => Location::image_at_rest(image),
        None => Location::NotStarted,
    });
    guest.restore_resources(former.detached, log)
}

/// How a process got back to old code.
enum Reverted {
    /// It is what it was before the upgrade.
    Exactly(Former),
    /// New code's state was converted back.
    By(UpgradePath, Image),
}
