//! Which processes are in frames: pools of free frames by version and memory
//! size, a bound on how many there are, and the pager that takes a frame from
//! a process at rest when one is wanted and none is free.
//!
//! The pager takes processes at rest in the order that `pool` keeps; one that
//! has run again since it was listed gets another round. To take a frame it
//! claims the process (`State::claim`), so it never meets a runner. Frames move from one version to another slowly: a process that
//! crosses does not wait until one frame is dropped and another made.
//!
//! Processes that block keep their frame, so they are limited, and some frames
//! are kept from them: a server that is paged out can always run and unblock
//! its callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use exuvia_process::Then;
use parking_lot::{Mutex, RwLock};

use crate::artifact::Artifact;
use crate::executor::Shared;
use crate::frame::Frame;
use crate::guest::Residence;
use crate::image::After;
use crate::pool::Pool;

/// No process.
const NOBODY: u32 = u32::MAX;

/// Kernel mappings that one frame takes: memory, its guard and file image,
/// stack and its guard (5 to 6 as measured, one to spare).
const MAPPINGS_PER_FRAME: usize = 7;
/// Frames if nothing else limits them.
const FRAMES: usize = 2048;
/// One frame in so many is kept from processes that block.
const RESERVE_SHARE: usize = 8;

/// Frames that a version gets as soon as it wants them, if that is not more
/// than one in [`RESERVE_SHARE`].
const FEW: usize = 64;

/// All frames of a node.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Frames that are kept resident.
    limit: usize,
    /// Frames that blocked processes may hold.
    may_block: usize,
    /// Frames that a version gets as soon as it wants them.
    few: usize,
    live: AtomicUsize,
    blocked: AtomicUsize,
    /// By artifact.
    pools: RwLock<HashMap<u64, Arc<Pool>, foldhash::fast::FixedState>>,
    places: Box<[Place]>,
    vacant: Mutex<Vec<u32>>,
}

/// Where the pager finds who is in a frame.
#[derive(Debug)]
struct Place {
    occupant: AtomicU32,
    artifact: AtomicU64,
    /// In its pool's list of those at rest.
    listed: AtomicBool,
    /// It is asked again and again (see [`Pool`]).
    stays: AtomicBool,
}

/// A frame with its place.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) frame: Box<Frame>,
    place: u32,
    pool: Arc<Pool>,
    /// Counted among the frames that nobody can take away.
    kept: bool,
}

impl Seated {
    pub(crate) fn place(&self) -> u32 {
        self.place
    }
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
    // A third of all mappings at most, over-commitment included.
    FRAMES.min(most_mappings() / 3 / MAPPINGS_PER_FRAME).max(16)
}

/// How many mappings so many frames may take, and how many the system allows:
/// `vm.max_map_count`.
pub fn mappings_of(frames: usize) -> (usize, usize) {
    (frames.saturating_mul(MAPPINGS_PER_FRAME), most_mappings())
}

fn most_mappings() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(65_530)
}

impl Frames {
    pub(crate) fn new(limit: usize) -> Frames {
        let limit = limit.max(4);
        let reserve = (limit / RESERVE_SHARE).max(2);
        // Processes that are preempted in the middle of a handler keep their
        // frame and cannot be asked to give it up: room for as many again.
        let places = limit * 2;
        Frames {
            limit,
            may_block: limit - reserve,
            few: reserve.min(FEW),
            live: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            pools: RwLock::default(),
            places: (0..places)
                .map(|_| Place {
                    occupant: AtomicU32::new(NOBODY),
                    artifact: AtomicU64::new(0),
                    listed: AtomicBool::new(false),
                    stays: AtomicBool::new(false),
                })
                .collect(),
            vacant: Mutex::new(
                (0..places)
                    .rev()
                    .filter_map(|i| i.try_into().ok())
                    .collect(),
            ),
        }
    }

