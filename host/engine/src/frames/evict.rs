//! Taking frames from processes at rest: which one (see [`Pool`]), and how its
//! process becomes an image.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Frames;
use crate::executor::Shared;
use crate::guest::Residence;
use crate::image::After;
use crate::places::Seated;
use crate::pool::{Pool, Wanted};
use crate::timing::Timing;

impl Frames {
    /// A process has come to rest in the frame of this place: it may be paged
    /// out. Called after the run state says so, so that whoever has taken the
    /// place off the list and found the process running does not lose it.
    #[inline]
    pub(crate) fn rest(&self, number: u32) {
        if !self.places.place(number).listed.load(Ordering::Relaxed) {
            self.list(number);
        }
        self.waiters.call();
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
    pub(super) fn evict(
        &self,
        shared: &Arc<Shared>,
        pool: &Pool,
        wanted: Wanted,
    ) -> Option<Seated> {
        let mut looks = 0;
        while let Some((number, listed)) = pool.next(wanted, self.places.all()) {
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

    /// Now and then, one who stays and has not been asked since somebody looked
    /// waits from now on.
    pub(super) fn age(&self, shared: &Shared, pool: &Pool) {
        let Some(number) = pool.oldest(self.places.all()) else {
            return;
        };
        let place = self.places.place(number);
        let Some(slot) = place.occupant() else { return };
        shared.look(slot, |own| {
            if let Some(guest) = own.guest()
                && guest.place_at_rest() == Some(number)
                && !std::mem::take(&mut guest.touched)
            {
                pool.park(number, place);
            }
        });
    }

    /// The same for whoever the list has lost: the last resort.
    pub(super) fn evict_any(&self, shared: &Arc<Shared>, pool: &Pool) -> Option<Seated> {
        let mut places = pool.places().into_iter();
        places.find_map(|number| self.try_place(shared, pool, number))
    }

    fn try_place(&self, shared: &Arc<Shared>, pool: &Pool, number: u32) -> Option<Seated> {
        let slot = self.places.place(number).occupant()?;
        self.page_out(shared, pool, slot, number, Chance::Second)
    }

    /// Pages out the process of a slot, if it is at rest in this place and the
    /// frame is one of the pool's version.
    pub(super) fn page_out(
        &self,
        shared: &Shared,
        pool: &Pool,
        index: u32,
        number: u32,
        chance: Chance,
    ) -> Option<Seated> {
        let metrics = &shared.metrics;
        let clock = &shared.system.clock;
        let began = Timing::begin(metrics.page_outs.load(Ordering::Relaxed), clock);
        // Who is not paged out, for a second chance or because the place was
        // listed for somebody who has left it, is listed again by `look`.
        let seated = shared
            .look(index, |own| {
                let guest = own.guest()?;
                if std::mem::take(&mut guest.touched) && chance == Chance::Second {
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
                guest.wait.trim();
                if seated.is_some() {
                    metrics.page_outs.fetch_add(1, Ordering::Relaxed);
                    own.trim(&shared.system);
                }
                seated
            })
            .flatten()?;
        self.places.note(number, seated.frame.written());
        self.places.place(number).vacate();
        metrics.page_out_time.end(began, clock);
        Some(seated)
    }
}

/// Whether a process that has run since the pager looked last is left alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chance {
    First,
    Second,
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
