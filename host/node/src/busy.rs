//! Processes that are in the middle of something that began before a commit, and
//! what `--kill` makes of them. A loop is seen before the commit; that a handler never
//! returns is seen only by its not returning, so it has a while to do so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, Busy};
use exuvia_process::{Body, Pid};

use crate::node::Node;

/// How often is looked whether a process goes on.
const LOOK: Duration = Duration::from_millis(10);
/// For so many looks a handler that computes may go on after the commit of a
/// deployment that kills what never returns: a second.
const GRACE: usize = 100;
/// For so many looks a process that was killed may take to end: it is told at the
/// end of its slice.
const END: usize = 200;

/// What became of those who were in the middle of something.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// They were killed, and have ended.
    pub(crate) killed: u64,
    /// They were killed, and have not ended in time.
    pub(crate) unended: Vec<String>,
    /// They wait for something, with what that is: they cross when it ends.
    pub(crate) busy: Vec<String>,
}

impl Node {
    /// Kills the processes in other versions than these that compute for longer than
    /// a while, or loop. `told`: those that were killed already.
    pub(crate) fn end_the_busy(
        &self,
        release: &Arc<Release<Artifact>>,
        versions: &[Arc<Version<Artifact>>],
        told: &[Pid],
    ) -> Ended {
        let mut busy = self.busy(release, versions, None);
        for _ in 0..GRACE {
            if !busy.iter().any(|(_, what)| *what == Busy::Computes) {
                break;
            }
            std::thread::park_timeout(LOOK);
            busy = self.busy(release, versions, Some(&busy));
        }
        let mut ended = Ended::default();
        let mut killed: Vec<Pid> = told.to_vec();
        let told: HashSet<&Pid> = told.iter().collect();
        for (pid, what) in busy {
            match what {
                Busy::Computes | Busy::Loops => {
                    self.kill(pid);
                    ended.killed += u64::from(!told.contains(&pid));
                    killed.push(pid);
                }
                Busy::Waits(what) => ended.busy.push(format!("{pid} ({what})")),
            }
        }
        for _ in 0..END {
            killed.retain(|pid| self.0.system.is_alive(*pid));
            if killed.is_empty() {
                break;
            }
            std::thread::park_timeout(LOOK);
        }
        ended.unended = killed.iter().map(Pid::to_string).collect();
        ended
    }

    /// Who is in the middle of something in another version than these; `among`:
    /// of those only. One that does not come to the end of a turn is as it was.
    fn busy(
        &self,
        release: &Arc<Release<Artifact>>,
        versions: &[Arc<Version<Artifact>>],
        among: Option<&[(Pid, Busy)]>,
    ) -> Vec<(Pid, Busy)> {
        let behind: Vec<_> = versions
            .iter()
            .flat_map(|version| self.0.code.versions(&version.module))
            .filter(|version| !versions.iter().any(|new| Arc::ptr_eq(new, version)))
            .filter(|version| version.population() > 0)
            .collect();
        if behind.is_empty() {
            return Vec::new();
        }
        let of = release.clone();
        let look = move |own: &mut exuvia_engine::GuestOwn| {
            let Body::Guest(guest) = &own.body else {
                return None;
            };
            let here = behind.iter().any(|version| guest.tenancy.is(version));
            // Who could not cross, or went back, is no concern of this.
            let current = of.version(&guest.tenancy.module)?;
            let concerned = here && guest.stuck().is_none() && guest.reverted(current).is_none();
            Some((own.pid(), guest.busy().filter(|_| concerned)))
        };
        let Some(before) = among else {
            let look = move |own: &mut exuvia_engine::GuestOwn| {
                look(own).filter(|(_, busy)| busy.is_some())
            };
            let found = self.survey(usize::MAX, false, look);
            return (found.into_iter())
                .filter_map(|(pid, busy)| Some((pid, busy?)))
                .collect();
        };
        let slots = before.iter().map(|(pid, _)| pid.slot());
        let found = self.survey_slots(slots, usize::MAX, false, LOOK * 20, look);
        let found: HashMap<Pid, Option<Busy>> = found.into_iter().collect();
        let now = |pid: Pid, was: Busy| found.get(&pid).copied().unwrap_or(Some(was));
        before
            .iter()
            .filter(|(pid, _)| self.0.system.is_alive(*pid))
            .filter_map(|(pid, was)| Some((*pid, now(*pid, *was)?)))
            .collect()
    }
}
