//! Processes that are in the middle of something that began before a commit, and
//! what `--kill` makes of them. A loop is seen before the commit; that a handler never
//! returns is seen only by its not returning, so it has a while to do so.

use std::sync::Arc;
use std::time::Duration;

use exuvia_code::{Release, Version};
use exuvia_engine::{Artifact, Busy};
use exuvia_process::{Body, Pid};

use crate::node::Node;

/// How long a handler that computes may go on after the commit of a deployment
/// that kills what never returns.
const GRACE: Duration = Duration::from_secs(1);
/// How often is looked whether it goes on.
const LOOK: Duration = Duration::from_millis(10);
/// How long a process that was killed may take to end: it is told at the end of its
/// slice.
const END: Duration = Duration::from_secs(2);

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
        let clock = &self.0.system.clock;
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = clock.now() + nanoseconds(GRACE);
        let mut busy = self.busy(release, versions, None);
        while busy.iter().any(|(_, what)| *what == Busy::Computes) && clock.now() < until {
            if clock.is_manual() {
                break;
            }
            std::thread::park_timeout(LOOK);
            busy = self.busy(release, versions, Some(&busy));
        }
        let mut ended = Ended::default();
        let mut killed: Vec<Pid> = told.to_vec();
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
        let until = clock.now() + nanoseconds(END);
        killed.retain(|pid| self.0.system.is_alive(*pid));
        while !killed.is_empty() && clock.now() < until && !clock.is_manual() {
            std::thread::park_timeout(LOOK);
            killed.retain(|pid| self.0.system.is_alive(*pid));
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
            if !here || guest.stuck().is_some() || guest.reverted(current).is_some() {
                return None;
            }
            Some((own.pid(), guest.busy()?))
        };
        match among {
            None => self.survey(usize::MAX, false, look),
            Some(before) => {
                let slots = before.iter().map(|(pid, _)| pid.slot());
                let mut found = self.survey_slots(slots, usize::MAX, false, LOOK * 20, look);
                found.retain(|(pid, _)| before.iter().any(|(other, _)| other == pid));
                found
            }
        }
    }
}
