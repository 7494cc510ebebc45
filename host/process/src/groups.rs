//! Process groups (OTP: `pg`). A group exists while it has members; a process that has terminated
//! is in none. Unlike in `pg`, a process is in a group at most once, however often it has joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use exuvia_abi::{Pid, limits};
use parking_lot::RwLock;

use crate::members::Members;
use crate::names::NameError;

/// The groups of one node.
#[derive(Debug, Default)]
pub struct Groups(RwLock<Inner>);

/// Trees rather than hash maps: a hash map moves all entries when it grows, and the process that
/// joins a group of a million would have to do that in its turn.
#[derive(Debug, Default)]
struct Inner {
    by_name: BTreeMap<Arc<str>, Group>,
    by_pid: BTreeMap<Pid, Vec<Arc<str>>>,
    /// Number of memberships so far.
    last: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// Shared with publishers, so that a million pids are not copied.
    members: Members,
    /// Each member's index in `members`, and its membership.
    places: BTreeMap<Pid, (usize, Membership)>,
}

/// One membership of a process in a group. Leaving and joining again creates another one, so that
/// undoing the first does not undo the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership(u64);

impl Group {
    fn remove(&mut self, pid: Pid) -> Option<Membership> {
        let (place, membership) = self.places.remove(&pid)?;
        if let Some(moved) = self.members.swap_remove(place)
            && let Some((its, _)) = self.places.get_mut(&moved)
        {
            *its = place;
        }
        Some(membership)
    }
}

impl Inner {
    fn find(&self, name: &str, pid: Pid) -> Option<Membership> {
        let (_, membership) = self.by_name.get(name)?.places.get(&pid)?;
        Some(*membership)
    }

    fn join(&mut self, name: &str, pid: Pid, membership: Membership) -> Result<(), NameError> {
        if self.by_pid.get(&pid).map_or(0, Vec::len) >= limits::GROUPS as usize {
            return Err(NameError::TooMany);
        }
        let name: Arc<str> = match self.by_name.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let group = self.by_name.entry(name.clone()).or_default();
        group.places.insert(pid, (group.members.len(), membership));
        group.members.push(pid);
        self.by_pid.entry(pid).or_default().push(name);
        Ok(())
    }

    /// Removes a process from a group. The caller updates the list of the process's groups.
    fn remove(&mut self, name: &str, pid: Pid) -> Option<Membership> {
        let group = self.by_name.get_mut(name)?;
        let was = group.remove(pid);
        if group.members.is_empty() {
            self.by_name.remove(name);
        }
        was
    }

    fn leave(&mut self, name: &str, pid: Pid) -> Option<Membership> {
        let was = self.remove(name, pid)?;
        if let Some(groups) = self.by_pid.get_mut(&pid) {
            groups.retain(|other| &**other != name);
            if groups.is_empty() {
                self.by_pid.remove(&pid);
            }
        }
        Some(was)
    }
}

impl Groups {
    /// Returns the new membership; `None` if the process was in the group already. Fails with
    /// [`NameError::Invalid`] or [`NameError::TooMany`].
    pub(crate) fn join(&self, name: &str, pid: Pid) -> Result<Option<Membership>, NameError> {
        if name.is_empty() || name.len() > limits::NAME as usize {
            return Err(NameError::Invalid);
        }
        let mut inner = self.0.write();
        if inner.find(name, pid).is_some() {
            return Ok(None);
        }
        inner.last += 1;
        let membership = Membership(inner.last);
        inner.join(name, pid, membership)?;
        Ok(Some(membership))
    }

    /// Removes a process from a group. Returns whether it was in it.
    pub fn leave(&self, name: &str, pid: Pid) -> bool {
        self.take(name, pid).is_some()
    }

    /// Removes a process from a group. Returns the membership that ended, for `System::undo_leave`.
    pub fn take(&self, name: &str, pid: Pid) -> Option<Membership> {
        self.0.write().leave(name, pid)
    }

    /// Removes a process from a group if this membership is still the current one.
    pub fn undo(&self, name: &str, pid: Pid, membership: Membership) {
        let mut inner = self.0.write();
        if inner.find(name, pid) == Some(membership) {
            inner.leave(name, pid);
        }
    }

    /// Restores a membership that was ended, unless the process has joined again.
    pub(crate) fn restore(&self, name: &str, pid: Pid, membership: Membership) {
        let mut inner = self.0.write();
        if inner.find(name, pid).is_none() {
            // If the process has reached its limit meanwhile, the membership is lost.
            let _ = inner.join(name, pid, membership);
        }
    }

    pub(crate) fn leave_all(&self, pid: Pid) {
        let mut inner = self.0.write();
        for name in inner.by_pid.remove(&pid).unwrap_or_default() {
            inner.remove(&name, pid);
        }
    }

    /// Returns the current members of a group, in no particular order.
    pub fn members(&self, name: &str) -> Members {
        let inner = self.0.read();
        let group = inner.by_name.get(name);
        group.map(|group| group.members.clone()).unwrap_or_default()
    }

    /// Returns the groups of a process, in the order in which it joined.
    pub fn of(&self, pid: Pid) -> Vec<Arc<str>> {
        self.0.read().by_pid.get(&pid).cloned().unwrap_or_default()
    }

    /// Returns all groups and the number of members of each, in no particular order.
    pub fn all(&self) -> Vec<(Arc<str>, usize)> {
        let inner = self.0.read();
        let groups = inner.by_name.iter();
        groups
            .map(|(name, group)| (name.clone(), group.members.len()))
            .collect()
    }
}
