//! Upgrades a process to new code: the first step of its turn after a commit, when it is at rest.
//! This file decides which state the process takes along and what happens to it. How state is
//! brought over is in `migrate`, what follows in `rollback`.

pub(crate) mod migrate;
pub(crate) mod rollback;
pub(crate) mod verify;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Pid, Reason};
use exuvia_code::{Release, UpgradePath, Version, VersionRef};
use exuvia_image::{After, Image};
use exuvia_process::resource::{Detached, Memory};
use exuvia_process::{ExitReason, Turn};

use crate::error::UpgradeError;
use crate::executor::{Executor, Stop};
use crate::frames::FrameTable;
use crate::frames::slots::FrameLease;
use crate::guest::{Former, Guest, GuestProcess, Location, RollbackTarget, RunPhase};
use crate::module::info::Artifact;
use crate::upgrade::migrate::{Destination, Upgraded};

/// Where the state of a process under upgrade comes from.
pub(crate) enum Source {
    Image(Image),
    /// The frame itself, of a resident-only module.
    Frame(FrameLease),
}

impl Source {
    /// Returns what a process was that had this state. A frame that cannot be read as an image
    /// cannot come back, and the resources that belong to it are dropped.
    fn into_former(self, detached: Detached, init_waits: bool) -> Option<Former> {
        match self {
            Source::Image(image) => Some(Former {
                image: Some(image),
                detached,
                init_waits,
            }),
            Source::Frame(_) => None,
        }
    }

    /// Returns the location of a process that stays as it was.
    fn back(self, frames: &FrameTable) -> Location {
        match self {
            Source::Image(image) => Location::image_at_rest(image),
            Source::Frame(lease) => frames.put_back_at(lease, RunPhase::Rest),
        }
    }
}

/// One upgrade: of which process, from where to where, since when.
struct Upgrade<'a> {
    pid: Pid,
    release: &'a Release<Artifact>,
    old: &'a Arc<Version<Artifact>>,
    new: &'a VersionRef<Artifact>,
    began: u64,
}

pub(crate) fn upgrade_failed(text: &str) -> ExitReason {
    ExitReason::with(Reason::UPGRADE.0, text.as_bytes())
}

impl Executor {
    /// Returns whether a process at rest has still to be upgraded to the current release. If it can
    /// be upgraded as it rests now, its upgrade will count as one in the background.
    pub fn is_upgrade_pending(&self, process: &mut GuestProcess) -> bool {
        if !self.0.host.upgrade_due(process) {
            return false;
        }
        let can = self.may_upgrade(process);
        if let Some(guest) = process.guest() {
            guest.upgraded_in_background = can && !guest.is_suspended();
        }
        true
    }

    /// Returns whether a process that is not suspended is at REST, not WAITING.
    pub(crate) fn may_upgrade(&self, process: &mut GuestProcess) -> bool {
        process.guest().is_some_and(|guest| !guest.is_waiting())
    }

    /// Upgrades a process at rest to the current release.
    pub(crate) fn upgrade(&self, process: &mut GuestProcess) -> Result<(), Stop> {
        let state = &self.0;
        let began = state.host.system.clock.now();
        let pid = process.pid();
        let grants = process.limits().grants.clone();
        let init_waits = process.is_init_waiting();
        let Some(guest) = process.guest() else {
            return Ok(());
        };
        // Held until the process is in it: the release may be superseded meanwhile.
        let Some((release, new)) = state.host.code.hold(&guest.version.module) else {
            return Ok(());
        };
        let (release, new) = (&release, &new);
        if guest.version.is(new.version()) {
            // Another commit has just made its version current again.
            return Ok(());
        }
        let old = &guest.version.version().clone();
        let upgrade = Upgrade {
            pid,
            release,
            old,
            new,
            began,
        };
        // Nothing has happened since the upgrade in the other direction: what the process was before
        // that is exact.
        if let Some(probation) = &mut guest.probation
            && probation.before.is(new.version())
            && let Some(RollbackTarget::Old(former)) =
                (probation.state).take_if(|state| matches!(state, RollbackTarget::Old(_)))
        {
            return self.upgrade_back(process, &upgrade, former);
        }
        if guest.is_not_started() {
            // If it was reset and has not run since, what it was before the reset is still exact.
            let probation = guest.probation.take();
            guest.probation = probation.and_then(|probation| {
                self.begin_probation(release, probation.before, probation.state)
            });
            self.upgraded(guest, &upgrade, UpgradePath::NotStarted);
            return Ok(());
        }
        let mut log = |level: i32, text: &str| state.host.observer.log(pid, old, level, text);
        let (mut origin, saved) = take_state(&state.frames, guest, &upgrade)?;
        let upgraded = match &mut origin {
            Source::Image(image) => {
                migrate::upgrade_image(&state.frames, old, new.version(), (image, &grants), saved)
            }
            Source::Frame(frame) => migrate::upgrade_saved(
                &state.frames,
                old,
                new.version(),
                frame.frame.call_save(),
                &grants,
            ),
        };
        let before = guest.version.hold();
        match upgraded {
            Ok(Upgraded {
                path,
                state: new_state,
            }) => {
                guest.set_location(match new_state {
                    Destination::Image(image) => Location::image_at_rest(image),
                    Destination::Frame(lease) => {
                        state.frames.bind(&lease, pid.slot());
                        state.frames.put_back_at(lease, RunPhase::Rest)
                    }
                });
                let detached = guest.upgrade_resources(memory_after(path), &mut log);
                let former = origin.into_former(detached, init_waits);
                let target = former.map(RollbackTarget::Old);
                guest.probation = self.begin_probation(release, before, target);
                self.upgraded(guest, &upgrade, path);
            }
            Err(UpgradeError::NoFrame) => {
                guest.set_location(origin.back(&state.frames));
                return Err(Stop::NoFrame);
            }
            Err(_) if release.fresh => {
                guest.set_location(Location::NotStarted);
                guest.has_run = false;
                let memory = memory_after(UpgradePath::Reset);
                let detached = guest.upgrade_resources(memory, &mut log);
                let former = origin.into_former(detached, init_waits);
                let target = former.map(RollbackTarget::Old);
                guest.probation = self.begin_probation(release, before, target);
                self.upgraded(guest, &upgrade, UpgradePath::Reset);
                process.set_init_waiting(true);
            }
            Err(error) => {
                let text = error.to_string();
                guest.set_location(origin.back(&state.frames));
                guest.release = release.id;
                guest.set_upgrade_failure(Some(&text));
                guest.upgraded_in_background = false;
                release.progress.failed.fetch_add(1, Ordering::Relaxed);
                // Report it first: after `exempt` the upgrade of the release may be complete.
                (state.host.observer).upgrade_failed(
                    pid,
                    guest.version.version(),
                    release.id,
                    &text,
                );
                guest.version.exempt(release.id);
                self.count_failure(release.id, &upgrade_failed(&text));
            }
        }
        Ok(())
    }

