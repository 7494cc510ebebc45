//! How a process that is to run gets into a frame.

use std::sync::atomic::Ordering;

use exuvia_abi::Reason;
use exuvia_process::ExitReason;

use crate::executor::Executor;
use crate::frames::NoFrame;
use crate::guest::{Guest, GuestOwn, Residence};
use crate::image::After;
use crate::places::Seated;
use crate::stack::Stack;
use crate::timing::Timing;

/// Why a process did not get a frame.
pub(crate) enum NotSeated {
    Later,
    Broken(ExitReason),
}

impl Executor {
    /// Puts the process's state into a frame, if it is in none.
    pub(crate) fn seat(&self, own: &mut GuestOwn) -> Result<Seated, NotSeated> {
        let shared = &self.0;
        let slot = own.pid().slot();
        let Some(guest) = own.guest() else {
            return Err(NotSeated::Later);
        };
        // The common case first: most that are asked have just been asked.
        if let Residence::Frame { suspended, .. } = guest.residence
            && let Residence::Frame { frame, waiting, .. } =
                std::mem::replace(&mut guest.residence, Residence::Running)
        {
            if suspended || frame.frame.stack() == shared.stack_of(&guest.tenancy.artifact) {
                shared.metrics.hits.add();
                return Ok(frame);
            }
            if let Some(frame) = self.change_stack(guest, frame, waiting)? {
                shared.metrics.hits.add();
                return Ok(frame);
            }
        }
        let grants = own.limits().grants.clone();
        let Some(guest) = own.guest() else {
            return Err(NotSeated::Later);
        };
        let version = guest.tenancy.version().clone();
        let (artifact, module) = (&version.artifact, &version.module);
        if !artifact.resident_only().is_empty() && !shared.frames.may_block() {
            return Err(NotSeated::Broken(ExitReason::with(
                Reason::LIMIT.0,
                b"its module is resident-only, and as many frames as may be are held by processes that keep theirs; raise `frames` or `frame_memory` in `[node]`",
            )));
        }
        let (metrics, clock) = (&shared.metrics, &shared.system.clock);
        let begun = || Timing::begin(metrics.page_ins.load(Ordering::Relaxed), clock);
        let acquire = |pages, stamp| {
            shared
                .frames
                .acquire(shared, artifact, pages, stamp)
                .map_err(|none| match none {
                    NoFrame::AllBusy => NotSeated::Later,
                    NoFrame::Broken(reason) => NotSeated::Broken(ExitReason::with(
                        Reason::INTERNAL.0,
                        format!("no frame could be made: {reason}").as_bytes(),
                    )),
                })
        };
        match std::mem::replace(&mut guest.residence, Residence::Running) {
            Residence::Newborn => {
                let mut seated = acquire(artifact.base_pages(), None)
                    .inspect_err(|_| guest.residence = Residence::Newborn)?;
                if let Err(reason) = seated.frame.initialize(artifact, module, &grants) {
                    shared.frames.retire(seated);
                    return Err(NotSeated::Broken(ExitReason::with(
                        Reason::TRAP.0,
                        format!("initialization failed: {reason}").as_bytes(),
                    )));
                }
                shared.frames.occupy(&mut seated, slot);
                Ok(seated)
            }
            Residence::Image {
                image,
                waiting,
                stamp,
            } => match (begun(), acquire(image.memory_pages(), stamp)) {
                (began, Ok(mut seated)) => {
                    metrics.page_ins.fetch_add(1, Ordering::Relaxed);
                    if let Err(reason) = seated.frame.load(&image) {
                        shared.frames.retire(seated);
                        return Err(NotSeated::Broken(ExitReason::with(
                            Reason::INTERNAL.0,
                            format!("it could not be paged in: {reason}").as_bytes(),
                        )));
                    }
                    shared.frames.occupy(&mut seated, slot);
                    metrics.page_in_time.end(began, clock);
                    Ok(seated)
                }
                (_, Err(none)) => {
                    guest.residence = Residence::Image {
                        image,
                        waiting,
                        stamp,
                    };
                    Err(none)
                }
            },
            Residence::Frame { .. } | Residence::Running => {
                Err(NotSeated::Broken(ExitReason::new(Reason::INTERNAL)))
            }
        }
    }

    /// The process rests in a frame whose guest is to run on another stack from
    /// now on. Answers the frame, or what it had is an image now, for another one.
    fn change_stack(
        &self,
        guest: &mut Guest,
        mut seated: Seated,
        waiting: bool,
    ) -> Result<Option<Seated>, NotSeated> {
        let broken = |reason: String| {
            NotSeated::Broken(ExitReason::with(Reason::INTERNAL.0, reason.as_bytes()))
        };
        match seated.frame.stack() {
            Stack::Thread => {
                let shared = &self.0;
                if !(shared.frames.use_fibers(shared, &mut seated)).map_err(broken)? {
                    guest.residence = Residence::Frame {
                        frame: seated,
                        suspended: false,
                        waiting,
                    };
                    return Err(NotSeated::Later);
                }
            }
            // See `is_outdated`.
            Stack::Fiber if seated.frame.reusable => {
                let image = seated.frame.save(After::Keep).map_err(broken)?;
                guest.residence = Residence::Image {
                    image,
                    waiting,
                    stamp: Some(seated.pool().stamp()),
                };
                return Ok(None);
            }
            Stack::Fiber => {}
        }
        Ok(Some(seated))
    }
}
