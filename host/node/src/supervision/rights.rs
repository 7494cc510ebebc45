//! Which processes may have a supervisor start and stop children: the guest that started it,
//! operators of the node, and children with `manages` in the manifest. A child may have more rights
//! than the process that asks for it, so asking is a right of its own.

use std::collections::HashSet;
use std::sync::Arc;

use exuvia_abi::Pid;
use parking_lot::Mutex;

use super::SupervisorProcess;

/// The children that may ask their supervisor, and the supervisors below it.
#[derive(Debug, Default)]
pub(crate) struct Managers {
    pids: Mutex<HashSet<Pid>>,
    /// Those of the supervisor above.
    above: Option<Arc<Managers>>,
}

impl Managers {
    /// Returns an empty set for a supervisor below another one.
    pub(super) fn below(above: &Arc<Managers>) -> Arc<Managers> {
        Arc::new(Managers {
            pids: Mutex::default(),
            above: Some(above.clone()),
        })
    }

    /// Returns whether a process may ask. Recurses as deep as supervisors are nested in the
    /// manifest.
    pub(super) fn have(&self, pid: Pid) -> bool {
        self.pids.lock().contains(&pid) || self.above.as_ref().is_some_and(|above| above.have(pid))
    }

    pub(super) fn add(&self, pid: Pid) {
        self.pids.lock().insert(pid);
    }

    /// Removes a process that has exited.
    pub(super) fn remove(&self, pid: Pid) {
        self.pids.lock().remove(&pid);
    }
}

/// The pids that stand for callers outside the node.
pub(super) type Operators = Arc<Mutex<HashSet<Pid>>>;

/// The entry of one process in [`Operators`], from when it first runs until it ends.
pub(crate) struct Operator {
    all: Operators,
    pid: Pid,
}

impl Operator {
    pub(super) fn new(all: &Operators) -> Operator {
        Operator {
            all: all.clone(),
            pid: Pid::NONE,
        }
    }

    /// Notes the pid of the process.
    pub(crate) fn is(&mut self, pid: Pid) {
        self.pid = pid;
        self.all.lock().insert(pid);
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pid);
    }
}

impl SupervisorProcess {
    /// Returns whether a process may have it start and stop children.
    pub(super) fn may_be_asked_by(&self, asker: Pid) -> bool {
        let starter = self.child_limits.is_some() && asker == self.parent;
        let operator = || {
            let supervision = self.supervision.upgrade();
            supervision.is_some_and(|it| it.operators.lock().contains(&asker))
        };
        starter || self.managers.have(asker) || operator()
    }
}

/// The text of the error for any other process.
pub(super) const REFUSED: &str = "denied: only the process that started a supervisor, or a child with `manages = true` in the manifest, of it or of a supervisor above it, can have it start or stop children";
