//! Which processes are in frames: pools of free frames by version and memory
//! size, a bound on how many there are, and the pager that takes a frame from
//! a process at rest when one is wanted and none is free.
//!
//! The pager goes round the frames as a clock's hand does: a process that ran
//! again since the hand last passed gets another round. To take a frame it
//! claims the process (`State::claim`), so it never meets a runner.
//!
//! Processes that block keep their frame, so they are limited, and some frames
//! are kept from them: a server that is paged out can always run and unblock
//! its callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use exuvia_process::Then;
use parking_lot::Mutex;

use crate::artifact::Artifact;
use crate::executor::Shared;
use crate::frame::Frame;
use crate::guest::Residence;
use crate::image::After;

/// No process.
const NOBODY: u32 = u32::MAX;

/// Kernel mappings that one frame takes: memory, its guard and file image,
/// stack and its guard (5 to 6 as measured, one to spare).
const MAPPINGS_PER_FRAME: usize = 7;
/// Frames if nothing else limits them.
const FRAMES: usize = 2048;
/// One frame in so many is kept from processes that block.
const RESERVE_SHARE: usize = 8;

/// All frames of a node.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Frames that are kept resident.
    limit: usize,
    /// Frames that blocked processes may hold.
    may_block: usize,
    live: AtomicUsize,
    blocked: AtomicUsize,
    free: Mutex<Pools>,
    places: Box<[Place]>,
    vacant: Mutex<Vec<u32>>,
    hand: AtomicUsize,
}

type Pools = HashMap<(u64, u32), Vec<Seated>, foldhash::fast::FixedState>;

/// Where the pager finds who is in a frame.
#[derive(Debug)]
struct Place {
    occupant: AtomicU32,
    artifact: AtomicU64,
}

/// A frame with its place.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) frame: Box<Frame>,
    place: u32,
    artifact: u64,
    /// Counted among the frames that nobody can take away.
    kept: bool,
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
    let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(65_530);
    // A third of all mappings at most, over-commitment included.
    FRAMES.min(mappings / 3 / MAPPINGS_PER_FRAME).max(16)
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
            live: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            free: Mutex::default(),
            places: (0..places)
                .map(|_| Place {
                    occupant: AtomicU32::new(NOBODY),
                    artifact: AtomicU64::new(0),
                })
                .collect(),
            vacant: Mutex::new(
                (0..places)
                    .rev()
                    .filter_map(|i| i.try_into().ok())
                    .collect(),
            ),
            hand: AtomicUsize::new(0),
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

    /// A frame at the base of the version, with at least the memory's size.
    pub(crate) fn acquire(
        &self,
        shared: &Arc<Shared>,
        artifact: &Artifact,
        pages: u32,
    ) -> Result<Seated, NoFrame> {
        let key = (artifact.id, pages);
        if let Some(seated) = self.free.lock().get_mut(&key).and_then(Vec::pop) {
            return Ok(seated);
        }
        if self.live.load(Ordering::Relaxed) < self.limit {
            return self.make(shared, artifact);
        }
        if let Some(seated) = self.evict(shared, Some(artifact.id)) {
            if seated.frame.pages() == pages {
                return Ok(seated);
            }
            self.discard(seated);
            return self.make(shared, artifact);
        }
        // A free frame of another version, or a victim of another version,
        // makes room for a new one.
        let other = {
            let mut free = self.free.lock();
            free.values_mut().find_map(Vec::pop)
        };
        if let Some(seated) = other.or_else(|| self.evict(shared, None)) {
            self.discard(seated);
        }
        self.make(shared, artifact)
    }

    /// Makes up to `count` free frames of a version that will be wanted soon,
    /// as far as there is room.
    pub(crate) fn prepare(&self, shared: &Arc<Shared>, artifact: &Artifact, count: usize) {
        for _ in 0..count {
            if self.live.load(Ordering::Relaxed) >= self.limit {
                return;
            }
            match self.make(shared, artifact) {
                Ok(seated) => self.give_back(seated),
                Err(_) => return,
            }
        }
    }

    fn make(&self, shared: &Arc<Shared>, artifact: &Artifact) -> Result<Seated, NoFrame> {
        let place = self.vacant.lock().pop().ok_or(NoFrame::AllBusy)?;
        self.live.fetch_add(1, Ordering::Relaxed);
        match Frame::new(artifact, shared) {
            Ok(frame) => {
                shared.metrics.frames_made.fetch_add(1, Ordering::Relaxed);
                let entry = &self.places[place as usize];
                entry.artifact.store(artifact.id, Ordering::Relaxed);
                Ok(Seated {
                    frame: Box::new(frame),
                    place,
                    artifact: artifact.id,
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
        let key = (seated.artifact, seated.frame.pages());
        self.free.lock().entry(key).or_default().push(seated);
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
        drop(seated);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.vacant.lock().push(place);
    }

    /// Drops the free frames of a version that was unloaded.
    pub(crate) fn forget(&self, artifact: u64) {
        let gone: Vec<Seated> = {
            let mut free = self.free.lock();
            free.extract_if(|key, _| key.0 == artifact)
                .flat_map(|(_, frames)| frames)
                .collect()
        };
        for seated in gone {
            self.discard(seated);
        }
    }

    /// Drops all free frames.
    pub(crate) fn clear(&self) {
        let gone: Vec<Seated> = {
            let mut free = self.free.lock();
            free.drain().flat_map(|(_, frames)| frames).collect()
        };
        for seated in gone {
            self.discard(seated);
        }
    }

    /// Pages somebody out. With `wanted`, only a process of that version.
    fn evict(&self, shared: &Arc<Shared>, wanted: Option<u64>) -> Option<Seated> {
        // Twice round: the first round only takes away second chances.
        for _ in 0..self.places.len() * 2 {
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % self.places.len();
            let place = &self.places[at];
            let slot = place.occupant.load(Ordering::Acquire);
            if slot == NOBODY
                || wanted.is_some_and(|id| place.artifact.load(Ordering::Relaxed) != id)
            {
                continue;
            }
            if let Some(seated) = self.page_out(shared, slot, at) {
                return Some(seated);
            }
        }
        None
    }

    fn page_out(&self, shared: &Arc<Shared>, index: u32, place: usize) -> Option<Seated> {
        let slot = shared.system.table.slot(index)?;
        if !slot.state.claim() {
            return None;
        }
        let taken = slot.take_own().map(|mut own| {
            let seated = own.guest().and_then(|guest| {
                let again = std::mem::take(&mut guest.touched);
                match std::mem::replace(&mut guest.residence, Residence::Running) {
                    Residence::Frame {
                        mut frame,
                        suspended: false,
                        waiting,
                    } if !again && frame.place as usize == place && frame.frame.reusable => {
                        let Some(image) = frame.frame.save(After::Reset) else {
                            guest.residence = Residence::Frame {
                                frame,
                                suspended: false,
                                waiting,
                            };
                            return None;
                        };
                        guest.residence = Residence::Image { image, waiting };
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
        let seated = taken.flatten()?;
        self.places[place].occupant.store(NOBODY, Ordering::Release);
        Some(seated)
    }
}
