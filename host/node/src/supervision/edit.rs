//! Applies an edit of a supervisor's entry in the manifest to the running tree, as far as that is
//! possible without restarting a process.
//!
//! New children are started, after the existing ones; removed children are stopped and deleted. The
//! specification of all others is replaced, and takes effect at their next start. Children that a
//! process has asked the supervisor to start are not the manifest's, and stay.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_engine::{Guest, GuestProcess, GuestSystem};
use exuvia_manifest::{Child, ChildInstance, Restart, SupervisorEntry, Work};
use exuvia_process::{Context, Envelope, Limits, Payload};
use exuvia_supervisor::{ChildSpec, Event as MachineEvent};
use parking_lot::Mutex;

use super::questions::Restarting;
use super::{Machine, Start, Supervision, SupervisorProcess, spec_of};
use crate::from_manifest::supervisor_spec;

/// An edit for a supervisor.
#[derive(Debug)]
pub(super) struct Edit {
    before: SupervisorEntry,
    after: SupervisorEntry,
    /// What it has changed so far.
    report: Arc<EditReport>,
}

/// Edits that their supervisors have not processed yet.
pub(super) type Edits = Mutex<HashMap<Pid, VecDeque<Edit>>>;

/// What an edit has changed in the supervision tree. Children are named by their ids.
#[derive(Debug, Default)]
pub struct TreeChanges {
    /// The children that were started.
    pub started: Vec<String>,
    /// The children that were stopped.
    pub stopped: Vec<String>,
    /// The children whose specification has changed, which takes effect at their next start.
    pub respecified: Vec<String>,
    /// The running children that got other limits.
    pub limited: Vec<String>,
    /// The number of supervisors whose strategy or intensity has changed.
    pub reconfigured: usize,
    /// What could not be changed, with the reason, a clause each.
    pub failed: Vec<String>,
}

/// Collects what an edit changes. When it is dropped, which the last supervisor that works on the
/// edit does, it passes the result on.
pub(super) struct EditReport(Mutex<Collected>);

struct Collected {
    changes: TreeChanges,
    done: Option<Box<dyn FnOnce(TreeChanges) + Send>>,
}

impl EditReport {
    fn new(done: impl FnOnce(TreeChanges) + Send + 'static) -> Arc<EditReport> {
        Arc::new(EditReport(Mutex::new(Collected {
            changes: TreeChanges::default(),
            done: Some(Box::new(done)),
        })))
    }

    fn note(&self, change: impl FnOnce(&mut TreeChanges)) {
        change(&mut self.0.lock().changes);
    }
}

impl fmt::Debug for EditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().changes.fmt(f)
    }
}

impl Drop for EditReport {
    fn drop(&mut self) {
        let collected = self.0.get_mut();
        if let Some(done) = collected.done.take() {
            done(std::mem::take(&mut collected.changes));
        }
    }
}

/// What a request to the machine was for.
#[derive(Debug)]
pub(super) enum Requested {
    /// A request of a process: its pid, and the reference.
    Asked(Pid, u64),
    /// A step of an edit.
    Edited(Done),
    /// A step of a restart that the host has asked for.
    Restart(Restarting),
}

/// A step of an edit in progress.
#[derive(Debug)]
pub(super) struct Done {
    id: Arc<str>,
    kind: StepKind,
    report: Arc<EditReport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    Stop,
    Forget,
    Start,
}

#[derive(Debug)]
enum Step {
    Stop(Arc<str>),
    Forget(Arc<str>),
    Start(ChildSpec<Start>),
}

/// The steps of edits, executed one after another: the start of a child may depend on what was
/// stopped before.
#[derive(Debug, Default)]
pub(super) struct Editing {
    steps: VecDeque<(Step, Arc<EditReport>)>,
    /// Whether one of them is in progress.
    busy: bool,
}

impl Supervision {
    /// Changes the supervision tree as far as that is possible without restarting a process. Returns
    /// at once; `done` is called when the last supervisor has applied its part, on a scheduler's
    /// thread. A node without a tree changes nothing.
    pub(crate) fn edit_tree(
        &self,
        before: SupervisorEntry,
        after: SupervisorEntry,
        done: impl FnOnce(TreeChanges) + Send + 'static,
    ) {
        let report = EditReport::new(done);
        if let Some(root) = self.root() {
            let edit = Edit {
                before,
                after,
                report,
            };
            self.hand_over(root, edit);
        }
    }