    /// Moves a process back to the version from before its last upgrade, since when it has handled
    /// nothing: it is what it was then.
    fn upgrade_back(
        &self,
        process: &mut GuestProcess,
        upgrade: &Upgrade<'_>,
        former: Former,
    ) -> Result<(), Stop> {
        let state = &self.0;
        let init_waits = process.is_init_waiting();
        let Some(guest) = process.guest() else {
            return Ok(());
        };
        let left = match guest.is_not_started() {
            true => None,
            false => Some(take_state(&state.frames, guest, upgrade)?.0),
        };
        let mut log = |level: i32, text: &str| {
            (state.host.observer).log(upgrade.pid, upgrade.old, level, text);
        };
        let detached = rollback::restore(process, former, &mut log);
        let Some(guest) = process.guest() else {
            return Ok(());
        };
        let target = match left {
            Some(source) => source.into_former(detached, init_waits),
            None => Some(Former {
                image: None,
                detached,
                init_waits,
            }),
        };
        let before = guest.version.hold();
        let target = target.map(RollbackTarget::Old);
        guest.probation = self.begin_probation(upgrade.release, before, target);
        self.upgraded(guest, upgrade, UpgradePath::Reused);
        Ok(())
    }

    /// Moves the process to new code.
    fn upgraded(&self, guest: &mut Guest, upgrade: &Upgrade<'_>, path: UpgradePath) {
        let release = upgrade.release;
        // It leaves the old version only after it is counted: once no process is left there, all
        // are counted.
        let left = std::mem::replace(&mut guest.version, upgrade.new.enter());
        guest.release = release.id;
        guest.clear_upgrade_notes();
        let in_background = std::mem::take(&mut guest.upgraded_in_background);
        let now = self.0.host.system.clock.now();
        let pause = match path {
            UpgradePath::NotStarted => 0,
            _ => now - upgrade.began,
        };
        release
            .progress
            .record_upgrade(path, pause, now, in_background);
        if path != UpgradePath::NotStarted {
            guest.upgrades += 1;
            self.0.host.observer.upgraded(upgrade.pid, release.id, path);
        }
        drop(left);
    }
}

/// The result of `save`.
type Saved = Result<Vec<u8>, String>;

/// Takes the state of a process at rest out of its location, together with the result of `save` if
/// the state must be migrated and was in a frame. If the state cannot be read, the process must
/// exit.
fn take_state(
    frames: &FrameTable,
    guest: &mut Guest,
    upgrade: &Upgrade<'_>,
) -> Result<(Source, Option<Saved>), Stop> {
    read_state(frames, guest, upgrade).map_err(|reason| {
        let error = UpgradeError::NoPath {
            from: upgrade.old.to_string(),
            to: upgrade.new.version().to_string(),
            not_reused: format!("its state could not be read: {reason}"),
            not_migrated: "it could not be read".into(),
        };
        Stop::Turn(Turn::Exit(upgrade_failed(&error.to_string())))
    })
}

fn read_state(
    frames: &FrameTable,
    guest: &mut Guest,
    upgrade: &Upgrade<'_>,
) -> Result<(Source, Option<Saved>), String> {
    let (old, new) = (&upgrade.old.artifact, &upgrade.new.artifact);
    match guest.take_location() {
        Location::Image { image, .. } => Ok((Source::Image(image), None)),
        Location::Frame { frame, .. } => {
            let mut lease = frames.lease(frame).ok_or("it is in no frame")?;
            if !lease.frame.reusable {
                return Ok((Source::Frame(lease), None));
            }
            if old.reuses_image_in(new).is_ok() || !old.has_save {
                let image = lease.frame.save(After::Reset);
                frames.give_back(lease);
                return image.map(|image| (Source::Image(image), None));
            }
            // The state is in a frame already, where `save` can run.
            let image = lease.frame.save(After::Keep);
            let saved = lease.frame.call_save();
            frames.retire(lease);
            image.map(|image| (Source::Image(image), Some(saved)))
        }
        Location::NotStarted | Location::Running => Err("it is in no frame".into()),
    }
}

/// Returns which memory a process has after an upgrade on this path.
fn memory_after(path: UpgradePath) -> Memory {
    match path {
        UpgradePath::NotStarted | UpgradePath::Reused => Memory::Same,
        UpgradePath::Migrated | UpgradePath::Reset => Memory::New,
    }
}
