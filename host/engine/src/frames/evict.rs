//! Taking frames from processes at rest: which one (see [`Pool`]), and how its process
//! becomes an image.

use std::sync::atomic::Ordering;

use exuvia_image::After;

use super::FrameTable;
use crate::frames::pool::{EvictFrom, Pool};
use crate::frames::slots::FrameLease;
use crate::guest::Location;
use crate::timing::Timing;

impl FrameTable {
    /// Records that a process has come to rest in the frame of this slot, so that it may be
    /// paged out. Called after the run state says so: otherwise a pager that has delisted
    /// the slot and finds the process running would lose it.
    #[inline]
    pub(crate) fn note_at_rest(&self, number: u32) {
        if !self.slots.slot(number).listed.load(Ordering::Relaxed) {
            self.list(number);
        }
        self.waiters.call();
    }

    #[cold]
    fn list(&self, number: u32) {
        let place = self.slots.slot(number);
        let artifact = place.artifact.load(Ordering::Relaxed);
        if let Some(pool) = self.pools.read().get(&artifact) {
            pool.list(number, place);
        }
    }

    /// Pages out a process of a version and returns its frame. See [`Pool`] for which one.
    pub(super) fn evict(&self, pool: &Pool, wanted: EvictFrom) -> Option<FrameLease> {
        let mut looks = 0;
        while let Some((number, listed)) = pool.next(wanted, self.slots.all()) {
            if let Some(lease) = self.evict_slot(pool, number) {
                return Some(lease);
            }
            // Twice as many as are listed: the first round may only take away second
            // chances.
            looks += 1;
            if looks >= listed * 2 {
                break;
            }
        }
        None
    }

    /// Periodically demotes the oldest main-queue entry, if it was not referenced since the
    /// last check, to the cold part at the small queue's head.
    pub(super) fn age_main_queue(&self, pool: &Pool) {
        let Some(number) = pool.next_aging_candidate(self.slots.all()) else {
            return;
        };
        let place = self.slots.slot(number);
        let Some(slot) = place.occupant() else { return };
        self.examine(slot, |process| {
            if let Some(guest) = process.guest()
                && guest.evictable_slot() == Some(number)
                && !std::mem::take(&mut guest.referenced)
            {
                pool.demote(number, place);
            }
        });
    }

    /// The last resort: tries all frames of the pool, also those that are not listed.
    pub(super) fn evict_any(&self, pool: &Pool) -> Option<FrameLease> {
        let mut places = pool.slots().into_iter();
        places.find_map(|number| self.evict_slot(pool, number))
    }

    fn evict_slot(&self, pool: &Pool, number: u32) -> Option<FrameLease> {
        let slot = self.slots.slot(number).occupant()?;
        self.page_out(pool, slot, number, EvictPolicy::SecondChance)
    }

    /// Pages out the process of a process slot and returns its frame, if the process is at
    /// rest in this frame slot and the frame belongs to the pool's version.
    pub(super) fn page_out(
        &self,
        pool: &Pool,
        index: u32,
        number: u32,
        chance: EvictPolicy,
    ) -> Option<FrameLease> {
        let metrics = &self.metrics;
        let clock = &self.host.system.clock;
        let began = Timing::begin(metrics.page_outs.load(Ordering::Relaxed), clock);
        // A process that is not paged out, because it has a second chance or because the
        // frame slot was listed for an earlier process, is listed again by `look`.
        let lease = self
            .examine(index, |process| {
                let guest = process.guest()?;
                if std::mem::take(&mut guest.referenced) && chance == EvictPolicy::SecondChance {
                    let place = self.slots.slot(number);
                    place.in_main_queue.store(true, Ordering::Relaxed);
                    return None;
                }
                let (lease, location) =
                    match std::mem::replace(&mut guest.location, Location::Running) {
                        Location::Frame {
                            frame,
                            suspended: false,
                            waiting,
                        } if frame.slot_number() == number
                            && frame.pool().artifact == pool.artifact
                            && frame.frame.may_serve_another() =>
                        {
                            take_image(frame, waiting)
                        }
                        other => (None, other),
                    };
                guest.location = location;
                guest.wait.trim();
                if lease.is_some() {
                    metrics.page_outs.fetch_add(1, Ordering::Relaxed);
                    process.trim(&self.host.system);
                }
                lease
            })
            .flatten()?;
        self.slots.note(number, lease.frame.written());
        self.slots.slot(number).unbind();
        metrics.page_out_time.end(began, clock);
        Some(lease)
    }
}

/// Whether a process that has run since the pager's last check keeps its frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictPolicy {
    Always,
    SecondChance,
}

/// Saves the process of a frame. Returns the frame without its process, and the process's
/// new location. If its state cannot be read, the process stays in the frame.
fn take_image(mut frame: FrameLease, waiting: bool) -> (Option<FrameLease>, Location) {
    match frame.frame.save(After::Reset) {
        Ok(image) => {
            let stamp = Some(frame.pool().stamp());
            let location = Location::Image {
                image,
                waiting,
                stamp,
            };
            (Some(frame), location)
        }
        Err(_) => (
            None,
            Location::Frame {
                frame,
                suspended: false,
                waiting,
            },
        ),
    }
}
