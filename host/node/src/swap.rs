//! Swaps: load, verify, commit, report. Everything slow happens before the commit, concurrently
//! with the running code and with other swaps, and can be rejected without a trace.
//!
//! A deployment is an optimistic transaction. It is prepared on the release that is current when it
//! begins, under no lock; `Inner::swapping` is held for the commit and its announcement only. If
//! another commit has changed one of its modules meanwhile, it is prepared again on the release
//! that is current then, a few times at most. If the node was rolled back meanwhile (`rollback`),
//! the deployment is rejected: a pending deployment must not undo a rollback. A rollback never
//! waits for more than another commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exuvia_code::{CommitError, Digest, Release, Version};
use exuvia_engine::{Artifact, VerifyError, no_upgrade_path};
use exuvia_process::{Body, Pid};

use crate::config::SwapStage;
use crate::error::SwapError;
use crate::event::Event;
use crate::node::Node;
use crate::report::{ModuleSwap, Stages, SwapReport, empty_report, verified_by_path};
use crate::swap::tracker::Committed;

pub(crate) mod busy;
mod changes;
pub(crate) mod lingering;
mod outdated;
pub(crate) mod tracker;
pub(crate) mod turns;

use changes::Changes;
pub use lingering::Lingering;
pub use outdated::Outdated;
pub use tracker::UpgradeReport;

/// How long a deployment waits for busy processes to be upgraded. Later upgrades are only in the
/// [`crate::UpgradeReport`].
const SETTLE: Duration = Duration::from_secs(1);
/// The wait ends when no process was upgraded for this long, in nanoseconds.
const STILL: u64 = 20_000_000;

/// How often a deployment is prepared if other commits intervene.
const ATTEMPTS: usize = 4;

/// A module to deploy.
#[derive(Clone, Debug)]
pub struct ModuleBytes {
    /// Its name in the release.
    pub name: String,
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Where the bytes come from, for messages.
    pub source: String,
    /// When the change was noticed, by the node's clock; `None`: at the call.
    pub noticed: Option<u64>,
}

/// What happens to loop processes that do not take `UPGRADE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loops {
    /// The swap is rejected.
    #[default]
    Refuse,
    /// They are exempt: they stay on their version until they exit.
    Leave,
    /// They are killed after the commit.
    Kill,
}

/// What a deployment may do with state and processes that cannot be upgraded.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// Discards state that cannot be upgraded.
    pub fresh: bool,
    /// What to do with loop processes that new code would never reach.
    pub loops: Loops,
    /// How the modules were built, if they were built for this deployment.
    pub made: Option<BuildInfo>,
}

/// How modules that are swapped in were built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildInfo {
    /// The files whose change triggered the build.
    pub changed: Vec<String>,
    /// Milliseconds that the builds took.
    pub build_ms: f64,
}

impl Node {
    /// Makes new code current: all modules in one release, or nothing. Slow: it waits for earlier
    /// deployments of the same modules, compiles, verifies, and waits up to a second for busy
    /// processes. It is reported by an event at the commit, and by another one when the upgrade is
    /// complete.
    ///
    /// # Errors
    ///
    /// The reason why it was rejected; nothing has changed then.
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

    /// Deploys the first release: there is no code that it could replace, and so no swap to report.
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
        // Read before waiting for its turn: a rollback meanwhile rejects waiting deployments too.
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

