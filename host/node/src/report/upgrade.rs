//! The result of the upgrade to a release.

use std::fmt;

use serde::Serialize;

use super::{ModuleSwap, changes};

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

impl fmt::Display for UpgradeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.superseded_by {
            Some(_) => "superseded",
            None => "upgrade-completed",
        };
        write!(f, "{word}{}", changes(&self.modules))?;
        let upgraded: u64 = self.upgraded.iter().map(|(_, count)| count).sum();
        if let Some(by) = self.superseded_by {
            write!(
                f,
                " by release {by}  {upgraded} of {} processes had been upgraded",
                self.processes
            )?;
        }
        for (index, (path, count)) in self.upgraded.iter().enumerate() {
            let before = match (index, self.superseded_by) {
                (0, None) => "  ",
                (0, Some(_)) => ": ",
                _ => ", ",
            };
            write!(f, "{before}{count} {path}")?;
        }
        if upgraded > 0 {
            let [p50, p99, max] = self.pause_us;
            write!(
                f,
                " ({} in the background)  pause p50/p99/max {p50:.0}/{p99:.0}/{max:.0} us",
                self.background
            )?;
        }
        write!(f, "  {} failed, {} reverted", self.failed, self.reverted)?;
        if self.exempt > 0 {
            write!(f, ", {} exempt", self.exempt)?;
        }
        if let Some(running) = self.running_ms {
            write!(f, "  change to new code {running:.0} ms")?;
        }
        write!(f, "  {:.0} ms after the commit", self.took_ms)?;
        if self.failed > 0 {
            f.write_str(
                "; failed processes keep their old code: `exuvia ps` shows why, `exuvia restart PID` starts one on the current code with a fresh state",
            )?;
        }
        Ok(())
    }
}
