//! The parameters of requests.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::limits::{DEFAULT_LISTED, DEFAULT_TOP, DEFAULT_TRACED, MAX_LISTED, MAX_TOP, MAX_TRACED};
use crate::top::Sort;

/// Which processes a listing shows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessesQuery {
    /// Only processes of this module.
    pub module: Option<String>,
    /// The size of the page: 1,000 by default, at most 100,000.
    #[schemars(range(max = MAX_LISTED), extend("default" = DEFAULT_LISTED))]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// How much of the supervision tree is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeQuery {
    /// The maximum number of processes: 1,000 by default, at most 100,000.
    #[schemars(range(max = MAX_LISTED), extend("default" = DEFAULT_LISTED))]
    pub limit: Option<usize>,
}

/// What a sample shows.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopQuery {
    /// What the processes are sorted by.
    #[serde(default)]
    #[schemars(extend("default" = Sort::default().name()))]
    pub sort: Sort,
    /// The maximum number of processes: 50 by default, at most 1,000.
    #[schemars(range(max = MAX_TOP), extend("default" = DEFAULT_TOP))]
    pub limit: Option<usize>,
}

/// How long a trace is.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// The number of messages after which the trace ends: 100 by default, at most 1,000,000.
    #[schemars(range(max = MAX_TRACED), extend("default" = DEFAULT_TRACED))]
    pub limit: Option<u64>,
}

/// How a process is killed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KillQuery {
    /// The exit reason, which the log and linked processes get; at most 4 KiB.
    pub reason: Option<String>,
}