    /// Rejects new code to which no process can ever be upgraded, as far as the two modules show
    /// that: verification has no copies of processes that are busy or that never leave their frame.
    fn check_upgrade_paths(&self, changes: &[Arc<Version<Artifact>>]) -> Result<(), VerifyError> {
        for new in changes {
            for old in self.0.code.versions(&new.module) {
                if Arc::ptr_eq(&old, new) || old.process_count() == 0 {
                    continue;
                }
                let Some((error, missing)) = no_upgrade_path(&old, new) else {
                    continue;
                };
                let of = old.clone();
                // A process that has not run has no state, and loops are checked separately.
                let found = self.survey(1, false, move |process| {
                    let Body::Guest(guest) = &process.body else {
                        return None;
                    };
                    let has_state = !guest.is_not_started() && guest.loops() != Some(false);
                    (guest.version.is(&of) && has_state).then(|| process.pid())
                });
                if let Some(pid) = found.first() {
                    let names = self.0.system.names.of(*pid);
                    return Err(VerifyError {
                        pid: *pid,
                        name: names.first().map(ToString::to_string),
                        module: old.module.to_string(),
                        error: error.into(),
                        missing: Some(missing),
                        file: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Rolls back to the release before the current one; state is upgraded by the same paths. It
    /// does not wait for deployments: one that is under way is rejected.
    ///
    /// # Errors
    ///
    /// If there is no earlier release.
    pub fn rollback(&self) -> Result<SwapReport, SwapError> {
        let inner = &self.0;
        let committing = inner.swapping.lock();
        self.catch_up();
        self.is_upgrading();
        let base = inner.code.current();
        let began = inner.system.clock.now();
        let release = inner.code.roll_back()?;
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
        // Not verified: a rollback must be possible even if some state cannot be upgraded to the
        // old code; such processes stay on their version, and are shown as failed.
        let mut report = SwapReport {
            modules: ModuleSwap::of(&base, &versions),
            processes: self.affected(&release, &versions),
            stages: Stages {
                commit,
                ..Stages::default()
            },
            ..empty_report(&release)
        };
        self.announce(&release, &report, began, true);
        drop(committing);
        self.settle(&release, &[], began, &mut report);
        Ok(report)
    }

    /// Reports that a release is current, and tracks it.
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
        self.track(committed, tell.then(|| Event::Swap(report.clone())));
    }

    /// Returns the milliseconds since a time of the node's clock.
    fn since(&self, began: u64) -> f64 {
        self.0.system.clock.now().saturating_sub(began) as f64 / 1e6
    }

    /// Returns the number of processes that a release concerns, if they were not counted before its
    /// commit: those in other versions of its changed modules, and those that are upgraded already.
    pub(crate) fn affected(
        &self,
        release: &Release<Artifact>,
        changed: &[Arc<Version<Artifact>>],
    ) -> u64 {
        let others: usize = changed
            .iter()
            .flat_map(|version| self.0.code.versions(&version.module))
            .filter(|version| !changed.iter().any(|new| Arc::ptr_eq(new, version)))
            .map(|version| version.process_count())
            .sum();
        others as u64 + release.progress.total()
    }

    /// After the commit: wakes loop processes, waits for busy ones to be upgraded, and adds the
    /// result to the report.
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
        inner.background_upgrader.committed();
        let progress = &release.progress;
        let until = committed + u64::try_from(SETTLE.as_nanos()).unwrap_or(0);
        let mut seen = (0, committed);
        if inner.system.clock.is_manual() {
            // A manual clock does not measure the wait: all processes that can be upgraded are
            // upgraded now.
            self.wake_pending();
            self.come_to_rest(SETTLE);
        }
        while self.is_upgrading() && !inner.system.clock.is_manual() {
            let moved = progress.total() + progress.failed.load(Ordering::Relaxed);
            let now = inner.system.clock.now();
            if moved != seen.0 {
                seen = (moved, now);
            }
            // The time is over, or no process has been upgraded for a while: idle processes are
            // upgraded when they wake.
            if now >= until || now - seen.1 > STILL {
                break;
            }
            std::thread::park_timeout(Duration::from_micros(500));
        }
        let first = progress.first_upgrade.load(Ordering::Relaxed);
        if first > 0 {
            report.stages.first = Some(first.saturating_sub(committed) as f64 / 1e6);
            report.running_ms = Some(first.saturating_sub(noticed) as f64 / 1e6);
        }
        let microseconds = |q| progress.pauses.quantile(q) as f64 / 1e3;
        report.pause_us = [microseconds(0.5), microseconds(0.99), microseconds(1.0)];
        report.upgraded = progress
            .paths()
            .into_iter()
            .map(|(path, count)| (path.name(), count))
            .collect();
        report.failed = progress.failed.load(Ordering::Relaxed);
    }

    /// Returns the progress of the current release: the upgrades by path, and the number of failed
    /// ones.
    pub fn progress(&self) -> (Vec<(&'static str, u64)>, u64) {
        let release = self.0.code.current();
        let paths = release.progress.paths();
        (
            paths.into_iter().map(|(p, n)| (p.name(), n)).collect(),
            release.progress.failed.load(Ordering::Relaxed),
        )
    }
}

/// A deployment in progress.
struct Deployment<'a> {
    node: &'a Node,
    modules: Vec<(Digest, ModuleBytes)>,
    options: &'a DeployOptions,
    tell: bool,
    /// The number of rollbacks when it began.
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

    /// Adds the file that the refused module came from. For bytes that came without a file,
    /// the module's name stands in its place.
    fn with_file(&self, error: VerifyError) -> VerifyError {
        let mut modules = self.modules.iter().map(|(_, module)| module);
        let refused = modules.find(|module| module.name == error.module);
        let file = refused
            .filter(|module| module.source != module.name)
            .map(|module| module.source.clone());
        VerifyError { file, ..error }
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
        let mut not_reused = None;
        for version in &chosen.new {
            if let Some(before) = base.version(&version.module) {
                version.artifact.follows(&before.artifact);
                let reused = before.artifact.reuses_image_in(&version.artifact);
                not_reused = not_reused.or(reused.err());
            }
        }
        let began = inner.system.clock.now();
        if !options.fresh {
            (node.check_upgrade_paths(&chosen.new)).map_err(|error| self.with_file(error))?;
        }
        let verified = (inner.executor)
            .verify(&chosen.new, inner.config.verify, options.fresh)
            .map_err(|error| self.with_file(error))?;
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
            // Processes that were exempt before are not among the verified loops.
            let names = self.modules.iter().map(|(_, module)| module.name.as_str());
            let left = node.lingering(names, &base);
            loops.extend(left.into_iter().flat_map(|(_, pids)| pids));
        }
        let verify = node.since(began);
        let began = inner.system.clock.now();
        // Processes that could not be inspected count as busy.
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
            verified_by_path: verified_by_path(&verified),
            not_reused,
            exempt: left,
            killed,
            queued: verified.queued,
            stages: Stages {
                build: options.made.as_ref().map(|made| made.build_ms),
                load,
                verify,
                prepare,
                ..Stages::default()
            },
            ..empty_report(&base)
        };
        let release = {
            let _committing = inner.swapping.lock();
            if inner.rollbacks.load(Ordering::Acquire) != self.rollbacks {
                return Err(SwapError::RolledBack {
                    release: inner.code.current_id(),
                });
            }
            // A rollback by the runtime, and an upgrade that is complete by now, are reported
            // before this release.
            node.catch_up();
            node.is_upgrading();
            let began = inner.system.clock.now();
            let release = (inner.code).commit(&base, &chosen.all(), options.fresh)?;
            report.stages.commit = node.since(began);
            changes.committed();
            (report.release, report.rollback) = (release.id, false);
            match options.loops {
                Loops::Refuse => {}
                // Only from this release on: a rejected one exempts no process.
                Loops::Leave => node.pin_to_version(&verified.loops, release.id),
                Loops::Kill => loops.iter().for_each(|pid| node.kill(*pid)),
            }
            node.announce(&release, &report, self.noticed, self.tell);
            release
        };
        let woken = match options.loops {
            // Woken, those that stay are counted as exempt from the release.
            Loops::Leave => [verified.upgradable, verified.loops].concat(),
            _ => verified.upgradable,
        };
        node.settle(&release, &woken, self.noticed, &mut report);
        if options.loops == Loops::Kill {
            let loops: Vec<Pid> = loops.into_iter().collect();
            let ended = node.kill_busy(&release, &chosen.new, &loops);
            report.killed += ended.killed;
            (report.unended, report.busy) = (ended.unended, ended.busy);
        }
        Ok(report)
    }
}
