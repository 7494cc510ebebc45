//! Edits of the manifest, in the app that runs: limits and children change,
//! modules come. What cannot change is named, and holds from the next start on.

use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_engine::GuestOwn;
use exuvia_process::{Body, Limits};

use crate::manifest::{Manifest, SupervisorEntry, Work};
use crate::node::Node;
use crate::supervisor::{Edit, EditReport, hand_over};
use crate::swap::listed;

/// The app that runs, for edits of its manifest.
#[derive(Debug)]
pub(crate) struct Live {
    node: Node,
    /// The supervisor at the root of the tree.
    root: Pid,
}

/// An edit that is half made: modules that came with it are not loaded yet, and
/// children may want them.
#[derive(Debug)]
pub(crate) struct Begun {
    before: Manifest,
    report: Arc<EditReport>,
}

impl Live {
    pub(crate) fn new(node: Node, root: Pid) -> Live {
        Live { node, root }
    }

    /// Applies limits, which hold when a module is loaded, and notes what cannot
    /// be applied.
    pub(crate) fn begin(&self, before: Manifest, after: &Manifest) -> Begun {
        let report = Arc::new(EditReport::new(self.node.0.events.clone()));
        for clause in fixed(&before, after) {
            report.restart(clause);
        }
        self.limits(&before, after, &report);
        Begun { before, report }
    }

    /// Applies the rest, when modules have been loaded. An event tells of it when
    /// the children have started.
    pub(crate) fn finish(&self, begun: Begun, after: &Manifest) {
        let Begun { before, report } = begun;
        if before.supervisor != after.supervisor {
            let edit = Edit {
                before: before.supervisor,
                after: after.supervisor.clone(),
                report,
            };
            hand_over(&self.node, self.root, edit);
        }
    }

    fn limits(&self, before: &Manifest, after: &Manifest, report: &EditReport) {
        let inner = &self.node.0;
        // The engine was set up for so much, and no more.
        let most = inner.config.module_memory;
        let most_now = after.most_memory();
        if most_now > most {
            report.restart(format!(
                "`limits.memory` above {most} bytes, the most that the app was started with"
            ));
        }
        let allowed = |limits: Limits| Limits {
            memory: limits.memory.min(most),
            ..limits
        };
        {
            let mut modules = inner.modules.lock();
            for (name, module) in &after.modules {
                modules.insert(name.clone(), Arc::new(allowed(module.limits.into())));
            }
            let mut children = inner.children.lock();
            children.clear();
            children.extend_from_slice(after.own_memories());
        }
        let changes = changed_limits(before, after);
        if changes.is_empty() {
            return;
        }
        let mut names: Vec<String> = changes.iter().map(|it| it.module.clone()).collect();
        names.sort();
        names.dedup();
        let changes: Vec<Change> = changes
            .into_iter()
            .map(|change| Change {
                after: allowed(change.after),
                ..change
            })
            .collect();
        // Whoever had exactly what the manifest gave has it from the manifest.
        let system = inner.system.clone();
        let changes: Arc<[Change]> = changes.into();
        let changed = self
            .node
            .survey(usize::MAX, false, move |own: &mut GuestOwn| {
                let Body::Guest(guest) = &own.body else {
                    return None;
                };
                let limits = own.limits();
                let change = changes.iter().find(|change| {
                    *change.module == *guest.tenancy.module && change.before == **limits
                })?;
                own.set_limits(&system, Arc::new(change.after));
                Some(())
            });
        let living = match changed.len() {
            0 => "for processes to come".to_owned(),
            1 => "for 1 living process, and those to come".to_owned(),
            living => format!("for {living} living processes, and those to come"),
        };
        report.applied(format!("limits of {} {living}", listed(&names)));
    }
}

/// Limits that a manifest gave to processes of a module, and gives now.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    module: String,
    before: Limits,
    after: Limits,
}

fn changed_limits(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |module: &str, before: Limits, after: Limits| {
        let change = Change {
            module: module.to_owned(),
            before,
            after,
        };
        if change.before != change.after && !changes.contains(&change) {
            changes.push(change);
        }
    };
    for (name, module) in &after.modules {
        if let Some(then) = before.modules.get(name) {
            add(name, then.limits.into(), module.limits.into());
        }
    }
    children(&before.supervisor, &after.supervisor, &mut add);
    changes
}

/// The limits of children that have some of their own.
fn children(
    before: &SupervisorEntry,
    after: &SupervisorEntry,
    add: &mut impl FnMut(&str, Limits, Limits),
) {
    for child in &after.children {
        let Some(then) = before.children.iter().find(|then| then.id == child.id) else {
            continue;
        };
        match (&then.work, &child.work) {
            (Work::Process(then), Work::Process(now)) if then.module == now.module => {
                add(&now.module, then.limits.into(), now.limits.into());
            }
            (Work::Supervisor(then), Work::Supervisor(now)) => children(then, now, add),
            _ => {}
        }
    }
}

/// What an app that runs keeps until it is started again.
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
