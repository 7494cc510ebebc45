//! When the watcher acts without being told by an event: after a save, after a change during a
//! build, and periodically. Reads no clock.

use std::time::{Duration, Instant};

/// Changes of sources within this time are treated as one save.
pub(crate) const SAVED: Duration = Duration::from_millis(20);
/// Sources that change without a pause are scanned after this time.
const LONGEST: Duration = Duration::from_millis(500);
/// How often the watcher checks what no event reports: the module files, and whether watched
/// folders have appeared or were replaced.
const RECHECK: Duration = Duration::from_secs(1);
/// The minimum interval at which sources are polled that the system does not report.
const POLL: Duration = Duration::from_millis(500);
/// The polling interval is at least this many times the duration of a scan, so that polling takes a
/// tenth of a core at most.
const POLL_SHARE: u32 = 10;

/// When the next actions are due.
#[derive(Debug)]
pub(crate) struct Schedule {
    saved: Option<Save>,
    /// Since when a change during a build is pending, and for how long it waits.
    backoff: Option<(Instant, Duration)>,
    recheck: Instant,
    /// When to poll the sources next, used while `polling`.
    poll: Instant,
    polling: bool,
}

/// Changes of sources since the last scan.
#[derive(Clone, Copy, Debug)]
struct Save {
    /// The first one, by the node's clock.
    noticed: u64,
    first: Instant,
    last: Instant,
}

impl Save {
    fn due(&self) -> Instant {
        (self.last + SAVED).min(self.first + LONGEST)
    }
}

impl Schedule {
    pub(crate) fn new(now: Instant) -> Schedule {
        Schedule {
            saved: None,
            backoff: None,
            recheck: now + RECHECK,
            poll: now + POLL,
            polling: false,
        }
    }

    /// Returns when the next action is due, of these and of one more.
    pub(crate) fn next(&self, other: Option<Instant>) -> Instant {
        let due = [
            self.saved.map(|save| save.due()),
            self.backoff.map(|(since, pause)| since + pause),
            self.polling.then_some(self.poll),
            other,
        ];
        let due = due.into_iter().flatten();
        due.fold(self.recheck, Instant::min)
    }

    /// Notes that sources have changed; `noticed` is the time by the node's clock.
    pub(crate) fn saved(&mut self, noticed: u64, now: Instant) {
        let save = self.saved.get_or_insert(Save {
            noticed,
            first: now,
            last: now,
        });
        save.last = now;
    }

    /// Returns when the first change was noticed, by the node's clock, if a save is due.
    pub(crate) fn take_saved(&mut self, now: Instant) -> Option<u64> {
        let save = self.saved.take_if(|save| save.due() <= now)?;
        Some(save.noticed)
    }

    /// Sets after which time to build because something has changed during a build; `None`:
    /// nothing has.
    pub(crate) fn set_backoff(&mut self, pause: Option<Duration>, now: Instant) {
        let since = self.backoff.map_or(now, |(since, _)| since);
        self.backoff = pause.map(|pause| (since, pause));
    }

    /// Returns whether something has changed during a build.
    pub(crate) fn has_backoff(&self) -> bool {
        self.backoff.is_some()
    }

    /// Returns whether the build after the backoff is due, once.
    pub(crate) fn take_backoff(&mut self, now: Instant) -> bool {
        let due = |(since, pause): &mut (Instant, Duration)| *since + *pause <= now;
        self.backoff.take_if(due).is_some()
    }

    /// Sets whether the sources are polled.
    pub(crate) fn set_polling(&mut self, polling: bool) {
        self.polling = polling;
    }

    pub(crate) fn is_poll_due(&self, now: Instant) -> bool {
        self.polling && self.poll <= now
    }

    /// Notes that the sources were polled.
    pub(crate) fn polled(&mut self, began: Instant, now: Instant) {
        self.poll = now + POLL.max((now - began) * POLL_SHARE);
    }

    pub(crate) fn is_recheck_due(&self, now: Instant) -> bool {
        self.recheck <= now
    }

    pub(crate) fn rechecked(&mut self, now: Instant) {
        self.recheck = now + RECHECK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "some beginning, nothing is measured"
    )]
    fn began() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_save_is_over_after_a_pause_or_when_it_takes_long() {
        let began = began();
        let mut schedule = Schedule::new(began);
        schedule.saved(7, began);
        schedule.saved(8, began + 10 * MS);
        assert_eq!(schedule.next(None), began + 30 * MS);
        assert_eq!(schedule.take_saved(began + 29 * MS), None);
        assert_eq!(schedule.take_saved(began + 30 * MS), Some(7));
        for n in 0..100 {
            schedule.saved(9 + u64::from(n), began + n * 10 * MS);
        }
        assert_eq!(schedule.next(None), began + LONGEST);
        assert_eq!(schedule.take_saved(began + LONGEST), Some(9));
    }

    #[test]
    fn a_change_during_a_build_waits_from_when_it_was_found() {
        let began = began();
        let mut schedule = Schedule::new(began);
        schedule.set_backoff(Some(40 * MS), began);
        schedule.set_backoff(Some(80 * MS), began + 30 * MS);
        assert!(!schedule.take_backoff(began + 79 * MS) && schedule.has_backoff());
        assert!(schedule.take_backoff(began + 80 * MS) && !schedule.has_backoff());
    }

    #[test]
    fn polling_takes_a_tenth_of_the_time_at_most() {
        let began = began();
        let mut schedule = Schedule::new(began);
        assert!(
            !schedule.is_poll_due(began + POLL),
            "the system reports changes"
        );
        schedule.set_polling(true);
        assert!(schedule.is_poll_due(began + POLL));
        schedule.polled(began + POLL, began + POLL + 200 * MS);
        let next = began + POLL + 2_200 * MS;
        assert!(!schedule.is_poll_due(next - MS) && schedule.is_poll_due(next));
    }
}