    /// Queues an edit for a supervisor, and wakes it.
    fn hand_over(&self, supervisor: Pid, edit: Edit) {
        self.edits
            .lock()
            .entry(supervisor)
            .or_default()
            .push_back(edit);
        let wake = Envelope::message(Pid::NONE, 0, Payload::empty());
        let Err(error) = self.core.system.send(supervisor, wake) else {
            return;
        };
        // Not under the lock: a report that is dropped calls code of the caller.
        let edits = self.edits.lock().remove(&supervisor);
        for edit in edits.into_iter().flatten() {
            let why = format!("the supervisor {supervisor} could not be notified: {error:?}");
            edit.report.note(|changes| changes.failed.push(why));
        }
    }
}

/// Gives a running child the limits of its entry, if they differ.
fn limit(
    supervision: &Supervision,
    pid: Pid,
    id: &Arc<str>,
    limits: Arc<Limits>,
    report: Arc<EditReport>,
) {
    let id = id.to_string();
    let set = move |process: &mut GuestProcess, system: &GuestSystem| {
        if **process.limits() != *limits {
            process.set_limits(system, limits);
            report.note(|changes| changes.limited.push(id));
        }
    };
    // A child that has exited meanwhile is restarted with them.
    let _ = supervision.core.system.control(pid, set);
}

/// Replaces the specification of a child. The counters of its descendants are kept, with the new
/// limit.
fn respecify(machine: &mut Machine, mut spec: ChildSpec<Start>) -> bool {
    let before = machine.child(&spec.id);
    if let Some(before) = before
        && let Start::Process {
            place: Some(its), ..
        } = &before.spec.start
        && let Start::Process { place, limits, .. } = &mut spec.start
    {
        its.set_bound(limits.descendants);
        *place = Some(its.clone());
    }
    machine.respecify(spec)
}

type Listed<'a> = HashMap<String, (&'a Child, ChildInstance)>;

fn by_id(entry: &SupervisorEntry) -> Listed<'_> {
    entry
        .children
        .iter()
        .flat_map(|child| child.instances().map(move |instance| (child, instance)))
        .map(|(child, instance)| (instance.id.clone(), (child, instance)))
        .collect()
}

/// The difference between two children with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    None,
    /// Only the limits, which are given to the running process.
    Limits,
    /// What it is started with, or how it is restarted or stopped.
    Specification,
    /// The entries below: both are supervisors.
    Below,
    /// One is a process, the other a supervisor.
    Kind,
}

fn difference(
    (before, was): (&Child, &ChildInstance),
    (after, is): (&Child, &ChildInstance),
) -> Difference {
    let ends = (before.restart, before.shutdown) == (after.restart, after.shutdown);
    match (&before.work, &after.work) {
        (Work::Supervisor(one), Work::Supervisor(two)) if one != two => Difference::Below,
        (Work::Supervisor(_), Work::Supervisor(_)) if ends => Difference::None,
        (Work::Process(one), Work::Process(two)) => {
            let same = ends
                && was.name == is.name
                && one.module == two.module
                && one.args == two.args
                && one.manages == two.manages;
            match (same, one.limits == two.limits) {
                (true, true) => Difference::None,
                (true, false) => Difference::Limits,
                (false, _) => Difference::Specification,
            }
        }
        (Work::Supervisor(_), Work::Supervisor(_)) => Difference::Specification,
        _ => Difference::Kind,
    }
}

impl SupervisorProcess {
    /// Continues with edits, as far as possible now. In a loop, since steps may be done at once,
    /// and there may be many.
    pub(super) fn edit_on(&mut self, context: &mut Context<'_, Guest>) {
        while self.machine.is_idle() && !self.editing.busy {
            if let Some((step, report)) = self.editing.steps.pop_front() {
                self.make_step(context, step, report);
                continue;
            }
            // Specifications change only while no child is being started or stopped.
            let Some(supervision) = self.supervision.upgrade() else {
                return;
            };
            let mut edits = supervision.edits.lock();
            let Some(waiting) = edits.get_mut(&self.me) else {
                return;
            };
            let edit = waiting.pop_front();
            if waiting.is_empty() {
                edits.remove(&self.me);
            }
            drop(edits);
            if let Some(edit) = edit {
                self.edit(&supervision, &edit);
            }
        }
    }

