//! Finds the processes that do not run the current code, and why, so that no message claims that
//! the current code runs where it does not.

use std::fmt;
use std::sync::Arc;

use exuvia_code::Release;
use exuvia_engine::Artifact;
use exuvia_process::Body;
use serde::Serialize;

use crate::node::Node;
use crate::upgrade_state::UpgradeState;

/// The processes on an old version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outdated {
    /// `module@version`.
    pub module: String,
    /// The number of these processes.
    pub processes: u64,
    /// The number of those that were reverted to it because new code failed.
    pub reverted: u64,
    /// The number of those whose upgrade failed.
    pub failed: u64,
    /// The number of those that are exempt, or that loop there and never return. The others are
    /// upgraded when they become idle, or wake.
    pub exempt: u64,
}

/// Writes "2 processes on counter@1: 1 reverted, 1 failed".
impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outdated {
            module,
            processes,
            reverted,
            failed,
            exempt,
        } = self;
        let plural = if *processes == 1 { "" } else { "es" };
        write!(f, "{processes} process{plural} on {module}")?;
        let waiting = processes.saturating_sub(reverted + failed + exempt);
        let parts = [
            (*reverted, "reverted"),
            (*failed, "failed"),
            (*exempt, "exempt"),
            (waiting, "pending"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        for (index, (count, what)) in parts.enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {what}")?;
        }
        Ok(())
    }
}

impl Node {
    /// Returns the processes of some modules that are on old versions, oldest version first.
    pub fn outdated<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Vec<Outdated> {
        let release = self.0.code.current();
        let old: Vec<_> = modules
            .flat_map(|name| {
                let mut versions = self.0.code.versions(name);
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
        let found = self.upgrade_states(&release);
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
        &self,
        release: &Arc<Release<Artifact>>,
    ) -> Vec<(Arc<exuvia_code::Version<Artifact>>, UpgradeState)> {
        let release = release.clone();
        self.survey(usize::MAX, false, move |process| {
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
}
