//! Which processes are in frames: pools of free frames by version and memory size, limits
//! on the number of frames and on the kernel mappings that they take, and the pager
//! (`evict`), which takes a frame from a process at rest when one is needed and none is
//! free.
//!
//! The pager takes processes at rest in the order that `pool` keeps; one that has run again
//! since it was listed gets a second chance. To take a frame it claims the process
//! (`StateWord::claim`), so it never takes one from a running process. At the limit, a
//! frame of another version is given up only for a main-queue process, for a version with
//! few frames, or if no other frame can be found: otherwise each upgraded process would
//! wait until one frame is dropped and another made.
//!
//! Processes that block keep their frame, so their number is limited and some frames are
//! reserved for others: a server that is paged out can always run and unblock its callers.
//!
//! The pages that a process has written stay in its frame's memory for the next process:
//! they are cleared, not given back, because giving them back is expensive. So their bytes
//! have a limit too. At the limit no frame is made if one can be taken, and a returned
//! frame that holds more than its share is dropped. [`FrameTable::trim`] measures what is
//! in use, pages out processes and gives pages back, away from the schedulers. Pages that
//! processes have written in the middle of a handler cannot be taken from them: their own
//! memory limit bounds those.
//!
//! If the system is out of memory or mappings for a frame, that is handled as if the limit
//! were reached.
//!
//! A free frame has the memory size of the process that it served last, and is resized for
//! the next. Frames that were unused for a while are dropped.

pub(crate) mod blocked;
pub(crate) mod capacity;
mod census;
mod evict;
mod examine;
pub(crate) mod frame;
mod limits;
mod metrics;
pub(crate) mod pool;
mod reclaim;
pub(crate) mod slots;
mod waiters;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use exuvia_image::PageMap;
use exuvia_process::ReportInterval;
use parking_lot::RwLock;

use crate::frames::capacity::SystemCapacity;
use crate::frames::frame::Frame;
use crate::frames::pool::{EvictFrom, Pool, Stamp};
use crate::frames::slots::{FrameLease, FrameSlots};
use crate::guest::{FrameId, Location};
use crate::host::Host;
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;

pub(crate) use census::Census;
pub(crate) use limits::FrameLimits;
pub use limits::{default_frames, mappings_of};
pub use metrics::Metrics;
pub(crate) use waiters::{Turnstile, Waiters};

/// The maximum number of frames that are made before a commit for the processes to be
/// upgraded.
const PREPARED: usize = 512;
/// How many frames are dropped in a row, and the pause after them: each takes the kernel's
/// lock on the mappings, which guests need when they grow.
const DROPPED: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

/// All frames of a node.
#[derive(Debug)]
pub(crate) struct FrameTable {
    host: Arc<Host>,
    limits: FrameLimits,
    /// How often a frame's pages were given back.
    released: AtomicU64,
    /// When the limit on bytes was last logged.
    over_limit_reports: ReportInterval,
    capacity: Arc<SystemCapacity>,
    page_map: OnceLock<Arc<PageMap>>,
    /// By the artifact's id.
    pools: RwLock<HashMap<u64, Arc<Pool>, foldhash::fast::FixedState>>,
    slots: Arc<FrameSlots>,
    census: Arc<Census>,
    pub(crate) metrics: Metrics,
    /// Processes that wait for a frame.
    pub(crate) waiters: Arc<Waiters>,
}

/// The counts of frames and frame slots. When no frame is being made or dropped,
/// `live + vacant == places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCounts {
    /// The maximum number of frames, for short times.
    pub places: usize,
    /// Frame slots without a frame.
    pub vacant: usize,
    /// Frames that exist now.
    pub live: usize,
    /// Frames in base state that wait for a process.
    pub free: usize,
    /// Frames of processes that block, or that are resident-only.
    pub blocked: usize,
    /// The maximum number of kernel mappings of all frames.
    pub mappings: usize,
    /// Bytes of written pages of all frames' memories, as last measured.
    pub bytes: u64,
    /// The limit on these bytes.
    pub most_bytes: u64,
    /// How often a frame's pages were given back because the limit was exceeded.
    pub released: u64,
    /// Frames that could not be made because the system was out of memory or mappings.
    pub failures: u64,
}

/// Why there is no frame.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// All are in use by processes that run or block.
    NoneFree,
    /// A frame could not be made or prepared.
    Broken(String),
}

impl FrameTable {
    pub(crate) fn new(limits: FrameLimits, host: Arc<Host>) -> FrameTable {
        let capacity = Arc::new(SystemCapacity::default());
        let waiters = Arc::new(Waiters::new(host.system.clone(), capacity.clone()));
        let census = Arc::new(Census::new(limits.slots, limits.most_mappings));
        let slots = FrameSlots::new(limits.slots, host.clone(), census.clone(), waiters.clone());
        FrameTable {
            limits,
            released: AtomicU64::new(0),
            over_limit_reports: ReportInterval::default(),
            capacity,
            page_map: OnceLock::new(),
            pools: RwLock::default(),
            slots: Arc::new(slots),
            census,
            metrics: Metrics::default(),
            waiters,
            host,
        }
    }

