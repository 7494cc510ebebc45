//! Which processes are in frames: pools of free frames by version and memory
//! size, a bound on how many there are, and the pager that takes a frame from
//! a process at rest when one is wanted and none is free.
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

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use crate::artifact::Artifact;
use crate::executor::Shared;
use crate::frame::Frame;
use crate::guest::Residence;
use crate::image::After;
use crate::places::{Places, Seated};
use crate::pool::Pool;

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
    /// By artifact.
    pools: RwLock<HashMap<u64, Arc<Pool>, foldhash::fast::FixedState>>,
    places: Arc<Places>,
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
            pools: RwLock::default(),
            places: Arc::new(Places::new(places)),
        }
    }

    /// Whether one more process may block.
    pub(crate) fn may_block(&self) -> bool {
        self.places.held() < self.may_block
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            places: self.places.all().len(),
            vacant: self.places.vacant(),
            live: self.places.live(),
            free: self.all().iter().map(|pool| pool.free()).sum(),
            blocked: self.places.held(),
        }
    }

    fn full(&self) -> bool {
        self.places.live() >= self.limit
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
        let place = self.places.place(seated.place());
        place.stays.store(stays, Ordering::Relaxed);
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
        let frames = match pool.pop(pages) {
            Ok(seated) => return Ok(seated),
            Err(frames) => frames,
        };
        if (stays || frames < self.few) && (!self.full() || self.give_up(shared, pool, frames)) {
            return self.make(shared, artifact, pool);
        }
        if let Some(seated) = self.evict(shared, pool, stays) {
            return self.fit(shared, artifact, pool, pages, seated);
        }
        if self.full() {
            self.give_up(shared, pool, 0);
        }
        match self.make(shared, artifact, pool) {
            Err(NoFrame::AllBusy) => {
                if let Some(seated) = self.evict_any(shared, pool) {
                    return self.fit(shared, artifact, pool, pages, seated);
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
            .or_insert_with(|| Arc::new(Pool::new(artifact)))
            .clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().values().cloned().collect()
    }

    /// Makes room: drops a free frame of any version (one of the same version
    /// has the wrong size), else that of a process of another version with `of`
    /// frames or more: those with most first, but all frames of one may be held.
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
            others.find_map(|(_, pool)| self.evict(shared, pool, false))
        });
        seated.is_some()
    }

    /// Makes up to `count` free frames of a version that will be wanted soon.
    /// They may be more than are kept, by a quarter: those of the version
    /// before are dropped by [`Frames::trim`] when its processes have left.
    pub(crate) fn prepare(&self, shared: &Arc<Shared>, artifact: &Artifact, count: usize) {
        let pool = self.pool(artifact.id);
        let most = self.limit + self.limit / 4;
        for _ in pool.len()..count.min(self.limit / 4) {
            if self.places.live() >= most {
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
        while self.places.live() > self.limit {
            let pools = self.all().into_iter();
            let most = pools.max_by_key(|pool| pool.free());
            if most.and_then(|pool| pool.pop_any()).is_none() {
                return;
            }
        }
    }

    fn make(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pool: &Arc<Pool>,
    ) -> Result<Seated, NoFrame> {
        // The ticket gives the place back if no frame comes of it.
        let ticket = self.places.take(pool).ok_or(NoFrame::AllBusy)?;
        let frame = Frame::new(artifact, shared).map_err(NoFrame::Broken)?;
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
        seated.let_go();
        self.places.place(seated.place()).vacate();
        let pool = seated.pool().clone();
        pool.push(seated);
    }

    /// Drops the free frames of a version that was unloaded.
    pub(crate) fn forget(&self, artifact: u64) {
        let pool = self.pools.write().remove(&artifact);
        if let Some(pool) = pool {
            pool.empty();
        }
    }

    /// Drops all free frames.
    pub(crate) fn clear(&self) {
        let pools: Vec<Arc<Pool>> = self.pools.write().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            pool.empty();
        }
    }

    /// A process has come to rest in the frame of this place: it may be paged
    /// out. Called after the run state says so, so that whoever has taken the
    /// place off the list and found the process running does not lose it.
    #[inline]
    pub(crate) fn rest(&self, number: u32) {
        if !self.places.place(number).listed.load(Ordering::Relaxed) {
            self.list(number);
        }
    }

    #[cold]
    fn list(&self, number: u32) {
        let place = self.places.place(number);
        let artifact = place.artifact.load(Ordering::Relaxed);
        if let Some(pool) = self.pools.read().get(&artifact) {
            pool.list(number, place);
        }
    }

    /// Pages out a process of a version (see [`Pool`] for which).
    fn evict(&self, shared: &Arc<Shared>, pool: &Pool, of_staying: bool) -> Option<Seated> {
        let mut looks = 0;
        while let Some((number, listed)) = pool.next(of_staying, self.places.all()) {
            if let Some(seated) = self.try_place(shared, pool, number) {
                return Some(seated);
            }
            // Twice round: the first round may only take away second chances.
            looks += 1;
            if looks >= listed * 2 {
                break;
            }
        }
        None
    }

    /// The same for whoever the list has lost: the last resort.
    fn evict_any(&self, shared: &Arc<Shared>, pool: &Pool) -> Option<Seated> {
        let mut places = pool.places().into_iter();
        places.find_map(|number| self.try_place(shared, pool, number))
    }

    fn try_place(&self, shared: &Arc<Shared>, pool: &Pool, number: u32) -> Option<Seated> {
        let slot = self.places.place(number).occupant()?;
        self.page_out(shared, pool, slot, number)
    }

    /// Pages out the process of a slot, if it is at rest in this place and the
    /// frame is one of the pool's version.
    fn page_out(
        &self,
        shared: &Arc<Shared>,
        pool: &Pool,
        index: u32,
        number: u32,
    ) -> Option<Seated> {
        // Who is not paged out, for a second chance or because the place was
        // listed for somebody who has left it, is listed again by `look`.
        let seated = shared
            .look(index, |own| {
                let guest = own.guest()?;
                if std::mem::take(&mut guest.touched) {
                    let place = self.places.place(number);
                    place.stays.store(true, Ordering::Relaxed);
                    return None;
                }
                let (seated, residence) =
                    match std::mem::replace(&mut guest.residence, Residence::Running) {
                        Residence::Frame {
                            frame,
                            suspended: false,
                            waiting,
                        } if frame.place() == number
                            && frame.pool().artifact == pool.artifact
                            && frame.frame.may_serve_another() =>
                        {
                            take_image(frame, waiting)
                        }
                        other => (None, other),
                    };
                guest.residence = residence;
                if seated.is_some() {
                    shared.metrics.page_outs.fetch_add(1, Ordering::Relaxed);
                    own.trim(&shared.system);
                }
                seated
            })
            .flatten()?;
        self.places.place(number).vacate();
        Some(seated)
    }
}

