//! The resources of one process.
//!
//! Only the process's runner touches it. It is empty for most processes, and allocates nothing then.

use std::any::{Any, TypeId};

use super::{Decision, Holding, Memory, Resource};
use crate::ExitReason;

/// The resources of a process, one of each type, in the order in which it got them.
#[derive(Debug, Default)]
pub struct Resources(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    of: TypeId,
    resource: Option<Box<dyn Resource>>,
    /// What it held when it was lent; it is out of reach then.
    lent: Option<Holding>,
}

/// What an upgrade has detached from a process, for as long as the process may be reverted.
#[derive(Debug)]
pub struct Detached {
    memory: Memory,
    resources: Box<[Entry]>,
}

impl Detached {
    /// Returns what an upgrade detaches from a process without resources.
    pub fn nothing(memory: Memory) -> Detached {
        Detached {
            memory,
            resources: Box::default(),
        }
    }

    /// Returns whether there is nothing that would come back.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

impl Resources {
    /// Returns whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what the process holds, by kind. Kinds of which it has nothing open are left out.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        let all = self.0.iter();
        let held = all.filter_map(|entry| match &entry.resource {
            Some(resource) => Some(resource.holding()),
            None => entry.lent,
        });
        held.filter(|holding| holding.count > 0)
    }

    /// Adds a resource, or puts back one that was lent. One of the same type that is there is dropped.
    pub fn put(&mut self, resource: Box<dyn Resource>) {
        let of = (*resource).type_id();
        let entry = Entry {
            of,
            resource: Some(resource),
            lent: None,
        };
        match self.0.iter_mut().find(|entry| entry.of == of) {
            Some(place) => *place = entry,
            None => {
                // Few have two.
                self.0.reserve_exact(1);
                self.0.push(entry);
            }
        }
    }

    /// Returns the resource of this type, if it has one that is not lent.
    pub fn get<R: Resource>(&mut self) -> Option<&mut R> {
        let entry = self.entry(TypeId::of::<R>())?;
        let resource: &mut dyn Any = &mut **entry.resource.as_mut()?;
        resource.downcast_mut()
    }

    /// Takes the resource of this type out for the time of a call, after which [`Resources::put`] puts it back.
    /// What it holds is still listed meanwhile.
    pub fn lend<R: Resource>(&mut self) -> Option<Box<dyn Resource>> {
        let entry = self.entry(TypeId::of::<R>())?;
        let resource = entry.resource.take()?;
        entry.lent = Some(resource.holding());
        Some(resource)
    }

