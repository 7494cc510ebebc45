//! Finds the processes that do not run the current code, and why: those that were exempted on
//! request, loops that a swap detected too late to ask about, processes whose upgrade failed or was
//! reverted. Defines what a later deployment of the same bytes does with them.

use std::sync::Arc;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, GuestProcess};
use exuvia_process::{Body, Pid};

use super::Swapper;
use super::busy::KilledBusy;
use crate::core::Core;
use crate::report::{Lingering, Outdated, SwapReport, empty_report};
use crate::request::Loops;
use crate::upgrade_state::{UpgradeState, lingers};

/// Returns the processes of some modules that stay on old versions, by version.
pub(super) fn lingering<'a>(
    core: &Core,
    modules: impl Iterator<Item = &'a str>,
    release: &Arc<Release<Artifact>>,
) -> Vec<(Arc<Version<Artifact>>, Vec<Pid>)> {
    let old: Vec<_> = modules
        .flat_map(|module| {
            let current = release.version(module);
            let mut versions = core.code.versions(module);
            versions.retain(|version| {
                version.process_count() > 0
                    && current.is_some_and(|current| !Arc::ptr_eq(current, version))
            });
            versions
        })
        .collect();
    // Mostly there are none, and no process needs to be inspected.
    if old.is_empty() {
        return Vec::new();
    }
    let of = release.clone();
    let found = core.survey(usize::MAX, false, move |process| {
        let Body::Guest(guest) = &process.body else {
            return None;
        };
        lingers(guest, &of).then(|| (guest.version.version().clone(), process.pid()))
    });
    let mut left: Vec<_> = old
        .into_iter()
        .map(|version| {
            let of = |(other, pid): &(_, Pid)| Arc::ptr_eq(other, &version).then_some(*pid);
            let pids: Vec<_> = found.iter().filter_map(of).collect();
            (version, pids)
        })
        .collect();
    left.retain(|(_, pids)| !pids.is_empty());
    left
}

/// Returns whether there are processes whose upgrade to a version failed.
pub(super) fn has_failed_upgrades(core: &Core, current: &Arc<Version<Artifact>>) -> bool {
    let versions = core.code.versions(&current.module);
    let others = |version: &&Arc<Version<Artifact>>| !Arc::ptr_eq(version, current);
    if versions
        .iter()
        .filter(others)
        .all(|it| it.process_count() == 0)
    {
        return false;
    }
    let to = current.clone();
    let failed = core.survey(1, false, move |process| {
        let Body::Guest(guest) = &process.body else {
            return None;
        };
        let version_ref = &guest.version;
        let here = version_ref.module == to.module && !version_ref.is(&to);
        (here && guest.upgrade_failure().is_some()).then_some(())
    });
    !failed.is_empty()
}

/// Exempts processes from the upgrade to this release, which is committed: they stay on their
/// version until they exit, or are idle when a later release is deployed.
pub(super) fn pin_to_version(core: &Core, loops: &[Pid], release: u64) {
    for pid in loops {
        let mark = move |process: &mut GuestProcess, _: &_| {
            if let Some(guest) = process.guest() {
                guest.pin_to_version(release);
            }
        };
        let _ = core.system.control(*pid, mark);
    }
}

/// Returns the processes of some modules that are on old versions, oldest version first.
pub(crate) fn outdated<'a>(core: &Core, modules: impl Iterator<Item = &'a str>) -> Vec<Outdated> {
    let release = core.code.current();
    let old: Vec<_> = modules
        .flat_map(|name| {
            let mut versions = core.code.versions(name);
            versions.retain(|version| {
                version.process_count() > 0
                    && release
                        .version(name)
                        .is_some_and(|current| !Arc::ptr_eq(current, version))
            });
            versions
        })
        .collect();
    // Mostly there are none, and no process needs to be inspected.
    if old.is_empty() {
        return Vec::new();
    }
    let found = upgrade_states(core, &release);
    old.into_iter()
        .map(|version| {
            let count = |why| {
                let here = found
                    .iter()
                    .filter(|(on, what)| Arc::ptr_eq(on, &version) && *what == why);
                here.count() as u64
            };
            let (reverted, failed, exempt) = (
                count(UpgradeState::Reverted),
                count(UpgradeState::Failed),
                count(UpgradeState::Exempt),
            );
            let seen = reverted + failed + exempt + count(UpgradeState::Pending);
            Outdated {
                module: version.to_string(),
                // The survey lacks processes that did not reach the end of a turn in time.
                processes: seen.max(version.process_count() as u64),
                reverted,
                failed,
                exempt,
            }
        })
        .filter(|outdated| outdated.processes > 0)
        .collect()
}

fn upgrade_states(
    core: &Core,
    release: &Arc<Release<Artifact>>,
) -> Vec<(Arc<Version<Artifact>>, UpgradeState)> {
    let release = release.clone();
    core.survey(usize::MAX, false, move |process| {
        let Body::Guest(guest) = &process.body else {
            return None;
        };
        let current = release.version(&guest.version.module)?;
        if guest.version.is(current) {
            return None;
        }
        let (state, _) = UpgradeState::of(guest, &release);
        Some((guest.version.version().clone(), state))
    })
}

impl Swapper {
    /// Returns the report of a deployment of code that is current already. The deployment still
    /// applies `loops` to the processes that stay on old versions.
    pub(super) fn nothing_new<'a>(
        &self,
        base: &Arc<Release<Artifact>>,
        modules: impl Iterator<Item = &'a str> + Clone,
        loops: Loops,
    ) -> SwapReport {
        let core = &self.core;
        let left = lingering(core, modules.clone(), base);
        let mut ended = KilledBusy::default();
        let pids: Vec<Pid> = left.iter().flat_map(|(_, pids)| pids).copied().collect();
        match loops {
            Loops::Refuse => {}
            Loops::Leave => {
                pin_to_version(core, &pids, base.id);
                // Woken, those that stay are counted as exempt from the release.
                for pid in &pids {
                    core.system.wake(*pid);
                }
            }
            Loops::Kill => {
                for pid in &pids {
                    core.kill(*pid);
                }
                let current = modules.clone().filter_map(|name| base.version(name));
                let current: Vec<_> = current.cloned().collect();
                ended = core.kill_busy(base, &current, &pids);
            }
        }
        // Exempt and killed processes have a clause of their own, and pending ones are about to be
        // upgraded.
        let mut outdated = outdated(core, modules);
        outdated.retain(|it| it.reverted + it.failed > 0);
        let count = pids.len() as u64;
        let (left_count, killed) = match loops {
            Loops::Kill => (0, count + ended.killed),
            _ => (count, 0),
        };
        SwapReport {
            rollback: false,
            exempt: left_count,
            killed,
            exempt_on: left
                .iter()
                .map(|(version, pids)| Lingering {
                    module: version.to_string(),
                    processes: pids.len() as u64,
                })
                .collect(),
            outdated,
            unended: ended.unended,
            busy: ended.busy,
            ..empty_report(base)
        }
    }
}
