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
mod call;
pub(crate) mod capacity;
mod census;
pub(crate) mod enter;
mod evict;
mod examine;
mod find;
pub(crate) mod frame;
mod free;
mod limits;
pub(crate) mod mappings;
mod metrics;
mod nearby;
pub(crate) mod pool;
mod reclaim;
pub(crate) mod slots;
mod waiters;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use exuvia_image::PageMap;
use exuvia_process::ReportInterval;
use parking_lot::RwLock;
use wasmtime::Linker;

use crate::frames::capacity::SystemCapacity;
use crate::frames::frame::Frame;
use crate::frames::nearby::Nearby;
use crate::frames::pool::Pool;
use crate::frames::slots::{FrameLease, FrameSlots};
use crate::guest::{FrameId, Location, RunPhase, Stamp};
use crate::host::Host;
use crate::instance::factory::{Factory, Imports};
use crate::instance::store::FrameData;
use crate::module::info::Artifact;

pub use capacity::most_mappings;
pub(crate) use census::Census;
pub(crate) use limits::FrameLimits;
pub use limits::{MOST_FRAMES, default_frames};
pub use metrics::Metrics;
pub(crate) use waiters::{Joined, Turnstile, Waiters};

/// The maximum number of frames that are made before a commit for the processes to be
/// upgraded.
const PREPARED: usize = 512;
/// How many frames are dropped in a row, and the pause after them: each takes the kernel's
/// lock on the mappings, which guests need when they grow.
const DROPPED: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

/// All frames of a node.
pub(crate) struct FrameTable {
    host: Arc<Host>,
    limits: FrameLimits,
    /// The host functions of each instance, and the linker that has them.
    imports: Imports,
    linker: OnceLock<Linker<FrameData>>,
    /// How often a frame's pages were given back.
    released: AtomicU64,
    /// When the limit on bytes was last logged.
    over_limit_reports: ReportInterval,
    capacity: Arc<SystemCapacity>,
    page_map: OnceLock<Arc<PageMap>>,
    /// By the artifact's id.
    pools: RwLock<HashMap<u64, Arc<Pool>, foldhash::fast::FixedState>>,
    /// Free frames that are in no pool's list.
    nearby: Nearby,
    slots: Arc<FrameSlots>,
    census: Arc<Census>,
    pub(crate) metrics: Metrics,
    /// Processes that wait for a frame.
    pub(crate) waiters: Arc<Waiters>,
}

