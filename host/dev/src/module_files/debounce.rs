//! Decides when a module file that changes is scanned.
//!
//! Each file has its own timing: events of other files do not delay it. A file that is open for
//! writing is waited for, within a bound; and one that is ready waits briefly for others that
//! change with it, so that they go into one swap. Reads no clock and no file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::watcher::event_queue::ChangeHint;

/// A file without events for this long is scanned.
const QUIET: Duration = Duration::from_millis(100);
/// A file that is replaced again and again is scanned after this time.
const REPLACED: Duration = Duration::from_secs(2);
/// How long a ready file waits for others that have changed and are not ready.
const TOGETHER: Duration = Duration::from_millis(500);
/// How long a writer that has the file open may pause.
const PAUSE: Duration = Duration::from_secs(10);
/// A file that is written to without end is scanned after this time.
const ENDLESS: Duration = Duration::from_secs(60);

/// A file that has changed since it was last scanned.
#[derive(Clone, Copy, Debug)]
struct PendingFile {
    /// When the change was first noticed, by the node's clock.
    noticed: u64,
    /// When it first changed, or was first closed.
    first: Instant,
    last: Instant,
    /// See [`ChangeHint`].
    open: bool,
    done: bool,
}

impl PendingFile {
    fn ready_at(&self) -> Instant {
        match self.open {
            true => (self.last + PAUSE).min(self.first + ENDLESS),
            false => (self.last + QUIET).min(self.first + REPLACED),
        }
    }
}

/// A file that is due to be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// When its change was noticed, by the node's clock.
    pub(super) noticed: u64,
    /// Whether its writer has signalled that it is complete.
    pub(super) done: bool,
}

/// The changed files, by module.
#[derive(Debug, Default)]
pub(super) struct Debounce(BTreeMap<String, PendingFile>);

impl Debounce {
    /// Notes an event for the file of a module.
    pub(super) fn touch(&mut self, module: &str, hint: ChangeHint, noticed: u64, now: Instant) {
        let Some(file) = self.0.get_mut(module) else {
            let file = PendingFile {
                noticed,
                first: now,
                last: now,
                open: hint.open,
                done: hint.done,
            };
            self.0.insert(module.to_owned(), file);
            return;
        };
        // Without information the previous state holds.
        let known = hint.open || hint.done || hint.gone;
        let open = if known { hint.open } else { file.open };
        if file.open != open {
            file.first = now;
        }
        file.last = now;
        file.open = open;
        if known {
            file.done = hint.done;
        }
    }

    /// Returns whether the file of a module is not due to be scanned yet.
    pub(super) fn holds(&self, module: &str) -> bool {
        self.0.contains_key(module)
    }

    /// Drops the modules that `keep` does not name.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|module, _| keep(module));
    }

    /// Returns when the next file is due.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let times = || self.0.values().map(PendingFile::ready_at);
        let (first, last) = (times().min()?, times().max()?);
        Some(last.min(first + TOGETHER))
    }

    /// Takes the files that are due now.
    pub(super) fn take_ready(&mut self, now: Instant) -> BTreeMap<String, Ready> {
        if self.ready_at().is_none_or(|time| time > now) {
            return BTreeMap::new();
        }
        let mut ready = BTreeMap::new();
        self.0.retain(|module, file| {
            if file.ready_at() > now {
                return true;
            }
            let PendingFile { noticed, done, .. } = *file;
            ready.insert(module.clone(), Ready { noticed, done });
            false
        });
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: ChangeHint = ChangeHint {
        open: true,
        done: false,
        gone: false,
    };
    const DONE: ChangeHint = ChangeHint {
        open: false,
        done: true,
        gone: false,
    };

    struct Times {
        debounce: Debounce,
        began: Instant,
    }

    impl Times {
        #[expect(
            clippy::disallowed_methods,
            reason = "some beginning, nothing is measured"
        )]
        fn new() -> Times {
            Times {
                debounce: Debounce::default(),
                began: Instant::now(),
            }
        }

        fn touch(&mut self, module: &str, hint: ChangeHint, at_ms: u64) {
            let now = self.began + Duration::from_millis(at_ms);
            self.debounce.touch(module, hint, at_ms, now);
        }

        fn ready(&self) -> Option<u128> {
            let at = self.debounce.ready_at()?;
            Some((at - self.began).as_millis())
        }

        fn take(&mut self, at_ms: u64) -> Vec<String> {
            let now = self.began + Duration::from_millis(at_ms);
            self.debounce.take_ready(now).into_keys().collect()
        }
    }

    #[test]
    fn a_closed_file_is_ready_after_a_quiet_period() {
        let mut it = Times::new();
        assert_eq!(it.ready(), None);
        it.touch("one", WRITTEN, 0);
        it.touch("one", DONE, 40);
        assert_eq!(it.ready(), Some(140));
        assert_eq!(it.take(139), [""; 0]);
        assert!(it.debounce.holds("one"));
        assert_eq!(it.take(140), ["one"]);
        assert!(!it.debounce.holds("one"));
        assert_eq!(it.ready(), None);
    }

    #[test]
    fn a_file_that_is_replaced_continually_is_ready_eventually() {
        let mut it = Times::new();
        for n in 0..80 {
            it.touch("one", DONE, n * 30);
        }
        assert_eq!(it.ready(), Some(2_000));
    }

    #[test]
    fn the_wait_for_a_writer_is_bounded() {
        let mut it = Times::new();
        it.touch("one", WRITTEN, 0);
        // A change of its name or timestamp does not end the writing.
        it.touch("one", ChangeHint::default(), 9_000);
        assert_eq!(it.ready(), Some(19_000));
        it.touch("one", DONE, 9_500);
        assert_eq!(it.ready(), Some(9_600));
        for n in 0..20 {
            it.touch("two", WRITTEN, 10_000 + n * 5_000);
        }
        it.take(9_600 + 500);
        assert_eq!(it.ready(), Some(70_000));
    }

    #[test]
    fn files_that_change_together_are_ready_together_within_a_bound() {
        let mut it = Times::new();
        it.touch("one", DONE, 0);
        it.touch("two", DONE, 80);
        assert_eq!(it.ready(), Some(180));
        assert_eq!(it.take(180), ["one", "two"]);
        it.touch("one", DONE, 1_000);
        it.touch("two", WRITTEN, 1_000);
        // A slow writer does not delay other files for long.
        assert_eq!(it.ready(), Some(1_600));
        assert_eq!(it.take(1_600), ["one"]);
        assert!(it.debounce.holds("two"));
    }
}