    /// Whether one more process may block.
    pub(crate) fn may_block(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) < self.may_block
    }

    pub(crate) fn block(&self) {
        self.blocked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unblock(&self) {
        self.blocked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Frames alive, and those of blocked processes.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.live.load(Ordering::Relaxed),
            self.blocked.load(Ordering::Relaxed),
        )
    }

    /// A frame at the base of the version, with the memory's size, for a
    /// process that was paged out at `stamp`, if it was.
    pub(crate) fn acquire(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pages: u32,
        stamp: Option<u32>,
    ) -> Result<Seated, NoFrame> {
        let pool = self.pool(artifact.id);
        let stays = stamp.is_some_and(|stamp| pool.soon(stamp, self.limit));
        let seated = self.find(shared, artifact, &pool, pages, stays)?;
        self.places[seated.place as usize]
            .stays
            .store(stays, Ordering::Relaxed);
        Ok(seated)
    }

    fn find(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        pages: u32,
        stays: bool,
    ) -> Result<Seated, NoFrame> {
        if let Some(seated) = pool.pop(pages) {
            return Ok(seated);
        }
        let full = || self.live.load(Ordering::Relaxed) >= self.limit;
        if (stays || pool.len() < self.few) && (!full() || self.give_up(shared, pool)) {
            return self.make(shared, artifact, pool);
        }
        if let Some(seated) = self.evict(shared, pool, stays) {
            return self.fit(shared, artifact, pool, pages, seated);
        }
        if full() {
            self.give_up(shared, pool);
        }
        match self.make(shared, artifact, pool) {
            Err(NoFrame::AllBusy) => {
                let seated = self.evict_any(shared, pool).ok_or(NoFrame::AllBusy)?;
                self.fit(shared, artifact, pool, pages, seated)
            }
            made => made,
        }
    }

    /// The frame if it is not too large, else another in its place.
    fn fit(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
        pages: u32,
        seated: Seated,
    ) -> Result<Seated, NoFrame> {
        if seated.frame.pages() <= pages {
            return Ok(seated);
        }
        self.discard(seated);
        self.make(shared, artifact, pool)
    }

    fn pool(&self, artifact: u64) -> Arc<Pool> {
        if let Some(pool) = self.pools.read().get(&artifact) {
            return pool.clone();
        }
        let mut pools = self.pools.write();
        pools.entry(artifact).or_default().clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().values().cloned().collect()
    }

    /// Makes room: drops a free frame of any version (one of the same version
    /// has the wrong size), else that of a process of the version that has
    /// most, if that is another one.
    fn give_up(&self, shared: &Arc<Shared>, wants: &Arc<Pool>) -> bool {
        let pools = self.all();
        let free = pools.iter().find_map(|pool| pool.pop_any());
        let seated = free.or_else(|| {
            let most = pools.iter().max_by_key(|pool| pool.len())?;
            (!Arc::ptr_eq(most, wants))
                .then(|| self.evict(shared, most, false))
                .flatten()
        });
        seated.is_some_and(|seated| {
            self.discard(seated);
            true
        })
    }

    /// Makes up to `count` free frames of a version that will be wanted soon.
    /// They may be more than are kept, by a quarter: those of the version
    /// before are dropped by [`Frames::trim`] when its processes have left.
    pub(crate) fn prepare(&self, shared: &Arc<Shared>, artifact: &Artifact, count: usize) {
        let pool = self.pool(artifact.id);
        let most = self.limit + self.limit / 4;
        for _ in pool.len()..count.min(self.limit / 4) {
            if self.live.load(Ordering::Relaxed) >= most {
                return;
            }
            match self.make(shared, artifact, &pool) {
                Ok(seated) => self.give_back(seated),
                Err(_) => return,
            }
        }
    }

    /// Drops free frames while there are more frames than are kept.
    pub(crate) fn trim(&self) {
        while self.live.load(Ordering::Relaxed) > self.limit {
            let pools = self.all().into_iter();
            let most = pools.max_by_key(|pool| pool.free());
            match most.and_then(|pool| pool.pop_any()) {
                Some(seated) => self.discard(seated),
                None => return,
            }
        }
    }

    fn make(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
    ) -> Result<Seated, NoFrame> {
        let place = self.vacant.lock().pop().ok_or(NoFrame::AllBusy)?;
        self.live.fetch_add(1, Ordering::Relaxed);
        match Frame::new(artifact, shared) {
            Ok(frame) => {
                let entry = &self.places[place as usize];
                entry.artifact.store(artifact.id, Ordering::Relaxed);
                shared.metrics.frames_made.fetch_add(1, Ordering::Relaxed);
                pool.joined(place);
                Ok(Seated {
                    frame: Box::new(frame),
                    place,
                    pool: pool.clone(),
                    kept: false,
                })
            }
            Err(reason) => {
                self.live.fetch_sub(1, Ordering::Relaxed);
                self.vacant.lock().push(place);
                Err(NoFrame::Broken(reason))
            }
        }
    }

    /// A process takes its seat. One of a resident-only module keeps it, like
    /// a process that blocks.
    pub(crate) fn occupy(&self, seated: &mut Seated, slot: u32) {
        if !seated.frame.reusable && !std::mem::replace(&mut seated.kept, true) {
            self.block();
        }
        self.places[seated.place as usize]
            .occupant
            .store(slot, Ordering::Release);
    }

    /// Gives back a frame whose state is not wanted any more.
    pub(crate) fn retire(&self, mut seated: Seated) {
        if seated.frame.reusable {
            seated.frame.reset();
            self.give_back(seated);
        } else {
            self.discard(seated);
        }
    }

    /// Gives back a frame that stands at the base.
    pub(crate) fn give_back(&self, seated: Seated) {
        if !seated.frame.reusable {
            return self.discard(seated);
        }
        self.places[seated.place as usize]
            .occupant
            .store(NOBODY, Ordering::Release);
        let pool = seated.pool.clone();
        if let Err(seated) = pool.push(seated) {
            self.discard(seated);
        }
    }

    /// Drops a frame.
    pub(crate) fn discard(&self, seated: Seated) {
        if seated.kept {
            self.unblock();
        }
        let place = seated.place;
        self.places[place as usize]
            .occupant
            .store(NOBODY, Ordering::Release);
        seated.pool.left(place);
        self.places[place as usize]
            .listed
            .store(false, Ordering::SeqCst);
        drop(seated);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.vacant.lock().push(place);
    }

    /// Drops the free frames of a version that was unloaded.
    pub(crate) fn forget(&self, artifact: u64) {
        let pool = self.pools.write().remove(&artifact);
        if let Some(pool) = pool {
            self.empty(&pool);
        }
    }

    /// Drops all free frames.
    pub(crate) fn clear(&self) {
        let pools: Vec<Arc<Pool>> = self.pools.write().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            self.empty(&pool);
        }
    }

    fn empty(&self, pool: &Pool) {
        pool.forget();
        while let Some(seated) = pool.pop_any() {
            self.discard(seated);
        }
    }

    /// A process has come to rest in the frame of this place: it may be paged
    /// out. Called after the run state says so, so that whoever has taken the
    /// place off the list and found the process running does not lose it.
    #[inline]
    pub(crate) fn rest(&self, place: u32) {
        if !self.places[place as usize].listed.load(Ordering::Relaxed) {
            self.list(place);
        }
    }

    #[cold]
    fn list(&self, place: u32) {
        let entry = &self.places[place as usize];
        let artifact = entry.artifact.load(Ordering::Relaxed);
        if let Some(pool) = self.pools.read().get(&artifact)
            && !entry.listed.swap(true, Ordering::AcqRel)
        {
            pool.list(place, entry.stays.load(Ordering::Relaxed));
        }
    }

    /// Pages out a process of a version (see [`Pool`] for which).
    fn evict(&self, shared: &Arc<Shared>, pool: &Pool, of_staying: bool) -> Option<Seated> {
        // Twice round: the first round may only take away second chances.
        for _ in 0..pool.listed() * 2 {
            let place = pool.next(of_staying)?;
            self.places[place as usize]
                .listed
                .store(false, Ordering::SeqCst);
            if let Some(seated) = self.try_place(shared, pool, place) {
                return Some(seated);
            }
        }
        None
    }

    /// The same for whoever the list has lost: an inspection had taken the
    /// process when its turn to be paged out came.
    fn evict_any(&self, shared: &Arc<Shared>, pool: &Pool) -> Option<Seated> {
        let places = pool.places().into_iter();
        places
            .into_iter()
            .find_map(|place| self.try_place(shared, pool, place))
    }

    fn try_place(&self, shared: &Arc<Shared>, pool: &Pool, place: u32) -> Option<Seated> {
        let slot = self.places[place as usize].occupant.load(Ordering::Acquire);
        if slot == NOBODY {
            return None;
        }
        self.page_out(shared, pool, slot, place)
    }

    /// The frame may have been dropped since its place was listed, and the
    /// place given to one of another version: that one is not taken.
    fn page_out(
        &self,
        shared: &Arc<Shared>,
        pool: &Pool,
        index: u32,
        place: u32,
    ) -> Option<Seated> {
        let slot = shared.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let taken = slot.take_own().map(|mut own| {
            let seated = own.guest().and_then(|guest| {
                let again = std::mem::take(&mut guest.touched);
                if again {
                    self.places[place as usize]
                        .stays
                        .store(true, Ordering::Relaxed);
                }
                match std::mem::replace(&mut guest.residence, Residence::Running) {
                    Residence::Frame {
                        mut frame,
                        suspended: false,
                        waiting,
                    } if !again
                        && frame.place == place
                        && std::ptr::eq(&*frame.pool, pool)
                        && frame.frame.reusable =>
                    {
                        let Some(image) = frame.frame.save(After::Reset) else {
                            guest.residence = Residence::Frame {
                                frame,
                                suspended: false,
                                waiting,
                            };
                            return None;
                        };
                        guest.residence = Residence::Image {
                            image,
                            waiting,
                            stamp: Some(frame.pool.stamp()),
                        };
                        Some(frame)
                    }
                    other => {
                        guest.residence = other;
                        None
                    }
                }
            });
            if seated.is_some() {
                shared.metrics.page_outs.fetch_add(1, Ordering::Relaxed);
                own.trim(&shared.system);
            }
            slot.put_own(own);
            seated
        });
        let then: Then = slot.state.end();
        shared.system.then(index, then);
        let Some(seated) = taken.flatten() else {
            // A second chance, or it was listed for somebody who has left.
            self.rest(place);
            return None;
        };
        self.places[place as usize]
            .occupant
            .store(NOBODY, Ordering::Release);
        Some(seated)
    }
}
