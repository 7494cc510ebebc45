//! What a swap did, for programs and in a line for people.

use std::fmt;
use std::sync::Arc;

use exuvia_code::{Path, Release, Version};
use exuvia_engine::{Artifact, Verified};
use serde::Serialize;

use crate::behind::Behind;
use crate::left::{LeftOn, told};

/// One module's change in a release.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleSwap {
    /// The module.
    pub name: String,
    /// The version before; `None` for a new module.
    pub from: Option<u32>,
    /// The version now.
    pub to: u32,
    /// First digits of the new file's digest.
    pub digest: String,
}

impl ModuleSwap {
    /// What `versions` change in a release.
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

/// Changed modules for people, each after a space.
pub(crate) fn changes(modules: &[ModuleSwap]) -> String {
    modules
        .iter()
        .map(|module| match module.from {
            Some(from) => format!(" {} {from} -> {}", module.name, module.to),
            None => format!(" {} new {}", module.name, module.to),
        })
        .collect()
}

/// Milliseconds of each stage of a swap.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    /// Run the build commands; `None`: somebody else did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<f64>,
    /// Instrument, compile, initialise.
    pub load: f64,
    /// Run the crossing on copies.
    pub verify: f64,
    /// Make frames for the processes that are busy.
    pub prepare: f64,
    /// Make it current.
    pub commit: f64,
    /// From the commit to the first process on new code; `None`: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<f64>,
}

/// What a swap did. The event tells it at the commit, when nobody has crossed;
/// whoever deployed waits a moment for the busy processes, and has what they
/// did in it. All that crosses later is in the [`crate::SettledReport`].
#[derive(Clone, Debug, Serialize)]
pub struct SwapReport {
    /// The release that is current now.
    pub release: u64,
    /// It is a way back to an earlier one.
    pub back: bool,
    /// What changed; empty if nothing did.
    pub modules: Vec<ModuleSwap>,
    /// The source files whose change has led to it, if that is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Processes of the changed modules at the commit.
    pub processes: u64,
    /// Of these, copies that were verified.
    pub verified: u64,
    /// How those copies crossed, by path: what the processes will do.
    pub tried: Vec<(&'static str, u64)>,
    /// Why state is not carried, of the first module of which it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_carried: Option<String>,
    /// Loop processes that the user has left on their version; if nothing
    /// changed, those that are still left.
    pub left: u64,
    /// Loop processes that the user has killed, those left before included.
    pub killed: u64,
    /// If nothing changed, the old versions on which processes are left, or
    /// were until they were killed now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_on: Vec<LeftOn>,
    /// Processes that are on old code for another reason, if nothing changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Behind>,
    /// With [`crate::Loops::Kill`], processes that were to be killed and have not ended
    /// in time: they run old code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unended: Vec<String>,
    /// With [`crate::Loops::Kill`], processes that wait in the middle of something which
    /// began before the commit, each with what it does. They cross when it ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub busy: Vec<String>,
    /// Messages in their mailboxes at the commit.
    pub queued: u64,
    /// Crossings so far, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crossed: Vec<(&'static str, u64)>,
    /// Processes that could not cross, so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub stuck: u64,
    /// Milliseconds from the first sign of the change (the file event, or the
    /// call) to the first process on new code; `None`: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_ms: Option<f64>,
    /// Microseconds that a process stood still, so far: median, 99th
    /// percentile, longest; all 0 if none has crossed.
    #[serde(skip_serializing_if = "is_still")]
    pub pause_us: [f64; 3],
    /// Milliseconds by stage.
    pub stages: Stages,
}

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modules.is_empty() {
            write!(f, "nothing changed (release {})", self.release)?;
            if self.killed > 0 {
                let left: u64 = self.left_on.iter().map(|left| left.processes).sum();
                if left > 0 {
                    let killed = told(&self.left_on, "was left", "were left");
                    write!(f, "; killed: {killed}")?;
                }
                if self.killed > left {
                    write!(f, "; {} killed that computed", self.killed - left)?;
                }
            } else if self.left > 0 {
                let left = told(&self.left_on, "is still left", "are still left");
                let them = if self.left == 1 { "it" } else { "them" };
                write!(f, "; {left}; deploy it again with --kill to end {them}")?;
            }
            if !self.behind.is_empty() {
                for behind in &self.behind {
                    write!(f, "; {behind}")?;
                }
            }
            return self.still(f);
        }
        f.write_str(if self.back { "back" } else { "swap" })?;
        let processes = self.processes;
        let plural = if processes == 1 { "" } else { "es" };
        write!(f, "{}", changes(&self.modules))?;
        if !self.changed.is_empty() {
            write!(f, "  {}", listed(&self.changed))?;
        }
        write!(f, "  {processes} process{plural}")?;
        // A way back is not verified, and 0 would look like a fault of it.
        if processes > 0 && !self.back {
            write!(f, " (verified {}", self.verified)?;
            for (index, (path, count)) in self.tried.iter().enumerate() {
                let before = if index == 0 { ": " } else { ", " };
                write!(f, "{before}{count} {path}")?;
            }
            match (&self.not_carried, self.tried.first()) {
                (None, Some((path, _))) if *path == Path::Carried.name() => {
                    f.write_str(", as the layout is the same")?;
                }
                (Some(why), Some((path, _))) if *path == Path::Migrated.name() => {
                    write!(f, ", as {why}")?;
                }
                _ => {}
            }
            f.write_str(")")?;
        }
        if self.left > 0 {
            write!(f, "  {} left on their version", self.left)?;
        }
        if self.killed > 0 {
            write!(f, "  {} killed", self.killed)?;
        }
        if self.queued > 0 {
            write!(f, "  queued {}", self.queued)?;
        }
        self.still(f)?;
        // What crosses is not here, but in the line of the release that has
        // settled: this one is the same whenever it is made.
        let stages = &self.stages;
        if let Some(build) = stages.build {
            write!(f, "  build {build:.0} ms,")?;
        } else {
            f.write_str(" ")?;
        }
        write!(
            f,
            " load {:.1} ms, verify {:.1} ms, prepare {:.1} ms, commit {:.2} ms",
            stages.load, stages.verify, stages.prepare, stages.commit
        )
    }
}

