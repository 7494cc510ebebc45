//! The children of a supervisor in the manifest: what is needed to start each of them.

use std::sync::{Arc, OnceLock};

use exuvia_abi::limits;
use exuvia_engine::{Guest, GuestProcess, GuestSystem};
use exuvia_manifest::{Child, ChildInstance, SupervisorEntry, Work};
use exuvia_process::{Charge, Children, Descent, Limits, Native, Payload};
use exuvia_supervisor::{ChildKind, ChildSpec};

use super::{Managers, Supervision, make};
use crate::from_manifest::{self, limits_like, supervisor_spec};

/// What is needed to start a child.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// A process of a module.
    Process {
        module: Arc<str>,
        name: Option<Arc<str>>,
        arguments: Arc<Arguments>,
        limits: Arc<Limits>,
        /// Whether it may ask this supervisor to start and stop children.
        manages: bool,
        /// The counters of its descendants, if these are limited: kept over restarts.
        place: Option<Arc<Children>>,
    },
    /// A supervisor below this one.
    Supervisor(Arc<SupervisorEntry>),
}

/// The arguments of a child. The supervisor is charged for long ones from the first start of the
/// child on, as long as it has the specification.
#[derive(Debug)]
pub(super) struct Arguments {
    payload: Payload,
    charge: OnceLock<Charge>,
}

impl From<Payload> for Arguments {
    fn from(payload: Payload) -> Arguments {
        Arguments {
            payload,
            charge: OnceLock::new(),
        }
    }
}

impl Arguments {
    /// Returns the arguments for a start by `supervisor`; `None`: they are more than it may have.
    pub(super) fn charged(
        &self,
        supervisor: &mut GuestProcess,
        system: &GuestSystem,
    ) -> Option<Payload> {
        let bytes = self.payload.len();
        if bytes > limits::ARGUMENTS_FREE as usize && self.charge.get().is_none() {
            let charge = supervisor.charge_arguments(system, bytes as u64)?;
            // Only the supervisor's runner does this: it is not set concurrently.
            let _ = self.charge.set(charge);
        }
        Some(self.payload.clone())
    }
}

/// Makes the process of a supervisor in the manifest. `above` are the processes that may ask the
/// supervisor above it.
pub(crate) fn from_entry(
    supervision: &Arc<Supervision>,
    entry: &SupervisorEntry,
    limits: &Arc<Limits>,
    above: &Arc<Managers>,
) -> Result<Box<dyn Native<Guest>>, String> {
    let children = specs(supervision, entry).collect();
    let managers = Managers::below(above);
    make(
        supervision,
        supervisor_spec(entry),
        children,
        limits,
        None,
        managers,
    )
}

/// Returns the children of an entry. The manifest may give a child more than its siblings have.
fn specs(
    supervision: &Supervision,
    entry: &SupervisorEntry,
) -> impl Iterator<Item = ChildSpec<Start>> {
    entry.children.iter().flat_map(move |child| {
        child
            .instances()
            .map(move |instance| spec_of(supervision, child, instance))
    })
}

pub(super) fn spec_of(
    supervision: &Supervision,
    child: &Child,
    instance: ChildInstance,
) -> ChildSpec<Start> {
    let (start, kind) = match &child.work {
        Work::Process(process) => {
            let module = supervision.core.limits.of(&process.module);
            let limits = limits_like(&process.limits, &module);
            (
                Start::Process {
                    module: process.module.as_str().into(),
                    name: instance.name.as_deref().map(Into::into),
                    arguments: Arc::new(Payload::new(&process.args).into()),
                    manages: process.manages,
                    place: lasting_place(&limits),
                    limits,
                },
                ChildKind::Worker,
            )
        }
        Work::Supervisor(entry) => (
            Start::Supervisor(Arc::new(entry.clone())),
            ChildKind::Supervisor,
        ),
    };
    ChildSpec {
        id: instance.id.into(),
        start,
        restart: from_manifest::restart(child.restart),
        shutdown: from_manifest::shutdown(child.shutdown),
        kind,
    }
}

/// Returns the counters that a child of the node keeps over restarts, so that processes it has
/// started still count after a restart. `None`: its descendants are not limited.
pub(super) fn lasting_place(limits: &Limits) -> Option<Arc<Children>> {
    Descent::lasting(limits.descendants).map(Children::lasting)
}
