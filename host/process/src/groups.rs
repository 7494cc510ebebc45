//! Process groups (OTP: `pg`). A group is there while it has members; whoever
//! has ended is in none. Unlike in `pg` a process is in a group once, however
//! often it has joined.

use std::collections::HashMap;
use std::sync::Arc;

use exuvia_abi::{Pid, limits};
use foldhash::fast::FixedState;
use parking_lot::RwLock;

use crate::names::NameError;

/// The groups of one node.
#[derive(Debug, Default)]
pub struct Groups(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<Arc<str>, Group, FixedState>,
    by_pid: HashMap<Pid, Vec<Arc<str>>, FixedState>,
}

#[derive(Debug, Default)]
struct Group {
    /// Shared with those who publish, who must not copy a million pids under
    /// the lock; copied by the next change while one of them reads.
    members: Arc<Vec<Pid>>,
    /// Where in there each one is.
    places: HashMap<Pid, usize, FixedState>,
}

impl Group {
    fn remove(&mut self, pid: Pid) -> bool {
        let Some(place) = self.places.remove(&pid) else {
            return false;
        };
        let members = Arc::make_mut(&mut self.members);
        members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            self.places.insert(*moved, place);
        }
        true
    }
}

impl Inner {
    fn leave(&mut self, name: &str, pid: Pid) -> bool {
        let Some(group) = self.by_name.get_mut(name) else {
            return false;
        };
        let was = group.remove(pid);
        if group.members.is_empty() {
            self.by_name.remove(name);
        }
        was
    }
}

impl Groups {
    /// Answers whether the process was not in the group before.
    pub(crate) fn join(&self, name: &str, pid: Pid) -> Result<bool, NameError> {
        if name.is_empty() || name.len() > limits::NAME as usize {
            return Err(NameError::Invalid);
        }
        let mut inner = self.0.write();
        if let Some(group) = inner.by_name.get(name)
            && group.places.contains_key(&pid)
        {
            return Ok(false);
        }
        if inner.by_pid.get(&pid).map_or(0, Vec::len) >= limits::GROUPS as usize {
            return Err(NameError::TooMany);
        }
        let name: Arc<str> = match inner.by_name.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let group = inner.by_name.entry(name.clone()).or_default();
        group.places.insert(pid, group.members.len());
        Arc::make_mut(&mut group.members).push(pid);
        inner.by_pid.entry(pid).or_default().push(name);
        Ok(true)
    }

    /// Takes a process out of a group; answers whether it was in it.
    pub fn leave(&self, name: &str, pid: Pid) -> bool {
        let mut inner = self.0.write();
        let was = inner.leave(name, pid);
        if was && let Some(groups) = inner.by_pid.get_mut(&pid) {
            groups.retain(|other| &**other != name);
            if groups.is_empty() {
                inner.by_pid.remove(&pid);
            }
        }
        was
    }

    pub(crate) fn leave_all(&self, pid: Pid) {
        let mut inner = self.0.write();
        for name in inner.by_pid.remove(&pid).unwrap_or_default() {
            inner.leave(&name, pid);
        }
    }

    /// The members of a group, as it is now, in no order.
    pub fn members(&self, name: &str) -> Arc<Vec<Pid>> {
        let inner = self.0.read();
        let group = inner.by_name.get(name);
        group.map(|group| group.members.clone()).unwrap_or_default()
    }

    /// The groups of a process, in the order in which it joined.
    pub fn of(&self, pid: Pid) -> Vec<Arc<str>> {
        self.0.read().by_pid.get(&pid).cloned().unwrap_or_default()
    }

    /// All groups and how many members each has, in no order.
    pub fn all(&self) -> Vec<(Arc<str>, usize)> {
        let inner = self.0.read();
        let groups = inner.by_name.iter();
        groups
            .map(|(name, group)| (name.clone(), group.members.len()))
            .collect()
    }
}
