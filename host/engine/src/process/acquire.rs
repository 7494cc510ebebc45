//! Acquiring a frame for a process that is about to run.
//!
//! After [`Stop::NoFrame`] the process's state is where it was before, or in an
//! image; after [`Stop::Turn`] the process must exit.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_image::{After, Image};
use exuvia_process::Body;

use crate::executor::{Executor, Stop};
use crate::frames::slots::FrameLease;
use crate::frames::{FrameError, Purpose};
use crate::guest::{Guest, GuestProcess, Location, RunPhase, Stamp};
use crate::module::stack_policy::Stack;
use crate::timing::Timing;

impl Executor {
    /// Returns a frame that holds the process's state, and puts the state into one if it is in none.
    /// `held` is the process's frame if the turn has its lease already.
    #[inline]
    pub(super) fn acquire_frame(
        &self,
        process: &mut GuestProcess,
        held: Option<FrameLease>,
    ) -> Result<FrameLease, Stop> {
        let state = &self.0;
        let Some(guest) = process.guest() else {
            return Err(Stop::NoFrame);
        };
        // The common case first: a process that gets a message usually got one a moment ago
        // and still has its frame.
        if let Location::Frame { frame, phase, .. } = guest.location {
            guest.take_location();
            let Some(lease) = held.or_else(|| state.frames.lease(frame)) else {
                return Err(Stop::exit(Reason::INTERNAL));
            };
            if phase == RunPhase::Suspended
                || lease.frame.stack() == state.host.stack_of(&guest.version.artifact)
            {
                state.frames.metrics.hits.add();
                return Ok(lease);
            }
            if let Some(lease) = self.change_stack(guest, lease, phase)? {
                state.frames.metrics.hits.add();
                return Ok(lease);
            }
        }
        self.find_frame(process)
    }

    /// Puts the state of a process that is in no frame into one.
    fn find_frame(&self, process: &mut GuestProcess) -> Result<FrameLease, Stop> {
        let state = &self.0;
        let Some(guest) = process.guest() else {
            return Err(Stop::NoFrame);
        };
        if !guest.version.artifact.resident_only().is_empty() && !state.host.blocking.may_block() {
            return Err(Stop::exit_with(
                Reason::LIMIT,
                "its module is resident-only, and processes that cannot be paged out hold as many frames as are allowed; raise `frames` or `frame_memory` in `[node]`",
            ));
        }
        let (lease, back) = match guest.take_location() {
            Location::NotStarted => (self.start_in_frame(process), Location::NotStarted),
            Location::Image {
                image,
                waiting,
                stamp,
            } => {
                let lease = self.page_in(process, &image, stamp);
                let back = Location::Image {
                    image,
                    waiting,
                    stamp,
                };
                (lease, back)
            }
            Location::Frame { .. } | Location::Running => {
                return Err(Stop::exit(Reason::INTERNAL));
            }
        };
        if lease.is_err()
            && let Some(guest) = process.guest()
        {
            guest.set_location(back);
        }
        lease
    }

    /// Returns a frame in which the process starts.
    fn start_in_frame(&self, process: &GuestProcess) -> Result<FrameLease, Stop> {
        let frames = &self.0.frames;
        let Body::Guest(guest) = &process.body else {
            return Err(Stop::NoFrame);
        };
        let (artifact, module) = (&guest.version.artifact, &guest.version.module);
        let lease = frames.acquire(artifact, artifact.base_pages(), Purpose::Process(None));
        let mut lease = lease.map_err(no_frame)?;
        let grants = &process.limits().grants;
        if let Err(reason) = lease.frame.initialize(artifact, module, grants) {
            frames.retire(lease);
            let text = format!("initialization failed: {reason}");
            return Err(Stop::exit_with(Reason::TRAP, &text));
        }
        frames.bind(&lease, process.pid().slot());
        Ok(lease)
    }

    /// Returns a frame into which the image of the process is loaded.
    fn page_in(
        &self,
        process: &GuestProcess,
        image: &Image,
        stamp: Option<Stamp>,
    ) -> Result<FrameLease, Stop> {
        let frames = &self.0.frames;
        let Body::Guest(guest) = &process.body else {
            return Err(Stop::NoFrame);
        };
        let (metrics, clock) = (&frames.metrics, &self.0.host.system.clock);
        let began = Timing::begin(metrics.page_ins.load(Ordering::Relaxed), clock);
        let (artifact, purpose) = (&guest.version.artifact, Purpose::Process(stamp));
        let lease = frames.acquire(artifact, image.memory_pages(), purpose);
        let mut lease = lease.map_err(no_frame)?;
        metrics.page_ins.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = lease.frame.load(image) {
            frames.retire(lease);
            let text = format!("it could not be paged in: {reason}");
            return Err(Stop::exit_with(Reason::INTERNAL, &text));
        }
        frames.bind(&lease, process.pid().slot());
        metrics.page_in_time.end(began, clock);
        Ok(lease)
    }

    /// Moves the guest of a process at rest to the stack that its version runs on now.
    /// Returns its frame, or `None` if the frame cannot change its stack: the process's
    /// state is then in an image, for another frame. Returns `NoFrame`, with the process at
    /// rest in its frame, if there is no capacity for a fiber's stack.
    fn change_stack(
        &self,
        guest: &mut Guest,
        mut lease: FrameLease,
        phase: RunPhase,
    ) -> Result<Option<FrameLease>, Stop> {
        let broken = |reason: String| Stop::exit_with(Reason::INTERNAL, &reason);
        match lease.frame.stack() {
            Stack::Thread => {
                let state = &self.0;
                if !(state.frames.use_fibers(&mut lease)).map_err(broken)? {
                    guest.set_location(state.frames.put_back_at(lease, phase));
                    return Err(Stop::NoFrame);
                }
            }
            // Such a store keeps its asynchronous functions; see `FrameTable::is_outdated`.
            Stack::Fiber if lease.frame.reusable => {
                let image = lease.frame.save(After::Keep).map_err(broken)?;
                guest.set_location(Location::Image {
                    image,
                    waiting: phase == RunPhase::Waiting,
                    stamp: Some(lease.pool().stamp()),
                });
                return Ok(None);
            }
            Stack::Fiber => {}
        }
        Ok(Some(lease))
    }
}

fn no_frame(error: FrameError) -> Stop {
    match error {
        FrameError::NoneFree => Stop::NoFrame,
        FrameError::Broken(reason) => {
            let text = format!("no frame could be created: {reason}");
            Stop::exit_with(Reason::INTERNAL, &text)
        }
    }
}
