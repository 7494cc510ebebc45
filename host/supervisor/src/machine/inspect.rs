//! Inspects a supervisor: its children and their number. These functions return at
//! once, also while the supervisor is busy.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use super::{Plan, Supervisor};
use crate::children::ChildState;
use crate::spec::{ChildKey, ChildSpec, Strategy};

/// The public view of one child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInfo<P, S> {
    /// Its spec.
    pub spec: Arc<ChildSpec<S>>,
    /// Its state.
    pub state: ChildState<P>,
}

/// Numbers of children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCount {
    /// All children, running or not.
    pub specs: usize,
    /// Children with a live process.
    pub active: usize,
    /// Children that are supervisors, running or not.
    pub supervisors: usize,
    /// Children that are workers, running or not.
    pub workers: usize,
}

impl<P, S, R> Supervisor<P, S, R>
where
    P: Copy + Eq + Hash + Debug,
{
    /// Returns all children in the order in which they were added.
    pub fn which_children(&self) -> impl Iterator<Item = ChildInfo<P, S>> {
        self.children.iter().map(|(spec, state)| ChildInfo {
            spec: Arc::clone(spec),
            state,
        })
    }

    /// Returns the numbers of children. O(1).
    pub fn count_children(&self) -> ChildCount {
        let specs = self.children.len();
        let supervisors = self.children.supervisors();
        ChildCount {
            specs,
            active: self.children.live(),
            supervisors,
            workers: specs - supervisors,
        }
    }

    /// Returns the child with this id.
    pub fn child(&self, id: &str) -> Option<ChildInfo<P, S>> {
        self.info(self.children.with_id(id)?)
    }

    /// Returns the child with this live process.
    pub fn child_with_pid(&self, pid: P) -> Option<ChildInfo<P, S>> {
        self.info(self.children.with_pid(pid)?)
    }

    /// Returns the child with this key.
    pub fn child_with_key(&self, key: ChildKey) -> Option<ChildInfo<P, S>> {
        self.info(key)
    }

    /// Returns the restart strategy.
    pub fn strategy(&self) -> Strategy {
        self.spec.strategy
    }

    /// Returns whether the start in progress is a restart. A restart that fails is tried
    /// again, as often as the intensity allows.
    pub fn is_restarting(&self) -> bool {
        matches!(self.plan, Some(Plan::RestartOne | Plan::GroupStart { .. }))
    }

    fn info(&self, key: ChildKey) -> Option<ChildInfo<P, S>> {
        Some(ChildInfo {
            spec: Arc::clone(self.children.spec(key)?),
            state: self.children.state(key)?,
        })
    }
}