    /// Changes what can be changed at once, and queues the steps that take time.
    fn edit(&mut self, supervision: &Supervision, edit: &Edit) {
        let report = &edit.report;
        let mut plan = |step| self.editing.steps.push_back((step, report.clone()));
        let (before, after) = (by_id(&edit.before), by_id(&edit.after));
        let mut below = Vec::new();
        let mut later = Vec::new();
        let known: HashMap<Arc<str>, Option<Pid>> = (self.machine.which_children())
            .map(|child| (child.spec.id.clone(), child.state.pid()))
            .collect();
        for child in &edit.before.children {
            for instance in child.instances() {
                let now = after.get(&instance.id);
                let kind = now.map(|(now, is)| difference((child, &instance), (now, is)));
                if matches!(kind, None | Some(Difference::Kind)) {
                    let id: Arc<str> = instance.id.into();
                    plan(Step::Stop(id.clone()));
                    plan(Step::Forget(id));
                }
            }
        }
        for child in &edit.after.children {
            for instance in child.instances() {
                let then = before.get(&instance.id);
                let kind = then.map(|(then, was)| difference((then, was), (child, &instance)));
                // A child that could not be started is tried again; a temporary one is deleted when
                // it exits.
                let there =
                    known.contains_key(instance.id.as_str()) || child.restart == Restart::Temporary;
                match kind.filter(|_| there) {
                    Some(Difference::None) => {}
                    None | Some(Difference::Kind) => {
                        plan(Step::Start(spec_of(supervision, child, instance)));
                    }
                    Some(Difference::Limits) => {
                        let pid = known.get(instance.id.as_str()).copied().flatten();
                        let spec = spec_of(supervision, child, instance);
                        if let (Some(pid), Start::Process { limits, .. }) = (pid, &spec.start) {
                            limit(supervision, pid, &spec.id, limits.clone(), report.clone());
                        }
                        respecify(&mut self.machine, spec);
                    }
                    Some(Difference::Specification) => {
                        later.push(spec_of(supervision, child, instance));
                    }
                    Some(Difference::Below) => {
                        if let (Some((then, _)), Work::Supervisor(now)) = (then, &child.work)
                            && let Work::Supervisor(then) = &then.work
                        {
                            below.push((instance.id.clone(), then.clone(), now.clone()));
                        }
                        later.push(spec_of(supervision, child, instance));
                    }
                }
            }
        }
        if supervisor_spec(&edit.before) != supervisor_spec(&edit.after) {
            match self.machine.reconfigure(supervisor_spec(&edit.after)) {
                Ok(()) => report.note(|changes| changes.reconfigured += 1),
                Err(error) => report.note(|changes| changes.failed.push(error.to_string())),
            }
        }
        for spec in later {
            let id = spec.id.to_string();
            let inside = below.iter().any(|(other, ..)| *other == id);
            // A temporary child that has exited is not there any more.
            if respecify(&mut self.machine, spec) && !inside {
                report.note(|changes| changes.respecified.push(id));
            }
        }
        for (id, then, now) in below {
            let running = self.machine.which_children().find(|it| *it.spec.id == *id);
            // One that is not running is started from its new entry.
            if let Some(pid) = running.and_then(|child| child.state.pid()) {
                let edit = Edit {
                    before: then,
                    after: now,
                    report: report.clone(),
                };
                supervision.hand_over(pid, edit);
            }
        }
    }

    /// Asks the machine to execute a step.
    fn make_step(&mut self, context: &mut Context<'_, Guest>, step: Step, report: Arc<EditReport>) {
        self.editing.busy = true;
        self.next_request += 1;
        let request = self.next_request;
        let (id, kind, event) = match step {
            Step::Stop(id) => (
                id.clone(),
                StepKind::Stop,
                MachineEvent::TerminateChild { request, id },
            ),
            Step::Forget(id) => (
                id.clone(),
                StepKind::Forget,
                MachineEvent::DeleteChild { request, id },
            ),
            Step::Start(spec) => (
                spec.id.clone(),
                StepKind::Start,
                MachineEvent::StartChild { request, spec },
            ),
        };
        let done = Done { id, kind, report };
        self.requests.insert(request, Requested::Edited(done));
        self.feed(context, event);
    }

    /// Records the result of a step.
    pub(super) fn edited(&mut self, done: &Done, result: Result<(), String>) {
        self.editing.busy = false;
        let id = done.id.to_string();
        done.report.note(|changes| match (done.kind, result) {
            (StepKind::Start, Ok(())) => changes.started.push(id),
            (StepKind::Stop, Ok(())) => changes.stopped.push(id),
            (StepKind::Start, Err(error)) => {
                changes.failed.push(format!("child `{id}`: {error}"));
            }
            // A temporary child is deleted when it exits, and one that has exited is not there.
            (StepKind::Forget, _) | (StepKind::Stop, Err(_)) => {}
        });
    }
}
