//! Giving memory back when frames have too much of it, away from the
//! schedulers: see [`Frames`] for what the bound means.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use super::evict::Chance;
use super::{Frames, RELIEF, drop_in_parts};
use crate::executor::Shared;
use crate::places::Seated;

/// How often it is told at most that the bound on bytes is met, nanoseconds.
const TOLD_EVERY: u64 = 30_000_000_000;

impl Frames {
    /// Drops free frames while there are more frames than are kept, and some that
    /// nobody has wanted since it was called last; gives pages back while they have
    /// more bytes than they may. Answers a line for the log, if anything is short.
    pub(crate) fn trim(&self, shared: &Shared) -> Option<String> {
        for pool in self.all() {
            drop_in_parts(pool.take_unwanted());
        }
        while self.places.live() > self.limit || self.places.mappings() > self.mappings {
            let pools = self.all().into_iter();
            let most = pools.max_by_key(|pool| pool.free());
            if most.and_then(|pool| pool.pop_any()).is_none() {
                break;
            }
        }
        let over = self.relieve(shared);
        // It may have less now, and nobody else says so.
        self.waiters.call();
        let short = self.room.news(&shared.system.clock, self.places.live());
        match (over, short) {
            (Some(over), Some(short)) => Some(format!("{over}; {short}")),
            (over, short) => over.or(short),
        }
    }

    /// Counts what frames hold. If that is too much, those that are free and
    /// those of processes at rest give their pages back, the largest first.
    fn relieve(&self, shared: &Shared) -> Option<String> {
        let held = self.places.measure(self.page_map.get()?);
        self.held_bytes.store(held, Ordering::Relaxed);
        if !self.is_over() {
            return None;
        }
        let (before, paged_out) = (self.places.bytes(), self.shrink(shared));
        let now = shared.system.clock.now();
        let mut told_at = self.told_at.lock();
        if told_at.is_some_and(|at| now < at.saturating_add(TOLD_EVERY)) {
            return None;
        }
        *told_at = Some(now);
        Some(format!(
            "frames had {before} bytes of memory, `frame_memory` in `[node]` allows {}; {paged_out} processes were paged out for it, and frames have {} bytes now, {held} of them held by processes that block or keep theirs: nodes are slower in this state; raise `frame_memory`, or lower `frames` or `limits.memory`",
            self.memory,
            self.places.bytes(),
        ))
    }

    /// Gives pages back until there is some room again. Answers how many
    /// processes it has paged out.
    fn shrink(&self, shared: &Shared) -> usize {
        let goal = self.memory - self.memory / RELIEF;
        let enough = || self.places.bytes() <= goal;
        let pools = self.all();
        for pool in &pools {
            for seated in pool.take_free() {
                if enough() {
                    self.give_back(seated);
                } else {
                    self.release(seated);
                }
            }
        }
        let mut largest: Vec<(u64, u32)> = (0..)
            .zip(self.places.all())
            .filter(|(_, place)| place.occupant().is_some() && !place.is_held())
            .map(|(number, place)| (place.bytes(), number))
            .collect();
        largest.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut paged_out = 0;
        for (_, number) in largest {
            if enough() {
                break;
            }
            let place = self.places.place(number);
            let artifact = place.artifact.load(Ordering::Relaxed);
            let Some(pool) = pools.iter().find(|pool| pool.artifact == artifact) else {
                continue;
            };
            let Some(slot) = place.occupant() else {
                continue;
            };
            if let Some(seated) = self.page_out(shared, pool, slot, number, Chance::First) {
                paged_out += 1;
                self.release(seated);
            }
        }
        paged_out
    }

    /// Gives back a frame that stands at the base, without what a new one
    /// would not have.
    fn release(&self, mut seated: Seated) {
        if seated.frame.spare() > 0 {
            seated.frame.release();
            self.released.fetch_add(1, Ordering::Relaxed);
        }
        self.give_back(seated);
    }
}