impl SwapReport {
    /// Who is still on old code though it was to be killed, or waits.
    fn still(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.unended.is_empty() {
            write!(f, "  not ended: {}", listed(&self.unended))?;
        }
        if !self.busy.is_empty() {
            let busy = listed(&self.busy);
            write!(f, "  {} in a handler that waits: {busy}", self.busy.len())?;
        }
        Ok(())
    }
}

/// A few names, and how many there are beyond them.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn is_still(pauses: &[f64; 3]) -> bool {
    pauses.iter().all(|pause| *pause == 0.0)
}

/// How many copies took which path.
pub(super) fn tried(verified: &Verified) -> Vec<(&'static str, u64)> {
    [
        (Path::Carried, verified.carried),
        (Path::Migrated, verified.migrated),
        (Path::Fresh, verified.fresh),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(path, count)| (path.name(), count))
    .collect()
}

/// A report in which nothing has changed yet.
pub(crate) fn nothing(release: &Release<Artifact>) -> SwapReport {
    SwapReport {
        release: release.id,
        back: release.origin != release.id,
        modules: Vec::new(),
        processes: 0,
        verified: 0,
        changed: Vec::new(),
        tried: Vec::new(),
        not_carried: None,
        left: 0,
        killed: 0,
        left_on: Vec::new(),
        behind: Vec::new(),
        unended: Vec::new(),
        busy: Vec::new(),
        queued: 0,
        crossed: Vec::new(),
        stuck: 0,
        running_ms: None,
        pause_us: [0.0; 3],
        stages: Stages::default(),
    }
}
