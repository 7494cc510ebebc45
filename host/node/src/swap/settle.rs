//! What follows a commit: loop processes are woken, and the caller of the deployment waits briefly
//! for busy processes, so that its report has their upgrades.

use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::Release;
use exuvia_engine::Artifact;
use exuvia_process::Pid;

use super::Swapper;
use super::tracker::{UpgradeFigures, milliseconds};
use crate::report::SwapReport;

/// How long a deployment waits for busy processes to be upgraded. Later upgrades are only in the
/// [`crate::UpgradeReport`].
const SETTLE: Duration = Duration::from_secs(1);
/// The wait ends when no process was upgraded for this long, in nanoseconds.
const STILL: u64 = 20_000_000;
/// The interval between two checks meanwhile.
const CHECK: Duration = Duration::from_micros(500);

impl Swapper {
    /// Wakes `woken`, waits for busy processes to be upgraded, and adds the result to the report.
    pub(super) fn settle(
        &self,
        release: &Release<Artifact>,
        woken: &[Pid],
        noticed: u64,
        report: &mut SwapReport,
    ) {
        let core = &self.core;
        let committed = core.now();
        for pid in woken {
            core.system.wake(*pid);
        }
        core.commits.announce();
        if core.system.clock.is_manual() {
            // A manual clock does not measure the wait: all processes that can be upgraded are
            // upgraded now.
            core.wake_pending();
            core.come_to_rest(SETTLE);
            self.is_upgrading();
        } else {
            self.wait_for_upgrades(release, committed);
        }
        let figures = UpgradeFigures::of(release);
        if let Some(first) = figures.first {
            report.stages.first = Some(milliseconds(committed, first));
            report.running_ms = Some(milliseconds(noticed, first));
        }
        report.pause_us = figures.pause_us;
        report.upgraded = figures.upgraded;
        report.failed = figures.failed;
    }

    fn wait_for_upgrades(&self, release: &Release<Artifact>, committed: u64) {
        let progress = &release.progress;
        let until = committed + u64::try_from(SETTLE.as_nanos()).unwrap_or(0);
        let mut seen = (0, committed);
        while self.is_upgrading() {
            let moved = progress.total() + progress.failed.load(Ordering::Relaxed);
            let now = self.core.now();
            if moved != seen.0 {
                seen = (moved, now);
            }
            // The time is over, or no process has been upgraded for a while: idle processes are
            // upgraded when they wake.
            if now >= until || now - seen.1 > STILL {
                break;
            }
            std::thread::park_timeout(CHECK);
        }
    }
}
