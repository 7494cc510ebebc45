//! Swaps: load, verify, commit, report. Everything slow happens before the commit,
//! beside the running code and beside other swaps, and can be refused without a trace.
//!
//! A deployment is an optimistic transaction. It is prepared on the release that is
//! current when it begins, under no lock; `Inner::swapping` is held for the commit
//! and its announcement alone. If the code has moved meanwhile in a module that it
//! is about, it is prepared again on what is current then, a few times at most. If
//! somebody has gone back meanwhile (`rollback`), it is refused: what the brake was
//! pulled for must not be undone by what was under way. The way back never waits
//! for more than another commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::{CommitError, Digest, Release, Version};
use exuvia_engine::{Artifact, VerifyError, no_way};
use exuvia_process::{Body, Pid};

use crate::error::SwapError;
use crate::event::Event;
use crate::node::Node;
use crate::settle::Committed;

mod changes;
mod report;
mod stage;
pub(crate) mod turns;

use changes::Changes;
use report::tried;
pub use report::{ModuleSwap, Stages, SwapReport};
pub(crate) use report::{changes, listed, nothing};
pub use stage::{AtStage, SwapStage};

/// How long a swap's answer waits for busy processes to cross. What crosses
/// later is only in the report that the release has settled.
const SETTLE: Duration = Duration::from_secs(1);
/// It waits no longer when nobody has crossed for so long, in nanoseconds.
const STILL: u64 = 20_000_000;

/// How often a deployment is prepared, if the code moves meanwhile.
const ATTEMPTS: usize = 4;

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

