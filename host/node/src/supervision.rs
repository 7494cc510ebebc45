//! The supervision of an app: its supervisors, which are processes, what the host asks of them, and
//! what is known of the start of the tree.
//!
//! Supervisors and the engine hold a weak reference to it: it ends with the node.

mod boot_progress;
mod children;
mod edit;
mod process;
mod protocol;
mod questions;
mod readiness;
mod requests;
mod rights;
mod services;
mod spec;

use std::sync::{Arc, OnceLock};

use exuvia_abi::Pid;

use crate::core::Core;
use boot_progress::BootProgress;
use edit::Edits;
use process::{Machine, SupervisorProcess, make};
use questions::Questions;
use rights::Operators;
use spec::{Start, lasting_place, spec_of};

pub use edit::TreeChanges;
pub(crate) use questions::Question;
pub(crate) use rights::{Managers, Operator};
pub(crate) use services::GuestServices;
pub(crate) use spec::from_entry;

/// The supervisors of a node.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) core: Arc<Core>,
    /// The children that the boot waits for.
    pub(crate) boot: BootProgress,
    /// The supervisor at the root of the app, once it is up.
    root: OnceLock<Pid>,
    questions: Questions,
    edits: Edits,
    /// The processes that make requests for callers outside the node: they may ask supervisors too.
    operators: Operators,
}

impl Supervision {
    pub(crate) fn new(core: Arc<Core>) -> Supervision {
        Supervision {
            core,
            boot: BootProgress::default(),
            root: OnceLock::new(),
            questions: Questions::default(),
            edits: Edits::default(),
            operators: Operators::default(),
        }
    }

    /// Returns the supervisor at the root of the app, once it is up.
    pub(crate) fn root(&self) -> Option<Pid> {
        self.root.get().copied()
    }

    /// Notes that the app is up: it waits for no child any more.
    pub(crate) fn is_up(&self, root: Pid) {
        self.boot.finish();
        self.root.get_or_init(|| root);
    }

    /// Returns whether a process is a supervisor of the host.
    pub(crate) fn is_supervisor(&self, pid: Pid) -> bool {
        self.questions.lock().contains_key(&pid)
    }

    /// Returns all supervisors that run.
    pub(crate) fn supervisors(&self) -> Vec<Pid> {
        self.questions.lock().keys().copied().collect()
    }

    /// Registers a process as one that makes requests for callers outside the node, until the result
    /// is dropped.
    pub(crate) fn operator(&self) -> Operator {
        Operator::new(&self.operators)
    }
}
