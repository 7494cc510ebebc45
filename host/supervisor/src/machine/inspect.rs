//! Looking at a supervisor: its children and how many there are. Answers come
//! at once, also while it is busy.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use super::{Plan, Supervisor};
use crate::children::ChildState;
use crate::spec::{ChildKey, ChildSpec, Strategy};

/// One child as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInfo<P, S> {
    /// Its spec.
    pub spec: Arc<ChildSpec<S>>,
    /// Where it stands.
    pub state: ChildState<P>,
}

/// How many children there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCount {
    /// All that are known, running or not.
    pub specs: usize,
    /// Those with a living process.
    pub active: usize,
    /// Those that are supervisors, running or not.
    pub supervisors: usize,
    /// Those that are workers, running or not.
    pub workers: usize,
}

impl<P, S, R> Supervisor<P, S, R>
where
    P: Copy + Eq + Hash + Debug,
{
    /// All children in the order in which they were added.
    pub fn which_children(&self) -> impl Iterator<Item = ChildInfo<P, S>> {
        self.children.iter().map(|(spec, state)| ChildInfo {
            spec: Arc::clone(spec),
            state,
        })
    }

    /// How many children there are. O(1).
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

    /// The child with this id.
    pub fn child(&self, id: &str) -> Option<ChildInfo<P, S>> {
        self.info(self.children.with_id(id)?)
    }

    /// The child whose living process this is.
    pub fn child_with_pid(&self, pid: P) -> Option<ChildInfo<P, S>> {
        self.info(self.children.with_pid(pid)?)
    }

    /// The child with this key.
    pub fn child_with_key(&self, key: ChildKey) -> Option<ChildInfo<P, S>> {
        self.info(key)
    }

    /// What happens to the others when a child ends.
    pub fn strategy(&self) -> Strategy {
        self.spec.strategy
    }

    /// Whether the start that is under way is a restart: one that fails is tried
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
