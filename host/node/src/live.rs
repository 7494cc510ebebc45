//! Applies edits of the manifest to the running app: limits and children change, modules are added.
//! What cannot change is reported, and takes effect at the next start.

use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_engine::GuestProcess;
use exuvia_process::{Body, Limits};

use crate::manifest::Manifest;
use crate::node::Node;
use crate::supervisor::{Edit, EditReport, hand_over};
use crate::swap::listed;

/// The running app, for edits of its manifest.
#[derive(Debug)]
pub(crate) struct Live {
    node: Node,
    /// The supervisor at the root of the tree.
    root: Pid,
}

/// A half-applied edit: modules that came with it are not loaded yet, and children may need them.
#[derive(Debug)]
pub(crate) struct Begun {
    before: Manifest,
    report: Arc<EditReport>,
}

impl Live {
    pub(crate) fn new(node: Node, root: Pid) -> Live {
        Live { node, root }
    }

    /// Applies the limits, which must hold when a module is loaded, and notes what cannot be
    /// applied.
    pub(crate) fn begin(&self, before: Manifest, after: &mut Manifest) -> Begun {
        let report = Arc::new(EditReport::new(self.node.0.events.clone()));
        // The engine was set up for this maximum.
        let most = self.node.0.config.module_memory;
        if after.at_most_memory(most) {
            report.restart(format!(
                "`limits.memory` above {most} bytes, the most that the app was started with"
            ));
        }
        for clause in fixed(&before, after) {
            report.restart(clause);
        }
        self.limits(&before, after, &report);
        if before.log != after.log {
            self.node.0.logger.set(after.log.clone());
            report.applied("levels and rate of the log".into());
        }
        if before.config != after.config {
            *self.node.0.settings.lock() = Arc::new(after.config.clone());
            report.applied("`[config]`, for whoever asks from now on".into());
        }
        Begun { before, report }
    }

    /// Applies the rest, after modules were loaded. An event reports it when the children have
    /// started.
    pub(crate) fn finish(&self, begun: Begun, after: &Manifest) {
        let Begun { before, report } = begun;
        if before.supervisor == after.supervisor {
            return;
        }
        let edit = Edit {
            before: before.supervisor,
            after: after.supervisor.clone(),
            report,
        };
        hand_over(&self.node, self.root, edit);
    }

    /// Starts children of the manifest that could not be started before.
    pub(crate) fn start_missing(&self, manifest: &Manifest) {
        let edit = Edit {
            before: manifest.supervisor.clone(),
            after: manifest.supervisor.clone(),
            report: Arc::new(EditReport::quiet(self.node.0.events.clone())),
        };
        hand_over(&self.node, self.root, edit);
    }

    fn limits(&self, before: &Manifest, after: &Manifest, report: &EditReport) {
        let inner = &self.node.0;
        {
            let mut modules = inner.modules.lock();
            for (name, module) in &after.modules {
                modules.insert(name.clone(), Arc::new(module.limits.clone().into()));
            }
            let mut children = inner.children.lock();
            children.clear();
            children.extend_from_slice(after.own_memories());
        }
        let release = inner.code.current();
        for (name, module) in &after.modules {
            let begins = release.version(name).map(|it| it.artifact.memory_bytes());
            if let Some(begins) = begins.filter(|begins| *begins > module.limits.memory) {
                report.failed(format!(
                    "processes of {name} begin with {begins} bytes of memory and may have {}: none can start",
                    module.limits.memory
                ));
            }
        }
        let changes = changed_limits(before, after);
        if changes.is_empty() {
            return;
        }
        let names: Vec<String> = changes.iter().map(|it| it.module.clone()).collect();
        // A process whose limits were exactly those of the manifest gets the new ones.
        let system = inner.system.clone();
        let changes: Arc<[Change]> = changes.into();
        let changed = self
            .node
            .survey(usize::MAX, false, move |process: &mut GuestProcess| {
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
        let living = match changed.len() {
            0 => "for processes to come".to_owned(),
            1 => "for 1 living process, and those to come".to_owned(),
            living => format!("for {living} living processes, and those to come"),
        };
        let granted = changes_of_grants(before, after);
        let what = if granted {
            "limits and `wasi`"
        } else {
            "limits"
        };
        let but = match granted && !changed.is_empty() {
            true => {
                "; who has used what `wasi` gave it before keeps that until it is started again"
            }
            false => "",
        };
        report.applied(format!("{what} of {} hold {living}{but}", listed(&names)));
    }
}

/// The limits of a module's processes before and after an edit.
#[derive(Debug)]
struct Change {
    module: String,
    before: Limits,
    after: Limits,
}

fn changes_of_grants(before: &Manifest, after: &Manifest) -> bool {
    after.modules.iter().any(|(name, module)| {
        (before.modules.get(name)).is_some_and(|then| then.limits.grants != module.limits.grants)
    })
}

fn changed_limits(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let modules = after.modules.iter();
    modules
        .filter_map(|(name, module)| {
            let then = before.modules.get(name)?;
            (then.limits != module.limits).then(|| Change {
                module: name.clone(),
                before: then.limits.clone().into(),
                after: module.limits.clone().into(),
            })
        })
        .collect()
}

/// Returns what a running app keeps until it is started again.
fn fixed(before: &Manifest, after: &Manifest) -> Vec<String> {
    let mut clauses = Vec::new();
    if before.name != after.name {
        clauses.push("the app's name".to_owned());
    }
    let (one, two) = (&before.node, &after.node);
    let keys: Vec<&str> = [
        ("schedulers", one.schedulers != two.schedulers),
        ("frames", one.frames != two.frames),
        ("frame_memory", one.frame_memory != two.frame_memory),
        ("normal_share", one.normal_share != two.normal_share),
        ("processes", one.processes != two.processes),
        ("probation", one.probation != two.probation),
        ("verify_ms", one.verify != two.verify),
        (
            "release_threshold",
            one.release_threshold != two.release_threshold,
        ),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    if !keys.is_empty() {
        clauses.push(format!("`{}` of `[node]`", keys.join("`, `")));
    }
    let gone: Vec<String> = before
        .modules
        .keys()
        .filter(|name| !after.modules.contains_key(*name))
        .cloned()
        .collect();
    if !gone.is_empty() {
        clauses.push(format!("that {} is gone", listed(&gone)));
    }
    clauses
}
