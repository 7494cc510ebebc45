//! Which processes do not run the code that is current, and why: so that nobody is
//! told that it is the code that runs who should know better.

use std::fmt;
use std::sync::Arc;

use exuvia_code::Release;
use exuvia_engine::Artifact;
use exuvia_process::Body;
use serde::Serialize;

use crate::left;
use crate::node::Node;

/// Processes on an old version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// `module@version`.
    pub module: String,
    /// How many.
    pub processes: u64,
    /// Of these, those that went back to it because new code failed them.
    pub reverted: u64,
    /// Those that could not cross.
    pub stuck: u64,
    /// Those that were left on it, or that loop there and never return. The others
    /// cross when they rest, or wake.
    pub left: u64,
}

/// "2 on counter@1: 1 reverted, 1 stuck".
impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Behind {
            module,
            processes,
            reverted,
            stuck,
            left,
        } = self;
        let plural = if *processes == 1 { "" } else { "es" };
        write!(f, "{processes} process{plural} on {module}")?;
        let waiting = processes.saturating_sub(reverted + stuck + left);
        let parts = [
            (*reverted, "reverted"),
            (*stuck, "stuck"),
            (*left, "left"),
            (waiting, "yet to cross"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        for (index, (count, what)) in parts.enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {what}")?;
        }
        Ok(())
    }
}

/// All of them, as a clause of a line.
pub(crate) fn yet(behind: &[Behind]) -> String {
    let parts: Vec<String> = behind.iter().map(Behind::to_string).collect();
    format!("but not of {}", parts.join("; "))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Reverted,
    Stuck,
    Left,
    Waits,
}

impl Node {
    /// The processes of some modules that are on old versions, oldest first.
    pub(crate) fn behind<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Vec<Behind> {
        let release = self.0.code.current();
        let old: Vec<_> = modules
            .flat_map(|name| {
                let mut versions = self.0.code.versions(name);
                versions.retain(|version| {
                    version.population() > 0
                        && release
                            .version(name)
                            .is_some_and(|current| !Arc::ptr_eq(current, version))
                });
                versions
            })
            .collect();
        // Mostly there are none, and nobody needs to be looked at.
        if old.is_empty() {
            return Vec::new();
        }
        let found = self.why_behind(&release);
        old.into_iter()
            .map(|version| {
                let count = |why| {
                    let here = found
                        .iter()
                        .filter(|(on, what)| Arc::ptr_eq(on, &version) && *what == why);
                    here.count() as u64
                };
                let (reverted, stuck, left) =
                    (count(Why::Reverted), count(Why::Stuck), count(Why::Left));
                let seen = reverted + stuck + left + count(Why::Waits);
                Behind {
                    module: version.to_string(),
                    // Those that run just now are not seen.
                    processes: seen.max(version.population() as u64),
                    reverted,
                    stuck,
                    left,
                }
            })
            .filter(|behind| behind.processes > 0)
            .collect()
    }

    fn why_behind(
        &self,
        release: &Arc<Release<Artifact>>,
    ) -> Vec<(Arc<exuvia_code::Version<Artifact>>, Why)> {
        let release = release.clone();
        self.survey(usize::MAX, false, move |own| {
            let Body::Guest(guest) = &own.body else {
                return None;
            };
            let current = release.version(&guest.tenancy.module)?;
            if guest.tenancy.is(current) {
                return None;
            }
            let why = if guest.reverted(current).is_some() {
                Why::Reverted
            } else if guest.stuck().is_some() {
                Why::Stuck
            } else if left::stays(guest, &release) {
                Why::Left
            } else {
                Why::Waits
            };
            Some((guest.tenancy.version().clone(), why))
        })
    }
}
