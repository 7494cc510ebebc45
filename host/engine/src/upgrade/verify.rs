//! Verification before a commit: the upgrade is run on copies of the states of processes at rest,
//! and of loop processes that wait with the flag UPGRADE, whose state is all in memory although
//! their stack is not empty. It has no effect on a process, except that a process with a small
//! state that rests in a frame is paged out.
//!
//! No copy is checked of processes that are running, have not started, returned WAITING, wait in
//! the middle of a handler or without the flag, or are of resident-only modules. They are among the
//! processes that are counted, not among those checked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::{UpgradePath, Version, VersionRef};
use exuvia_image::Image;
use exuvia_process::Pid;

use crate::error::{UpgradeError, VerifyError};
use crate::executor::Executor;
use crate::frames::FrameTable;
use crate::guest::{Guest, Location, RunPhase};
use crate::module::info::Artifact;
use crate::upgrade::migrate;

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Number of processes of the changed modules.
    pub processes: u64,
    /// Of these, copies that were upgraded, or would be reset.
    pub checked: u64,
    /// Of these, copies whose state was reused.
    pub reused: u64,
    /// Of these, copies whose state was migrated.
    pub migrated: u64,
    /// Of these, copies whose state would be lost, which was permitted.
    pub reset: u64,
    /// Of these, processes that could be examined: they were not running, and are not exempt loops.
    pub seen: u64,
    /// Of the examined processes, those in frames: the busy ones.
    pub resident: u64,
    /// Number of messages that wait in the mailboxes of the examined processes.
    pub queued: u64,
    /// Loop processes that do not take `UPGRADE`: new code never reaches them.
    pub loops: Vec<Pid>,
    /// Loop processes that do: they are woken after the commit.
    pub upgradable: Vec<Pid>,
}

impl Executor {
    /// Runs the upgrade to `changes` on copies, within `budget`. With `fresh`, state that cannot be
    /// upgraded may be reset.
    ///
    /// # Errors
    ///
    /// Returns the first process whose copy could not be upgraded, and why.
    pub fn verify(
        &self,
        changes: &[Arc<Version<Artifact>>],
        budget: Duration,
        fresh: bool,
    ) -> Result<Verified, VerifyError> {
        let shared = &self.0;
        let clock = &shared.host.system.clock;
        let nanoseconds = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let until = clock.now().saturating_add(nanoseconds);
        let mut verified = Verified::default();
        for index in shared.host.system.table.indices() {
            let Some(slot) = shared.host.system.table.slot(index) else {
                continue;
            };
            // A process that runs, or is about to, is not at rest: it is counted below, and its
            // copy is not checked.
            let examined = self.examine(index, |process| {
                let in_time = clock.now() <= until;
                let seen = process
                    .guest()
                    .and_then(|guest| candidate(&shared.frames, guest, changes, in_time))?;
                if seen.paged_out {
                    process.trim(&shared.host.system);
                }
                let queued = slot.mailbox.len() as u64
                    + u64::from(slot.stats.inbox_messages.load(Ordering::Relaxed));
                Some((process.pid(), process.limits().grants.clone(), seen, queued))
            });
            let Some((pid, grants, seen, queued)) = examined.flatten() else {
                continue;
            };
            verified.seen += 1;
            verified.queued += queued;
            match seen.loops {
                Some(true) => verified.upgradable.push(pid),
                Some(false) => verified.loops.push(pid),
                None => {}
            }
            verified.resident += u64::from(seen.resident);
            let Some(image) = seen.image else { continue };
            if clock.now() > until {
                continue;
            }
            let old = seen.old.version();
            match migrate::upgrade_image(&shared.frames, old, &seen.new, (&image, &grants), None) {
                Ok(upgraded) => {
                    upgraded.state.drop_in(&shared.frames);
                    verified.checked += 1;
                    match upgraded.path {
                        UpgradePath::Reused => verified.reused += 1,
                        _ => verified.migrated += 1,
                    }
                }
                Err(UpgradeError::NoFrame) => {}
                Err(_) if fresh => {
                    verified.checked += 1;
                    verified.reset += 1;
                }
                Err(error) => {
                    let names = shared.host.system.names.of(pid);
                    return Err(VerifyError {
                        pid,
                        name: names.first().map(ToString::to_string),
                        module: seen.old.module.to_string(),
                        error: error.into(),
                        missing: None,
                        file: None,
                    });
                }
            }
        }
        for change in changes {
            for version in shared.host.code.versions(&change.module) {
                if !Arc::ptr_eq(&version, change) {
                    verified.processes += version.process_count() as u64;
                }
            }
        }
        Ok(verified)
    }
}

/// What verification learns about one process.
struct Candidate {
    /// Held, since the process may exit meanwhile.
    old: VersionRef<Artifact>,
    new: Arc<Version<Artifact>>,
    image: Option<Image>,
    loops: Option<bool>,
    resident: bool,
    /// It was in a frame, and is an image now.
    paged_out: bool,
}

/// Maximum size in bytes of an image that is negligible beside its frame.
const SMALL: usize = 64 << 10;

/// Moves a process that will be upgraded out of its frame. This is better done now than while the
/// process is paused for the upgrade, when other frames are cold.
fn page_out(frames: &FrameTable, guest: &mut Guest, location: Location) {
    if let Location::Frame { frame, .. } = guest.take_location()
        && let Some(lease) = frames.lease(frame)
    {
        frames.retire(lease);
        guest.wait.trim();
        frames.metrics.page_outs.fetch_add(1, Ordering::Relaxed);
    }
    guest.set_location(location);
}

fn candidate(
    frames: &FrameTable,
    guest: &mut Guest,
    changes: &[Arc<Version<Artifact>>],
    in_time: bool,
) -> Option<Candidate> {
    let new = changes
        .iter()
        .find(|change| change.module == guest.version.module && !guest.version.is(change))?
        .clone();
    let loops = guest.loops();
    // `new` is not current yet; this returns whether it was exempt before and still loops.
    if loops == Some(false) && guest.is_pinned_to_version(&new) {
        return None;
    }
    let old = guest.version.hold();
    let resident = matches!(guest.location, Location::Frame { .. });
    let image = frames.copy(guest);
    if let (
        Some(image),
        Location::Frame {
            phase: RunPhase::Rest,
            ..
        },
    ) = (&image, &guest.location)
        && in_time
        && image.size() <= SMALL
    {
        let stamp = Some(frames.pool(&guest.version.artifact).stamp());
        let location = Location::Image {
            image: image.clone(),
            waiting: false,
            stamp,
        };
        page_out(frames, guest, location);
    }
    let paged_out = resident && !matches!(guest.location, Location::Frame { .. });
    Some(Candidate {
        old,
        new,
        image,
        loops,
        resident,
        paged_out,
    })
}
