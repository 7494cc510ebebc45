//! Which log lines of guests are told: by level, for each module, and at a bounded
//! rate, as OTP's logger and its overload protection. A guest that logs without an
//! end slows itself down, and hides nobody else's lines.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::Level;

const SECOND: u64 = 1_000_000_000;
/// Bytes of one module's lines that are told in a second: a log that somebody keeps
/// must not fill a disk in an hour.
const BYTES: usize = 256 << 10;

/// What is told of guests' log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRules {
    /// Lines up to this level are told; `None`: none.
    pub level: Option<Level>,
    /// The same of single modules.
    pub modules: BTreeMap<String, Option<Level>>,
    /// Lines of one module that are told in a second.
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
    /// By module, those that have logged in this second, or have left out lines.
    rates: HashMap<Arc<str>, Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    second: u64,
    told: u32,
    bytes: usize,
    left_out: u64,
}

impl Logger {
    pub(crate) fn set(&self, rules: LogRules) {
        self.0.lock().rules = rules;
    }

    /// Whether a line of so many bytes is told, at a time of the node's clock.
    pub(crate) fn admits(&self, module: &Arc<str>, level: Level, bytes: usize, now: u64) -> bool {
        let mut state = self.0.lock();
        let State { rules, rates } = &mut *state;
        let most = rules.modules.get(&**module).unwrap_or(&rules.level);
        if most.is_none_or(|most| level > most) {
            return false;
        }
        let rate = rates.entry(module.clone()).or_default();
        let second = now / SECOND;
        if rate.second != second {
            rate.second = second;
            rate.told = 0;
            rate.bytes = 0;
        }
        if rate.told >= rules.lines_per_s || rate.bytes.saturating_add(bytes) > BYTES {
            rate.left_out += 1;
            return false;
        }
        rate.told += 1;
        rate.bytes += bytes;
        true
    }

    /// The modules of which lines were left out before this second, and how many;
    /// they are not answered again.
    pub(crate) fn left_out(&self, now: u64) -> Vec<(Arc<str>, u64)> {
        let mut left_out = Vec::new();
        self.0.lock().rates.retain(|module, rate| {
            if rate.second == now / SECOND {
                return true;
            }
            if rate.left_out > 0 {
                left_out.push((module.clone(), rate.left_out));
            }
            false
        });
        left_out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{LogRules, Logger, SECOND};
    use crate::event::Level;

    #[test]
    fn levels_hold_for_a_module_or_for_all() {
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
    fn a_flood_is_cut_and_counted_and_hides_nobody() {
        let logger = Logger::default();
        logger.set(LogRules {
            lines_per_s: 5,
            ..LogRules::default()
        });
        let (flood, calm) = (Arc::from("flood"), Arc::from("calm"));
        let told = (0..100).filter(|_| logger.admits(&flood, Level::Info, 10, 7));
        assert_eq!(told.count(), 5);
        assert!(logger.admits(&calm, Level::Info, 10, 7));
        assert!(
            logger.left_out(SECOND - 1).is_empty(),
            "the second is not over"
        );
        assert_eq!(logger.left_out(SECOND), [(flood.clone(), 95)]);
        assert!(logger.left_out(SECOND).is_empty(), "once");
        assert!(logger.admits(&flood, Level::Info, 10, SECOND));
        // A second without a look between loses no count.
        for _ in 0..10 {
            logger.admits(&flood, Level::Info, 10, SECOND);
        }
        logger.admits(&flood, Level::Info, 10, 3 * SECOND);
        assert_eq!(logger.left_out(9 * SECOND), [(flood.clone(), 6)]);
        // Long lines are cut by their bytes.
        let long = |_: &i32| logger.admits(&flood, Level::Info, 100 << 10, 20 * SECOND);
        assert_eq!((0..5).filter(long).count(), 2);
    }
}