/// The frame without its process, and where the process is then. If its state
/// cannot be read, it stays.
fn take_image(mut frame: Seated, waiting: bool) -> (Option<Seated>, Residence) {
    match frame.frame.save(After::Reset) {
        Ok(image) => {
            let stamp = Some(frame.pool().stamp());
            let residence = Residence::Image {
                image,
                waiting,
                stamp,
            };
            (Some(frame), residence)
        }
        Err(_) => (
            None,
            Residence::Frame {
                frame,
                suspended: false,
                waiting,
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use exuvia_abi::Pid;
    use exuvia_code::{Code, Digest, Version};
    use exuvia_process::{Birth, Clock, Limits, Payload, Schedule, Signal, System};

    use super::*;
    use crate::crossing;
    use crate::executor::{Executor, ExecutorConfig};
    use crate::image::Image;
    use crate::loader::{Engine, EngineConfig};
    use crate::observer::Observer;

    const GUEST: &str = r#"(module
      (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
      (memory (export "memory") 2)
      (global (export "exuvia_abi") i32 (i32.const 1))
      (func (export "run") (result i32)
        (loop $next
          (i32.store (i32.const 4096) (i32.const 48))
          (br_if $next (i32.eqz (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256)
            (i64.const 0) (i32.const 0) (i64.const 0)))))
        (i32.const 0))
      (func (export "save") (result i32) (i32.const 0))
      (func (export "load") (param i32 i32) (result i32) (i32.const 0)))"#;

    /// Tells nobody, and schedules nobody: a test makes each turn itself.
    #[derive(Debug)]
    struct Nobody;
    impl Observer for Nobody {}
    impl Schedule for Nobody {
        fn schedule(&self, _: u32) {}
    }

    struct Node {
        executor: Executor,
        old: Arc<Version<Artifact>>,
        new: Arc<Version<Artifact>>,
    }

    fn node() -> Node {
        let system = Arc::new(System::new(7, 100, 1, Clock::manual()));
        system.connect(Arc::new(Nobody));
        let engine = Engine::new(&EngineConfig::default()).unwrap();
        let wasm = wat::parse_str(GUEST).unwrap();
        let code = Arc::new(Code::new(10));
        let [old, new] = [1, 2].map(|number| {
            let artifact = engine.load(&wasm).unwrap();
            code.load("m", Digest([number; 32]), artifact)
        });
        code.commit(code.current_id(), std::slice::from_ref(&old), false)
            .unwrap();
        let config = ExecutorConfig {
            frames: 4,
            probation: 0,
        };
        Node {
            executor: Executor::new(system, code, Arc::new(Nobody), config),
            old,
            new,
        }
    }

    impl Node {
        fn spawn(&self) -> Pid {
            let body = self.executor.newborn("m", Pid::NONE, Payload::empty());
            let limits = Arc::new(Limits::default());
            let birth = Birth::new(body.unwrap(), limits, Payload::empty());
            self.executor.0.system.spawn(birth).unwrap()
        }

        fn lives(&self, pid: Pid) -> bool {
            self.executor.0.system.is_alive(pid)
        }

        fn none_is_lost(&self, live: usize) {
            let counts = self.executor.frames();
            assert_eq!(
                (counts.live, counts.vacant, counts.blocked),
                (live, counts.places - live, 0)
            );
        }
    }

    /// The places would be used up after the first few.
    #[test]
    fn a_crossing_in_which_the_host_fails_loses_no_place() {
        let node = node();
        for _ in 0..20 {
            let image = Image::broken(2);
            let crossed = crossing::cross(&node.executor.0, &node.old, &node.new, &image, None);
            let error = crossed.unwrap_err().to_string();
            assert!(error.contains("the host failed"), "{error}");
            node.none_is_lost(0);
        }
    }

    /// In a new frame, and in one that has served another.
    #[test]
    fn a_process_that_the_host_cannot_seat_ends_and_its_frame_with_it() {
        let node = node();
        for used in [false, true].repeat(10) {
            if used {
                let pid = node.spawn();
                assert!(!node.executor.run(pid.slot()));
                let kill = Signal::Kill { from: Pid::NONE };
                let _ = node.executor.0.system.signal(pid, kill);
                assert!(!node.executor.run(pid.slot()));
                node.none_is_lost(1);
            }
            let pid = node.spawn();
            let slot = node.executor.0.system.table.slot(pid.slot()).unwrap();
            let mut own = slot.take_own().unwrap();
            own.guest().unwrap().residence = Residence::Image {
                image: Image::broken(2),
                waiting: false,
                stamp: None,
            };
            slot.put_own(own);
            assert!(!node.executor.run(pid.slot()));
            assert!(!node.lives(pid));
            node.none_is_lost(0);
        }
    }

    /// A panic anywhere unwinds over the frame of the process, not past its place.
    #[test]
    fn a_frame_that_is_dropped_gives_its_place_back() {
        let node = node();
        let shared = &node.executor.0;
        for _ in 0..20 {
            let seated = shared.frames.acquire(shared, &node.old.artifact, 2, None);
            let mut seated = seated.unwrap();
            seated.hold();
            let counts = node.executor.frames();
            assert_eq!((counts.live, counts.blocked), (1, 1));
            drop(seated);
            node.none_is_lost(0);
        }
    }
}
