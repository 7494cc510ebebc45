//! Which frame a process gets: a free one, a new one, or that of a process at rest.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{FrameError, FrameTable, Purpose};
use crate::frames::pool::{EvictFrom, Pool};
use crate::frames::slots::FrameLease;
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;

impl FrameTable {
    /// Returns a frame of the version in base state, with a memory of `pages`.
    pub(crate) fn acquire(
        &self,
        artifact: &Artifact,
        pages: u32,
        purpose: Purpose,
    ) -> Result<FrameLease, FrameError> {
        let stays = |pool: &Pool| match purpose {
            Purpose::Process(Some(stamp)) => pool.ghost_hit(stamp, self.limits.frames),
            Purpose::Process(None) | Purpose::Save => false,
        };
        let near = self.nearby.pop(artifact.id, pages);
        let near = near.filter(|lease| !self.is_outdated(artifact, lease));
        let (mut lease, stays) = match near {
            Some(lease) => {
                let stays = stays(lease.pool());
                (lease, stays)
            }
            None => {
                let pool = self.pool(artifact);
                let (stays, may_be_denied) = (stays(&pool), purpose != Purpose::Save);
                let lease = self.find(artifact, &pool, pages, (stays, may_be_denied))?;
                (lease, stays)
            }
        };
        if lease.frame.pages() != pages {
            match lease.frame.resize(pages) {
                Ok(true) => self.slots.note(lease.slot_number(), lease.frame.written()),
                Ok(false) => {
                    let what = format!("its memory could not be resized to {pages} pages");
                    self.capacity.failed(&self.host.system.clock, what);
                    return Err(FrameError::NoneFree);
                }
                Err(reason) => return Err(FrameError::Broken(reason)),
            }
        }
        if self.host.stack_of(artifact) == Stack::Fiber && lease.frame.stack() == Stack::Thread {
            let done = self.use_fibers(&mut lease);
            if !done.map_err(FrameError::Broken)? {
                return Err(FrameError::NoneFree);
            }
        }
        let slot = self.slots.slot(lease.slot_number());
        slot.in_main_queue.store(stays, Ordering::Relaxed);
        Ok(lease)
    }

    /// Moves the guest of a frame at rest to fibers. Returns `Ok(false)` if the system is
    /// out of memory or mappings for its stack, or the limit on mappings is reached.
    pub(crate) fn use_fibers(&self, lease: &mut FrameLease) -> Result<bool, String> {
        if self.capacity.is_short(&self.host.system.clock) {
            return Ok(false);
        }
        // With a fiber it takes more mappings, so another frame is dropped.
        if !self.has_mappings(self.limits.mappings) {
            let pool = lease.pool().clone();
            if !self.give_up(&pool, 0) {
                drop(self.evict(&pool, EvictFrom::Coldest));
            }
        }
        if !self.has_mappings(self.limits.most_mappings) {
            return Ok(false);
        }
        let done = lease.use_fibers(&self.slots)?;
        if !done {
            let what = "no memory for a guest's stack".to_owned();
            self.capacity.failed(&self.host.system.clock, what);
        }
        Ok(done)
    }

