//! Decides which log lines of guests are reported: by level, for each module, and at a bounded
//! rate, like OTP's logger and its overload protection. A guest that logs without end slows itself
//! down, and does not displace the lines of other modules. Events that a guest can cause without
//! end, such as exits and restarts, have a bound of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::Level;

const SECOND: u64 = 1_000_000_000;
/// The maximum bytes of one module's lines that are reported per second: a log file must not fill a
/// disk within an hour.
const BYTES: usize = 256 << 10;

/// The maximum number of events of one kind that are reported of one module per second. More cannot
/// be read; counts are in `exuvia info` and the metrics.
const EVENTS_PER_S: u32 = 100;

/// Kinds of events that a guest can cause without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Report {
    Exit,
    UpgradeFailed,
    Reverted,
    Restarted,
    NotStarted,
}

impl Report {
    /// Returns the name of the event.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Report::Exit => "exit",
            Report::UpgradeFailed => "upgrade-failed",
            Report::Reverted => "reverted",
            Report::Restarted => "restarted",
            Report::NotStarted => "not-started",
        }
    }
}

/// Which log lines of guests are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRules {
    /// Lines up to this level are reported; `None`: none.
    pub level: Option<Level>,
    /// The levels of single modules, which replace `level`.
    pub modules: BTreeMap<String, Option<Level>>,
    /// The maximum number of lines of one module per second.
    pub lines_per_s: u32,
}

impl Default for LogRules {
    fn default() -> LogRules {
        LogRules {
            level: Some(Level::Debug),
            modules: BTreeMap::new(),
            lines_per_s: 1_000,
        }
    }
}

/// Applies the rules.
#[derive(Debug, Default)]
pub(crate) struct Logger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rules: LogRules,
    /// By module: those that have logged in this second, or have lines left out that are not
    /// reported.
    rates: HashMap<Arc<str>, Rate>,
    /// The rates of events.
    reports: HashMap<(Arc<str>, Report), Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    second: u64,
    reported: u32,
    bytes: usize,
    /// The number left out in this second.
    left_out: u64,
    /// The number left out before this second that is not reported yet. A flood is reported before
    /// it ends.
    owed: u64,
}

impl Rate {
    /// Returns whether one more entry of `bytes` bytes is reported; counts it if it is not.
    fn admits(&mut self, most: u32, bytes: usize, now: u64) -> bool {
        let second = now / SECOND;
        if self.second != second {
            self.second = second;
            self.reported = 0;
            self.bytes = 0;
            self.owed += std::mem::take(&mut self.left_out);
        }
        // The first one is reported however long it is.
        let too_long = self.reported > 0 && self.bytes.saturating_add(bytes) > BYTES;
        if self.reported >= most || too_long {
            self.left_out += 1;
            return false;
        }
        self.reported += 1;
        self.bytes += bytes;
        true
    }

    /// Returns the number left out before this second that was not returned before, and whether
    /// there may be more.
    fn owed(&mut self, now: u64) -> (u64, bool) {
        let goes_on = self.second == now / SECOND;
        if !goes_on {
            self.owed += std::mem::take(&mut self.left_out);
        }
        (std::mem::take(&mut self.owed), goes_on)
    }
}

impl Logger {
    pub(crate) fn set(&self, rules: LogRules) {
        self.0.lock().rules = rules;
    }

    /// Returns whether a line of `bytes` bytes is reported; `now` is by the node's clock.
    pub(crate) fn admits(&self, module: &Arc<str>, level: Level, bytes: usize, now: u64) -> bool {
        let mut state = self.0.lock();
        let State { rules, rates, .. } = &mut *state;
        let most = rules.modules.get(&**module).unwrap_or(&rules.level);
        if most.is_none_or(|most| level > most) {
            return false;
        }
        let rate = rates.entry(module.clone()).or_default();
        rate.admits(rules.lines_per_s, bytes, now)
    }

    /// Returns whether an event of this module, of `bytes` bytes, is reported.
    pub(crate) fn reports(&self, module: &Arc<str>, what: Report, bytes: usize, now: u64) -> bool {
        let mut state = self.0.lock();
        let rate = state.reports.entry((module.clone(), what)).or_default();
        rate.admits(EVENTS_PER_S, bytes, now)
    }

