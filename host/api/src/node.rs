//! The node as a whole, and its modules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// The app's name.
    pub app: String,
    /// The node's number, in hexadecimal.
    pub node: String,
    /// The current release.
    pub release: u64,
    /// Live processes.
    pub processes: u64,
    /// The maximum number of processes.
    pub processes_limit: u64,
    /// Scheduler threads.
    pub schedulers: u64,
    /// Threads that are blocked in place with a guest on their stack.
    pub threads_blocked: u64,
    /// Frames of all versions.
    pub frames: u64,
    /// Frames whose process is blocked.
    pub frames_blocked: u64,
    /// Frames without a process.
    pub frames_free: u64,
    /// Bytes of memory that frames hold, as last measured.
    pub frame_bytes: u64,
    /// The maximum number of bytes that frames may hold.
    pub frame_bytes_limit: u64,
    /// Frames made so far.
    pub frames_made: u64,
    /// Frames that could not be made, because the system was out of memory or mappings.
    pub frame_failures: u64,
    /// Times that a frame's memory was released because frames held too much.
    pub frames_released: u64,
    /// Milliseconds since the node's start.
    pub uptime_ms: u64,
    /// Images paged in.
    pub page_ins: u64,
    /// Images paged out.
    pub page_outs: u64,
    /// The mean time of a page-in, in nanoseconds.
    pub page_in_ns: u64,
    /// The mean time of a page-out, in nanoseconds.
    pub page_out_ns: u64,
    /// Entries into guests that found the process in a frame.
    pub frame_hits: u64,
    /// The share of hits in hits and page-ins, from 0 to 1.
    pub hit_rate: f64,
    /// How written pages are found.
    pub page_map: String,
    /// Pending timers.
    pub timers: u64,
    /// The modules of the current release, as in `GET /v1/modules`.
    pub modules: Vec<Module>,
}

/// A module of the current release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Module {
    /// Its name in the manifest.
    pub name: String,
    /// The version that new processes run.
    pub version: u64,
    /// The first digits of the digest of its bytes.
    pub digest: String,
    /// Processes that run the current version.
    pub processes: u64,
    /// The version of its state's schema.
    pub schema: i64,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// Every version that is still loaded.
    pub loaded: Vec<LoadedVersion>,
}

/// A version that is still loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadedVersion {
    /// Its number.
    pub version: u64,
    /// Processes that run it.
    pub processes: u64,
    /// The first digits of the digest of its bytes.
    pub digest: String,
}

/// The modules of the current release, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleList {
    /// The modules.
    pub items: Vec<Module>,
}

/// Options of a stop.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopOptions {
    /// How long the processes may take to stop, in milliseconds; by default the node decides.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// How a node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopReport {
    /// Whether the supervision tree stopped in order within the time.
    pub orderly: bool,
    /// Processes that were still alive, and were dropped.
    pub left: u64,
}
