//! The engine's half of snapshots: the state of a process at rest as an image with a header, and a
//! guest of such bytes. What else is in a snapshot, and how it is restored, is in
//! `exuvia_process`.

use std::sync::Arc;

use exuvia_code::{Digest, VersionRef};
use exuvia_image::Image;
use exuvia_process::{
    GuestSnapshot, Pid, ProcessSnapshot, RestoreError, StayReason, StaysOnVersion, WhyNot,
};

use crate::executor::Executor;
use crate::guest::{Guest, Location};
use crate::module::info::Artifact;

impl Executor {
    /// Captures a process at rest, which goes on afterwards. Signals that arrive later are not in
    /// the snapshot.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be captured, or not now.
    pub fn capture(&self, pid: Pid) -> Result<ProcessSnapshot, WhyNot> {
        let system = &self.0.host.system;
        if !system.is_alive(pid) {
            return Err(WhyNot::NoProcess);
        }
        let captured = self.examine(pid.slot(), |process| {
            if process.pid() != pid {
                return Err(WhyNot::NoProcess);
            }
            let slot = system.table.slot(pid.slot());
            if slot.is_some_and(|slot| !slot.mailbox.is_empty()) {
                // It takes over messages here that it has not seen, so it needs a turn.
                system.wake(pid);
            }
            process.capture(system, |guest| self.capture_guest(guest))
        });
        captured.unwrap_or(Err(WhyNot::Running))
    }

    /// Captures the state of a process at REST.
    fn capture_guest(&self, guest: &mut Guest) -> Result<GuestSnapshot, WhyNot> {
        if guest.is_suspended() {
            return Err(WhyNot::Suspended(guest.describe()));
        }
        if guest.is_waiting() {
            return Err(WhyNot::Waiting);
        }
        if let Some(probation) = &guest.probation {
            return Err(WhyNot::Probation(probation.left));
        }
        if let Some(holding) = guest.holdings().next() {
            return Err(WhyNot::Holds(holding));
        }
        let state = match guest.location {
            Location::NotStarted => None,
            Location::Frame {
                reusable: false, ..
            } => {
                let reasons = guest.version.artifact.resident_only();
                let reason = reasons.first().cloned().unwrap_or_default();
                return Err(WhyNot::Resident(reason));
            }
            Location::Image { .. } | Location::Frame { .. } => {
                let image = self.0.frames.copy(guest);
                let image = image.ok_or_else(|| WhyNot::State("its frame is broken".into()))?;
                Some(image.to_bytes(&guest.version.artifact.base))
            }
            Location::Running => return Err(WhyNot::Running),
        };
        Ok(GuestSnapshot {
            module: guest.version.module.to_string(),
            digest: guest.version.digest.0,
            state,
            has_run: guest.has_run,
            upgrades: guest.upgrades,
            stays: self.stays_on_version(guest),
        })
    }

    /// Returns why a process stays on its version, if it does so although another one is current.
    fn stays_on_version(&self, guest: &Guest) -> Option<StaysOnVersion> {
        let release = self.0.host.code.current();
        let current = release.version(&guest.version.module)?;
        if guest.version.is(current) {
            return None;
        }
        let because = if guest.is_pinned_to_version(current) {
            StayReason::Exempt
        } else if guest.release != release.id {
            // It is upgraded, or tries to be, in its next turn.
            return None;
        } else if let Some(how) = guest.reverted(current) {
            StayReason::Reverted(how.into())
        } else {
            StayReason::Failed(guest.upgrade_failure()?.into())
        };
        Some(StaysOnVersion {
            current: current.digest.0,
            because,
        })
    }

    /// Restores a process: it runs the version that it ran before, and if that is not the current
    /// one, it is upgraded in its first turn like any process. If it was exempt from the upgrade to
    /// the current version, or that failed, it stays where it is, and nothing is counted again.
    ///
    /// # Errors
    ///
    /// Returns a [`RestoreError`] if that version is not loaded, or its state, its pid, its names or
    /// its groups cannot be restored.
    pub fn restore(&self, snapshot: &ProcessSnapshot) -> Result<Pid, RestoreError> {
        let guest = self.guest_of(&snapshot.guest)?;
        self.0.host.system.restore(snapshot, guest)
    }

    /// Restores several processes, which may have relations to one another: all of them have their
    /// pids before the first one runs. Returns a result for each, in their order.
    pub fn restore_all(&self, snapshots: Vec<ProcessSnapshot>) -> Vec<Result<Pid, RestoreError>> {
        let mut results = Vec::with_capacity(snapshots.len());
        let mut whole = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            let guest = self.guest_of(&snapshot.guest);
            results.push(guest.as_ref().map(|_| snapshot.pid).map_err(Clone::clone));
            whole.extend(guest.ok().map(|guest| (snapshot, guest)));
        }
        let mut restored = self.0.host.system.restore_all(whole).into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            if let Some(restored) = restored.next() {
                *result = restored;
            }
        }
        results
    }

    /// Makes the engine's half of a restored process.
    fn guest_of(&self, snapshot: &GuestSnapshot) -> Result<Guest, RestoreError> {
        let code = &self.0.host.code;
        let found = code.find(&snapshot.module, Digest(snapshot.digest));
        let version: VersionRef<Artifact> = match (found, &snapshot.state) {
            (Some(version), _) => version.enter(),
            // Without a state, any version will do.
            (None, None) if !snapshot.has_run => match code.enter(&snapshot.module) {
                Some((_, version)) => version,
                None => return Err(no_version(snapshot)),
            },
            (None, _) => return Err(no_version(snapshot)),
        };
        let location = match &snapshot.state {
            None => Location::NotStarted,
            Some(bytes) => {
                let image = Image::from_bytes(bytes, &version.artifact.base);
                let image = image.map_err(|error| RestoreError::State(error.to_string()))?;
                Location::image_at_rest(image)
            }
        };
        // Of release 0: if another version is current by now, it is upgraded in its first turn.
        let mut guest = Guest::new(version, 0);
        guest.location = location;
        guest.has_run = snapshot.has_run;
        guest.upgrades = snapshot.upgrades;
        if let Some(stays) = &snapshot.stays {
            self.stay_on_version(&mut guest, stays);
        }
        Ok(guest)
    }

    /// Has a restored process stay on its version, if the same version is current as before.
    fn stay_on_version(&self, guest: &mut Guest, stays: &StaysOnVersion) {
        let release = self.0.host.code.current();
        let current = release.version(&guest.version.module);
        let same = |current: &&Arc<_>| {
            !guest.version.is(current) && current.digest == Digest(stays.current)
        };
        if current.filter(same).is_none() {
            return;
        }
        match &stays.because {
            // It is counted as exempt in its first turn.
            StayReason::Exempt => return guest.pin_to_version(release.id),
            StayReason::Failed(why) => guest.set_upgrade_failure(Some(why)),
            StayReason::Reverted(how) => guest.set_reverted(release.id, how),
        }
        guest.release = release.id;
        guest.version.exempt(release.id);
    }
}

fn no_version(snapshot: &GuestSnapshot) -> RestoreError {
    RestoreError::Version {
        module: snapshot.module.clone(),
        digest: snapshot.digest,
    }
}
