//! A process crosses into new code: the step of its turn that comes first when
//! a commit has happened and it is at rest. Here is what state it takes along
//! and what becomes of it; how state is brought over is in `crossing`, what
//! follows in `probation`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Pid, Reason};
use exuvia_code::{Path, Release, Tenancy, Version};
use exuvia_process::ExitReason;

use crate::artifact::Artifact;
use crate::crossing::{self, Crossed, Landed};
use crate::error::CrossError;
use crate::executor::{Executor, Shared};
use crate::guest::{Guest, GuestOwn, Residence};
use crate::image::{After, Image};
use crate::places::Seated;
use crate::probation::{OldFiles, State};

/// Where a crossing process's state comes from.
pub(crate) enum Origin {
    Image(Image),
    /// Of a resident-only module: the frame itself.
    Frame(Seated),
}

impl Origin {
    /// The process stays as it was.
    fn back(self) -> Residence {
        match self {
            Origin::Image(image) => Residence::at_rest(image),
            Origin::Frame(frame) => Residence::Frame {
                frame,
                suspended: false,
                waiting: false,
            },
        }
    }
}

/// One crossing: of whom, from where to where, since when.
struct Crossing<'a> {
    pid: Pid,
    release: &'a Release<Artifact>,
    old: &'a Arc<Version<Artifact>>,
    new: &'a Tenancy<Artifact>,
    began: u64,
}

pub(crate) fn upgrade_failed(text: &str) -> ExitReason {
    ExitReason::with(Reason::UPGRADE.0, text.as_bytes())
}

impl Executor {
    /// Whether a process at rest has still to cross into the current release.
    /// If it can as it rests now, its crossing counts as the sweeper's.
    pub fn is_behind(&self, own: &mut GuestOwn) -> bool {
        if !self.0.crossing_due(own) {
            return false;
        }
        let can = self.may_cross(own);
        if let Some(guest) = own.guest() {
            guest.swept = can && !guest.is_suspended();
        }
        true
    }

    /// Whether a process that is not suspended is at REST, not WAITING.
    pub(crate) fn may_cross(&self, own: &mut GuestOwn) -> bool {
        own.guest().is_some_and(|guest| !guest.is_waiting())
    }

    /// Crosses a process at rest into the current release.
    pub(crate) fn cross(&self, own: &mut GuestOwn) -> Result<(), CrossError> {
        let shared = &self.0;
        let began = shared.system.clock.now();
        let pid = own.pid();
        let grants = own.limits().grants.clone();
        let Some(guest) = own.guest() else {
            return Ok(());
        };
        // Held until it has arrived: the release may be superseded meanwhile.
        let Some((release, new)) = shared.code.hold(&guest.tenancy.module) else {
            return Ok(());
        };
        let (release, new) = (&release, &new);
        if guest.tenancy.is(new.version()) {
            // Another commit has just brought it back.
            return Ok(());
        }
        let old = &guest.tenancy.version().clone();
        let crossing = Crossing {
            pid,
            release,
            old,
            new,
            began,
        };
        if matches!(guest.residence, Residence::Newborn) && !guest.has_run {
            self.arrived(guest, &crossing, Path::Unborn);
            return Ok(());
        }
        let (mut origin, saved) =
            take_state(shared, guest, &crossing).map_err(|reason| CrossError::NoPath {
                from: old.to_string(),
                to: new.version().to_string(),
                not_carried: format!("its state could not be read: {reason}"),
                not_migrated: "it could not be read".into(),
            })?;
        // Nothing has happened since it crossed the other way: what it had
        // then is exact.
        let exact = guest
            .trial
            .as_mut()
            .filter(|trial| trial.before.is(new.version()))
            .and_then(|trial| Some((trial.state.take()?, trial.files.take())));
        let crossed = match (exact, &mut origin) {
            (Some((State::Old(image), files)), _) => {
                if let Some(files) = files {
                    files.come_back(guest);
                }
                Ok(Crossed {
                    path: Path::Carried,
                    state: Landed::Image(image),
                })
            }
            (_, Origin::Image(image)) => {
                crossing::cross(shared, old, new.version(), (image, &grants), saved)
            }
            (_, Origin::Frame(frame)) => {
                crossing::cross_saved(shared, old, new.version(), frame.frame.call_save(), &grants)
            }
        };
        let before = guest.tenancy.hold();
        match crossed {
            Ok(Crossed { path, state }) => {
                guest.residence = match state {
                    Landed::Image(image) => Residence::at_rest(image),
                    Landed::Frame(mut frame) => {
                        shared.frames.occupy(&mut frame, pid.slot());
                        Residence::Frame {
                            frame,
                            suspended: false,
                            waiting: false,
                        }
                    }
                };
                guest.trial = self.trial(release, before, origin);
                if path == Path::Migrated {
                    set_aside_files(guest);
                }
                self.arrived(guest, &crossing, path);
            }
            Err(CrossError::NoFrame) => {
                guest.residence = origin.back();
                return Err(CrossError::NoFrame);
            }
            Err(_) if release.fresh => {
                guest.residence = Residence::Newborn;
                guest.has_run = false;
                guest.trial = self.trial(release, before, origin);
                set_aside_files(guest);
                self.arrived(guest, &crossing, Path::Fresh);
                own.put_back(0, own.init());
            }
            Err(error) => {
                let text = error.to_string();
                guest.residence = origin.back();
                guest.release = release.id;
                guest.set_stuck(Some(&text));
                guest.swept = false;
                release.progress.stuck.fetch_add(1, Ordering::Relaxed);
                // Told first: after it the release may have settled.
                (shared.observer).stuck(pid, guest.tenancy.version(), release.id, &text);
                guest.tenancy.stay(release.id);
                self.count_failure(release.id, &upgrade_failed(&text));
            }
        }
        Ok(())
    }