impl std::fmt::Debug for FrameTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameTable")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The counts of frames and frame slots. When no frame is being made or dropped,
/// `live + vacant == slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCounts {
    /// The maximum number of frames, for short times.
    pub slots: usize,
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

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A process that was paged out by the pager, if it was.
    Process(Option<Stamp>),
    /// The function `save` of a process that is upgraded. Such a frame is given back at once, so the
    /// reserve (see `census`) is no reason to deny it.
    Save,
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
    pub(crate) fn new(limits: FrameLimits, host: Arc<Host>, imports: Imports) -> FrameTable {
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
            nearby: Nearby::default(),
            slots: Arc::new(slots),
            census,
            metrics: Metrics::default(),
            waiters,
            host,
            imports,
            linker: OnceLock::new(),
        }
    }

    /// Returns the host that the frames are of.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn counts(&self) -> FrameCounts {
        FrameCounts {
            slots: self.slots.all().len(),
            vacant: self.slots.vacant(),
            live: self.slots.live(),
            free: self.nearby.count() + self.all().iter().map(|pool| pool.free()).sum::<usize>(),
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
        self.slots.live() >= self.limits.frames || !self.has_mappings(self.limits.mappings)
    }

    /// Returns whether one more frame stays within so many mappings.
    fn has_mappings(&self, most: usize) -> bool {
        self.slots.mappings() + mappings::most() <= most
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

    pub(crate) fn pool(&self, artifact: &Artifact) -> Arc<Pool> {
        if let Some(pool) = self.pools.read().get(&artifact.id) {
            return pool.clone();
        }
        let frames = artifact.module_frames().clone();
        let mut pools = self.pools.write();
        pools
            .entry(artifact.id)
            .or_insert_with(|| Arc::new(Pool::new(artifact.id, frames, self.limits.few)))
            .clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.read().values().cloned().collect()
    }

    /// Links a version's code, and makes up to `count` free frames of it, which will be needed
    /// soon. They may exceed the limit by a quarter: when the processes of the version before have
    /// been upgraded, [`FrameTable::trim`] drops that version's frames.
    pub(crate) fn prepare(&self, artifact: &Artifact, count: usize) {
        let pool = self.pool(artifact);
        // The loader has linked it before. If it fails here, its first process says so.
        if pool.factory(|| self.link(artifact)).is_err() {
            return;
        }
        let most = self.limits.frames + self.limits.frames / 4;
        for _ in pool.len()..count.min(self.limits.frames / 4).min(PREPARED) {
            if self.slots.live() >= most
                || !self.has_mappings(self.limits.mappings + self.limits.mappings / 4)
                || self.is_over()
                || self.capacity.is_short(&self.host.system.clock)
            {
                return;
            }
            match self.make(artifact, &pool) {
                Ok(lease) => {
                    if let Some(lease) = self.emptied(lease) {
                        pool.push(lease);
                    }
                    self.waiters.call();
                }
                Err(_) => return,
            }
        }
    }

    fn make(&self, artifact: &Artifact, pool: &Arc<Pool>) -> Result<FrameLease, FrameError> {
        // Does not exceed the limits any further.
        if (self.is_over() && self.slots.live() >= self.limits.frames)
            || !self.has_mappings(self.limits.most_mappings)
        {
            return Err(FrameError::NoneFree);
        }
        self.page_map.get_or_init(|| artifact.plan.page_map.clone());
        self.slots.census().set_memories(&artifact.plan.memories);
        let factory = pool.factory(|| self.link(artifact));
        let factory = factory.map_err(|error| FrameError::Broken(error.to_string()))?;
        // From half of the mappings on, frames take memory instead, as far as it is not much.
        let short = self.slots.mappings() > self.limits.mappings / 2
            && self.slots.bytes() < self.limits.memory / 2;
        let copied = mappings::copied_pages(short);
        // The reservation frees the slot if no frame can be made.
        let reservation = self.slots.take(pool).ok_or(FrameError::NoneFree)?;
        let frame = Frame::new(artifact, factory, &self.host, copied).map_err(|failed| {
            if failed.out_of_resources {
                self.capacity.failed(&self.host.system.clock, failed.reason);
                return FrameError::NoneFree;
            }
            FrameError::Broken(format!("{} failed: {}", failed.stage, failed.reason))
        })?;
        self.metrics.frames_made.fetch_add(1, Ordering::Relaxed);
        Ok(FrameLease::new(frame, reservation, &self.slots))
    }

    /// Links a version's code to the host functions.
    fn link(&self, artifact: &Artifact) -> wasmtime::Result<Factory> {
        let plan = artifact.plan.clone();
        let engine = plan.code.engine();
        let known = match self.linker.get() {
            Some(linker) => linker,
            None => {
                let made = self.imports.linker(engine)?;
                self.linker.get_or_init(|| made)
            }
        };
        if wasmtime::Engine::same(known.engine(), engine) {
            return Factory::new(known, plan, self.imports);
        }
        Factory::new(&self.imports.linker(engine)?, plan, self.imports)
    }

    /// Takes the frame of a process out of the table. The caller runs the process or has claimed
    /// it. Returns `None` if the frame is not there, which is a bug of the host.
    #[inline]
    pub(crate) fn lease(&self, id: FrameId) -> Option<FrameLease> {
        self.slots.lease(id)
    }

    /// Returns the location of the process in a frame, which is to be put back later.
    #[inline]
    pub(crate) fn location(&self, lease: &FrameLease, phase: RunPhase) -> Location {
        self.slots.location(lease, phase)
    }

    /// Puts a frame back into the table. The location of its process names it.
    #[inline]
    pub(crate) fn put_back(&self, lease: FrameLease) {
        self.slots.put_back(lease);
    }

    /// Puts the frame of a process back into the table. Returns where the process is now.
    pub(crate) fn put_back_at(&self, lease: FrameLease, phase: RunPhase) -> Location {
        let location = self.location(&lease, phase);
        self.put_back(lease);
        location
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
        self.slots.pin(id.slot);
    }

    /// Lets the frame be taken away from its process again, except the frame of a resident-only
    /// module.
    pub(crate) fn unpin(&self, lease: &FrameLease) {
        if lease.frame.reusable {
            self.slots.unpin(lease.slot_number());
        }
    }

    /// Returns a frame to its pool, and discards its state.
    pub(crate) fn retire(&self, mut lease: FrameLease) {
        if lease.frame.may_serve_another() {
            lease.frame.reset();
        }
        self.give_back(lease);
    }

    /// Returns a frame in base state, for the next process of its version, first of all on this thread.
    pub(crate) fn give_back(&self, lease: FrameLease) {
        if let Some(lease) = self.emptied(lease)
            && let Some(cold) = self.nearby.push(lease)
        {
            cold.pool().clone().push(cold);
        }
        // Whoever waits may have looked at the shelf without its lock; pairs with `Waiters::join`.
        fence(Ordering::SeqCst);
        self.waiters.call();
    }

    /// Notes that no process is in a frame in base state. Returns it if it is to be kept.
    fn emptied(&self, lease: FrameLease) -> Option<FrameLease> {
        if !lease.frame.may_serve_another() {
            return None;
        }
        let number = lease.slot_number();
        self.slots.note(number, lease.frame.written());
        if self.is_wasteful(&lease) {
            self.released.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.slots.unpin(number);
        self.slots.slot(number).unbind();
        Some(lease)
    }

    /// Puts the free frames that threads keep to themselves into their pools.
    fn collect_nearby(&self) {
        for lease in self.nearby.take(None) {
            lease.pool().clone().push(lease);
            // Whoever waits may have looked into the pool before, and at the shelf since.
            self.waiters.call();
        }
    }

    /// Takes any free frame of a version, one of the largest first.
    fn pop_any(&self, pool: &Pool) -> Option<FrameLease> {
        let free = pool.pop_any();
        free.or_else(|| self.nearby.steal(pool.artifact))
    }

    /// Drops the free frames of a version that was unloaded. This takes long if there are
    /// many, so it must not run on a scheduler's thread.
    pub(crate) fn forget(&self, artifact: u64) {
        let pool = self.pools.write().remove(&artifact);
        if let Some(pool) = pool {
            drop_in_parts(pool.forget());
            drop_in_parts(self.nearby.take(Some(artifact)));
        }
    }

    /// Drops all frames. No process may run or be used any more.
    pub(crate) fn clear(&self) {
        self.slots.clear();
        let pools: Vec<Arc<Pool>> = self.pools.write().drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            drop(pool.forget());
        }
        drop(self.nearby.take(None));
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
