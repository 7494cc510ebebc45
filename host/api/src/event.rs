//! Events: what the streams of a node consist of.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time;

/// An event: the `data` of one server-sent event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// The time: RFC 3339, UTC, with milliseconds.
    pub at: String,
    /// One line for people.
    pub line: String,
    /// The same in parts; `event` is its kind. `docs/cli.md` lists the kinds.
    #[schemars(with = "Map<String, Value>")]
    pub event: Value,
}

impl EventLine {
    /// Creates a line with the current time.
    pub fn now(line: impl Into<String>, event: Value) -> Self {
        Self {
            at: time::now(),
            line: line.into(),
            event,
        }
    }

    /// Creates a line with the time `at`.
    pub fn at(at: SystemTime, line: impl Into<String>, event: Value) -> Self {
        Self {
            at: time::format(at),
            line: line.into(),
            event,
        }
    }
}