    /// The process lives in new code from now on.
    fn arrived(&self, guest: &mut Guest, crossing: &Crossing<'_>, path: Path) {
        let release = crossing.release;
        // It leaves the old version when it is counted, not before: when
        // nobody is left there, all are counted.
        let left = std::mem::replace(&mut guest.tenancy, crossing.new.enter());
        guest.release = release.id;
        guest.is_current();
        let swept = std::mem::take(&mut guest.swept);
        let now = self.0.system.clock.now();
        let pause = match path {
            Path::Unborn => 0,
            _ => now - crossing.began,
        };
        release.progress.crossed(path, pause, now, swept);
        if path != Path::Unborn {
            guest.crossings += 1;
            self.0.observer.crossed(crossing.pid, release.id, path);
        }
        drop(left);
    }
}

/// What `save` answered.
type Saved = Result<Vec<u8>, String>;

/// Takes the state of a process at rest out of where it is; with it what `save`
/// said, if `save` has to say it and the state was in a frame. The error: why it
/// cannot be read.
fn take_state(
    shared: &Arc<Shared>,
    guest: &mut Guest,
    crossing: &Crossing<'_>,
) -> Result<(Origin, Option<Saved>), String> {
    let (old, new) = (&crossing.old.artifact, &crossing.new.artifact);
    match std::mem::replace(&mut guest.residence, Residence::Running) {
        Residence::Image { image, .. } => Ok((Origin::Image(image), None)),
        Residence::Frame { mut frame, .. } if frame.frame.reusable => {
            if old.carries_to(new).is_ok() || !old.has_save {
                let image = frame.frame.save(After::Reset);
                shared.frames.give_back(frame);
                return image.map(|image| (Origin::Image(image), None));
            }
            // The state is where `save` wants it.
            let image = frame.frame.save(After::Keep);
            let saved = frame.frame.call_save();
            shared.frames.retire(frame);
            image.map(|image| (Origin::Image(image), Some(saved)))
        }
        Residence::Frame { frame, .. } => Ok((Origin::Frame(frame), None)),
        Residence::Newborn | Residence::Running => Err("it is in no frame".into()),
    }
}

/// The memory of the process is new, and knows nothing of the files that the old one
/// had open: they are closed when there is no way back to it.
fn set_aside_files(guest: &mut Guest) {
    let wasi = guest.take_wasi();
    if let Some(trial) = &mut guest.trial {
        trial.files = Some(OldFiles(wasi));
    }
}
