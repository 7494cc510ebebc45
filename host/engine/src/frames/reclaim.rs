//! Reclaims memory when frames have too much of it, away from the schedulers; see
//! [`FrameTable`] for the limit.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use super::evict::EvictPolicy;
use super::limits::RECLAIM_SHARE;
use super::{FrameTable, drop_in_parts};
use crate::frames::slots::FrameLease;

impl FrameTable {
    /// Drops free frames while there are more frames than are kept, and a part of those
    /// that were unused since the last call; gives pages back while frames have more bytes
    /// than their limit. Returns a line for the log if anything is short.
    pub(crate) fn trim(&self) -> Option<String> {
        self.collect_nearby();
        for pool in self.all() {
            drop_in_parts(pool.take_surplus());
        }
        while self.slots.live() > self.limits.frames || self.slots.mappings() > self.limits.mappings
        {
            let pools = self.all().into_iter();
            let most = pools.max_by_key(|pool| pool.free());
            if most.and_then(|pool| pool.pop_any()).is_none() {
                break;
            }
        }
        let over = self.reclaim();
        // Frames may have less now, and nothing else wakes the waiters for that.
        self.waiters.call();
        let short = self
            .capacity
            .news(&self.host.system.clock, self.slots.live());
        match (over, short) {
            (Some(over), Some(short)) => Some(format!("{over}; {short}")),
            (over, short) => over.or(short),
        }
    }

    /// Measures what frames hold. If it exceeds the limit, free frames and those of
    /// processes at rest give their pages back, the largest first. Returns a line for the
    /// log, at a limited rate.
    fn reclaim(&self) -> Option<String> {
        let held = self.slots.measure(self.page_map.get()?);
        self.host.blocking.measured(held);
        if !self.is_over() {
            return None;
        }
        let (before, paged_out) = (self.slots.bytes(), self.shrink());
        if !self.over_limit_reports.admits(&self.host.system.clock) {
            return None;
        }
        Some(format!(
            "frames had {before} bytes of memory, `frame_memory` in `[node]` allows {}; {paged_out} processes were paged out, and frames have {} bytes now, {held} of them held by processes that cannot be paged out: the node is slower in this state; raise `frame_memory`, or lower `frames` or `limits.memory`",
            self.limits.memory,
            self.slots.bytes(),
        ))
    }

    /// Gives pages back until the bytes are one [`RECLAIM_SHARE`]th below the limit. Returns how
    /// many processes it has paged out.
    fn shrink(&self) -> usize {
        let goal = self.limits.memory - self.limits.memory / RECLAIM_SHARE;
        let enough = || self.slots.bytes() <= goal;
        self.collect_nearby();
        let pools = self.all();
        for pool in &pools {
            for lease in pool.take_free() {
                if enough() {
                    self.give_back(lease);
                } else {
                    self.release(lease);
                }
            }
        }
        let mut largest: Vec<(u64, u32)> = (0..)
            .zip(self.slots.all())
            .filter(|(_, slot)| slot.occupant().is_some() && !slot.is_pinned())
            .map(|(number, slot)| (slot.bytes(), number))
            .collect();
        largest.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut paged_out = 0;
        for (_, number) in largest {
            if enough() {
                break;
            }
            let slot = self.slots.slot(number);
            let artifact = slot.artifact.load(Ordering::Relaxed);
            let Some(pool) = pools.iter().find(|pool| pool.artifact == artifact) else {
                continue;
            };
            let Some(slot) = slot.occupant() else {
                continue;
            };
            if let Some(lease) = self.page_out(pool, slot, number, EvictPolicy::Always) {
                paged_out += 1;
                self.release(lease);
            }
        }
        paged_out
    }

    /// Returns a frame in base state to its pool, without the pages that a new one would
    /// not have.
    fn release(&self, mut lease: FrameLease) {
        if lease.frame.spare() > 0 {
            lease.frame.release();
            self.released.fetch_add(1, Ordering::Relaxed);
        }
        self.give_back(lease);
    }
}
