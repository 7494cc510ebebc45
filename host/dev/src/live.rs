//! Applies edits of the manifest to the running app: limits and children change, modules are added.
//! What cannot change is reported, and takes effect at the next start.

use exuvia_manifest::Manifest;
use exuvia_node::{LimitChanges, Node, TreeChanges};

use crate::event::Event;
use crate::text::listed;

/// The running app, for edits of its manifest.
#[derive(Debug)]
pub(crate) struct Live(Node);

/// A half-applied edit: modules that came with it are not loaded yet, and children may need them.
#[derive(Debug)]
pub(crate) struct Begun {
    before: Manifest,
    result: EditResult,
}

/// What came of an edit, as [`Event::Manifest`] says it: a clause for each part of the manifest.
#[derive(Debug, Default)]
struct EditResult {
    applied: Vec<String>,
    failed: Vec<String>,
    restart: Vec<String>,
}

impl Live {
    pub(crate) fn new(node: Node) -> Live {
        Live(node)
    }

    /// Applies the limits, which must hold when a module is loaded, and notes what cannot be
    /// applied.
    pub(crate) fn begin(&self, before: Manifest, after: &mut Manifest) -> Begun {
        let Live(node) = self;
        let mut result = EditResult::default();
        let most = node.module_memory();
        if after.at_most_memory(most) {
            result.restart.push(format!(
                "`limits.memory` above {most} bytes, the limit that the app was started with"
            ));
        }
        result.restart.extend(fixed(&before, after));
        result.limits(&node.set_limits(&before, after));
        if before.log != after.log {
            node.set_log(&after.log);
            result.applied.push("levels and rate of the log".into());
        }
        if before.config != after.config {
            node.set_app_config(after.config.clone());
            (result.applied).push("`[config]`, for later reads".into());
        }
        Begun { before, result }
    }

    /// Applies the rest, after modules were loaded. An event reports it when the children have
    /// started.
    pub(crate) fn finish(&self, begun: Begun, after: &Manifest) {
        let Live(node) = self;
        let Begun { before, mut result } = begun;
        if before.listen != after.listen {
            match node.listen(&after.listen) {
                Ok(()) => result
                    .applied
                    .push("`[[listen]]`, for requests from now on".into()),
                Err(error) => result.failed.push(format!("`[[listen]]`: {error}")),
            }
        }
        let events = node.event_source().clone();
        if before.supervisor == after.supervisor {
            events.publish(result.event());
            return;
        }
        let done = move |changes| {
            result.tree(changes);
            events.publish(result.event());
        };
        node.edit_tree(before.supervisor, after.supervisor.clone(), done);
    }

    /// Starts children of the manifest that could not be started before.
    pub(crate) fn start_missing(&self, manifest: &Manifest) {
        let Live(node) = self;
        let events = node.event_source().clone();
        let done = move |changes| {
            let mut result = EditResult::default();
            result.tree(changes);
            if !result.is_empty() {
                events.publish(result.event());
            }
        };
        let tree = manifest.supervisor.clone();
        node.edit_tree(tree.clone(), tree, done);
    }
}

impl EditResult {
    fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.failed.is_empty() && self.restart.is_empty()
    }

    fn event(self) -> Event {
        Event::Manifest {
            applied: self.applied,
            failed: self.failed,
            restart: self.restart,
        }
    }

    fn limits(&mut self, changes: &LimitChanges) {
        for excess in &changes.excess {
            self.failed.push(format!(
                "processes of {} start with {} bytes of memory, and their limit is {}: none can start",
                excess.module, excess.initial, excess.allowed
            ));
        }
        if changes.modules.is_empty() {
            return;
        }
        let whose = match changes.living {
            0 => "for new processes".to_owned(),
            1 => "for 1 live process and new ones".to_owned(),
            living => format!("for {living} live processes and new ones"),
        };
        let what = match changes.grants {
            true => "limits and `wasi`",
            false => "limits",
        };
        let but = match changes.grants && changes.living > 0 {
            true => {
                "; a process that has already used its `wasi` grants keeps them until it is restarted"
            }
            false => "",
        };
        let modules = listed(&changes.modules);
        self.applied
            .push(format!("{what} of {modules} apply {whose}{but}"));
    }

    fn tree(&mut self, changes: TreeChanges) {
        for _ in 0..changes.reconfigured {
            (self.applied).push("strategy and intensity of a supervisor".into());
        }
        for (what, ids) in [
            ("started", &changes.started),
            ("stopped", &changes.stopped),
            ("changed from their next start", &changes.respecified),
            ("with other limits", &changes.limited),
        ] {
            if !ids.is_empty() {
                (self.applied).push(format!("children {what}: {}", listed(ids)));
            }
        }
        self.failed.extend(changes.failed);
    }
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
        ("verify", one.verify != two.verify),
        (
            "release_threshold",
            one.release_threshold != two.release_threshold,
        ),
        ("drain_per_s", one.drain_per_s != two.drain_per_s),
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
        clauses.push(format!("the removal of {}", listed(&gone)));
    }
    clauses
}
