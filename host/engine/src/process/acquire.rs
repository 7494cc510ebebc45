//! Acquiring a frame for a process that is about to run.
//!
//! After [`AcquireError::NoFrame`] the process's state is where it was before, or in an
//! image; after [`AcquireError::Broken`] the process must exit.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_image::After;
use exuvia_process::ExitReason;

use crate::executor::Executor;
use crate::frames::FrameError;
use crate::frames::slots::FrameLease;
use crate::guest::{Guest, GuestProcess, Location};
use crate::module::stack_policy::Stack;
use crate::timing::Timing;

/// Why a process did not get a frame.
pub(crate) enum AcquireError {
    NoFrame,
    Broken(ExitReason),
}

impl Executor {
    /// Returns a frame that holds the process's state, and puts the state into one if it is
    /// in none.
    pub(crate) fn acquire_frame(
        &self,
        process: &mut GuestProcess,
    ) -> Result<FrameLease, AcquireError> {
        let shared = &self.0;
        let slot = process.pid().slot();
        let Some(guest) = process.guest() else {
            return Err(AcquireError::NoFrame);
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
            let Some(lease) = shared.frames.lease(frame) else {
                return Err(AcquireError::Broken(ExitReason::new(Reason::INTERNAL)));
            };
            if suspended || lease.frame.stack() == shared.host.stack_of(&guest.version.artifact) {
                shared.frames.metrics.hits.add();
                return Ok(lease);
            }
            if let Some(lease) = self.change_stack(guest, lease, waiting)? {
                shared.frames.metrics.hits.add();
                return Ok(lease);
            }
        }
        let grants = process.limits().grants.clone();
        let Some(guest) = process.guest() else {
            return Err(AcquireError::NoFrame);
        };
        let version = guest.version.version().clone();
        let (artifact, module) = (&version.artifact, &version.module);
        if !artifact.resident_only().is_empty() && !shared.host.blocking.may_block() {
            return Err(AcquireError::Broken(ExitReason::with(
                Reason::LIMIT.0,
                b"its module is resident-only, and processes that cannot be paged out hold as many frames as are allowed; raise `frames` or `frame_memory` in `[node]`",
            )));
        }
        let (metrics, clock) = (&shared.frames.metrics, &shared.host.system.clock);
        let begun = || Timing::begin(metrics.page_ins.load(Ordering::Relaxed), clock);
        let acquire = |pages, stamp| {
            shared
                .frames
                .acquire(artifact, pages, stamp)
                .map_err(|none| match none {
                    FrameError::NoneFree => AcquireError::NoFrame,
                    FrameError::Broken(reason) => AcquireError::Broken(ExitReason::with(
                        Reason::INTERNAL.0,
                        format!("no frame could be created: {reason}").as_bytes(),
                    )),
                })
        };
        match guest.take_location() {
            Location::NotStarted => {
                let mut lease = acquire(artifact.base_pages(), None)
                    .inspect_err(|_| guest.set_location(Location::NotStarted))?;
                if let Err(reason) = lease.frame.initialize(artifact, module, &grants) {
                    shared.frames.retire(lease);
                    return Err(AcquireError::Broken(ExitReason::with(
                        Reason::TRAP.0,
                        format!("initialization failed: {reason}").as_bytes(),
                    )));
                }
                shared.frames.bind(&lease, slot);
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
                        shared.frames.retire(lease);
                        return Err(AcquireError::Broken(ExitReason::with(
                            Reason::INTERNAL.0,
                            format!("it could not be paged in: {reason}").as_bytes(),
                        )));
                    }
                    shared.frames.bind(&lease, slot);
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
            Location::Frame { .. } | Location::Running => {
                Err(AcquireError::Broken(ExitReason::new(Reason::INTERNAL)))
            }
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
    ) -> Result<Option<FrameLease>, AcquireError> {
        let broken = |reason: String| {
            AcquireError::Broken(ExitReason::with(Reason::INTERNAL.0, reason.as_bytes()))
        };
        match lease.frame.stack() {
            Stack::Thread => {
                let shared = &self.0;
                if !(shared.frames.use_fibers(&mut lease)).map_err(broken)? {
                    guest.set_location(shared.frames.put_back(lease, false, waiting));
                    return Err(AcquireError::NoFrame);
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