    fn find(
        &self,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        pages: u32,
        (stays, may_be_denied): (bool, bool),
    ) -> Result<FrameLease, FrameError> {
        let free = pool.pop(pages);
        let free = free.or_else(|frames| self.nearby.steal(pool.artifact).ok_or(frames));
        let frames = match free {
            Ok(lease) if !self.is_outdated(artifact, &lease) => return Ok(lease),
            // A frame without a fiber is made in its slot.
            Ok(lease) => {
                drop(lease);
                pool.len()
            }
            Err(frames) => frames,
        };
        let denied = may_be_denied && self.census.denies(pool);
        if !denied && (stays || frames < self.limits.few) && self.make_capacity(pool, frames) {
            match self.make(artifact, pool) {
                Err(FrameError::NoneFree) => {}
                made => return made,
            }
        }
        let wanted = match stays {
            true => EvictFrom::Coldest,
            false => EvictFrom::SmallQueue,
        };
        if wanted == EvictFrom::SmallQueue {
            self.age_main_queue(pool);
        }
        if let Some(lease) = self.evict(pool, wanted) {
            return self.refresh_evicted(artifact, pool, lease);
        }
        if denied {
            if let Some(lease) = self.evict_any(pool) {
                return self.refresh_evicted(artifact, pool, lease);
            }
            // In the slot of an idle frame of another version of its module: the module has no more
            // frames than before.
            if self.give_up_of_module(pool) {
                return self.make(artifact, pool);
            }
            // In the slot of an idle frame of another module, if not in a reserved one.
            let replaces = self.census.may_replace(pool) && self.give_up(pool, 0);
            if !replaces || self.census.denies(pool) {
                return Err(FrameError::NoneFree);
            }
            return self.make(artifact, pool);
        }
        let gave_up = self.full() && self.give_up(pool, 0);
        let made = if !gave_up && self.capacity.is_short(&self.host.system.clock) {
            Err(FrameError::NoneFree)
        } else {
            self.make(artifact, pool)
        };
        match made {
            Err(FrameError::NoneFree) => {
                if let Some(lease) = self.evict_any(pool) {
                    return self.refresh_evicted(artifact, pool, lease);
                }
                let others = self.all();
                let lease = others
                    .iter()
                    .find_map(|other| self.evict_any(other))
                    .ok_or(FrameError::NoneFree)?;
                drop(lease);
                self.make(artifact, pool)
            }
            made => made,
        }
    }

    /// Returns the frame, or a new one in its slot if it holds too much of the excess or
    /// its guest runs on the wrong stack.
    fn refresh_evicted(
        &self,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        lease: FrameLease,
    ) -> Result<FrameLease, FrameError> {
        if self.is_wasteful(&lease) {
            self.released.fetch_add(1, Ordering::Relaxed);
        } else if !self.is_outdated(artifact, &lease) {
            return Ok(lease);
        }
        drop(lease);
        self.make(artifact, pool)
    }

    /// Returns whether a frame may be made. Drops up to two other frames if necessary: one
    /// with a fiber takes more mappings than one without.
    fn make_capacity(&self, wants: &Arc<Pool>, of: usize) -> bool {
        let gave_up = self.full() && self.give_up(wants, of);
        if gave_up && !self.has_mappings(self.limits.mappings) {
            self.give_up(wants, of);
        }
        gave_up || !self.full()
    }

    /// Drops a frame of another version of the module that is free or of a process at rest. Returns
    /// whether it has dropped one.
    fn give_up_of_module(&self, wants: &Pool) -> bool {
        let pools = self.all();
        let mut others = pools.iter().filter(|pool| pool.is_of_module(wants));
        let lease = others.find_map(|pool| {
            let free = self.pop_any(pool);
            free.or_else(|| self.evict(pool, EvictFrom::Coldest))
        });
        lease.is_some()
    }

    /// Drops a free frame of any version, or else the frame of a process of another version
    /// with `of` frames or more. Versions with the most frames come first, but all frames
    /// of one may be in use. Returns whether it has dropped one.
    fn give_up(&self, wants: &Arc<Pool>, of: usize) -> bool {
        let pools = self.all();
        let free = pools.iter().find_map(|pool| self.pop_any(pool));
        let lease = free.or_else(|| {
            let mut others: Vec<(usize, &Arc<Pool>)> = pools
                .iter()
                .filter(|pool| !Arc::ptr_eq(pool, wants))
                .map(|pool| (pool.len(), pool))
                .filter(|(frames, _)| *frames >= of)
                .collect();
            others.sort_unstable_by_key(|(frames, _)| Reverse(*frames));
            let mut others = others.into_iter();
            others.find_map(|(_, pool)| self.evict(pool, EvictFrom::Coldest))
        });
        lease.is_some()
    }
}
