//! When a module file that changes is to be looked at.
//!
//! Each file has its own time: what happens to others is no reason to wait for it.
//! One that somebody has written to and not closed is waited for, within a bound;
//! and one that is ready waits a moment for others that change with it, so that
//! they go into one swap. Knows no clock and no file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::post::Sign;

/// A file that nobody has touched for so long is looked at.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// One that is put in place again and again is looked at after this time.
const RESTLESS: Duration = Duration::from_secs(2);
/// One that is ready waits so long for others that have changed and are not.
const TOGETHER: Duration = Duration::from_millis(500);
/// How long a writer may pause that has the file open.
const PAUSE: Duration = Duration::from_secs(10);
/// One that is written to without an end is looked at after this time.
const ENDLESS: Duration = Duration::from_secs(60);

/// A file that has changed and was not looked at since.
#[derive(Clone, Copy, Debug)]
struct Touched {
    /// By the node's clock, when it was first noticed.
    noticed: u64,
    /// When it changed first, or was closed first.
    first: Instant,
    last: Instant,
    /// See [`Sign`].
    open: bool,
    done: bool,
}

impl Touched {
    fn ready_at(&self) -> Instant {
        match self.open {
            true => (self.last + PAUSE).min(self.first + ENDLESS),
            false => (self.last + QUIET).min(self.first + RESTLESS),
        }
    }
}

/// A file that is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// By the node's clock, when its change was noticed.
    pub(super) noticed: u64,
    /// Whoever wrote it has said that it is done.
    pub(super) done: bool,
}

/// The files that have changed, by their modules.
#[derive(Debug, Default)]
pub(super) struct Settling(BTreeMap<String, Touched>);

impl Settling {
    /// Something has happened to the file of a module.
    pub(super) fn touch(&mut self, module: &str, sign: Sign, noticed: u64, now: Instant) {
        let Some(touched) = self.0.get_mut(module) else {
            let touched = Touched {
                noticed,
                first: now,
                last: now,
                open: sign.open,
                done: sign.done,
            };
            self.0.insert(module.to_owned(), touched);
            return;
        };
        // As it was, if nothing was said of that.
        let known = sign.open || sign.done || sign.gone;
        let open = if known { sign.open } else { touched.open };
        if touched.open != open {
            touched.first = now;
        }
        touched.last = now;
        touched.open = open;
        if known {
            touched.done = sign.done;
        }
    }

    /// Whether the file of a module is not to be looked at yet.
    pub(super) fn holds(&self, module: &str) -> bool {
        self.0.contains_key(module)
    }

    /// Modules that are none any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|module, _| keep(module));
    }

    /// When there is something to look at.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let times = || self.0.values().map(Touched::ready_at);
        let (first, last) = (times().min()?, times().max()?);
        Some(last.min(first + TOGETHER))
    }

    /// Takes what is to be looked at now.
    pub(super) fn take_ready(&mut self, now: Instant) -> BTreeMap<String, Ready> {
        if self.ready_at().is_none_or(|time| time > now) {
            return BTreeMap::new();
        }
        let mut ready = BTreeMap::new();
        self.0.retain(|module, touched| {
            if touched.ready_at() > now {
                return true;
            }
            let Touched { noticed, done, .. } = *touched;
            ready.insert(module.clone(), Ready { noticed, done });
            false
        });
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Sign = Sign {
        open: true,
        done: false,
        gone: false,
    };
    const DONE: Sign = Sign {
        open: false,
        done: true,
        gone: false,
    };

    struct Times {
        settling: Settling,
        began: Instant,
    }

    impl Times {
        #[expect(
            clippy::disallowed_methods,
            reason = "some beginning, nothing is measured"
        )]
        fn new() -> Times {
            Times {
                settling: Settling::default(),
                began: Instant::now(),
            }
        }

        fn touch(&mut self, module: &str, sign: Sign, at_ms: u64) {
            let now = self.began + Duration::from_millis(at_ms);
            self.settling.touch(module, sign, at_ms, now);
        }

        fn ready(&self) -> Option<u128> {
            let at = self.settling.ready_at()?;
            Some((at - self.began).as_millis())
        }

        fn take(&mut self, at_ms: u64) -> Vec<String> {
            let now = self.began + Duration::from_millis(at_ms);
            self.settling.take_ready(now).into_keys().collect()
        }
    }

    #[test]
    fn a_file_that_was_closed_is_ready_when_it_is_quiet() {
        let mut it = Times::new();
        assert_eq!(it.ready(), None);
        it.touch("one", WRITTEN, 0);
        it.touch("one", DONE, 40);
        assert_eq!(it.ready(), Some(140));
        assert_eq!(it.take(139), [""; 0]);
        assert!(it.settling.holds("one"));
        assert_eq!(it.take(140), ["one"]);
        assert!(!it.settling.holds("one"));
        assert_eq!(it.ready(), None);
    }

    #[test]
    fn one_that_is_replaced_without_a_pause_is_ready_all_the_same() {
        let mut it = Times::new();
        for n in 0..80 {
            it.touch("one", DONE, n * 30);
        }
        assert_eq!(it.ready(), Some(2_000));
    }

    #[test]
    fn a_writer_is_waited_for_but_not_for_ever() {
        let mut it = Times::new();
        it.touch("one", WRITTEN, 0);
        // A touch of its name or date does not end the writing.
        it.touch("one", Sign::default(), 9_000);
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
        // A writer that takes its time holds nobody else up for long.
        assert_eq!(it.ready(), Some(1_600));
        assert_eq!(it.take(1_600), ["one"]);
        assert!(it.settling.holds("two"));
    }
}
