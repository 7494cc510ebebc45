//! Swaps: load, verify, commit, report. One at a time; everything slow happens
//! before the commit, beside the running code, and can be refused without a
//! trace.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::{Digest, Path, Release, Version};
use exuvia_engine::{Artifact, Verified};
use exuvia_process::Pid;
use serde::Serialize;

use crate::error::SwapError;
use crate::event::Event;
use crate::left::{LeftOn, told};
use crate::node::Node;
use crate::settle::Committed;

mod changes;

use changes::Changes;

/// How long a swap's answer waits for busy processes to cross. What crosses
/// later is only in the report that the release has settled.
const SETTLE: Duration = Duration::from_secs(1);
/// It waits no longer when nobody has crossed for so long, in nanoseconds.
const STILL: u64 = 20_000_000;

/// A module to deploy.
#[derive(Clone, Debug)]
pub struct ModuleBytes {
    /// Its name in the release.
    pub name: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// Where they come from, for messages.
    pub source: String,
    /// When the change was noticed, by the node's clock; `None`: with the call.
    pub noticed: Option<u64>,
}

/// What is done with loop processes that do not take `UPGRADE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loops {
    /// The swap is refused.
    #[default]
    Refuse,
    /// They stay on their version until they end.
    Leave,
    /// They are killed after the commit.
    Kill,
}

/// What a deployment consents to.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// State that cannot cross is given up.
    pub fresh: bool,
    /// Loop processes that new code would never reach.
    pub loops: Loops,
    /// If the modules were built for it: how.
    pub made: Option<Made>,
}

/// How modules were made that are swapped in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// The files whose change it was.
    pub changed: Vec<String>,
    /// Milliseconds that the builds took.
    pub build_ms: f64,
}

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
            return if self.killed > 0 {
                let killed = told(&self.left_on, "was left", "were left");
                write!(f, "; killed: {killed}")
            } else if self.left > 0 {
                let left = told(&self.left_on, "is still left", "are still left");
                let them = if self.left == 1 { "it" } else { "them" };
                write!(f, "; {left}; deploy it again with --kill to end {them}")
            } else {
                Ok(())
            };
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