    fn entry(&mut self, of: TypeId) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.of == of)
    }

    /// Tells all that the process has moved to other code. Returns those that do not stay. `log` writes a line to
    /// the log of the process, as it was before.
    pub fn upgrade(&mut self, memory: Memory, log: &mut dyn FnMut(i32, &str)) -> Detached {
        let leaves = self.leaving(|resource| resource.on_upgrade(memory), log);
        Detached {
            memory,
            resources: leaves.into(),
        }
    }

    /// Tells all that the process was reverted to the state from before an upgrade, and puts back what that upgrade
    /// had detached. Returns those that do not stay: they belong to the state that the process has left.
    pub fn restore(&mut self, detached: Detached, log: &mut dyn FnMut(i32, &str)) -> Detached {
        let memory = match detached.memory {
            Memory::Same => Memory::Same,
            Memory::New | Memory::Restored => Memory::Restored,
        };
        let leaves = self.leaving(|resource| resource.on_rollback(memory), log);
        for entry in detached.resources {
            self.0.retain(|kept| kept.of != entry.of);
            self.0.push(entry);
        }
        Detached {
            memory,
            resources: leaves.into(),
        }
    }

    /// Tells all that the process was reverted, with another state than that from before the upgrade. Those that do
    /// not stay are dropped.
    pub fn roll_back(&mut self, memory: Memory, log: &mut dyn FnMut(i32, &str)) {
        drop(self.leaving(|resource| resource.on_rollback(memory), log));
    }

    /// Tells all that the process ends, and drops them, in the order in which it got them.
    pub fn exit(&mut self, reason: &ExitReason, log: &mut dyn FnMut(i32, &str)) {
        for mut entry in std::mem::take(&mut self.0) {
            if let Some(resource) = &mut entry.resource {
                resource.on_exit(reason, log);
            }
        }
    }

    /// Takes out those that are to be detached. One that is lent is in the middle of a call, where nothing of this
    /// happens.
    fn leaving(
        &mut self,
        mut decide: impl FnMut(&mut dyn Resource) -> Decision,
        log: &mut dyn FnMut(i32, &str),
    ) -> Vec<Entry> {
        let leaves = |entry: &mut Entry| {
            let Some(resource) = &mut entry.resource else {
                return false;
            };
            let leaves = decide(&mut **resource) == Decision::Detach;
            if leaves {
                resource.on_detach(log);
            }
            leaves
        };
        self.0.extract_if(.., leaves).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use exuvia_abi::Reason;
    use parking_lot::Mutex;

    use super::*;

    type Record = Arc<Mutex<Vec<String>>>;

    /// Two kinds, which differ in whether they belong to a memory.
    #[derive(Debug)]
    struct Files(&'static str, Record);

    #[derive(Debug)]
    struct Sockets(Record);

    impl Resource for Files {
        fn holding(&self) -> Holding {
            Holding {
                kind: "open files",
                count: self.0.len(),
            }
        }

        fn on_upgrade(&mut self, memory: Memory) -> Decision {
            match memory {
                Memory::Same => Decision::Keep,
                Memory::New | Memory::Restored => Decision::Detach,
            }
        }

        fn on_detach(&mut self, log: &mut dyn FnMut(i32, &str)) {
            log(4, self.0);
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            self.1.lock().push(format!("{} closed", self.0));
        }
    }

    impl Resource for Sockets {
        fn holding(&self) -> Holding {
            Holding {
                kind: "sockets",
                count: 7,
            }
        }

        fn on_upgrade(&mut self, memory: Memory) -> Decision {
            self.0.lock().push(format!("upgrade {memory:?}"));
            Decision::Keep
        }

        fn on_rollback(&mut self, memory: Memory) -> Decision {
            self.0.lock().push(format!("rollback {memory:?}"));
            Decision::Keep
        }

        fn on_exit(&mut self, reason: &ExitReason, log: &mut dyn FnMut(i32, &str)) {
            log(3, &reason.to_string());
        }
    }

    fn taken(record: &Record) -> Vec<String> {
        std::mem::take(&mut *record.lock())
    }

    fn held(resources: &Resources) -> Vec<String> {
        let held = resources.holdings();
        held.map(|holding| holding.to_string()).collect()
    }

    #[test]
    fn a_process_has_one_of_each_type() {
        let record = Record::default();
        let mut resources = Resources::default();
        assert!(resources.is_empty() && resources.get::<Files>().is_none());
        resources.put(Box::new(Files("a", record.clone())));
        resources.put(Box::new(Sockets(record.clone())));
        assert_eq!(held(&resources), ["open files (1)", "sockets (7)"]);
        resources.put(Box::new(Files("bc", record.clone())));
        assert_eq!(taken(&record), ["a closed"]);
        assert_eq!(resources.get::<Files>().map(|files| files.0), Some("bc"));
        resources.put(Box::new(Files("", record.clone())));
        assert_eq!(held(&resources), ["sockets (7)"]);
    }

    #[test]
    fn what_is_lent_is_still_listed() {
        let record = Record::default();
        let mut resources = Resources::default();
        resources.put(Box::new(Files("ab", record.clone())));
        let lent = resources.lend::<Files>().expect("it is there");
        assert!(resources.lend::<Files>().is_none() && resources.get::<Files>().is_none());
        assert_eq!(held(&resources), ["open files (2)"]);
        resources.put(lent);
        assert!(resources.get::<Files>().is_some() && taken(&record).is_empty());
    }

    #[test]
    fn what_an_upgrade_detaches_comes_back_with_the_old_memory() {
        let record = Record::default();
        let mut resources = Resources::default();
        resources.put(Box::new(Files("old", record.clone())));
        resources.put(Box::new(Sockets(record.clone())));
        let mut lines = Vec::new();
        let mut log = |level: i32, text: &str| lines.push((level, text.to_owned()));
        let detached = resources.upgrade(Memory::New, &mut log);
        assert_eq!(held(&resources), ["sockets (7)"]);
        resources.put(Box::new(Files("new", record.clone())));
        let left = resources.restore(detached, &mut log);
        assert!(!left.is_empty());
        drop(left);
        // What leaves may write to the log when it leaves, and not again.
        assert_eq!(lines, [(4, "old".to_owned()), (4, "new".to_owned())]);
        assert_eq!(
            taken(&record),
            ["upgrade New", "rollback Restored", "new closed"]
        );
        assert_eq!(resources.get::<Files>().map(|files| files.0), Some("old"));
    }

    #[test]
    fn what_stays_in_the_same_memory_stays_when_that_is_restored() {
        let record = Record::default();
        let mut resources = Resources::default();
        resources.put(Box::new(Sockets(record.clone())));
        resources.put(Box::new(Files("a", record.clone())));
        let mut lines = Vec::new();
        let mut log = |level: i32, text: &str| lines.push((level, text.to_owned()));
        let detached = resources.upgrade(Memory::Same, &mut log);
        assert!(resources.restore(detached, &mut log).is_empty());
        resources.roll_back(Memory::Same, &mut log);
        assert_eq!(
            taken(&record),
            ["upgrade Same", "rollback Same", "rollback Same"]
        );
        // Another memory, made by `load` of old code: what the process holds is unknown to it.
        resources.roll_back(Memory::New, &mut log);
        assert_eq!(taken(&record), ["rollback New", "a closed"]);
        assert_eq!(lines, [(4, "a".to_owned())]);
        assert_eq!(held(&resources), ["sockets (7)"]);
    }

    #[test]
    fn the_end_of_the_process_reaches_each() {
        let record = Record::default();
        let mut resources = Resources::default();
        resources.put(Box::new(Files("a", record.clone())));
        resources.put(Box::new(Sockets(record.clone())));
        let mut lines = Vec::new();
        let mut log = |level: i32, text: &str| lines.push((level, text.to_owned()));
        resources.exit(&ExitReason::new(Reason::KILLED), &mut log);
        assert_eq!(lines, [(3, "killed".to_owned())]);
        assert_eq!(taken(&record), ["a closed"]);
        assert!(resources.is_empty());
    }
}
