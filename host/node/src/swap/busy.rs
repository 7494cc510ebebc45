//! Processes that are in the middle of something that began before a commit, and what `--kill` does
//! with them. Loops are detected before the commit. That a handler never returns shows only by its
//! not returning, so it gets a grace period.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, Busy};
use exuvia_process::{Body, Pid};

use crate::core::Core;
use crate::upgrade_state::UpgradeState;

/// How often it is checked whether a process makes progress.
const CHECK: Duration = Duration::from_millis(10);
/// The number of checks for which a handler may go on computing after the commit of a deployment
/// with `--kill`: one second.
const GRACE: usize = 100;
/// The number of checks within which a killed process must have exited: it gets the signal at the
/// end of its slice.
const END: usize = 200;

/// What became of the processes that were in the middle of something.
#[derive(Debug, Default)]
pub(crate) struct KilledBusy {
    /// The number of processes that were killed, also if they have not exited in time; without
    /// those that were killed before.
    pub(crate) killed: u64,
    /// The processes that were killed and have not exited in time.
    pub(crate) unended: Vec<String>,
    /// The processes that wait, with what for: they are upgraded when that ends.
    pub(crate) busy: Vec<String>,
}

impl Core {
    /// Kills the processes in other versions of these modules that loop, or still compute after the
    /// grace period. `before` are those that were killed already.
    pub(crate) fn kill_busy(
        &self,
        release: &Arc<Release<Artifact>>,
        versions: &[Arc<Version<Artifact>>],
        before: &[Pid],
    ) -> KilledBusy {
        let mut busy = self.busy(release, versions, None);
        for _ in 0..GRACE {
            if !busy.iter().any(|(_, what)| *what == Busy::Computes) {
                break;
            }
            std::thread::park_timeout(CHECK);
            busy = self.busy(release, versions, Some(&busy));
        }
        let mut ended = KilledBusy::default();
        let mut killed: Vec<Pid> = before.to_vec();
        let before: HashSet<&Pid> = before.iter().collect();
        for (pid, what) in busy {
            match what {
                Busy::Computes | Busy::Loops => {
                    self.kill(pid);
                    ended.killed += u64::from(!before.contains(&pid));
                    killed.push(pid);
                }
                Busy::Waits(what) => ended.busy.push(format!("{pid} ({what})")),
            }
        }
        for _ in 0..END {
            killed.retain(|pid| self.system.is_alive(*pid));
            if killed.is_empty() {
                break;
            }
            std::thread::park_timeout(CHECK);
        }
        ended.unended = killed.iter().map(Pid::to_string).collect();
        ended
    }

    /// Returns the processes that are in the middle of something in another version of these
    /// modules; `among` restricts that to earlier findings. A process that cannot be inspected in
    /// time counts as it was.
    fn busy(
        &self,
        release: &Arc<Release<Artifact>>,
        versions: &[Arc<Version<Artifact>>],
        among: Option<&[(Pid, Busy)]>,
    ) -> Vec<(Pid, Busy)> {
        let outdated: Vec<_> = versions
            .iter()
            .flat_map(|version| self.code.versions(&version.module))
            .filter(|version| !versions.iter().any(|new| Arc::ptr_eq(new, version)))
            .filter(|version| version.process_count() > 0)
            .collect();
        if outdated.is_empty() {
            return Vec::new();
        }
        let of = release.clone();
        let see = move |process: &mut exuvia_engine::GuestProcess| {
            let Body::Guest(guest) = &process.body else {
                return None;
            };
            let here = outdated.iter().any(|version| guest.version.is(version));
            // Processes whose upgrade failed, and reverted ones, are not concerned.
            let (state, _) = UpgradeState::of(guest, &of);
            let concerned = here && matches!(state, UpgradeState::Pending | UpgradeState::Exempt);
            Some((process.pid(), guest.busy().filter(|_| concerned)))
        };
        let Some(before) = among else {
            let see = move |process: &mut exuvia_engine::GuestProcess| {
                see(process).filter(|(_, busy)| busy.is_some())
            };
            let found = self.survey(usize::MAX, false, see);
            return (found.into_iter())
                .filter_map(|(pid, busy)| Some((pid, busy?)))
                .collect();
        };
        let slots = before.iter().map(|(pid, _)| pid.slot());
        let found = self.survey_slots(slots, usize::MAX, false, CHECK * 20, see);
        let found: HashMap<Pid, Option<Busy>> = found.into_iter().collect();
        let now = |pid: Pid, was: Busy| found.get(&pid).copied().unwrap_or(Some(was));
        before
            .iter()
            .filter(|(pid, _)| self.system.is_alive(*pid))
            .filter_map(|(pid, was)| Some((*pid, now(*pid, *was)?)))
            .collect()
    }
}
