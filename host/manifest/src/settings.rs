//! Settings of a node as a whole: `[node]` and `[log]`.

use std::collections::BTreeMap;
use std::time::Duration;

/// The default of `[node] normal_share`.
const NORMAL_SHARE: u32 = 10;

/// The default of `[node] drain_per_s`: ten thousand sockets, as many as an address has by default, in ten seconds.
const DRAIN_PER_S: u32 = 1_000;

/// The maximum of `[node] normal_share`, as the scheduler has it.
pub const MAX_NORMAL_SHARE: u32 = 90;

/// Settings of the whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The number of scheduler threads; by default one per core.
    pub schedulers: Option<u32>,
    /// The maximum number of resident processes; by default the node decides.
    pub frames: Option<u32>,
    /// Bytes of memory that resident processes may keep; by default the node decides.
    pub frame_memory: Option<u64>,
    /// Of a hundred slices, those that processes of NORMAL and LOW priority get while ones of HIGH
    /// priority are ready.
    pub normal_share: u32,
    /// The maximum number of processes; by default the node decides.
    pub processes: Option<u32>,
    /// The number of messages of each process that are transactions after a swap.
    pub probation: u32,
    /// How long a swap may be verified on copies of processes before its commit.
    pub verify: Duration,
    /// The number of failures caused by a release at which it is rolled back.
    pub release_threshold: u32,
    /// How many sockets are closed in a second when the node stops.
    pub drain_per_s: u32,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            schedulers: None,
            frames: None,
            frame_memory: None,
            normal_share: NORMAL_SHARE,
            processes: None,
            probation: 3,
            verify: Duration::from_millis(100),
            release_threshold: 3,
            drain_per_s: DRAIN_PER_S,
        }
    }
}

/// `[log]`: which lines of guests are reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines up to this level are reported; `None`: none.
    pub level: Option<Level>,
    /// The levels of single modules, which replace `level`.
    pub modules: BTreeMap<String, Option<Level>>,
    /// The maximum number of lines of one module per second.
    pub lines_per_s: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: Some(Level::Debug),
            modules: BTreeMap::new(),
            lines_per_s: 1_000,
        }
    }
}

/// The fewest releases that are kept: more than a node can roll back to one after the other without its store.
pub const KEEP_AT_LEAST: u64 = 8;

/// `[releases]`: which releases the release store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseSettings {
    /// The number of releases, besides pinned ones.
    pub keep: u64,
    /// Bytes of their modules.
    pub keep_bytes: u64,
}

impl Default for ReleaseSettings {
    fn default() -> Self {
        Self {
            keep: 20,
            keep_bytes: 1 << 30,
        }
    }
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// For the author of the module.
    Debug,
}
