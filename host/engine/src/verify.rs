//! Verification before a commit: the crossing is run on copies of the states
//! of processes at rest, and of loop processes that wait with the flag UPGRADE:
//! their state is all in memory then, though their stack is not empty. Nothing
//! of it reaches a process, but that one which rests in a frame leaves it.
//!
//! Not looked at are processes that run just now, that answered WAITING, that
//! wait in the middle of a handler or without the flag, and those of
//! resident-only modules. They count among those that there are, not among
//! those that were checked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::{Path, Tenancy, Version};
use exuvia_process::Pid;

use crate::artifact::Artifact;
use crate::crossing;
use crate::error::{CrossError, VerifyError};
use crate::executor::{Executor, Shared};
use crate::guest::{Guest, Residence};
use crate::image::Image;

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Processes of the changed modules.
    pub processes: u64,
    /// Of these, copies that crossed.
    pub checked: u64,
    /// How they crossed.
    pub carried: u64,
    /// How they crossed.
    pub migrated: u64,
    /// Would lose their state, with consent.
    pub fresh: u64,
    /// Of these, processes that were at rest and looked at.
    pub seen: u64,
    /// Processes in frames: the busy ones.
    pub resident: u64,
    /// Messages that wait in their mailboxes.
    pub queued: u64,
    /// Loop processes that do not take `UPGRADE`: new code never reaches them.
    pub loops: Vec<Pid>,
    /// Loop processes that do: they are woken after the commit.
    pub upgradable: Vec<Pid>,
}

impl Executor {
    /// Runs the crossing to `changes` on copies, within `budget`. With
    /// `fresh`, state may be lost where it cannot cross.
    ///
    /// # Errors
    ///
    /// The first process whose copy could not cross, and why.
    pub fn verify(
        &self,
        changes: &[Arc<Version<Artifact>>],
        budget: Duration,
        fresh: bool,
    ) -> Result<Verified, VerifyError> {
        let shared = &self.0;
        let clock = &shared.system.clock;
        let nanoseconds = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
        let until = clock.now().saturating_add(nanoseconds);
        let mut verified = Verified::default();
        for index in shared.system.table.indices() {
            let Some(slot) = shared.system.table.slot(index) else {
                continue;
            };
            // One that runs, or is about to, is not at rest: it is counted
            // below, and its copy is not checked.
            let looked = self.look(index, |own| {
                let in_time = clock.now() <= until;
                let seen = own
                    .guest()
                    .and_then(|guest| look(shared, guest, changes, in_time))?;
                if seen.paged_out {
                    own.trim(&shared.system);
                }
                let queued = slot.mailbox.len() as u64
                    + u64::from(slot.stats.inbox_messages.load(Ordering::Relaxed));
                Some((own.pid(), own.limits().grants.clone(), seen, queued))
            });
            let Some((pid, grants, seen, queued)) = looked.flatten() else {
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
            match crossing::cross(shared, old, &seen.new, (&image, &grants), None) {
                Ok(crossed) => {
                    crossed.state.drop_in(shared);
                    verified.checked += 1;
                    match crossed.path {
                        Path::Carried => verified.carried += 1,
                        _ => verified.migrated += 1,
                    }
                }
                Err(CrossError::NoFrame) => {}
                Err(_) if fresh => {
                    verified.checked += 1;
                    verified.fresh += 1;
                }
                Err(error) => {
                    let names = shared.system.names.of(pid);
                    return Err(VerifyError {
                        pid,
                        name: names.first().map(ToString::to_string),
                        module: seen.old.module.to_string(),
                        error: error.into(),
                        fix: None,
                    });
                }
            }
        }
        for change in changes {
            for version in shared.code.versions(&change.module) {
                if !Arc::ptr_eq(&version, change) {
                    verified.processes += version.population() as u64;
                }
            }
        }
        Ok(verified)
    }
}

/// What verification sees of one process.
struct Seen {
    /// Held: the process may end meanwhile.
    old: Tenancy<Artifact>,
    new: Arc<Version<Artifact>>,
    image: Option<Image>,
    loops: Option<bool>,
    resident: bool,
    /// It was in a frame, and is an image now.
    paged_out: bool,
}

/// Bytes of an image that are no burden beside the frame's.
const SMALL: usize = 64 << 10;

/// A process that will cross leaves its frame: better now than while it stands
/// still for it, since other frames are then cold.
fn page_out(shared: &Shared, guest: &mut Guest, residence: Residence) {
    if let Residence::Frame { frame, .. } = std::mem::replace(&mut guest.residence, residence) {
        shared.frames.retire(frame);
        guest.wait.trim();
        shared.metrics.page_outs.fetch_add(1, Ordering::Relaxed);
    }
}

fn look(
    shared: &Shared,
    guest: &mut Guest,
    changes: &[Arc<Version<Artifact>>],
    in_time: bool,
) -> Option<Seen> {
    let new = changes
        .iter()
        .find(|change| change.module == guest.tenancy.module && !guest.tenancy.is(change))?
        .clone();
    let loops = guest.loops();
    // `new` is not current yet: this is whether it was left before, and loops.
    if loops == Some(false) && guest.is_left(&new) {
        return None;
    }
    let old = guest.tenancy.hold();
    let resident = matches!(guest.residence, Residence::Frame { .. });
    let image = guest.copy().map(|copied| copied.image);
    if let (
        Some(image),
        Residence::Frame {
            frame,
            suspended: false,
            ..
        },
    ) = (&image, &guest.residence)
        && in_time
        && image.len() <= SMALL
    {
        let stamp = Some(frame.pool().stamp());
        let residence = Residence::Image {
            image: image.clone(),
            waiting: false,
            stamp,
        };
        page_out(shared, guest, residence);
    }
    let paged_out = resident && !matches!(guest.residence, Residence::Frame { .. });
    Some(Seen {
        old,
        new,
        image,
        loops,
        resident,
        paged_out,
    })
}
