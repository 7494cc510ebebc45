//! The events of the watched folders that the watcher has not processed yet.
//!
//! However many events arrive during a long build or swap, they are merged to the state of each
//! path, for at most [`MAX_PATHS`] paths.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use parking_lot::{Condvar, Mutex};

/// The maximum number of changed paths that are recorded. Beyond it, any path may have changed.
const MAX_PATHS: usize = 10_000;

/// The state of a path after all its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeHint {
    /// Whether it was written to, and not closed since.
    pub(crate) open: bool,
    /// Whether its writer has closed it, or it was renamed into place.
    pub(crate) done: bool,
    /// Whether what was there before is gone. A folder that is created again may even have the same
    /// inode, but the watch on it is gone too.
    pub(crate) gone: bool,
}

/// All events since the last call of [`EventQueue::wait`].
#[derive(Debug, Default)]
pub(crate) struct ChangedPaths {
    /// Whether the watcher is to stop.
    pub(crate) stop: bool,
    /// Whether events were lost.
    pub(crate) lost: bool,
    pub(crate) paths: HashMap<PathBuf, ChangeHint>,
}

impl ChangedPaths {
    pub(crate) fn is_empty(&self) -> bool {
        !self.stop && !self.lost && self.paths.is_empty()
    }

    fn add(&mut self, event: Event) {
        if event.need_rescan() {
            self.lost = true;
        }
        // Reading a file does not change it.
        if let EventKind::Access(kind) = event.kind
            && kind != AccessKind::Close(AccessMode::Write)
        {
            return;
        }
        // The event is also reported for each of the two names.
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
            return;
        }
        for path in event.paths {
            if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(&path) {
                self.lost = true;
                continue;
            }
            let hint = self.paths.entry(path).or_default();
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    (hint.open, hint.done) = (true, false);
                }
                EventKind::Access(_) => (hint.open, hint.done) = (false, true),
                EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                    *hint = ChangeHint {
                        done: true,
                        gone: true,
                        ..ChangeHint::default()
                    };
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    *hint = ChangeHint {
                        gone: true,
                        ..ChangeHint::default()
                    };
                }
                _ => {}
            }
        }
    }
}

/// The queue from the system's notifier to the watcher.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    changes: Mutex<ChangedPaths>,
    arrived: Condvar,
}

impl EventQueue {
    /// Adds an event of the system.
    pub(crate) fn push(&self, event: notify::Result<Event>) {
        let mut changes = self.changes.lock();
        match event {
            Ok(event) => changes.add(event),
            Err(_) => changes.lost = true,
        }
        if !changes.is_empty() {
            self.arrived.notify_one();
        }
    }

    /// Tells the watcher to stop.
    pub(crate) fn stop(&self) {
        self.changes.lock().stop = true;
        self.arrived.notify_one();
    }

    /// Waits for events, at most until `late`, and takes all of them. Does not return before
    /// `early`, so that a flood is processed in batches.
    pub(crate) fn wait(&self, early: Instant, late: Instant) -> ChangedPaths {
        let mut changes = self.changes.lock();
        while !changes.stop && !self.arrived.wait_until(&mut changes, early).timed_out() {}
        while changes.is_empty() {
            if self.arrived.wait_until(&mut changes, late).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *changes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use notify::event::{CreateKind, DataChange, MetadataKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(PathBuf::from(path))
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const READ: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
    const MADE: EventKind = EventKind::Create(CreateKind::File);
    const TOUCHED: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    const PUT: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    #[test]
    fn the_queue_knows_which_paths_have_a_writer() {
        let mut changes = ChangedPaths::default();
        changes.add(event(READ, "a"));
        assert!(changes.is_empty());
        for (kind, open, done) in [
            (MADE, false, false),
            (WRITTEN, true, false),
            (TOUCHED, true, false),
            (CLOSED, false, true),
            (WRITTEN, true, false),
            (PUT, false, true),
        ] {
            changes.add(event(kind, "a"));
            let hint = changes.paths[&PathBuf::from("a")];
            assert_eq!((hint.open, hint.done), (open, done), "{kind:?}");
        }
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let mut changes = ChangedPaths::default();
        for n in 0..3 * MAX_PATHS {
            changes.add(event(WRITTEN, &n.to_string()));
        }
        assert!(changes.lost);
        assert_eq!(changes.paths.len(), MAX_PATHS);
    }
}
