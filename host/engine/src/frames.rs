//! Which processes are in frames: pools of free frames by version and memory
//! size, a bound on how many there are and on the kernel's mappings that they
//! take, and the pager (`evict`) that takes a frame from a process at rest when
//! one is wanted and none is free.
//!
//! The pager takes processes at rest in the order that `pool` keeps; one that
//! has run again since it was listed gets another round. To take a frame it
//! claims the process (`State::claim`), so it never meets a runner. A frame
//! moves from one version to another only for who stays: a process that crosses
//! does not wait until one frame is dropped and another made.
//!
//! Processes that block keep their frame, so they are limited, and some frames
//! are kept from them: a server that is paged out can always run and unblock
//! its callers.
//!
//! What a process has written stays in its frame's memory when the next one
//! gets it: pages are cleared, not given back, since that is dear. So there is a
//! bound on their bytes too. It is met like the other: no frame is made where
//! one can be taken; and a frame that comes back with more than its share is
//! dropped. [`Frames::trim`] counts what is in use, and pages out and
//! gives back what is too much, away from the schedulers. What processes in the
//! middle of a handler have written cannot be taken from them: their own limit bounds it.
//!
//! If the system has no room for a frame, that is as if the bound were met.
//!
//! A frame that is free has the size of the process that it served last, and
//! is brought to that of the next. What was not wanted for a while is given back.

mod evict;
mod relief;
mod waiters;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::artifact::Artifact;
use crate::executor::Shared;
use crate::frame::Frame;
use crate::guest::GuestSystem;
use crate::pagemap::{GUARD, PageMap, RESERVED};
use crate::places::{Places, Seated};
use crate::pool::{Pool, Stamp, Wanted};
use crate::room::{Room, address_space, most_mappings};
use crate::stack::Stack;

pub(crate) use waiters::{Turnstile, Waiters};

/// Frames if nothing else limits them: of guests that need no fiber so many find
/// room in the mappings that frames keep of those that Linux allows by default.
const FRAMES: usize = 10_240;
/// Frames that are made before a commit for those who will cross.
const PREPARED: usize = 512;
/// One frame in so many is kept from processes that block.
const RESERVE_SHARE: usize = 8;

/// Frames that a version gets as soon as it wants them, if that is not more
/// than one in [`RESERVE_SHARE`].
const FEW: usize = 64;

/// Frames that are dropped one after another, and the pause before the next so many:
/// each takes the kernel's lock on the mappings, which guests want when they grow.
const DROPPED: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

/// When too much is held, so much of the bound is given back at once, so that
/// it is not met again at once.
const RELIEF: u64 = 8;

/// All frames of a node.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Frames that are kept resident.
    limit: usize,
    /// Mappings that they may keep, and those that they may have for moments.
    mappings: usize,
    most_mappings: usize,
    /// Frames that blocked processes may hold.
    may_block: usize,
    /// Frames that a version gets as soon as it wants them.
    few: usize,
    /// Bytes of written pages that they may have.
    memory: u64,
    /// Of that what falls to each.
    share: u64,
    /// Bytes of frames that nobody can take away, as last counted.
    held_bytes: AtomicU64,
    /// Times that pages were given back.
    released: AtomicU64,
    told_at: Mutex<Option<u64>>,
    room: Room,
    page_map: OnceLock<Arc<PageMap>>,
    /// By artifact.
    pools: RwLock<HashMap<u64, Arc<Pool>, foldhash::fast::FixedState>>,
    places: Arc<Places>,
    /// Processes that wait for one.
    pub(crate) waiters: Arc<Waiters>,
}

/// What has become of the places of all frames. At rest `live` and `vacant`
/// together are `places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCounts {
    /// Frames that there may be at most, for moments.
    pub places: usize,
    /// Those without a frame.
    pub vacant: usize,
    /// Frames alive.
    pub live: usize,
    /// Frames that stand at the base and wait for a process.
    pub free: usize,
    /// Frames of processes that block, or that keep theirs.
    pub blocked: usize,
    /// Kernel mappings that they take at most.
    pub mappings: usize,
    /// Bytes of written pages of their memories, as last seen.
    pub bytes: u64,
    /// Bytes that these may be.
    pub most_bytes: u64,
    /// Times that a frame's pages were given back because they were too many.
    pub released: u64,
    /// Frames that could not be made because the system had no room.
    pub failures: u64,
}

/// Why there is no frame.
#[derive(Debug)]
pub(crate) enum NoFrame {
    /// All are in use by processes that run or block.
    AllBusy,
    /// One could not be made.
    Broken(String),
}

