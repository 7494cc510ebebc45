//! Taking frames from processes at rest: which one (see [`Pool`]), and how its process
//! becomes an image.

use std::sync::atomic::Ordering;

use exuvia_image::After;

use super::FrameTable;
use crate::frames::pool::{EvictFrom, Pool};
use crate::frames::slots::FrameLease;
use crate::guest::{Guest, Location, RunPhase};
use crate::timing::Timing;

impl FrameTable {
    /// Records that a process has come to rest in the frame of this slot, so that it may be
    /// paged out. Called after the run state says so: otherwise a pager that has delisted
    /// the slot and finds the process running would lose it.
    /// `waits`: the slot of the process, if it waits for another frame than the one that it is in.
    #[inline]
    pub(crate) fn note_at_rest(&self, number: u32, waits: Option<u32>) {
        // SeqCst: pairs with the store in `Lists::delist`. It must not be read before the run state
        // is written.
        if !self.slots.slot(number).listed.load(Ordering::SeqCst) {
            self.list(number);
        }
        match waits {
            None => self.waiters.call(),
            Some(index) => self.waiters.call_other(index),
        }
    }

    #[cold]
    fn list(&self, number: u32) {
        let frame_slot = self.slots.slot(number);
        let artifact = frame_slot.artifact.load(Ordering::Relaxed);
        if let Some(pool) = self.pools.read().get(&artifact) {
            pool.list(number, frame_slot);
        }
    }

    /// Pages out a process of a version and returns its frame. See [`Pool`] for which one.
    pub(super) fn evict(&self, pool: &Pool, wanted: EvictFrom) -> Option<FrameLease> {
        let mut tries = 0;
        while let Some((number, listed)) = pool.next(wanted, self.slots.all()) {
            if let Some(lease) = self.evict_slot(pool, number) {
                return Some(lease);
            }
            // Twice as many as are listed: the first round may only take away second
            // chances.
            tries += 1;
            if tries >= listed * 2 {
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
        let frame_slot = self.slots.slot(number);
        let Some(slot) = frame_slot.occupant() else {
            return;
        };
        self.examine(slot, |process| {
            if let Some(guest) = process.guest()
                && guest.evictable_slot() == Some(number)
                && !std::mem::take(&mut guest.referenced)
            {
                pool.demote(number, frame_slot);
            }
        });
    }

    /// The last resort: tries all frames of the pool, also those that are not listed.
    pub(super) fn evict_any(&self, pool: &Pool) -> Option<FrameLease> {
        let mut slots = pool.slots().into_iter();
        slots.find_map(|number| self.evict_slot(pool, number))
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
        // frame slot was listed for an earlier process, is listed again by `examine`.
        let lease = self
            .examine(index, |process| {
                let guest = process.guest()?;
                if std::mem::take(&mut guest.referenced) && chance == EvictPolicy::SecondChance {
                    let frame_slot = self.slots.slot(number);
                    frame_slot.in_main_queue.store(true, Ordering::Relaxed);
                    return None;
                }
                let lease = self.take_image(guest, pool, number);
                guest.wait.trim();
                if lease.is_some() && guest.waits_for_frame {
                    self.waiters.paged_out(index, pool.artifact);
                }
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

impl FrameTable {
    /// Saves a process that is at rest in this frame slot, and returns its frame. If the process
    /// is somewhere else or its state cannot be read, it stays as it is.
    fn take_image(&self, guest: &mut Guest, pool: &Pool, number: u32) -> Option<FrameLease> {
        let Location::Frame {
            frame,
            phase: phase @ (RunPhase::Rest | RunPhase::Waiting),
            ..
        } = guest.location
        else {
            return None;
        };
        if frame.slot != number {
            return None;
        }
        let mut lease = self.lease(frame)?;
        let may = lease.pool().artifact == pool.artifact && lease.frame.may_serve_another();
        guest.take_location();
        match may.then(|| lease.frame.save(After::Reset)) {
            Some(Ok(image)) => {
                guest.set_location(Location::Image {
                    image,
                    waiting: phase == RunPhase::Waiting,
                    stamp: Some(pool.stamp()),
                });
                Some(lease)
            }
            _ => {
                guest.set_location(self.put_back_at(lease, phase));
                None
            }
        }
    }
}

/// Whether a process that has run since the pager's last check keeps its frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EvictPolicy {
    Always,
    SecondChance,
}
