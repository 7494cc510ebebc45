//! What a swap did: data. `upgrade` is the result of the upgrade that follows, `old_code` tells of
//! processes that do not run the current code.

mod old_code;
mod resumed;
mod upgrade;

use std::sync::Arc;

use exuvia_code::{Release, UpgradePath, Version};
use exuvia_engine::{Artifact, Verified};
use serde::Serialize;

pub use old_code::{Lingering, Outdated};
pub use resumed::{Choice, Resumed, ResumedModule};
pub use upgrade::UpgradeReport;

/// The change of one module in a release.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleSwap {
    /// The module.
    pub name: String,
    /// The previous version; `None` for a new module.
    pub from: Option<u32>,
    /// The new version.
    pub to: u32,
    /// The first digits of the new file's digest.
    pub digest: String,
}

impl ModuleSwap {
    /// Returns what `versions` change in a release.
    pub(crate) fn of(
        before: &Release<Artifact>,
        versions: &[Arc<Version<Artifact>>],
    ) -> Vec<ModuleSwap> {
        versions
            .iter()
            .map(|version| ModuleSwap {
                name: version.module.to_string(),
                from: before.version(&version.module).map(|before| before.number),
                to: version.number,
                digest: version.digest.short(),
            })
            .collect()
    }
}

/// Milliseconds of each stage of a swap.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// Running the build commands; `None`: they were not run for this swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<f64>,
    /// Instrumenting, compiling and initialising.
    pub load: f64,
    /// Upgrading copies of processes.
    pub verify: f64,
    /// Making frames for busy processes.
    pub prepare: f64,
    /// Writing the release to the release store, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<f64>,
    /// Making the release current.
    pub commit: f64,
    /// From the commit to the first process on new code; `None`: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<f64>,
}

/// What a swap did. The event is sent at the commit, when no process has been upgraded yet; the
/// caller of a deployment waits briefly for the busy processes, and its report includes their
/// upgrades. All later upgrades are in the [`crate::UpgradeReport`].
#[derive(Clone, Debug, Serialize)]
pub struct SwapReport {
    /// The release that is current now.
    pub release: u64,
    /// Whether it is a rollback.
    pub rollback: bool,
    /// Whether it is a plan: nothing has changed, and this is what would.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// What changed; empty if nothing did.
    pub modules: Vec<ModuleSwap>,
    /// The source files whose change triggered it, if known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// The number of processes of the changed modules at the commit.
    pub processes: u64,
    /// The number of copies of these that were verified.
    pub verified: u64,
    /// The upgrade paths of these copies, which the processes will take.
    pub verified_by_path: Vec<(&'static str, u64)>,
    /// Why state is not reused, for the first module whose state is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_reused: Option<String>,
    /// The number of loop processes that are exempt on request; if nothing changed, those that are
    /// still exempt.
    pub exempt: u64,
    /// The number of busy and loop processes that were killed on request, including previously
    /// exempt ones.
    pub killed: u64,
    /// If nothing changed, the old versions on which processes are exempt, or were until they were
    /// killed now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt_on: Vec<Lingering>,
    /// If nothing changed, processes that are on old code because they were reverted or their
    /// upgrade failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outdated: Vec<Outdated>,
    /// With [`crate::Loops::Kill`], the killed processes that have not exited in time: they run old
    /// code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unended: Vec<String>,
    /// With [`crate::Loops::Kill`], the processes that wait in the middle of something which began
    /// before the commit, each with what it waits for. They are upgraded when that ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub busy: Vec<String>,
    /// The number of messages in their mailboxes at the commit.
    pub queued: u64,
    /// The upgrades so far, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upgraded: Vec<(&'static str, u64)>,
    /// The number of upgrades that have failed so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Milliseconds from the first sign of the change (the file event, or the call) to the first
    /// process on new code; `None`: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<f64>,
    /// Microseconds that an upgrade paused a process, so far: median, 99th percentile, maximum; all
    /// 0 if none was upgraded.
    #[serde(skip_serializing_if = "is_still")]
    pub pause_us: [f64; 3],
    /// Milliseconds by stage.
    pub stages: Stages,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_still(pauses: &[f64; 3]) -> bool {
    pauses.iter().all(|pause| *pause == 0.0)
}

/// Returns how many copies took which path.
pub(crate) fn verified_by_path(verified: &Verified) -> Vec<(&'static str, u64)> {
    [
        (UpgradePath::Reused, verified.reused),
        (UpgradePath::Migrated, verified.migrated),
        (UpgradePath::Reset, verified.reset),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(path, count)| (path.name(), count))
    .collect()
}

/// Returns a report in which nothing has changed yet.
pub(crate) fn empty_report(release: &Release<Artifact>) -> SwapReport {
    SwapReport {
        planned: false,
        release: release.id,
        rollback: release.origin != release.id,
        modules: Vec::new(),
        processes: 0,
        verified: 0,
        changed: Vec::new(),
        verified_by_path: Vec::new(),
        not_reused: None,
        exempt: 0,
        killed: 0,
        exempt_on: Vec::new(),
        outdated: Vec::new(),
        unended: Vec::new(),
        busy: Vec::new(),
        queued: 0,
        upgraded: Vec::new(),
        failed: 0,
        running_ms: None,
        pause_us: [0.0; 3],
        stages: Stages::default(),
    }
}