/// The default bound: what `vm.max_map_count` leaves room for.
pub fn default_frames() -> usize {
    let frames = FRAMES
        .min(mappings_kept() / Stack::Thread.mappings())
        .max(16);
    // And half of the addresses, if they are limited.
    let each = (RESERVED + 2 * GUARD) as u64;
    address_space().map_or(frames, |limit| {
        frames.min(usize::try_from(limit / 2 / each).unwrap_or(frames))
    })
}

/// How many mappings so many frames take at least, and how many the system
/// allows: `vm.max_map_count`.
pub fn mappings_of(frames: usize) -> (usize, usize) {
    let mappings = frames.saturating_mul(Stack::Thread.mappings());
    (mappings, most_mappings())
}

/// Mappings that frames keep.
fn mappings_kept() -> usize {
    // Some more than 10,240 frames have without fibers.
    most_mappings() / 8 * 5 + 64
}

impl Frames {
    pub(crate) fn new(limit: usize, memory: u64, system: Arc<GuestSystem>) -> Frames {
        let limit = limit.max(4);
        let reserve = (limit / RESERVE_SHARE).max(2);
        // Processes that are preempted in the middle of a handler keep their
        // frame and cannot be asked to give it up: room for as many again.
        let places = limit * 2;
        let waiters = Arc::new(Waiters::new(system));
        let mappings = mappings_kept();
        // Who blocks does it on a fiber.
        let fibers = (mappings / Stack::Fiber.mappings()).max(4);
        let may_block = fibers - (fibers / RESERVE_SHARE).max(2);
        Frames {
            limit,
            mappings,
            most_mappings: mappings + mappings / 5 * 2,
            may_block: may_block.min(limit - reserve),
            few: reserve.min(FEW),
            memory,
            share: memory / limit as u64,
            held_bytes: AtomicU64::new(0),
            released: AtomicU64::new(0),
            told_at: Mutex::default(),
            room: Room::default(),
            page_map: OnceLock::new(),
            pools: RwLock::default(),
            places: Arc::new(Places::new(places, waiters.clone())),
            waiters,
        }
    }

