//! Rate-limits the host's own log. A guest can cause some of its lines as often as it likes:
//! for each place in the code, and each module that such a line names, a fixed number of lines
//! is written per second; the others are counted.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines per second for each place and module.
const LINES_PER_S: u32 = 20;
/// The maximum number of places and modules that are distinguished. Beyond it, the modules of a
/// place are counted together.
const MOST_KEYS: usize = 1_024;

/// Decides which lines are written.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    rates: Mutex<HashMap<Key, Rate>>,
}

/// The place that a line is written at, and the module it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    place: &'static str,
    line: u32,
    module: String,
}

#[derive(Debug, Default)]
struct Rate {
    second: u64,
    printed: u32,
    /// Suppressed in this second.
    left_out: u64,
    /// Suppressed before, and not reported yet.
    owed: u64,
}

impl Gate {
    #[expect(clippy::disallowed_methods, reason = "a rate of lines for people")]
    pub(crate) fn new() -> Gate {
        Gate(Arc::new(Inner {
            began: Instant::now(),
            rates: Mutex::default(),
        }))
    }

    fn second(&self) -> u64 {
        self.0.began.elapsed().as_secs()
    }

    fn admits(&self, mut key: Key, second: u64) -> bool {
        let mut rates = (self.0.rates.lock()).unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= MOST_KEYS && !rates.contains_key(&key) {
            key.module = "other modules".to_owned();
        }
        let rate = rates.entry(key).or_default();
        if rate.second != second {
            rate.second = second;
            rate.printed = 0;
            rate.owed += std::mem::take(&mut rate.left_out);
        }
        if rate.printed >= LINES_PER_S {
            rate.left_out += 1;
            return false;
        }
        rate.printed += 1;
        true
    }

    /// Returns whether the next line of this kind, which does not come from `tracing`, is
    /// written.
    pub(crate) fn admits_other(&self, place: &'static str) -> bool {
        let key = Key {
            place,
            line: 0,
            module: String::new(),
        };
        self.admits(key, self.second())
    }

    /// Returns a line for each count of suppressed lines that has not been reported yet. With
    /// `all`, includes the current second.
    pub(crate) fn left_out(&self, all: bool) -> Vec<String> {
        self.left_out_before(match all {
            true => u64::MAX,
            false => self.second(),
        })
    }

    fn left_out_before(&self, second: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rates = (self.0.rates.lock()).unwrap_or_else(PoisonError::into_inner);
        rates.retain(|key, rate| {
            let goes_on = rate.second >= second;
            if !goes_on {
                rate.owed += std::mem::take(&mut rate.left_out);
            }
            if rate.owed > 0 {
                let owed = std::mem::take(&mut rate.owed);
                let mut line = format!("left out {owed} more lines of {}", key.place);
                if key.line > 0 {
                    // Writing to a String cannot fail.
                    let _ = write!(line, ":{}", key.line);
                }
                if !key.module.is_empty() {
                    let _ = write!(line, " about {}", key.module);
                }
                lines.push(line + ", they came too fast");
            }
            goes_on
        });
        lines
    }
}

impl<S: Subscriber> Layer<S> for Gate {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Lines below the level `info` were asked for explicitly, so all of them are written.
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut module = Module::default();
        event.record(&mut module);
        let key = Key {
            place: metadata.target(),
            line: metadata.line().unwrap_or_default(),
            module: module.0,
        };
        self.admits(key, self.second())
    }
}

/// Extracts the field `module` of a line.
#[derive(Default)]
struct Module(String);

impl Visit for Module {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "module" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Key, LINES_PER_S};

    fn key(module: &str) -> Key {
        Key {
            place: "here",
            line: 7,
            module: module.to_owned(),
        }
    }

    #[test]
    fn lines_of_a_module_are_bounded_and_counted_and_hide_no_other_module() {
        let gate = Gate::new();
        let printed = (0..LINES_PER_S + 5).filter(|_| gate.admits(key("flood"), 3));
        assert_eq!(printed.count(), LINES_PER_S as usize);
        assert!(gate.admits(key("calm"), 3));
        assert!(gate.left_out_before(3).is_empty());
        assert_eq!(
            gate.left_out_before(4),
            ["left out 5 more lines of here:7 about flood, they came too fast"]
        );
        assert!(gate.left_out_before(5).is_empty(), "once");
        assert!(gate.admits(key("flood"), 4));
        // A flood that does not end is reported nevertheless.
        for second in 5..=6 {
            for _ in 0..LINES_PER_S + 5 {
                gate.admits(key("flood"), second);
            }
        }
        assert_eq!(gate.left_out_before(6).len(), 1);
    }

    #[test]
    fn the_number_of_modules_is_bounded() {
        let gate = Gate::new();
        for number in 0..super::MOST_KEYS + 1000 {
            gate.admits(key(&number.to_string()), 0);
        }
        assert!(gate.0.rates.lock().unwrap().len() <= super::MOST_KEYS + 1);
    }
}
