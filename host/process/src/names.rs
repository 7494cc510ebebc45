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

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<Arc<str>, Pid, FixedState>,
    by_pid: HashMap<Pid, Vec<Arc<str>>, FixedState>,
}

impl Names {
    pub(crate) fn insert(&self, name: &str, pid: Pid) -> Result<(), NameError> {
        if name.is_empty() || name.len() > limits::NAME as usize {
            return Err(NameError::Invalid);
        }
        let mut inner = self.0.write();
        match inner.by_name.get(name) {
            Some(owner) if *owner == pid => return Ok(()),
            Some(_) => return Err(NameError::Taken),
            None => {}
        }
        let has = inner.by_pid.get(&pid).map_or(0, Vec::len);
        if has >= limits::NAMES as usize {
            return Err(NameError::TooMany);
        }
        let name: Arc<str> = name.into();
        inner.by_name.insert(name.clone(), pid);
        inner.by_pid.entry(pid).or_default().push(name);
        Ok(())
    }

    /// Takes the name away; answers whose it was.
    pub fn remove(&self, name: &str) -> Option<Pid> {
        let mut inner = self.0.write();
        let pid = inner.by_name.remove(name)?;
        if let Some(names) = inner.by_pid.get_mut(&pid) {
            names.retain(|other| &**other != name);
            if names.is_empty() {
                inner.by_pid.remove(&pid);
            }
        }
        Some(pid)
    }

    pub(crate) fn remove_all(&self, pid: Pid) {
        let mut inner = self.0.write();
        for name in inner.by_pid.remove(&pid).unwrap_or_default() {
            inner.by_name.remove(&name);
        }
    }

    /// Whose name it is.
    pub fn find(&self, name: &str) -> Option<Pid> {
        self.0.read().by_name.get(name).copied()
    }

    /// The names of a process, in the order in which it got them.
    pub fn of(&self, pid: Pid) -> Vec<Arc<str>> {
        self.0.read().by_pid.get(&pid).cloned().unwrap_or_default()
    }
}
