//! A deployment: prepared on one release, and committed if no other commit has intervened.

use std::collections::HashSet;
use std::sync::Arc;

use exuvia_code::{Digest, HowToCommit, Release, Version, check_base};
use exuvia_engine::{Artifact, Verified, VerifyError};
use exuvia_process::Pid;

use super::Swapper;
use super::changes::{Changes, Chosen};
use super::old_code::{lingering, pin_to_version};
use super::paths::check_upgrade_paths;
use super::tracker::Committed;
use crate::config::SwapStage;
use crate::core::Core;
use crate::error::SwapError;
use crate::event::Event;
use crate::release_log::Prepared;
use crate::report::{ModuleSwap, Stages, SwapReport, empty_report, verified_by_path};
use crate::request::{DeployOptions, Loops, ModuleBytes, digest_of};

/// A deployment in progress.
pub(super) struct Deployment<'a> {
    swapper: &'a Swapper,
    modules: Vec<(Digest, ModuleBytes)>,
    options: &'a DeployOptions,
    /// Whether an event reports the swap.
    is_reported: bool,
    /// The number of rollbacks when it arrived.
    rollbacks: u64,
    /// When the change was noticed, by the node's clock.
    noticed: u64,
}

impl<'a> Deployment<'a> {
    pub(super) fn new(
        swapper: &'a Swapper,
        modules: Vec<ModuleBytes>,
        options: &'a DeployOptions,
        rollbacks: u64,
        is_reported: bool,
    ) -> Deployment<'a> {
        let began = swapper.core.now();
        let noticed = modules.iter().filter_map(|module| module.noticed).min();
        let digested = |module: ModuleBytes| {
            let digest = digest_of(&module.bytes);
            (digest, module)
        };
        Deployment {
            swapper,
            options,
            is_reported,
            rollbacks,
            noticed: noticed.unwrap_or(began),
            modules: modules.into_iter().map(digested).collect(),
        }
    }

    fn core(&self) -> &'a Core {
        &self.swapper.core
    }

    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.modules.iter().map(|(_, module)| module.name.as_str())
    }

    /// Notes that it was refused: of module files, that they were read.
    pub(super) fn refused(&self, error: &SwapError) {
        let is_their_fault = matches!(
            error,
            SwapError::Load { .. }
                | SwapError::ChildMemory { .. }
                | SwapError::Verify(_)
                | SwapError::Loops { .. }
        );
        if self.options.from_files && is_their_fault {
            self.core().log.read(&self.modules);
        }
    }

    fn reached(&self, stage: SwapStage) {
        if let Some(hook) = &self.core().config.at_stage {
            let names: Vec<&str> = self.names().collect();
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
    pub(super) fn attempt(&self, changes: &mut Changes<'_>) -> Result<SwapReport, SwapError> {
        let (core, options) = (self.core(), self.options);
        let base = core.code.current();
        let began = core.now();
        let chosen = changes.choose(&base, &self.modules, options.fresh)?;
        let load = core.since(began);
        self.reached(SwapStage::Loaded);
        if chosen.new.is_empty() {
            if self.options.from_files {
                core.log.read(&self.modules);
            }
            let loops = match options.plan {
                true => Loops::Refuse,
                false => options.loops,
            };
            return Ok(self.swapper.nothing_new(&base, self.names(), loops));
        }
        let not_reused = follow(&base, &chosen.new);
        let began = core.now();
        let verified = self.verify(&chosen.new)?;
        let loops = self.loops(&base, &verified)?;
        let verify = core.since(began);
        let began = core.now();
        // Processes that could not be inspected count as busy.
        let busy = verified.resident + verified.processes.saturating_sub(verified.seen);
        let busy = usize::try_from(busy).unwrap_or(usize::MAX);
        for version in chosen.new.iter().filter(|_| !options.plan) {
            core.executor.prepare(&version.artifact, busy);
        }
        let prepare = core.since(began);
        self.reached(SwapStage::Prepared);
        let count = loops.len() as u64;
        let (exempt, killed) = match options.loops {
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
            exempt,
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
        if options.plan {
            report.planned = true;
            return Ok(report);
        }
        let began = core.now();
        // Large, and so before anybody waits for this commit. What a node starts with is written when it is up, if it is
        // new at all.
        let prepared = match self.is_reported {
            true => Some(core.log.prepare(&self.modules, options)?),
            false => None,
        };
        report.stages.store = core.log.store().map(|_| core.since(began));
        let release = self.commit(
            (&base, &chosen, prepared.as_ref()),
            &verified,
            &loops,
            &mut report,
            changes,
        )?;
        let woken = match options.loops {
            // Woken, those that stay are counted as exempt from the release.
            Loops::Leave => [verified.upgradable, verified.loops].concat(),
            _ => verified.upgradable,
        };
        (self.swapper).settle(&release, &woken, self.noticed, &mut report);
        if options.loops == Loops::Kill {
            let loops: Vec<Pid> = loops.into_iter().collect();
            let ended = core.kill_busy(&release, &chosen.new, &loops);
            report.killed += ended.killed;
            (report.unended, report.busy) = (ended.unended, ended.busy);
        }
        Ok(report)
    }

    /// Upgrades copies of the processes of the changed modules.
    fn verify(&self, new: &[Arc<Version<Artifact>>]) -> Result<Verified, SwapError> {
        let (core, fresh) = (self.core(), self.options.fresh);
        if !fresh {
            check_upgrade_paths(core, new).map_err(|error| self.with_file(error))?;
        }
        let verified = core.executor.verify(new, core.config.verify, fresh);
        Ok(verified.map_err(|error| self.with_file(error))?)
    }

    /// Returns the loop processes that new code would never reach, as far as this deployment does
    /// something about them.
    fn loops(
        &self,
        base: &Arc<Release<Artifact>>,
        verified: &Verified,
    ) -> Result<HashSet<Pid>, SwapError> {
        if self.options.loops == Loops::Refuse
            && let Some(first) = verified.loops.first()
        {
            return Err(SwapError::Loops {
                count: verified.loops.len(),
                first: *first,
            });
        }
        let mut loops: HashSet<Pid> = verified.loops.iter().copied().collect();
        if self.options.loops == Loops::Kill {
            // Processes that were exempt before are not among the verified loops.
            let left = lingering(self.core(), self.names(), base);
            loops.extend(left.into_iter().flat_map(|(_, pids)| pids));
        }
        Ok(loops)
    }

    fn commit(
        &self,
        (base, chosen, prepared): (&Arc<Release<Artifact>>, &Chosen, Option<&Prepared<'_>>),
        verified: &Verified,
        loops: &HashSet<Pid>,
        report: &mut SwapReport,
        changes: &mut Changes<'_>,
    ) -> Result<Arc<Release<Artifact>>, SwapError> {
        let (core, tracker) = (self.core(), &self.swapper.tracker);
        let commit = tracker.begin_commit(core);
        if tracker.rollbacks() != self.rollbacks {
            return Err(SwapError::RolledBack {
                release: core.code.current_id(),
            });
        }
        let all = chosen.all();
        let current = commit.current(core);
        check_base(base, &current, &all)?;
        // From here on a start of the node finds it.
        let began = core.now();
        let (code, new) = (&core.code, &chosen.new);
        let written = prepared
            .map(|prepared| (core.log).commit(code, &current, new, prepared, self.options))
            .transpose()?;
        if let Some(store) = &mut report.stages.store {
            *store += core.since(began);
        }
        let began = core.now();
        let how = HowToCommit {
            on: Some(&current),
            fresh: self.options.fresh,
            restores: self.options.restores,
        };
        let release = core.code.commit_with(base, &all, &how)?;
        report.stages.commit = core.since(began);
        if let Some(written) = written {
            written.committed();
        }
        if self.options.restores.is_some() {
            commit.note_rollback();
        }
        changes.committed();
        (report.release, report.rollback) = (release.id, self.options.restores.is_some());
        match self.options.loops {
            Loops::Refuse => {}
            // Only from this release on: a rejected one exempts no process.
            Loops::Leave => pin_to_version(core, &verified.loops, release.id),
            Loops::Kill => loops.iter().for_each(|pid| core.kill(*pid)),
        }
        let event = self
            .is_reported
            .then(|| Event::Swap(Box::new(report.clone())));
        let committed = Committed::of(&release, report, self.noticed);
        commit.announce(core, committed, event);
        Ok(release)
    }
}

/// Notes for each new version which one it follows. Returns why state is not reused, for the first
/// one whose state is not.
fn follow(base: &Release<Artifact>, new: &[Arc<Version<Artifact>>]) -> Option<String> {
    let mut not_reused = None;
    for version in new {
        if let Some(before) = base.version(&version.module) {
            version.artifact.follows(&before.artifact);
            let reused = before.artifact.reuses_image_in(&version.artifact);
            not_reused = not_reused.or(reused.err());
        }
    }
    not_reused
}
