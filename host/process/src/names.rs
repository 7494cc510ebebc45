//! Registered names. A name belongs to one living process and is free again when that process
//! terminates.

use std::collections::HashMap;
use std::sync::Arc;

use exuvia_abi::{Pid, limits};
use foldhash::fast::FixedState;
use parking_lot::RwLock;

/// Why a name could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It belongs to another process.
    Taken,
    /// It is empty or too long.
    Invalid,
    /// The process has terminated.
    Dead,
    /// The process has as many names, or is in as many groups, as it may.
    TooMany,
}

/// The names of one node.
#[derive(Debug, Default)]
pub struct Names(RwLock<Inner>);

/// One registration of a name. Registering the same name again creates another one, even for the
/// same process, so that undoing the first does not undo the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The process that has the name.
    pub pid: Pid,
    number: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<Arc<str>, Registration, FixedState>,
    by_pid: HashMap<Pid, Vec<Arc<str>>, FixedState>,
    /// Number of registrations so far.
    last: u64,
}

impl Inner {
    fn insert(&mut self, name: &str, registration: Registration) -> Result<(), NameError> {
        let names = self.by_pid.entry(registration.pid).or_default();
        if names.len() >= limits::NAMES as usize {
            return Err(NameError::TooMany);
        }
        let name: Arc<str> = name.into();
        names.push(name.clone());
        self.by_name.insert(name, registration);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Option<Registration> {
        let registration = self.by_name.remove(name)?;
        if let Some(names) = self.by_pid.get_mut(&registration.pid) {
            names.retain(|other| &**other != name);
            if names.is_empty() {
                self.by_pid.remove(&registration.pid);
            }
        }
        Some(registration)
    }
}

impl Names {
    /// Returns the new registration; `None` if the process had the name already. Fails with
    /// [`NameError::Invalid`], [`NameError::Taken`] or [`NameError::TooMany`].
    pub(crate) fn insert(&self, name: &str, pid: Pid) -> Result<Option<Registration>, NameError> {
        if name.is_empty() || name.len() > limits::NAME as usize {
            return Err(NameError::Invalid);
        }
        let mut inner = self.0.write();
        match inner.by_name.get(name) {
            Some(its) if its.pid == pid => return Ok(None),
            Some(_) => return Err(NameError::Taken),
            None => {}
        }
        inner.last += 1;
        let number = inner.last;
        let registration = Registration { pid, number };
        inner.insert(name, registration)?;
        Ok(Some(registration))
    }

    /// Unregisters a name. Returns the process that had it.
    pub fn remove(&self, name: &str) -> Option<Pid> {
        self.take(name).map(|its| its.pid)
    }

    /// Unregisters a name. Returns the registration, for `System::undo_unregister`.
    pub fn take(&self, name: &str) -> Option<Registration> {
        self.0.write().remove(name)
    }

    /// Unregisters a name if this registration is still the current one.
    pub fn undo(&self, name: &str, registration: Registration) {
        let mut inner = self.0.write();
        if inner.by_name.get(name) == Some(&registration) {
            inner.remove(name);
        }
    }

    /// Restores a registration that was removed, if the name is free.
    pub(crate) fn restore(&self, name: &str, registration: Registration) {
        let mut inner = self.0.write();
        if !inner.by_name.contains_key(name) {
            // If the process has reached its limit meanwhile, the name is lost.
            let _ = inner.insert(name, registration);
        }
    }

    pub(crate) fn remove_all(&self, pid: Pid) {
        let mut inner = self.0.write();
        for name in inner.by_pid.remove(&pid).unwrap_or_default() {
            inner.by_name.remove(&name);
        }
    }

    /// Returns the process that has a name.
    pub fn find(&self, name: &str) -> Option<Pid> {
        self.0.read().by_name.get(name).map(|its| its.pid)
    }

    /// Returns the names of a process, in the order in which they were registered.
    pub fn of(&self, pid: Pid) -> Vec<Arc<str>> {
        self.0.read().by_pid.get(&pid).cloned().unwrap_or_default()
    }
}