    /// Returns the host that the frames are of.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            places: self.slots.all().len(),
            vacant: self.slots.vacant(),
            live: self.slots.live(),
            free: self.all().iter().map(|pool| pool.free()).sum(),
            blocked: self.host.blocking.pinned(),
            mappings: self.slots.mappings(),
            bytes: self.slots.bytes(),
            most_bytes: self.limits.memory,
            released: self.released.load(Ordering::Relaxed),
            failures: self.capacity.failures(),
        }
    }

    /// Returns whether the system is out of memory or mappings for frames at the moment.
    pub(crate) fn is_short(&self) -> bool {
        self.capacity.is_short(&self.host.system.clock)
    }

    /// Returns whether no more frames are made as long as others can be taken.
    fn full(&self) -> bool {
        self.is_full_of_frames() || self.is_over() || self.is_short()
    }

    /// Returns whether there are as many frames, or mappings of frames, as are kept.
    fn is_full_of_frames(&self) -> bool {
        self.slots.live() >= self.limits.frames
            || !self.has_mappings(Stack::Fiber, self.limits.mappings)
    }

    /// Returns whether one more frame with this stack stays within so many mappings.
    fn has_mappings(&self, stack: Stack, most: usize) -> bool {
        self.slots.mappings() + stack.mappings() <= most
    }

    /// Returns whether frames have more bytes than their limit.
    #[inline]
    fn is_over(&self) -> bool {
        self.slots.bytes() > self.limits.memory
    }

    /// Returns whether a frame in base state holds so much of the excess that dropping it
    /// is worth the price of another frame.
    fn is_wasteful(&self, lease: &FrameLease) -> bool {
        self.is_over() && lease.frame.spare() > self.limits.share
    }

    /// Returns a frame of the version in base state, with a memory of `pages`, for a
    /// process that was paged out at `stamp`, if it was.
    pub(crate) fn acquire(
        &self,
        artifact: &Artifact,
        pages: u32,
        stamp: Option<Stamp>,
    ) -> Result<FrameLease, FrameError> {
        let pool = self.pool(artifact.id);
        let stays = stamp.is_some_and(|stamp| pool.ghost_hit(stamp, self.limits.frames));
        let mut lease = self.find(artifact, &pool, pages, stays)?;
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
        let place = self.slots.slot(lease.slot_number());
        place.in_main_queue.store(stays, Ordering::Relaxed);
        Ok(lease)
    }

    /// Moves the guest of a frame at rest to fibers. Returns `Ok(false)` if the system is
    /// out of memory or mappings for its stack, or the limit on mappings is reached.
    pub(crate) fn use_fibers(&self, lease: &mut FrameLease) -> Result<bool, String> {
        if self.capacity.is_short(&self.host.system.clock) {
            return Ok(false);
        }
        // With a fiber it takes more mappings, so another frame is dropped.
        if !self.has_mappings(Stack::Fiber, self.limits.mappings) {
            let pool = lease.pool().clone();
            if !self.give_up(&pool, 0) {
                drop(self.evict(&pool, EvictFrom::Coldest));
            }
        }
        if !self.has_mappings(Stack::Fiber, self.limits.most_mappings) {
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
        stays: bool,
    ) -> Result<FrameLease, FrameError> {
        let frames = match pool.pop(pages) {
            Ok(lease) if !self.is_outdated(artifact, &lease) => return Ok(lease),
            // A frame without a fiber is made in its place.
            Ok(lease) => {
                drop(lease);
                pool.len()
            }
            Err(frames) => frames,
        };
        let denied = self.census.denies(pool);
        if !denied && (stays || frames < self.limits.few) && self.make_room_for_frame(pool, frames)
        {
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
            // In the place of an idle frame of another version, if not in a reserved one.
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

    /// Returns the frame, or a new one in its place if it holds too much of the excess or
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

    pub(crate) fn pool(&self, artifact: u64) -> Arc<Pool> {
        if let Some(pool) = self.pools.read().get(&artifact) {
            return pool.clone();
        }
        let mut pools = self.pools.write();
        pools
            .entry(artifact)
            .or_insert_with(|| Arc::new(Pool::new(artifact, self.limits.few)))
            .clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().values().cloned().collect()
    }

    /// Returns whether a frame may be made. Drops up to two other frames if necessary: one
    /// with a fiber takes more mappings than one without.
    fn make_room_for_frame(&self, wants: &Arc<Pool>, of: usize) -> bool {
        let gave_up = self.full() && self.give_up(wants, of);
        if gave_up && !self.has_mappings(Stack::Fiber, self.limits.mappings) {
            self.give_up(wants, of);
        }
        gave_up || !self.full()
    }

    /// Drops a free frame of any version, or else the frame of a process of another version
    /// with `of` frames or more. Versions with the most frames come first, but all frames
    /// of one may be in use. Returns whether it has dropped one.
    fn give_up(&self, wants: &Arc<Pool>, of: usize) -> bool {
        let pools = self.all();
        let free = pools.iter().find_map(|pool| pool.pop_any());
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

    /// Makes up to `count` free frames of a version that will be needed soon. They may
    /// exceed the limit by a quarter: when the processes of the version before have been
    /// upgraded, [`FrameTable::trim`] drops that version's frames.
    pub(crate) fn prepare(&self, artifact: &Artifact, count: usize) {
        let pool = self.pool(artifact.id);
        let most = self.limits.frames + self.limits.frames / 4;
        for _ in pool.len()..count.min(self.limits.frames / 4).min(PREPARED) {
            if self.slots.live() >= most
                || !self.has_mappings(
                    Stack::Fiber,
                    self.limits.mappings + self.limits.mappings / 4,
                )
                || self.is_over()
                || self.capacity.is_short(&self.host.system.clock)
            {
                return;
            }
            match self.make(artifact, &pool) {
                Ok(lease) => self.give_back(lease),
                Err(_) => return,
            }
        }
    }

    fn make(&self, artifact: &Artifact, pool: &Arc<Pool>) -> Result<FrameLease, FrameError> {
        // Does not exceed the limits any further.
        if (self.is_over() && self.slots.live() >= self.limits.frames)
            || !self.has_mappings(Stack::Fiber, self.limits.most_mappings)
        {
            return Err(FrameError::NoneFree);
        }
        self.page_map.get_or_init(|| artifact.plan.page_map.clone());
        // The reservation frees the slot if no frame can be made.
        let reservation = self.slots.take(pool).ok_or(FrameError::NoneFree)?;
        let frame = Frame::new(artifact, &self.host).map_err(|failed| {
            if failed.no_room {
                self.capacity.failed(&self.host.system.clock, failed.reason);
                return FrameError::NoneFree;
            }
            FrameError::Broken(format!("{} failed: {}", failed.stage, failed.reason))
        })?;
        self.metrics.frames_made.fetch_add(1, Ordering::Relaxed);
        Ok(FrameLease::new(frame, reservation, &self.slots))
    }

    /// Takes the frame of a process out of the table. The caller runs the process or has claimed
    /// it. Returns `None` if the frame is not there, which is a bug of the host.
    #[inline]
    pub(crate) fn lease(&self, id: FrameId) -> Option<FrameLease> {
        self.slots.lease(id)
    }

    /// Puts the frame of a process back into the table. Returns where the process is now.
    #[inline]
    pub(crate) fn put_back(&self, lease: FrameLease, suspended: bool, waiting: bool) -> Location {
        self.slots.put_back(lease, suspended, waiting)
    }

    /// Binds a process to its frame. The frame of a resident-only module is pinned, like
    /// that of a process that blocks.
    pub(crate) fn bind(&self, lease: &FrameLease, slot: u32) {
        if !lease.frame.reusable {
            self.slots.pin(lease.slot_number());
        }
        self.slots.slot(lease.slot_number()).bind(slot);
    }

    /// Counts the frame among those that cannot be taken away from their processes.
    pub(crate) fn pin(&self, id: FrameId) {
        self.slots.pin(id.0);
    }

    /// Lets the frame be taken away from its process again, except the frame of a resident-only
    /// module.
    pub(crate) fn unpin(&self, lease: &FrameLease) {
        if lease.frame.reusable {
            self.slots.unpin(lease.slot_number());
        }
    }

    /// Drops the frame of a process that was lost by a bug of the host.
    pub(crate) fn drop_frame_of(&self, process: u32) {
        self.slots.drop_frame_of(process);
    }

    /// Returns a frame to its pool, and discards its state.
    pub(crate) fn retire(&self, mut lease: FrameLease) {
        if lease.frame.may_serve_another() {
            lease.frame.reset();
        }
        self.give_back(lease);
    }

    /// Returns a frame in base state to its pool.
    pub(crate) fn give_back(&self, lease: FrameLease) {
        if !lease.frame.may_serve_another() {
            return;
        }
        self.slots.note(lease.slot_number(), lease.frame.written());
        if self.is_wasteful(&lease) {
            self.released.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.slots.unpin(lease.slot_number());
        self.slots.slot(lease.slot_number()).unbind();
        let pool = lease.pool().clone();
        pool.push(lease);
        self.waiters.call();
    }

    /// Drops the free frames of a version that was unloaded. This takes long if there are
    /// many, so it must not run on a scheduler's thread.
    pub(crate) fn forget(&self, artifact: u64) {
        let pool = self.pools.write().remove(&artifact);
        if let Some(pool) = pool {
            drop_in_parts(pool.forget());
        }
    }

    /// Drops all frames. No process may run or be used any more.
    pub(crate) fn clear(&self) {
        self.slots.clear();
        let pools: Vec<Arc<Pool>> = self.pools.write().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            drop(pool.forget());
        }
    }
}

fn drop_in_parts(frames: Vec<FrameLease>) {
    let mut frames = frames.into_iter();
    loop {
        frames.by_ref().take(DROPPED).for_each(drop);
        if frames.len() == 0 {
            return;
        }
        thread::park_timeout(PAUSE);
    }
}

#[cfg(test)]
mod tests;
