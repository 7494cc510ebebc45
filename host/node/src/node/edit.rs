//! What can be changed in a running app when its manifest is edited: limits, the rules of the log,
//! `[config]`, and the supervision tree. Modules come and change with `Node::deploy`. What is said of
//! an edit is the caller's.

use std::sync::Arc;

use exuvia_engine::GuestProcess;
use exuvia_manifest::{AppConfig, LogSettings, Manifest, SupervisorEntry};
use exuvia_process::{Body, Limits};

use crate::from_manifest::{limits, limits_like, log_rules};
use crate::node::Node;
use crate::supervision::{Edit, EditReport, TreeChanges, hand_over};

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
        self.0.config.module_memory
    }

    /// Replaces the rules of the log.
    pub fn set_log(&self, settings: &LogSettings) {
        self.0.logger.set(log_rules(settings));
    }

    /// Replaces what guests read with `config`.
    pub fn set_app_config(&self, config: AppConfig) {
        *self.0.settings.lock() = Arc::new(config);
    }

    /// Replaces the limits of modules and children. A living process whose limits were exactly
    /// those of its module in `before` gets the new ones.
    pub fn set_limits(&self, before: &Manifest, after: &Manifest) -> LimitChanges {
        self.set_module_limits(after);
        {
            let mut children = self.0.children.lock();
            children.clear();
            children.extend_from_slice(after.own_memories());
        }
        let changes: Arc<[Change]> = changed_limits(before, after).into();
        let modules = changes.iter().map(|change| change.module.clone()).collect();
        LimitChanges {
            modules,
            grants: (changes.iter()).any(|change| change.before.grants != change.after.grants),
            living: self.limit_living(changes),
            excess: self.excess_memory(after),
        }
    }

    /// Sets the limits of processes that start from now on.
    pub(crate) fn set_module_limits(&self, manifest: &Manifest) {
        let mut limits = self.0.modules.lock();
        for (name, module) in &manifest.modules {
            limits.insert(name.clone(), limits_like(&module.limits, &self.0.limits));
        }
    }

    fn limit_living(&self, changes: Arc<[Change]>) -> usize {
        if changes.is_empty() {
            return 0;
        }
        let system = self.0.system.clone();
        let limited = self.survey(usize::MAX, false, move |process: &mut GuestProcess| {
            let Body::Guest(guest) = &process.body else {
                return None;
            };
            let limits = process.limits();
            let change = changes.iter().find(|change| {
                *change.module == *guest.version.module && change.before == **limits
            })?;
            process.set_limits(&system, Arc::new(change.after.clone()));
            Some(())
        });
        limited.len()
    }

    fn excess_memory(&self, manifest: &Manifest) -> Vec<ExcessMemory> {
        let release = self.0.code.current();
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
        let report = EditReport::new(done);
        if let Some(root) = self.0.root.get() {
            let edit = Edit {
                before,
                after,
                report,
            };
            hand_over(self, *root, edit);
        }
    }
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
