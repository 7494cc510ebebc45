//! The result of the upgrade to a release.

use serde::Serialize;

use super::ModuleSwap;

/// The result of the upgrade to a release.
#[derive(Clone, Debug, Serialize)]
pub struct UpgradeReport {
    /// The release.
    pub release: u64,
    /// Whether it is a rollback.
    pub rollback: bool,
    /// The modules that it changed.
    pub modules: Vec<ModuleSwap>,
    /// The release that superseded this one before all processes were upgraded; `None`: no process
    /// has to be upgraded any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<u64>,
    /// The number of processes of the changed modules at the commit.
    pub processes: u64,
    /// The upgrades, by path.
    pub upgraded: Vec<(&'static str, u64)>,
    /// The number of these upgrades for which the background upgrader woke the process. The other
    /// processes were upgraded when they had something to do.
    pub background: u64,
    /// The number of processes whose upgrade failed.
    pub failed: u64,
    /// The number of processes that were reverted in probation, so far.
    pub reverted: u64,
    /// The number of processes that are exempt on request.
    pub exempt: u64,
    /// Microseconds that an upgrade paused a process: median, 99th percentile, maximum.
    pub pause_us: [f64; 3],
    /// Milliseconds from the first sign of the change (the file event, or the call) to the first
    /// process on new code; `None`: there is none.
    pub running_ms: Option<f64>,
    /// Milliseconds from the commit until the end was detected.
    pub took_ms: f64,
}