impl Node {
    /// Makes new code current: all modules in one release, or nothing. Slow:
    /// it compiles, verifies, and waits a moment for busy processes. The
    /// events tell of it at the commit, and again when the release has settled.
    ///
    /// # Errors
    ///
    /// Why it was refused; nothing has changed then.
    pub fn deploy(
        &self,
        modules: Vec<ModuleBytes>,
        options: DeployOptions,
    ) -> Result<SwapReport, SwapError> {
        let what = modules
            .iter()
            .map(|module| module.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let result = self.try_deploy(&modules, &options, true);
        if let Err(error) = &result {
            self.0.events.send(Event::Refused {
                what,
                reason: error.to_string(),
                help: error.help(),
            });
        }
        result
    }

    /// The first release: nothing runs that it could change, so that there is
    /// no swap to tell of.
    pub(crate) fn deploy_first(&self, modules: &[ModuleBytes]) -> Result<(), SwapError> {
        self.try_deploy(modules, &DeployOptions::default(), false)
            .map(drop)
    }

    fn try_deploy(
        &self,
        modules: &[ModuleBytes],
        options: &DeployOptions,
        tell: bool,
    ) -> Result<SwapReport, SwapError> {
        let inner = &self.0;
        let _one = inner.swapping.lock();
        self.catch_up();
        let base = inner.code.current();
        let began = inner.system.clock.now();
        let noticed = modules
            .iter()
            .filter_map(|module| module.noticed)
            .min()
            .unwrap_or(began);
        let mut changes = Changes::new(self);
        for module in modules {
            let digest = Digest(*blake3::hash(&module.bytes).as_bytes());
            let current = base.version(&module.name);
            if let Some(current) = current.filter(|version| version.digest == digest) {
                // The consent is news to those that could not cross without.
                if options.fresh && self.has_stuck(current) {
                    changes.versions.push(current.clone());
                }
                continue;
            }
            changes.load(module, digest)?;
        }
        let load = self.since(began);
        if changes.versions.is_empty() {
            return Ok(self.nothing_new(&base, modules, options.loops));
        }
        let mut not_carried = None;
        for version in &changes.versions {
            if let Some(before) = base.version(&version.module) {
                version.artifact.follows(&before.artifact);
                let carried = before.artifact.carries_to(&version.artifact);
                not_carried = not_carried.or(carried.err());
            }
        }
        let began = inner.system.clock.now();
        let verified =
            inner
                .executor
                .verify(&changes.versions, inner.config.verify, options.fresh)?;
        if options.loops == Loops::Refuse
            && let Some(first) = verified.loops.first()
        {
            return Err(SwapError::Loops {
                count: verified.loops.len(),
                first: *first,
            });
        }
        let mut loops: HashSet<Pid> = verified.loops.iter().copied().collect();
        match options.loops {
            Loops::Refuse => {}
            Loops::Leave => self.leave_behind(&verified.loops),
            // Who was left before asks no leave of this one.
            Loops::Kill => loops.extend(
                self.left(modules, &base)
                    .into_iter()
                    .flat_map(|(_, pids)| pids),
            ),
        }
        let verify = self.since(began);
        let began = inner.system.clock.now();
        // The busy ones were not all at rest when they were looked at.
        let busy = verified.resident + verified.processes.saturating_sub(verified.seen);
        let busy = usize::try_from(busy).unwrap_or(usize::MAX);
        for version in &changes.versions {
            inner.executor.prepare(&version.artifact, busy);
        }
        let prepare = self.since(began);
        // If all have crossed by now, that is said before the next commit.
        self.is_crossing();
        let began = inner.system.clock.now();
        let release = inner
            .code
            .commit(base.id, &changes.versions, options.fresh)?;
        let commit = self.since(began);
        let versions = changes.keep();
        if options.loops == Loops::Kill {
            for pid in &loops {
                self.kill(*pid);
            }
        }
        let loops = loops.len() as u64;
        let (left, killed) = match options.loops {
            Loops::Refuse => (0, 0),
            Loops::Leave => (loops, 0),
            Loops::Kill => (0, loops),
        };
        let mut report = SwapReport {
            modules: ModuleSwap::of(&base, &versions),
            processes: verified.processes,
            verified: verified.checked,
            changed: (options.made.as_ref()).map_or_else(Vec::new, |made| made.changed.clone()),
            tried: tried(&verified),
            not_carried,
            left,
            killed,
            queued: verified.queued,
            stages: Stages {
                build: options.made.as_ref().map(|made| made.build_ms),
                load,
                verify,
                prepare,
                commit,
                first: None,
            },
            ..nothing(&release)
        };
        self.announce(&release, &report, noticed, tell);
        let woken = match options.loops {
            // Those that stay say so then.
            Loops::Leave => [verified.upgradable, verified.loops].concat(),
            _ => verified.upgradable,
        };
        self.settle(&release, &woken, noticed, &mut report);
        Ok(report)
    }

    /// Goes back to the release before the current one; state crosses back by
    /// the same paths.
    ///
    /// # Errors
    ///
    /// If there is none, or a process's state cannot go back.
    pub fn rollback(&self) -> Result<SwapReport, SwapError> {
        let inner = &self.0;
        let _one = inner.swapping.lock();
        self.catch_up();
        self.is_crossing();
        let base = inner.code.current();
        let began = inner.system.clock.now();
        let release = inner.code.go_back()?;
        let commit = self.since(began);
        let versions: Vec<_> = release
            .versions()
            .filter(|version| {
                base.version(&version.module)
                    .is_none_or(|before| !Arc::ptr_eq(before, version))
            })
            .cloned()
            .collect();
        // Not verified: the way back must be open even where some state
        // cannot take it; such processes stay, and are shown as stuck.
        let mut report = SwapReport {
            modules: ModuleSwap::of(&base, &versions),
            processes: self.concerned(&release, &versions),
            stages: Stages {
                commit,
                ..Stages::default()
            },
            ..nothing(&release)
        };
        self.announce(&release, &report, began, true);
        self.settle(&release, &[], began, &mut report);
        Ok(report)
    }

    /// Says that a release is current, and follows it.
    fn announce(
        &self,
        release: &Arc<Release<Artifact>>,
        report: &SwapReport,
        noticed: u64,
        tell: bool,
    ) {
        let committed = Committed {
            release: release.clone(),
            modules: report.modules.clone(),
            processes: report.processes,
            noticed,
        };
        self.follow(committed, tell.then(|| Event::Swap(report.clone())));
    }

    /// Milliseconds since a time of the node's clock.
    fn since(&self, began: u64) -> f64 {
        self.0.system.clock.now().saturating_sub(began) as f64 / 1e6
    }

    /// Processes that a release has come for whose commit nobody has counted
    /// them before: those in other versions of its changed modules, and those
    /// that have crossed already.
    pub(crate) fn concerned(
        &self,
        release: &Release<Artifact>,
        changed: &[Arc<Version<Artifact>>],
    ) -> u64 {
        let others: usize = changed
            .iter()
            .flat_map(|version| self.0.code.versions(&version.module))
            .filter(|version| !changed.iter().any(|new| Arc::ptr_eq(new, version)))
            .map(|version| version.population())
            .sum();
        others as u64 + release.progress.total()
    }

    /// After the commit: wakes loop processes, lets busy ones cross, and adds
    /// to the report what they have done.
    fn settle(
        &self,
        release: &Release<Artifact>,
        woken: &[Pid],
        noticed: u64,
        report: &mut SwapReport,
    ) {
        let inner = &self.0;
        let committed = inner.system.clock.now();
        inner.swaps.fetch_add(1, Ordering::Relaxed);
        for pid in woken {
            inner.system.wake(*pid);
        }
        inner.sweeper.committed();
        let progress = &release.progress;
        let until = committed + u64::try_from(SETTLE.as_nanos()).unwrap_or(0);
        let mut seen = (0, committed);
        if inner.system.clock.is_manual() {
            // Nobody waits by a clock that stands still: all cross now who can.
            self.sweep();
            self.come_to_rest(SETTLE);
        }
        while self.is_crossing() && !inner.system.clock.is_manual() {
            let moved = progress.total() + progress.stuck.load(Ordering::Relaxed);
            let now = inner.system.clock.now();
            if moved != seen.0 {
                seen = (moved, now);
            }
            // Out of time, or nobody has moved for a while: sleepers cross
            // when they wake.
            if now >= until || now - seen.1 > STILL {
                break;
            }
            std::thread::park_timeout(Duration::from_micros(500));
        }
        let first = progress.first_crossing.load(Ordering::Relaxed);
        if first > 0 {
            report.stages.first = Some(first.saturating_sub(committed) as f64 / 1e6);
            report.running_ms = Some(first.saturating_sub(noticed) as f64 / 1e6);
        }
        let microseconds = |q| progress.pauses.quantile(q) as f64 / 1e3;
        report.pause_us = [microseconds(0.5), microseconds(0.99), microseconds(1.0)];
        report.crossed = progress
            .paths()
            .into_iter()
            .map(|(path, count)| (path.name(), count))
            .collect();
        report.stuck = progress.stuck.load(Ordering::Relaxed);
    }

    /// How far the current release has come by now: crossings by path, and
    /// processes that could not cross.
    pub fn progress(&self) -> (Vec<(&'static str, u64)>, u64) {
        let release = self.0.code.current();
        let paths = release.progress.paths();
        (
            paths.into_iter().map(|(p, n)| (p.name(), n)).collect(),
            release.progress.stuck.load(Ordering::Relaxed),
        )
    }
}

/// How many copies took which path.
fn tried(verified: &Verified) -> Vec<(&'static str, u64)> {
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
        queued: 0,
        crossed: Vec::new(),
        stuck: 0,
        running_ms: None,
        pause_us: [0.0; 3],
        stages: Stages::default(),
    }
}