    /// Whether one more process may block.
    pub(crate) fn may_block(&self) -> bool {
        self.places.held() < self.may_block
            && self.held_bytes.load(Ordering::Relaxed) <= self.memory - self.memory / RELIEF
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            places: self.places.all().len(),
            vacant: self.places.vacant(),
            live: self.places.live(),
            free: self.all().iter().map(|pool| pool.free()).sum(),
            blocked: self.places.held(),
            mappings: self.places.mappings(),
            bytes: self.places.bytes(),
            most_bytes: self.memory,
            released: self.released.load(Ordering::Relaxed),
            failures: self.room.failures(),
        }
    }

    /// Whether the system has no room for frames at the moment.
    pub(crate) fn is_short(&self, shared: &Shared) -> bool {
        self.room.is_short(&shared.system.clock)
    }

    /// Whether no more frames are made as long as there are others.
    fn full(&self, shared: &Shared) -> bool {
        self.is_crowded() || self.is_over() || self.is_short(shared)
    }

    /// Whether there are as many frames, or mappings of frames, as are kept.
    fn is_crowded(&self) -> bool {
        self.places.live() >= self.limit || !self.has_mappings(Stack::Fiber, self.mappings)
    }

    /// Whether one more frame with this stack stays below so many mappings.
    fn has_mappings(&self, stack: Stack, most: usize) -> bool {
        self.places.mappings() + stack.mappings() <= most
    }

    /// Whether they have more bytes than they may.
    #[inline]
    fn is_over(&self) -> bool {
        self.places.bytes() > self.memory
    }

    /// Whether a frame at the base has so much of what is too much that it is
    /// worth its price to drop it.
    fn is_wasteful(&self, seated: &Seated) -> bool {
        self.is_over() && seated.frame.spare() > self.share
    }

    /// A frame at the base of the version, with the memory's size, for a
    /// process that was paged out at `stamp`, if it was.
    pub(crate) fn acquire(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pages: u32,
        stamp: Option<Stamp>,
    ) -> Result<Seated, NoFrame> {
        let pool = self.pool(artifact.id);
        let stays = stamp.is_some_and(|stamp| pool.soon(stamp, self.limit));
        let mut seated = self.find(shared, artifact, &pool, pages, stays)?;
        if seated.frame.pages() != pages {
            match seated.frame.resize(pages) {
                Ok(true) => self.places.note(seated.place(), seated.frame.written()),
                Ok(false) => {
                    let what = format!("its memory could not be brought to {pages} pages");
                    self.room.failed(&shared.system.clock, what);
                    return Err(NoFrame::AllBusy);
                }
                Err(reason) => return Err(NoFrame::Broken(reason)),
            }
        }
        if shared.stack_of(artifact) == Stack::Fiber && seated.frame.stack() == Stack::Thread {
            let done = self.use_fibers(shared, &mut seated);
            if !done.map_err(NoFrame::Broken)? {
                return Err(NoFrame::AllBusy);
            }
        }
        let place = self.places.place(seated.place());
        place.stays.store(stays, Ordering::Relaxed);
        Ok(seated)
    }

    /// Has the guest of a frame at rest run on fibers. `Ok(false)`: there is no
    /// room for its stack now.
    pub(crate) fn use_fibers(
        &self,
        shared: &Arc<Shared>,
        seated: &mut Seated,
    ) -> Result<bool, String> {
        if self.room.is_short(&shared.system.clock) {
            return Ok(false);
        }
        // It takes more mappings then: another goes for it.
        if !self.has_mappings(Stack::Fiber, self.mappings) {
            let pool = seated.pool().clone();
            if !self.give_up(shared, &pool, 0) {
                drop(self.evict(shared, &pool, Wanted::Cold));
            }
        }
        if !self.has_mappings(Stack::Fiber, self.most_mappings) {
            return Ok(false);
        }
        let done = seated.use_fibers()?;
        if !done {
            let what = "there was no room for a guest's stack".to_owned();
            self.room.failed(&shared.system.clock, what);
        }
        Ok(done)
    }

    fn find(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        pages: u32,
        stays: bool,
    ) -> Result<Seated, NoFrame> {
        let frames = match pool.pop(pages) {
            Ok(seated) if !shared.is_outdated(artifact, &seated) => return Ok(seated),
            // A better one is made in its place.
            Ok(seated) => {
                drop(seated);
                pool.len()
            }
            Err(frames) => frames,
        };
        if (stays || frames < self.few) && self.has_room(shared, pool, frames) {
            match self.make(shared, artifact, pool) {
                Err(NoFrame::AllBusy) => {}
                made => return made,
            }
        }
        let wanted = match stays {
            true => Wanted::Cold,
            false => Wanted::Warm,
        };
        if wanted == Wanted::Warm {
            self.age(shared, pool);
        }
        if let Some(seated) = self.evict(shared, pool, wanted) {
            return self.fit(shared, artifact, pool, seated);
        }
        let gave_up = self.full(shared) && self.give_up(shared, pool, 0);
        let made = if !gave_up && self.room.is_short(&shared.system.clock) {
            Err(NoFrame::AllBusy)
        } else {
            self.make(shared, artifact, pool)
        };
        match made {
            Err(NoFrame::AllBusy) => {
                if let Some(seated) = self.evict_any(shared, pool) {
                    return self.fit(shared, artifact, pool, seated);
                }
                let others = self.all();
                let seated = others
                    .iter()
                    .find_map(|other| self.evict_any(shared, other))
                    .ok_or(NoFrame::AllBusy)?;
                drop(seated);
                self.make(shared, artifact, pool)
            }
            made => made,
        }
    }

    /// The frame if it has not too much of what is too much, and its guest runs on
    /// the right stack, else another in its place.
    fn fit(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        seated: Seated,
    ) -> Result<Seated, NoFrame> {
        if self.is_wasteful(&seated) {
            self.released.fetch_add(1, Ordering::Relaxed);
        } else if !shared.is_outdated(artifact, &seated) {
            return Ok(seated);
        }
        drop(seated);
        self.make(shared, artifact, pool)
    }

    fn pool(&self, artifact: u64) -> Arc<Pool> {
        if let Some(pool) = self.pools.read().get(&artifact) {
            return pool.clone();
        }
        let mut pools = self.pools.write();
        pools
            .entry(artifact)
            .or_insert_with(|| Arc::new(Pool::new(artifact, self.few)))
            .clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().values().cloned().collect()
    }

    /// Whether a frame may be made, if necessary in the place of others: one
    /// with a fiber takes more mappings than one without.
    fn has_room(&self, shared: &Arc<Shared>, wants: &Arc<Pool>, of: usize) -> bool {
        let gave_up = self.full(shared) && self.give_up(shared, wants, of);
        if gave_up && !self.has_mappings(Stack::Fiber, self.mappings) {
            self.give_up(shared, wants, of);
        }
        gave_up || !self.full(shared)
    }

    /// Makes room: drops a free frame of any version, else that of a process of
    /// another version with `of` frames or more: those with most first, but all
    /// frames of one may be held.
    fn give_up(&self, shared: &Arc<Shared>, wants: &Arc<Pool>, of: usize) -> bool {
        let pools = self.all();
        let free = pools.iter().find_map(|pool| pool.pop_any());
        let seated = free.or_else(|| {
            let mut others: Vec<(usize, &Arc<Pool>)> = pools
                .iter()
                .filter(|pool| !Arc::ptr_eq(pool, wants))
                .map(|pool| (pool.len(), pool))
                .filter(|(frames, _)| *frames >= of)
                .collect();
            others.sort_unstable_by_key(|(frames, _)| Reverse(*frames));
            let mut others = others.into_iter();
            others.find_map(|(_, pool)| self.evict(shared, pool, Wanted::Cold))
        });
        seated.is_some()
    }

    /// Makes up to `count` free frames of a version that will be wanted soon.
    /// They may be more than are kept, by a quarter: those of the version
    /// before are dropped by [`Frames::trim`] when its processes have left.
    pub(crate) fn prepare(&self, shared: &Arc<Shared>, artifact: &Artifact, count: usize) {
        let pool = self.pool(artifact.id);
        let most = self.limit + self.limit / 4;
        for _ in pool.len()..count.min(self.limit / 4).min(PREPARED) {
            if self.places.live() >= most
                || !self.has_mappings(Stack::Fiber, self.mappings + self.mappings / 4)
                || self.is_over()
                || self.room.is_short(&shared.system.clock)
            {
                return;
            }
            match self.make(shared, artifact, &pool) {
                Ok(seated) => self.give_back(seated),
                Err(_) => return,
            }
        }
    }

    fn make(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
    ) -> Result<Seated, NoFrame> {
        // No over-commitment when there is too much already.
        if (self.is_over() && self.places.live() >= self.limit)
            || !self.has_mappings(Stack::Fiber, self.most_mappings)
        {
            return Err(NoFrame::AllBusy);
        }
        self.page_map.get_or_init(|| artifact.plan.page_map.clone());
        // The ticket gives the place back if no frame comes of it.
        let ticket = self.places.take(pool).ok_or(NoFrame::AllBusy)?;
        let frame = Frame::new(artifact, shared).map_err(|failed| {
            if failed.no_room {
                self.room.failed(&shared.system.clock, failed.reason);
                return NoFrame::AllBusy;
            }
            NoFrame::Broken(format!("{} failed: {}", failed.stage, failed.reason))
        })?;
        shared.metrics.frames_made.fetch_add(1, Ordering::Relaxed);
        Ok(Seated::new(frame, ticket))
    }

    /// A process takes its seat. One of a resident-only module keeps it, like
    /// a process that blocks.
    pub(crate) fn occupy(&self, seated: &mut Seated, slot: u32) {
        if !seated.frame.reusable {
            seated.hold();
        }
        self.places.place(seated.place()).occupy(slot);
    }

    /// Gives back a frame whose state is not wanted any more.
    pub(crate) fn retire(&self, mut seated: Seated) {
        if seated.frame.may_serve_another() {
            seated.frame.reset();
        }
        self.give_back(seated);
    }

    /// Gives back a frame that stands at the base.
    pub(crate) fn give_back(&self, mut seated: Seated) {
        if !seated.frame.may_serve_another() {
            return;
        }
        self.places.note(seated.place(), seated.frame.written());
        if self.is_wasteful(&seated) {
            self.released.fetch_add(1, Ordering::Relaxed);
            return;
        }
        seated.let_go();
        self.places.place(seated.place()).vacate();
        let pool = seated.pool().clone();
        pool.push(seated);
        self.waiters.call();
    }

    /// Drops the free frames of a version that was unloaded. If they are many, it
    /// takes its time: not for a scheduler's thread.
    pub(crate) fn forget(&self, artifact: u64) {
        let pool = self.pools.write().remove(&artifact);
        if let Some(pool) = pool {
            drop_in_parts(pool.forget());
        }
    }

    /// Drops all free frames.
    pub(crate) fn clear(&self) {
        let pools: Vec<Arc<Pool>> = self.pools.write().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            drop(pool.forget());
        }
    }
}

fn drop_in_parts(frames: Vec<Seated>) {
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
