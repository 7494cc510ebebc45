//! Processes that stay on an old version until they exit: those that a swap exempted on request,
//! and loops that it detected too late to ask about. Finds them, and defines what a later
//! deployment of the same bytes does with them, and with processes whose upgrade failed.

use std::sync::Arc;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, Guest};
use exuvia_process::{Body, Pid};
use serde::Serialize;

use crate::node::Node;
use crate::report::{SwapReport, empty_report};
use crate::swap::Loops;
use crate::swap::busy::KilledBusy;

/// An old version that processes stay on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lingering {
    /// `module@version`.
    pub module: String,
    /// The number of these processes.
    pub processes: u64,
}

/// Returns whether a guest stays on its version although `release` has another one.
pub(crate) fn lingers(guest: &Guest, release: &Release<Artifact>) -> bool {
    let version = release.version(&guest.version.module);
    version.is_some_and(|current| {
        !guest.version.is(current)
            && (guest.is_pinned_to_version(current) || guest.loops() == Some(false))
    })
}

/// Returns "2 processes were exempt on counter@1, 1 on counter@2", as the end of a line; `one` and
/// `many` are the verbs.
pub(crate) fn lingering_clause(exempt_on: &[Lingering], one: &str, many: &str) -> String {
    let mut text = String::new();
    for (index, left) in exempt_on.iter().enumerate() {
        let Lingering { module, processes } = left;
        text += &match (index, processes) {
            (0, 1) => format!("1 process {one} on {module}"),
            (0, _) => format!("{processes} processes {many} on {module}"),
            _ => format!(", {processes} on {module}"),
        };
    }
    text
}

impl Node {
    /// Returns the processes of some modules that stay on old versions, by version.
    pub(crate) fn lingering<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
        release: &Arc<Release<Artifact>>,
    ) -> Vec<(Arc<Version<Artifact>>, Vec<Pid>)> {
        let old: Vec<_> = modules
            .flat_map(|module| {
                let current = release.version(module);
                let mut versions = self.0.code.versions(module);
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
        let found = self.survey(usize::MAX, false, move |process| {
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
    pub(crate) fn has_failed_upgrades(&self, current: &Arc<Version<Artifact>>) -> bool {
        let versions = self.0.code.versions(&current.module);
        let others = |version: &&Arc<Version<Artifact>>| !Arc::ptr_eq(version, current);
        if versions
            .iter()
            .filter(others)
            .all(|it| it.process_count() == 0)
        {
            return false;
        }
        let to = current.clone();
        let failed = self.survey(1, false, move |process| {
            let Body::Guest(guest) = &process.body else {
                return None;
            };
            let version_ref = &guest.version;
            let here = version_ref.module == to.module && !version_ref.is(&to);
            (here && guest.upgrade_failure().is_some()).then_some(())
        });
        !failed.is_empty()
    }

    /// Returns the report of a deployment of code that is current already. The deployment still
    /// applies `loops` to the processes that stay on old versions.
    pub(crate) fn nothing_new<'a>(
        &self,
        base: &Arc<Release<Artifact>>,
        modules: impl Iterator<Item = &'a str> + Clone,
        loops: Loops,
    ) -> SwapReport {
        let left = self.lingering(modules.clone(), base);
        let mut ended = KilledBusy::default();
        let pids: Vec<Pid> = left.iter().flat_map(|(_, pids)| pids).copied().collect();
        match loops {
            Loops::Refuse => {}
            Loops::Leave => {
                self.pin_to_version(&pids, base.id);
                // Woken, those that stay are counted as exempt from the release.
                for pid in &pids {
                    self.0.system.wake(*pid);
                }
            }
            Loops::Kill => {
                for pid in &pids {
                    self.kill(*pid);
                }
                let current = modules.clone().filter_map(|name| base.version(name));
                let current: Vec<_> = current.cloned().collect();
                ended = self.kill_busy(base, &current, &pids);
            }
        }
        // Exempt and killed processes have a clause of their own, and pending ones are about to be
        // upgraded.
        let mut outdated = self.outdated(modules);
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

    /// Exempts processes from the upgrade to this release, which is committed: they stay on their
    /// version until they exit, or are idle when a later release is deployed.
    pub(crate) fn pin_to_version(&self, loops: &[Pid], release: u64) {
        for pid in loops {
            let mark = move |process: &mut exuvia_engine::GuestProcess, _: &_| {
                if let Some(guest) = process.guest() {
                    guest.pin_to_version(release);
                }
            };
            let _ = self.0.system.control(*pid, mark);
        }
    }
}