    /// Returns the modules of which lines were left out before this second, and how many. Each
    /// count is returned once.
    pub(crate) fn left_out(&self, now: u64) -> Vec<(Arc<str>, u64)> {
        let mut left_out = Vec::new();
        self.0.lock().rates.retain(|module, rate| {
            let (owed, goes_on) = rate.owed(now);
            if owed > 0 {
                left_out.push((module.clone(), owed));
            }
            goes_on
        });
        left_out
    }

    /// Does the same for events.
    pub(crate) fn reports_left_out(&self, now: u64) -> Vec<(Arc<str>, Report, u64)> {
        let mut left_out = Vec::new();
        self.0.lock().reports.retain(|(module, what), rate| {
            let (owed, goes_on) = rate.owed(now);
            if owed > 0 {
                left_out.push((module.clone(), *what, owed));
            }
            goes_on
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{EVENTS_PER_S, LogRules, Logger, Report, SECOND};
    use crate::event::Level;

    #[test]
    fn levels_apply_to_one_module_or_to_all() {
        let logger = Logger::default();
        logger.set(LogRules {
            level: Some(Level::Warn),
            modules: BTreeMap::from([("loud".into(), Some(Level::Debug)), ("mute".into(), None)]),
            lines_per_s: 10,
        });
        let admits = |module: &str, level| logger.admits(&Arc::from(module), level, 10, 0);
        assert!(admits("other", Level::Error) && admits("other", Level::Warn));
        assert!(!admits("other", Level::Info) && !admits("other", Level::Debug));
        assert!(admits("loud", Level::Debug));
        assert!(!admits("mute", Level::Error));
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_hides_no_other_module() {
        let logger = Logger::default();
        logger.set(LogRules {
            lines_per_s: 5,
            ..LogRules::default()
        });
        let (flood, calm) = (Arc::from("flood"), Arc::from("calm"));
        let reported = (0..100).filter(|_| logger.admits(&flood, Level::Info, 10, 7));
        assert_eq!(reported.count(), 5);
        assert!(logger.admits(&calm, Level::Info, 10, 7));
        assert!(
            logger.left_out(SECOND - 1).is_empty(),
            "the second is not over"
        );
        assert_eq!(logger.left_out(SECOND), [(flood.clone(), 95)]);
        assert!(logger.left_out(SECOND).is_empty(), "once");
        assert!(logger.admits(&flood, Level::Info, 10, SECOND));
        // A second without a query in between loses no count.
        for _ in 0..10 {
            logger.admits(&flood, Level::Info, 10, SECOND);
        }
        logger.admits(&flood, Level::Info, 10, 3 * SECOND);
        assert_eq!(logger.left_out(9 * SECOND), [(flood.clone(), 6)]);
        // The byte limit cuts long lines.
        let long = |_: &i32| logger.admits(&flood, Level::Info, 100 << 10, 20 * SECOND);
        assert_eq!((0..5).filter(long).count(), 2);
    }

    #[test]
    fn an_endless_flood_is_reported() {
        let logger = Logger::default();
        logger.set(LogRules {
            lines_per_s: 5,
            ..LogRules::default()
        });
        let flood = Arc::from("flood");
        let mut reported = 0;
        for second in 0..10 {
            for _ in 0..100 {
                logger.admits(&flood, Level::Info, 10, second * SECOND);
            }
            reported += (logger.left_out(second * SECOND).iter())
                .map(|(_, lines)| *lines)
                .sum::<u64>();
            assert_eq!(reported, second * 95, "those of the seconds before");
        }
    }

    #[test]
    fn events_beyond_the_rate_are_counted_by_module_and_kind() {
        let logger = Logger::default();
        let (flood, calm) = (Arc::from("flood"), Arc::from("calm"));
        let most = EVENTS_PER_S as usize;
        let reported = (0..most + 7).filter(|_| logger.reports(&flood, Report::Exit, 10, 5));
        assert_eq!(reported.count(), most);
        assert!(logger.reports(&flood, Report::Restarted, 10, 5));
        assert!(logger.reports(&calm, Report::Exit, 10, 5));
        assert!(logger.reports_left_out(5).is_empty());
        assert_eq!(
            logger.reports_left_out(SECOND),
            [(flood.clone(), Report::Exit, 7)]
        );
        assert!(logger.reports_left_out(SECOND).is_empty(), "once");
        // Of long backtraces fewer are reported, but never none.
        let long = |_: &i32| logger.reports(&flood, Report::Exit, 10 << 20, 2 * SECOND);
        assert_eq!((0..5).filter(long).count(), 1);
    }
}
