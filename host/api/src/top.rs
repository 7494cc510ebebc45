//! Samples of what processes and schedulers do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The sort order of a sample of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Reductions per second, then total reductions.
    #[default]
    Reductions,
    /// Messages that wait.
    Mailbox,
    /// Bytes of linear memory.
    Memory,
}

impl Sort {
    /// Returns its name, as in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reductions => "reductions",
            Self::Mailbox => "mailbox",
            Self::Memory => "memory",
        }
    }
}

/// A sample: the activity since the previous one, whichever client took that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    /// Milliseconds since the previous sample; 0 if there was none, and then all rates are 0.
    pub interval_ms: f64,
    /// Live processes.
    pub processes: u64,
    /// The number of them that have run since the previous sample.
    pub ran: u64,
    /// Reductions per second of all of them.
    pub reductions: f64,
    /// The schedulers.
    pub schedulers: Vec<SchedulerLoad>,
    /// The first processes in sort order.
    pub top: Vec<TopProcess>,
}

/// One scheduler of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SchedulerLoad {
    /// The share of the time that it was not asleep, from 0 to 1.
    pub busy: f64,
    /// Slices per second.
    pub slices: f64,
}

/// One process of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopProcess {
    /// The fields of a listing.
    #[serde(flatten)]
    pub process: Process,
    /// Reductions per second.
    pub rate: f64,
}
