//! What happens in development, for subscribers: data. These events are in the node's stream, between
//! those of the node.

use std::any::Any;

use exuvia_node::{ExternalEvent, Outdated};
use serde::Serialize;

/// Something that happened in development.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A watched file cannot be used as it is; the old code of its module keeps running.
    FileUnreadable {
        /// The module.
        module: String,
        /// Its file.
        file: String,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
    /// A build starts.
    Building {
        /// The modules that it builds.
        modules: Vec<String>,
        /// The files whose change triggered it.
        changed: Vec<String>,
    },
    /// A build has succeeded, and there is more to say than the swap that follows says: it has
    /// printed something (`new`), or no swap follows.
    Built {
        /// The modules that it built.
        modules: Vec<String>,
        /// How long it took, in milliseconds.
        took_ms: f64,
        /// What it printed, mostly warnings. May have colours.
        #[serde(skip_serializing_if = "String::is_empty")]
        output: String,
        /// Whether the files may be new; else they are unchanged.
        new: bool,
        /// Whether the files hold the running code; else they hold code that was rejected or rolled
        /// back.
        is_current: bool,
        /// Processes that do not run this code nevertheless.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outdated: Vec<Outdated>,
        /// Whether the previous build failed, or its swap was rejected.
        recovered: bool,
        /// A changed source whose timestamp is older than what was built from it. Tools that
        /// compare timestamps take it for unchanged.
        #[serde(skip_serializing_if = "Option::is_none")]
        stale_timestamp: Option<String>,
    },
    /// Each build changes its own sources, and so triggers the next one; the interval between
    /// builds grows.
    BuildLoop {
        /// The files that the build changes.
        files: Vec<String>,
    },
    /// The system does not report all changes of files, so they are polled. Sent once.
    Polling {
        /// Why the system does not report them.
        reason: String,
        /// What to do about it.
        help: String,
    },
    /// The code of modules that was rejected or could not be read is the running code again.
    Recovered {
        /// The modules.
        modules: Vec<String>,
        /// Processes that do not run this code nevertheless.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outdated: Vec<Outdated>,
    },
    /// A build has failed; the old code keeps running.
    BuildFailed {
        /// The modules that it builds.
        modules: Vec<String>,
        /// The command, and how it failed.
        reason: String,
        /// What it printed. May have colours.
        output: String,
        /// How long it took, in milliseconds.
        took_ms: f64,
    },
    /// The manifest was edited, and what could be applied is applied.
    Manifest {
        /// What is in effect now, a clause each.
        applied: Vec<String>,
        /// What could not be applied, with the reason.
        failed: Vec<String>,
        /// What takes effect when the app is started again, a clause each.
        restart: Vec<String>,
    },
    /// The manifest was edited, and is invalid: the app keeps running as it was.
    ManifestRefused {
        /// What is wrong with it, in several lines.
        reason: String,
    },
}

impl Event {
    /// Returns the event of development that an event of a node is, if it is one.
    pub fn of(event: &exuvia_node::Event) -> Option<&Event> {
        let exuvia_node::Event::External(external) = event else {
            return None;
        };
        let external: &dyn Any = &**external;
        external.downcast_ref()
    }
}

impl ExternalEvent for Event {
    fn fields(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_these_events_as_those_of_the_node() {
        let event = Event::BuildLoop {
            files: vec!["src/version.rs".into()],
        };
        let shared = exuvia_node::Event::External(std::sync::Arc::new(event));
        assert_eq!(
            serde_json::to_value(&shared).unwrap(),
            serde_json::json!({ "event": "build-loop", "files": ["src/version.rs"] })
        );
        assert!(matches!(Event::of(&shared), Some(Event::BuildLoop { .. })));
        let other = exuvia_node::Event::LogCut {
            module: "actor".into(),
            lines: 3,
        };
        assert!(Event::of(&other).is_none());
    }
}
