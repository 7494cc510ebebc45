//! Processes that stay on an old version until they end: those that a swap has
//! left behind with consent, and loops that it met too late to ask about. Who
//! they are, and what a later deployment of the same bytes does with them, and
//! with those that are stuck.

use std::sync::Arc;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, Guest};
use exuvia_process::{Body, Pid, Signal};
use serde::Serialize;

use crate::busy::Ended;
use crate::node::Node;
use crate::swap::{Loops, SwapReport, nothing};

/// An old version on which processes stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOn {
    /// `module@version`.
    pub module: String,
    /// How many.
    pub processes: u64,
}

/// Whether a guest stays on its version although `release` has another one.
pub(crate) fn stays(guest: &Guest, release: &Release<Artifact>) -> bool {
    let version = release.version(&guest.tenancy.module);
    version.is_some_and(|current| {
        !guest.tenancy.is(current) && (guest.is_left(current) || guest.loops() == Some(false))
    })
}

/// "2 processes are left on counter@1, 1 on counter@2", as the end of a line.
pub(crate) fn told(left_on: &[LeftOn], one: &str, many: &str) -> String {
    let mut text = String::new();
    for (index, left) in left_on.iter().enumerate() {
        let LeftOn { module, processes } = left;
        text += &match (index, processes) {
            (0, 1) => format!("1 process {one} on {module}"),
            (0, _) => format!("{processes} processes {many} on {module}"),
            _ => format!(", {processes} on {module}"),
        };
    }
    text
}

impl Node {
    /// The processes of some modules that stay on old versions, by version.
    pub(crate) fn left<'a>(
        &self,
        modules: impl Iterator<Item = &'a str>,
        release: &Arc<Release<Artifact>>,
    ) -> Vec<(Arc<Version<Artifact>>, Vec<Pid>)> {
        let old: Vec<_> = modules
            .flat_map(|module| {
                let current = release.version(module);
                let mut versions = self.0.code.versions(module);
                versions.retain(|version| {
                    version.population() > 0
                        && current.is_some_and(|current| !Arc::ptr_eq(current, version))
                });
                versions
            })
            .collect();
        // Mostly there are none, and nobody needs to be looked at.
        if old.is_empty() {
            return Vec::new();
        }
        let of = release.clone();
        let found = self.survey(usize::MAX, false, move |own| {
            let Body::Guest(guest) = &own.body else {
                return None;
            };
            stays(guest, &of).then(|| (guest.tenancy.version().clone(), own.pid()))
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

    /// Whether processes could not cross to a version.
    pub(crate) fn has_stuck(&self, current: &Arc<Version<Artifact>>) -> bool {
        let versions = self.0.code.versions(&current.module);
        let others = |version: &&Arc<Version<Artifact>>| !Arc::ptr_eq(version, current);
        if versions
            .iter()
            .filter(others)
            .all(|it| it.population() == 0)
        {
            return false;
        }
        let to = current.clone();
        let stuck = self.survey(1, false, move |own| {
            let Body::Guest(guest) = &own.body else {
                return None;
            };
            let tenancy = &guest.tenancy;
            let here = tenancy.module == to.module && !tenancy.is(&to);
            (here && guest.stuck().is_some()).then_some(())
        });
        !stuck.is_empty()
    }

    /// The answer to a deployment of code that is current already. It still
    /// does what it says of processes that stay on old versions.
    pub(crate) fn nothing_new<'a>(
        &self,
        base: &Arc<Release<Artifact>>,
        modules: impl Iterator<Item = &'a str> + Clone,
        loops: Loops,
    ) -> SwapReport {
        let left = self.left(modules.clone(), base);
        let mut ended = Ended::default();
        let pids: Vec<Pid> = left.iter().flat_map(|(_, pids)| pids).copied().collect();
        match loops {
            Loops::Refuse => {}
            Loops::Leave => {
                self.leave_behind(&pids, base.id);
                // Those that stay say so then.
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
                ended = self.end_the_busy(base, &current, &pids);
            }
        }
        // Who is left, or was until now, has a clause of its own, and who has yet
        // to cross does so.
        let mut behind = self.behind(modules);
        behind.retain(|it| it.reverted + it.stuck > 0);
        let count = pids.len() as u64;
        let (left_count, killed) = match loops {
            Loops::Kill => (0, count + ended.killed),
            _ => (count, 0),
        };
        SwapReport {
            back: false,
            left: left_count,
            killed,
            left_on: left
                .iter()
                .map(|(version, pids)| LeftOn {
                    module: version.to_string(),
                    processes: pids.len() as u64,
                })
                .collect(),
            behind,
            unended: ended.unended,
            busy: ended.busy,
            ..nothing(base)
        }
    }

    /// Marks processes: with this release, which is committed, they stay on their
    /// version until they end, or are at rest when a later one is deployed.
    pub(crate) fn leave_behind(&self, loops: &[Pid], release: u64) {
        for pid in loops {
            let mark = Box::new(move |own: &mut exuvia_engine::GuestOwn, _: &_| {
                if let Some(guest) = own.guest() {
                    guest.leave_behind(release);
                }
            });
            let _ = self.0.system.signal(*pid, Signal::Control(mark));
        }
    }
}
