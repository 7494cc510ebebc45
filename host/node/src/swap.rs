//! Swaps: load, verify, commit, report. Everything slow happens before the commit, concurrently
//! with the running code and with other swaps, and can be rejected without a trace.
//!
//! A deployment (`deployment`) is an optimistic transaction. It is prepared on the release that is
//! current when it begins, under no lock; the tracker's lock is held for the commit and its
//! announcement only. If another commit has changed one of its modules meanwhile, it is prepared
//! again on the release that is current then, a few times at most. If the node was rolled back
//! meanwhile, the deployment is rejected: a pending deployment must not undo a rollback. A rollback
//! never waits for more than another commit.
//!
//! `turns` orders deployments, `changes` holds what is loaded and not current, `tracker` knows what
//! there is to know of a release from its commit on, `settle` waits for busy processes, `wake` wakes
//! idle ones, `busy` and `old_code` find the processes that are not upgraded.

mod busy;
mod changes;
mod deployment;
mod old_code;
mod paths;
mod settle;
mod tracker;
mod turns;
mod wake;

use std::sync::Arc;

use exuvia_code::{CommitError, Release, Version};
use exuvia_engine::Artifact;

use crate::core::Core;
use crate::error::SwapError;
use crate::event::Event;
use crate::report::{ModuleSwap, Stages, SwapReport, empty_report};
use crate::request::{DeployOptions, ModuleBytes};

pub(crate) use old_code::outdated;

use changes::Changes;
use deployment::Deployment;
use tracker::{Committed, ReleaseTracker, UpgradeFigures};
use turns::Turns;

/// How often a deployment is prepared if other commits intervene.
const ATTEMPTS: usize = 4;

/// Makes releases current, and follows each until no process has to be upgraded to it.
#[derive(Debug)]
pub(crate) struct Swapper {
    pub(crate) core: Arc<Core>,
    turns: Turns,
    tracker: ReleaseTracker,
}

impl Swapper {
    pub(crate) fn new(core: Arc<Core>) -> Swapper {
        Swapper {
            core,
            turns: Turns::default(),
            tracker: ReleaseTracker::default(),
        }
    }

    /// Makes new code current; see [`crate::Node::deploy`].
    pub(crate) fn deploy(
        &self,
        modules: Vec<ModuleBytes>,
        options: &DeployOptions,
    ) -> Result<SwapReport, SwapError> {
        let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
        let what = names.join(", ");
        let result = self.try_deploy(modules, options, true);
        if let Err(error) = &result
            && !options.plan
        {
            self.core.events.send(Event::refused(what, error));
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
        is_reported: bool,
    ) -> Result<SwapReport, SwapError> {
        let names = modules.iter().map(|module| module.name.clone()).collect();
        // Read before waiting for its turn: a rollback meanwhile rejects waiting deployments too.
        let rollbacks = self.tracker.rollbacks();
        let _turn = self.turns.wait(names);
        let deployment = Deployment::new(self, modules, options, rollbacks, is_reported);
        let mut changes = Changes::new(&self.core);
        let mut attempt = 1;
        loop {
            match deployment.attempt(&mut changes) {
                Err(SwapError::Commit(CommitError::Conflict { .. })) if attempt < ATTEMPTS => {
                    attempt += 1;
                }
                done => {
                    if let Err(error) = &done {
                        deployment.refused(error);
                    }
                    return done;
                }
            }
        }
    }

    /// Rolls back to the release before the current one; see [`crate::Node::rollback`].
    pub(crate) fn rollback(&self, options: &DeployOptions) -> Result<SwapReport, SwapError> {
        match self.rollback_in_memory(options) {
            // Those before the start are in the store.
            Err(SwapError::Commit(error @ CommitError::NoEarlier)) => {
                let before = self.core.log.before(&self.core.code.current())?;
                self.restore(before.ok_or(error)?, options)
            }
            done => done,
        }
    }

    /// Deploys a release of the store once more; see [`crate::Node::rollback_to`].
    pub(crate) fn restore(
        &self,
        number: u64,
        options: &DeployOptions,
    ) -> Result<SwapReport, SwapError> {
        let modules = self.core.log.modules_of(number)?;
        let options = DeployOptions {
            restores: Some(number),
            ..options.clone()
        };
        self.deploy(modules, &options)
    }

    fn rollback_in_memory(&self, options: &DeployOptions) -> Result<SwapReport, SwapError> {
        let core = &self.core;
        let commit = self.tracker.begin_commit(core);
        let base = core.code.current();
        let began = core.now();
        let release = core.code.roll_back()?;
        commit.note_rollback();
        let took = core.since(began);
        let versions = changed_versions(&base, &release);
        // Not verified: a rollback must be possible even if some state cannot be upgraded to the
        // old code; such processes stay on their version, and are shown as failed.
        let mut report = SwapReport {
            modules: ModuleSwap::of(&base, &versions),
            processes: affected(core, &release, &versions),
            stages: Stages {
                commit: took,
                ..Stages::default()
            },
            ..empty_report(&release)
        };
        let committed = Committed::of(&release, &report, began);
        let event = Event::Swap(Box::new(report.clone()));
        commit.announce(core, committed, Some(event));
        core.log.rolled_back(&core.code, &release, Some(options));
        drop(commit);
        // Whoever asked for it is to find it after a crash, too.
        core.log.wait();
        self.settle(&release, &[], began, &mut report);
        Ok(report)
    }

    /// Returns whether processes still have to be upgraded to the current release. Reports the
    /// result when there are none left.
    pub(crate) fn is_upgrading(&self) -> bool {
        self.tracker.is_upgrading(&self.core)
    }

    /// Tracks the current release if the runtime has rolled back meanwhile.
    pub(crate) fn catch_up(&self) {
        self.tracker.catch_up(&self.core);
    }

    /// Returns the progress of the current release: the upgrades by path, and the number of failed
    /// ones.
    pub(crate) fn progress(&self) -> (Vec<(&'static str, u64)>, u64) {
        let figures = UpgradeFigures::of(&self.core.code.current());
        (figures.upgraded, figures.failed)
    }
}

/// Returns the versions of a release that another one does not have.
fn changed_versions(
    before: &Release<Artifact>,
    release: &Release<Artifact>,
) -> Vec<Arc<Version<Artifact>>> {
    let is_new = |version: &&Arc<Version<Artifact>>| {
        (before.version(&version.module)).is_none_or(|before| !Arc::ptr_eq(before, version))
    };
    release.versions().filter(is_new).cloned().collect()
}

/// Returns the number of processes that a release concerns, if they were not counted before its
/// commit: those in other versions of its changed modules, and those that are upgraded already.
fn affected(core: &Core, release: &Release<Artifact>, changed: &[Arc<Version<Artifact>>]) -> u64 {
    let others: usize = changed
        .iter()
        .flat_map(|version| core.code.versions(&version.module))
        .filter(|version| !changed.iter().any(|new| Arc::ptr_eq(new, version)))
        .map(|version| version.process_count())
        .sum();
    others as u64 + release.progress.total()
}
