//! The children of one supervisor, in the order in which they were added.
//!
//! A hash map of nodes that form a linked list, with two indexes, by id and by
//! pid. All operations are O(1), so a supervisor with a hundred thousand children
//! handles an exit as fast as one with ten. A process is in the pid index
//! exactly while its exit has not been reported.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::spec::{ChildKey, ChildKind, ChildSpec};

/// The state of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChildState<P> {
    /// Not running, and nothing is planned.
    Down,
    /// Being started.
    Starting,
    /// Running.
    Running(P),
    /// Asked to stop.
    Stopping(P),
    /// Ended; the supervisor has not handled the exit yet.
    Exited(P),
    /// Its last restart failed; the next attempt is due.
    Restarting,
}

impl<P: Copy> ChildState<P> {
    /// Returns the process while it is alive.
    pub fn pid(&self) -> Option<P> {
        match *self {
            Self::Running(pid) | Self::Stopping(pid) => Some(pid),
            Self::Down | Self::Starting | Self::Exited(_) | Self::Restarting => None,
        }
    }
}

#[derive(Debug)]
struct Node<P, S> {
    spec: Arc<ChildSpec<S>>,
    state: ChildState<P>,
    prev: Option<ChildKey>,
    next: Option<ChildKey>,
}

#[derive(Debug)]
pub(crate) struct Children<P, S> {
    nodes: HashMap<ChildKey, Node<P, S>>,
    by_id: HashMap<Arc<str>, ChildKey>,
    by_pid: HashMap<P, ChildKey>,
    head: Option<ChildKey>,
    tail: Option<ChildKey>,
    next_key: u64,
    supervisors: usize,
}

impl<P: Copy + Eq + Hash, S> Children<P, S> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: HashMap::new(),
            by_id: HashMap::new(),
            by_pid: HashMap::new(),
            head: None,
            tail: None,
            next_key: 0,
            supervisors: 0,
        }
    }

    /// Adds a child at the end, not running, and returns its key. The id must be free.
    pub(crate) fn add(&mut self, spec: ChildSpec<S>) -> ChildKey {
        let key = ChildKey(self.next_key);
        self.next_key += 1;
        self.by_id.insert(Arc::clone(&spec.id), key);
        self.supervisors += usize::from(spec.kind == ChildKind::Supervisor);
        let prev = self.tail.replace(key);
        match prev.and_then(|prev| self.nodes.get_mut(&prev)) {
            Some(node) => node.next = Some(key),
            None => self.head = Some(key),
        }
        self.nodes.insert(
            key,
            Node {
                spec: Arc::new(spec),
                state: ChildState::Down,
                prev,
                next: None,
            },
        );
        key
    }

    /// Replaces the spec of the child with the same id. Returns whether there is one.
    pub(crate) fn respecify(&mut self, spec: ChildSpec<S>) -> bool {
        let Some(node) = self
            .by_id
            .get(&spec.id)
            .and_then(|key| self.nodes.get_mut(key))
        else {
            return false;
        };
        self.supervisors -= usize::from(node.spec.kind == ChildKind::Supervisor);
        self.supervisors += usize::from(spec.kind == ChildKind::Supervisor);
        node.spec = Arc::new(spec);
        true
    }

    pub(crate) fn remove(&mut self, key: ChildKey) {
        let Some(node) = self.nodes.remove(&key) else {
            return;
        };
        self.by_id.remove(&node.spec.id);
        if let Some(pid) = node.state.pid() {
            self.by_pid.remove(&pid);
        }
        self.supervisors -= usize::from(node.spec.kind == ChildKind::Supervisor);
        match node.prev.and_then(|prev| self.nodes.get_mut(&prev)) {
            Some(prev) => prev.next = node.next,
            None => self.head = node.next,
        }
        match node.next.and_then(|next| self.nodes.get_mut(&next)) {
            Some(next) => next.prev = node.prev,
            None => self.tail = node.prev,
        }
    }

    /// Sets the state of a child and updates the pid index.
    pub(crate) fn set(&mut self, key: ChildKey, state: ChildState<P>) {
        let Some(node) = self.nodes.get_mut(&key) else {
            return;
        };
        if let Some(old) = node.state.pid() {
            self.by_pid.remove(&old);
        }
        if let Some(new) = state.pid() {
            self.by_pid.insert(new, key);
        }
        node.state = state;
    }

    pub(crate) fn state(&self, key: ChildKey) -> Option<ChildState<P>> {
        self.nodes.get(&key).map(|node| node.state)
    }

    pub(crate) fn spec(&self, key: ChildKey) -> Option<&Arc<ChildSpec<S>>> {
        self.nodes.get(&key).map(|node| &node.spec)
    }

    pub(crate) fn with_id(&self, id: &str) -> Option<ChildKey> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn with_pid(&self, pid: P) -> Option<ChildKey> {
        self.by_pid.get(&pid).copied()
    }

    pub(crate) fn head(&self) -> Option<ChildKey> {
        self.head
    }

    pub(crate) fn tail(&self) -> Option<ChildKey> {
        self.tail
    }

    pub(crate) fn next(&self, key: ChildKey) -> Option<ChildKey> {
        self.nodes.get(&key).and_then(|node| node.next)
    }

    pub(crate) fn prev(&self, key: ChildKey) -> Option<ChildKey> {
        self.nodes.get(&key).and_then(|node| node.prev)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn live(&self) -> usize {
        self.by_pid.len()
    }

    pub(crate) fn supervisors(&self) -> usize {
        self.supervisors
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<ChildSpec<S>>, ChildState<P>)> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let node = self.nodes.get(&at?)?;
            at = node.next;
            Some((&node.spec, node.state))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ChildState, Children};
    use crate::spec::ChildSpec;

    fn ids(children: &Children<u32, ()>) -> Vec<&str> {
        children.iter().map(|(spec, _)| &*spec.id).collect()
    }

    #[test]
    fn order_survives_removal_anywhere() {
        let mut children = Children::new();
        let keys: Vec<_> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .map(|id| children.add(ChildSpec::worker(id, ())))
            .collect();
        for (removed, left) in [
            (keys[2], vec!["a", "b", "d", "e"]),
            (keys[0], vec!["b", "d", "e"]),
            (keys[4], vec!["b", "d"]),
        ] {
            children.remove(removed);
            assert_eq!(ids(&children), left);
        }
        assert_eq!(children.next(keys[1]), Some(keys[3]));
        assert_eq!(children.prev(keys[3]), Some(keys[1]));
        children.remove(keys[1]);
        children.remove(keys[3]);
        assert_eq!((children.head(), children.tail()), (None, None));
        let again = children.add(ChildSpec::worker("a", ()));
        assert!(again > keys[4], "keys are not used twice");
        assert_eq!(
            (children.head(), children.tail()),
            (Some(again), Some(again))
        );
    }

    #[test]
    fn the_pid_index_holds_the_running_children() {
        let mut children: Children<u32, ()> = Children::new();
        let key = children.add(ChildSpec::worker("a", ()));
        children.set(key, ChildState::Running(7));
        assert_eq!(children.with_pid(7), Some(key));
        children.set(key, ChildState::Stopping(7));
        assert_eq!(children.live(), 1);
        children.set(key, ChildState::Exited(7));
        assert_eq!((children.with_pid(7), children.live()), (None, 0));
        children.set(key, ChildState::Running(8));
        children.remove(key);
        assert_eq!((children.with_pid(8), children.live()), (None, 0));
    }
}
