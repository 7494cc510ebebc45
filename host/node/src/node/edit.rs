//! What can be changed in a running app when its manifest is edited: limits, the rules of the log,
//! `[config]`, and the supervision tree. Modules come and change with `Node::deploy`. What is said of
//! an edit is the caller's.

use std::sync::Arc;

use exuvia_engine::GuestProcess;
use exuvia_manifest::{AppConfig, LogSettings, Manifest, SupervisorEntry};
use exuvia_process::{Body, Limits};

use super::Node;
use crate::core::Core;
use crate::from_manifest::{limits, log_rules};
use crate::supervision::TreeChanges;

/// What new limits have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitChanges {
    /// The modules whose limits differ.
    pub modules: Vec<String>,
    /// Whether `wasi` of one of them differs.
    pub grants: bool,
    /// The number of living processes that have the new limits.
    pub living: usize,
    /// Modules of which no process can start.
    pub excess: Vec<ExcessMemory>,
}

/// A module that starts with more memory than its processes may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcessMemory {
    /// The module.
    pub module: String,
    /// Bytes that it starts with.
    pub initial: u64,
    /// Bytes that its processes may have.
    pub allowed: u64,
}

/// The limits of a module's processes before and after an edit.
#[derive(Debug)]
struct Change {
    module: String,
    before: Limits,
    after: Limits,
}

impl Node {
    /// Returns the most memory in bytes that a module may have: the engine is set up for it.
    pub fn module_memory(&self) -> u64 {
        self.core().config.module_memory
    }

    /// Replaces the rules of the log.
    pub fn set_log(&self, settings: &LogSettings) {
        self.core().logger.set(log_rules(settings));
    }

    /// Replaces what guests read with `config`.
    pub fn set_app_config(&self, config: AppConfig) {
        *self.core().app_config.lock() = Arc::new(config);
    }

    /// Replaces the limits of modules and children. A living process whose limits were exactly
    /// those of its module in `before` gets the new ones.
    pub fn set_limits(&self, before: &Manifest, after: &Manifest) -> LimitChanges {
        let core = self.core();
        if after.connects()
            && let Err(error) = self.serve_outbound()
        {
            tracing::warn!("processes cannot connect to the outside: {error}");
        }
        core.limits.set_modules(after);
        core.limits.set_children(after);
        let changes: Arc<[Change]> = changed_limits(before, after).into();
        let modules = changes.iter().map(|change| change.module.clone()).collect();
        LimitChanges {
            modules,
            grants: (changes.iter()).any(|change| change.before.grants != change.after.grants),
            living: limit_living(core, changes),
            excess: excess_memory(core, after),
        }
    }

    /// Changes the supervision tree as far as that is possible without restarting a process:
    /// removed children are stopped, new ones and those that could not be started are started, and
    /// the specification of the others is replaced. Returns at once; `done` is called when the last
    /// supervisor has applied its part, on a scheduler's thread, which it must not block. A node
    /// without a tree changes nothing.
    pub fn edit_tree(
        &self,
        before: SupervisorEntry,
        after: SupervisorEntry,
        done: impl FnOnce(TreeChanges) + Send + 'static,
    ) {
        self.0.supervision.edit_tree(before, after, done);
    }
}

fn limit_living(core: &Core, changes: Arc<[Change]>) -> usize {
    if changes.is_empty() {
        return 0;
    }
    let system = core.system.clone();
    let limited = core.survey(usize::MAX, false, move |process: &mut GuestProcess| {
        let Body::Guest(guest) = &process.body else {
            return None;
        };
        let limits = process.limits();
        let change = changes
            .iter()
            .find(|change| *change.module == *guest.version.module && change.before == **limits)?;
        process.set_limits(&system, Arc::new(change.after.clone()));
        Some(())
    });
    limited.len()
}

fn excess_memory(core: &Core, manifest: &Manifest) -> Vec<ExcessMemory> {
    let release = core.code.current();
    let modules = manifest.modules.iter().filter_map(|(name, module)| {
        let initial = release.version(name)?.artifact.memory_bytes();
        let allowed = module.limits.memory;
        (initial > allowed).then(|| ExcessMemory {
            module: name.clone(),
            initial,
            allowed,
        })
    });
    modules.collect()
}

fn changed_limits(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let modules = after.modules.iter();
    modules
        .filter_map(|(name, module)| {
            let then = before.modules.get(name)?;
            (then.limits != module.limits).then(|| Change {
                module: name.clone(),
                before: limits(&then.limits),
                after: limits(&module.limits),
            })
        })
        .collect()
}