impl Node {
    /// Makes new code current: all modules in one release, or nothing. Slow:
    /// it compiles, verifies, and waits a moment for busy processes; and for
    /// deployments of the same modules that came before it. The
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
        let result = self.try_deploy(modules, &options, true);
        if let Err(error) = &result {
            self.0.events.send(Event::refused(what, error));
        }
        result
    }

    /// The first release: nothing runs that it could change, so that there is
    /// no swap to tell of.
    pub(crate) fn deploy_first(&self, modules: Vec<ModuleBytes>) -> Result<(), SwapError> {
        self.try_deploy(modules, &DeployOptions::default(), false)
            .map(drop)
    }

    fn try_deploy(
        &self,
        modules: Vec<ModuleBytes>,
        options: &DeployOptions,
        tell: bool,
    ) -> Result<SwapReport, SwapError> {
        let names = modules.iter().map(|module| module.name.clone()).collect();
        // Before it waits: the brake is meant for those that wait too.
        let rollbacks = self.0.rollbacks.load(Ordering::Acquire);
        let _turn = self.0.turns.wait(names);
        let began = self.0.system.clock.now();
        let deployment = Deployment {
            node: self,
            options,
            tell,
            rollbacks,
            noticed: modules
                .iter()
                .filter_map(|module| module.noticed)
                .min()
                .unwrap_or(began),
            modules: modules
                .into_iter()
                .map(|module| (Digest(*blake3::hash(&module.bytes).as_bytes()), module))
                .collect(),
        };
        let mut changes = Changes::new(self);
        let mut attempt = 1;
        loop {
            match deployment.attempt(&mut changes) {
                Err(SwapError::Commit(CommitError::Conflict { .. })) if attempt < ATTEMPTS => {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// Refuses new code to which no process can ever cross, as far as the two modules
    /// tell: verification has no copies of those that are busy, or that never leave
    /// their frame.
    fn has_a_way(&self, changes: &[Arc<Version<Artifact>>]) -> Result<(), VerifyError> {
        for new in changes {
            for old in self.0.code.versions(&new.module) {
                if Arc::ptr_eq(&old, new) || old.population() == 0 {
                    continue;
                }
                let Some((error, fix)) = no_way(&old, new) else {
                    continue;
                };
                let of = old.clone();
                // Who has not run has no state, and loops are asked about by themselves.
                let found = self.survey(1, false, move |own| {
                    let Body::Guest(guest) = &own.body else {
                        return None;
                    };
                    let has_state = !guest.is_unborn() && guest.loops() != Some(false);
                    (guest.tenancy.is(&of) && has_state).then(|| own.pid())
                });
                if let Some(pid) = found.first() {
                    let names = self.0.system.names.of(*pid);
                    return Err(VerifyError {
                        pid: *pid,
                        name: names.first().map(ToString::to_string),
                        module: old.module.to_string(),
                        error: error.into(),
                        fix: Some(fix),
                    });
                }
            }
        }
        Ok(())
    }

    /// Goes back to the release before the current one; state crosses back by
    /// the same paths. It waits for no deployment: one that is under way is
    /// refused.
    ///
    /// # Errors
    ///
    /// If there is none, or a process's state cannot go back.
    pub fn rollback(&self) -> Result<SwapReport, SwapError> {
        let inner = &self.0;
        let committing = inner.swapping.lock();
        self.catch_up();
        self.is_crossing();
        let base = inner.code.current();
        let began = inner.system.clock.now();
        let release = inner.code.go_back()?;
        inner.rollbacks.fetch_add(1, Ordering::Release);
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
        drop(committing);
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

/// A deployment that is under way.
struct Deployment<'a> {
    node: &'a Node,
    modules: Vec<(Digest, ModuleBytes)>,
    options: &'a DeployOptions,
    tell: bool,
    /// How often somebody had gone back when it began.
    rollbacks: u64,
    noticed: u64,
}

impl Deployment<'_> {
    fn reached(&self, stage: SwapStage) {
        if let Some(hook) = &self.node.0.config.at_stage {
            let names: Vec<&str> = (self.modules.iter())
                .map(|(_, module)| module.name.as_str())
                .collect();
            hook.reached(&names, stage);
        }
    }

    /// Prepares it on the current release and commits it.
    fn attempt(&self, changes: &mut Changes<'_>) -> Result<SwapReport, SwapError> {
        let (node, options) = (self.node, self.options);
        let inner = &node.0;
        let base = inner.code.current();
        let began = inner.system.clock.now();
        let chosen = changes.choose(&base, &self.modules, options.fresh)?;
        let load = node.since(began);
        self.reached(SwapStage::Loaded);
        if chosen.new.is_empty() {
            let names = self.modules.iter().map(|(_, module)| module.name.as_str());
            return Ok(node.nothing_new(&base, names, options.loops));
        }
        let mut not_carried = None;
        for version in &chosen.new {
            if let Some(before) = base.version(&version.module) {
                version.artifact.follows(&before.artifact);
                let carried = before.artifact.carries_to(&version.artifact);
                not_carried = not_carried.or(carried.err());
            }
        }
        let began = inner.system.clock.now();
        if !options.fresh {
            node.has_a_way(&chosen.new)?;
        }
        let verified = (inner.executor).verify(&chosen.new, inner.config.verify, options.fresh)?;
        if options.loops == Loops::Refuse
            && let Some(first) = verified.loops.first()
        {
            return Err(SwapError::Loops {
                count: verified.loops.len(),
                first: *first,
            });
        }
        let mut loops: HashSet<Pid> = verified.loops.iter().copied().collect();
        if options.loops == Loops::Kill {
            // Who was left before asks no leave of this one.
            let names = self.modules.iter().map(|(_, module)| module.name.as_str());
            let left = node.left(names, &base);
            loops.extend(left.into_iter().flat_map(|(_, pids)| pids));
        }
        let verify = node.since(began);
        let began = inner.system.clock.now();
        // The busy ones were not all at rest when they were looked at.
        let busy = verified.resident + verified.processes.saturating_sub(verified.seen);
        let busy = usize::try_from(busy).unwrap_or(usize::MAX);
        for version in &chosen.new {
            inner.executor.prepare(&version.artifact, busy);
        }
        let prepare = node.since(began);
        self.reached(SwapStage::Prepared);
        let count = loops.len() as u64;
        let (left, killed) = match options.loops {
            Loops::Refuse => (0, 0),
            Loops::Leave => (count, 0),
            Loops::Kill => (0, count),
        };
        let mut report = SwapReport {
            modules: ModuleSwap::of(&base, &chosen.new),
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
                ..Stages::default()
            },
            ..nothing(&base)
        };
        let release = {
            let _committing = inner.swapping.lock();
            if inner.rollbacks.load(Ordering::Acquire) != self.rollbacks {
                return Err(SwapError::RolledBack {
                    release: inner.code.current_id(),
                });
            }
            // What went back by itself, and what has settled by now, is said
            // before this.
            node.catch_up();
            node.is_crossing();
            let began = inner.system.clock.now();
            let release = (inner.code).commit(&base, &chosen.all(), options.fresh)?;
            report.stages.commit = node.since(began);
            changes.committed();
            (report.release, report.back) = (release.id, false);
            match options.loops {
                Loops::Refuse => {}
                // From this release on: one that is refused leaves nobody.
                Loops::Leave => node.leave_behind(&verified.loops, release.id),
                Loops::Kill => loops.iter().for_each(|pid| node.kill(*pid)),
            }
            node.announce(&release, &report, self.noticed, self.tell);
            release
        };
        let woken = match options.loops {
            // Those that stay say so then.
            Loops::Leave => [verified.upgradable, verified.loops].concat(),
            _ => verified.upgradable,
        };
        node.settle(&release, &woken, self.noticed, &mut report);
        if options.loops == Loops::Kill {
            let loops: Vec<Pid> = loops.into_iter().collect();
            let ended = node.end_the_busy(&release, &chosen.new, &loops);
            report.killed += ended.killed;
            (report.unended, report.busy) = (ended.unended, ended.busy);
        }
        Ok(report)
    }
}
