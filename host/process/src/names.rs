//! Registered names. A name belongs to one living process and is free again
//! when that process has ended.

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
    /// The process has ended.
    Dead,
    /// The process has as many names as it may have.
    TooMany,
}

/// The names of one node.
#[derive(Debug, Default)]
pub struct Names(RwLock<Inner>);

/// One registration of a name. The same name registered again is another one,
/// also for the same process: whoever undoes one must not undo the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Whose name it is.
    pub pid: Pid,
    number: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<Arc<str>, Registration, FixedState>,
    by_pid: HashMap<Pid, Vec<Arc<str>>, FixedState>,
    /// Registrations so far.
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
    /// Answers the new registration; `None`: the name was the process's already.
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

    /// Takes the name away; answers whose it was.
    pub fn remove(&self, name: &str) -> Option<Pid> {
        self.take(name).map(|its| its.pid)
    }

    /// The same; answers the registration, for `System::undo_unregister`.
    pub fn take(&self, name: &str) -> Option<Registration> {
        self.0.write().remove(name)
    }

    /// Takes the name away if this registration still stands.
    pub fn undo(&self, name: &str, registration: Registration) {
        let mut inner = self.0.write();
        if inner.by_name.get(name) == Some(&registration) {
            inner.remove(name);
        }
    }

    /// Puts a registration back that was taken away, if the name is free.
    pub(crate) fn restore(&self, name: &str, registration: Registration) {
        let mut inner = self.0.write();
        if !inner.by_name.contains_key(name) {
            // As many names as it may have, meanwhile: it does without.
            let _ = inner.insert(name, registration);
        }
    }

    pub(crate) fn remove_all(&self, pid: Pid) {
        let mut inner = self.0.write();
        for name in inner.by_pid.remove(&pid).unwrap_or_default() {
            inner.by_name.remove(&name);
        }
    }

    /// Whose name it is.
    pub fn find(&self, name: &str) -> Option<Pid> {
        self.0.read().by_name.get(name).map(|its| its.pid)
    }

    /// The names of a process, in the order in which it got them.
    pub fn of(&self, pid: Pid) -> Vec<Arc<str>> {
        self.0.read().by_pid.get(&pid).cloned().unwrap_or_default()
    }
}
