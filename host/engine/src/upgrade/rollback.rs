//! Probation: the first messages of a process after an upgrade. Each is handled as a transaction;
//! if new code fails in it, the process is reverted and old code handles the message.
//!
//! What a handler does to the system in a transaction is deferred, or undone on an abort (see
//! `exuvia_process::transaction`). A call that waits, or that cannot be undone, commits the transaction early.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_code::{Release, UpgradePath, Verdict, VersionRef};
use exuvia_image::Image;
use exuvia_process::transaction::{self, Transaction};
use exuvia_process::{ExitReason, Turn};

use crate::error::UpgradeError;
use crate::executor::Executor;
use crate::guest::{Guest, GuestProcess, Location};
use crate::module::info::Artifact;
use crate::process::turn::AfterEntry;
use crate::resources::wasi::Wasi;
use crate::upgrade::migrate;
use crate::upgrade::{Source, upgrade_failed};

/// Probation after an upgrade: what is needed to revert the process.
#[derive(Debug)]
pub(crate) struct Probation {
    /// Number of messages that are still to be handled as transactions.
    pub(crate) left: u32,
    /// The release that the process was upgraded for.
    pub(crate) release: u64,
    /// The version before the upgrade.
    pub(crate) before: VersionRef<Artifact>,
    /// The state to revert to if the next message fails.
    pub(crate) state: Option<RollbackTarget>,
    /// Set by an upgrade that created a new memory: the WASI state from before, since the numbers
    /// of its files are known to the old memory only. It belongs to [`RollbackTarget::Old`].
    pub(crate) files: Option<OldFiles>,
    pub(crate) transaction: Option<Transaction<Guest>>,
    /// Why new code failed the process. If set, the process is to be reverted.
    pub(crate) failed: Option<ExitReason>,
}

/// The WASI state that belongs to a memory which may be restored; `None` if there was none.
#[derive(Debug)]
pub(crate) struct OldFiles(pub(crate) Option<Box<Wasi>>);

impl OldFiles {
    /// Restores these files with the old memory, and closes those that were opened since.
    pub(crate) fn come_back(self, guest: &mut Guest) {
        guest.take_wasi();
        if let Some(wasi) = self.0 {
            guest.put_wasi(wasi);
        }
    }
}

/// The state that a process in probation is reverted to.
#[derive(Debug)]
pub(crate) enum RollbackTarget {
    /// State of the old version, from before the upgrade: exact.
    Old(Image),
    /// State of the new version, from before the message: it must be converted back.
    New(Image),
}

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
    pub(crate) fn trapped(&self, process: &mut GuestProcess, reason: ExitReason) -> AfterEntry {
        let Some(transaction) = transaction::take(process) else {
            return AfterEntry::Stop(Turn::Exit(self.blame(process, reason)));
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
        let entered = self.roll_back(process, false);
        if matches!(entered, AfterEntry::NoFrame)
            && let Some(probation) = process.guest().and_then(|guest| guest.probation.as_ref())
            && let Some(reason) = &probation.failed
        {
            // The failure counts now, however long the process waits.
            let (release, reason) = (probation.release, reason.clone());
            self.count_failure(release, &reason);
        }
        entered
    }

    /// Returns whether new code has failed the process, which must be reverted before it does
    /// anything else.
    pub(crate) fn is_rolling_back(process: &mut GuestProcess) -> bool {
        let probation = process.guest().and_then(|guest| guest.probation.as_ref());
        probation.is_some_and(|probation| probation.failed.is_some())
    }

    /// Reverts the process to old code. If no frame is free, the process rests with new code's
    /// state, and this is repeated later. `counted`: the failure was already counted for the
    /// release.
    pub(crate) fn roll_back(&self, process: &mut GuestProcess, counted: bool) -> AfterEntry {
        let shared = &self.0;
        let grants = process.limits().grants.clone();
        let Some(guest) = process.guest() else {
            return AfterEntry::Stop(Turn::Exit(ExitReason::new(Reason::INTERNAL)));
        };
        let Some(mut probation) = guest.probation.take() else {
            return AfterEntry::Continue;
        };
        let reason = probation.failed.take();
        let reason = reason.unwrap_or_else(|| ExitReason::new(Reason::INTERNAL));
        let state = match probation.state.take() {
            Some(RollbackTarget::Old(image)) => Ok((image, false)),
            _ => match guest.take_location() {
                Location::Image { image, .. } => {
                    let (new, old) = (guest.version.version().clone(), probation.before.version());
                    match migrate::upgrade_image(&shared.frames, &new, old, (&image, &grants), None)
                    {
                        Err(UpgradeError::NoFrame) => {
                            guest.set_location(Location::image_at_rest(image));
                            probation.failed = Some(reason);
                            guest.probation = Some(probation);
                            return AfterEntry::NoFrame;
                        }
                        Err(error) => Err(error.to_string()),
                        Ok(crossed) => {
                            let anew = crossed.path == UpgradePath::Migrated;
                            let image = crossed.state.into_image(&shared.frames);
                            image.map(|image| (image, anew))
                        }
                    }
                }
                location => {
                    if let Location::Frame { frame, .. } = location {
                        drop(shared.frames.lease(frame));
                    }
                    Err("its state before the message is unknown".into())
                }
            },
        };
        match state {
            Ok((image, anew)) => {
                let release = probation.release;
                self.rolled_back(process, *probation, &reason, (image, anew));
                if !counted {
                    self.count_failure(release, &reason);
                }
                AfterEntry::Continue
            }
            Err(why) => {
                if !counted {
                    self.count_failure(probation.release, &reason);
                }
                let text =
                    format!("new code failed ({reason}), and it cannot be rolled back: {why}");
                let reason = upgrade_failed(&text).caused_by_release();
                AfterEntry::Stop(Turn::Exit(reason))
            }
        }
    }

    /// Moves the process back to old code with this state. `anew`: the memory was created anew by
    /// `load`.
    fn rolled_back(
        &self,
        process: &mut GuestProcess,
        probation: Probation,
        reason: &ExitReason,
        (image, anew): (Image, bool),
    ) {
        let shared = &self.0;
        let pid = process.pid();
        let Some(guest) = process.guest() else { return };
        // It leaves new code only after that is reported: once no process is left there, all
        // are reported.
        let left = std::mem::replace(&mut guest.version, probation.before.enter());
        if anew {
            guest.take_wasi();
        } else if let Some(files) = probation.files {
            files.come_back(guest);
        }
        guest.set_location(Location::image_at_rest(image));
        guest.release = probation.release;
        guest.set_reverted(probation.release, &reason.to_string());
        guest.wait.take();
        (shared.host.observer).reverted(pid, left.version(), probation.release, reason);
        let release = shared.host.code.current();
        if release.id == probation.release {
            release.progress.reverted.fetch_add(1, Ordering::Relaxed);
            guest.version.exempt(release.id);
        }
        drop(left);
    }

    /// Returns the probation for an upgrade, or `None` if there is none: it is configured as 0
    /// messages, or the release is a rollback itself. A frame that cannot be read as an image is no
    /// rollback target.
    pub(crate) fn begin_probation(
        &self,
        release: &Release<Artifact>,
        before: VersionRef<Artifact>,
        origin: Source,
    ) -> Option<Box<Probation>> {
        let state = match origin {
            Source::Image(image) => Some(RollbackTarget::Old(image)),
            Source::Frame(_) => None,
        };
        (self.0.probation_messages > 0 && release.origin == release.id).then(|| {
            Box::new(Probation {
                left: self.0.probation_messages,
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
