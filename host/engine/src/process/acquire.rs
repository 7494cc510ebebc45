//! Acquiring a frame for a process that is about to run.
//!
//! After [`Stop::NoFrame`] the process's state is where it was before, or in an
//! image; after [`Stop::Turn`] the process must exit.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_image::After;

use crate::executor::{Executor, Stop};
use crate::frames::FrameError;
use crate::frames::slots::FrameLease;
use crate::guest::{Guest, GuestProcess, Location};
use crate::module::stack_policy::Stack;
use crate::timing::Timing;

impl Executor {
    /// Returns a frame that holds the process's state, and puts the state into one if it is
    /// in none.
    pub(super) fn acquire_frame(&self, process: &mut GuestProcess) -> Result<FrameLease, Stop> {
        let state = &self.0;
        let slot = process.pid().slot();
        let Some(guest) = process.guest() else {
            return Err(Stop::NoFrame);
        };
        // The common case first: a process that gets a message usually got one a moment ago
        // and still has its frame.
        if let Location::Frame {
            frame,
            suspended,
            waiting,
            ..
        } = guest.location
        {
            guest.take_location();
            let Some(lease) = state.frames.lease(frame) else {
                return Err(Stop::exit(Reason::INTERNAL));
            };
            if suspended || lease.frame.stack() == state.host.stack_of(&guest.version.artifact) {
                state.frames.metrics.hits.add();
                return Ok(lease);
            }
            if let Some(lease) = self.change_stack(guest, lease, waiting)? {
                state.frames.metrics.hits.add();
                return Ok(lease);
            }
        }
        let grants = process.limits().grants.clone();
        let Some(guest) = process.guest() else {
            return Err(Stop::NoFrame);
        };
        let version = guest.version.version().clone();
        let (artifact, module) = (&version.artifact, &version.module);
        if !artifact.resident_only().is_empty() && !state.host.blocking.may_block() {
            return Err(Stop::exit_with(
                Reason::LIMIT,
                "its module is resident-only, and processes that cannot be paged out hold as many frames as are allowed; raise `frames` or `frame_memory` in `[node]`",
            ));
        }
        let (metrics, clock) = (&state.frames.metrics, &state.host.system.clock);
        let begun = || Timing::begin(metrics.page_ins.load(Ordering::Relaxed), clock);
        let acquire = |pages, stamp| {
            state
                .frames
                .acquire(artifact, pages, stamp)
                .map_err(|none| match none {
                    FrameError::NoneFree => Stop::NoFrame,
                    FrameError::Broken(reason) => Stop::exit_with(
                        Reason::INTERNAL,
                        &format!("no frame could be created: {reason}"),
                    ),
                })
        };
        match guest.take_location() {
            Location::NotStarted => {
                let mut lease = acquire(artifact.base_pages(), None)
                    .inspect_err(|_| guest.set_location(Location::NotStarted))?;
                if let Err(reason) = lease.frame.initialize(artifact, module, &grants) {
                    state.frames.retire(lease);
                    return Err(Stop::exit_with(
                        Reason::TRAP,
                        &format!("initialization failed: {reason}"),
                    ));
                }
                state.frames.bind(&lease, slot);
                Ok(lease)
            }
            Location::Image {
                image,
                waiting,
                stamp,
            } => match (begun(), acquire(image.memory_pages(), stamp)) {
                (began, Ok(mut lease)) => {
                    metrics.page_ins.fetch_add(1, Ordering::Relaxed);
                    if let Err(reason) = lease.frame.load(&image) {
                        state.frames.retire(lease);
                        return Err(Stop::exit_with(
                            Reason::INTERNAL,
                            &format!("it could not be paged in: {reason}"),
                        ));
                    }
                    state.frames.bind(&lease, slot);
                    metrics.page_in_time.end(began, clock);
                    Ok(lease)
                }
                (_, Err(none)) => {
                    guest.set_location(Location::Image {
                        image,
                        waiting,
                        stamp,
                    });
                    Err(none)
                }
            },
            Location::Frame { .. } | Location::Running => Err(Stop::exit(Reason::INTERNAL)),
        }
    }

    /// Moves the guest of a process at rest to the stack that its version runs on now.
    /// Returns its frame, or `None` if the frame cannot change its stack: the process's
    /// state is then in an image, for another frame. Returns `NoFrame`, with the process at
    /// rest in its frame, if there is no capacity for a fiber's stack.
    fn change_stack(
        &self,
        guest: &mut Guest,
        mut lease: FrameLease,
        waiting: bool,
    ) -> Result<Option<FrameLease>, Stop> {
        let broken = |reason: String| Stop::exit_with(Reason::INTERNAL, &reason);
        match lease.frame.stack() {
            Stack::Thread => {
                let state = &self.0;
                if !(state.frames.use_fibers(&mut lease)).map_err(broken)? {
                    guest.set_location(state.frames.put_back(lease, false, waiting));
                    return Err(Stop::NoFrame);
                }
            }
            // Such a store keeps its asynchronous functions; see `FrameTable::is_outdated`.
            Stack::Fiber if lease.frame.reusable => {
                let image = lease.frame.save(After::Keep).map_err(broken)?;
                guest.set_location(Location::Image {
                    image,
                    waiting,
                    stamp: Some(lease.pool().stamp()),
                });
                return Ok(None);
            }
            Stack::Fiber => {}
        }
        Ok(Some(lease))
    }
}
