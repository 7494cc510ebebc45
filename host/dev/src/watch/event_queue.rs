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
pub(super) struct ChangeHint {
    /// Whether it was written to, and not closed since.
    pub(super) open: bool,
    /// Whether its writer has closed it, or it was renamed into place.
    pub(super) done: bool,
    /// Whether what was there before is gone. A folder that is created again may even have the same
    /// inode, but the watch on it is gone too.
    pub(super) gone: bool,
}

/// All events since the last call of [`EventQueue::wait`].
#[derive(Debug, Default)]
pub(super) struct ChangedPaths {
    /// Whether the watcher is to stop.
    pub(super) stop: bool,
    /// Whether events were lost.
    pub(super) lost: bool,
    pub(super) paths: HashMap<PathBuf, ChangeHint>,
}

impl ChangedPaths {
    pub(super) fn is_empty(&self) -> bool {
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
            let sign = self.paths.entry(path).or_default();
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    (sign.open, sign.done) = (true, false);
                }
                EventKind::Access(_) => (sign.open, sign.done) = (false, true),
                EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                    *sign = ChangeHint {
                        done: true,
                        gone: true,
                        ..ChangeHint::default()
                    };
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    *sign = ChangeHint {
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
pub(super) struct EventQueue {
    noticed: Mutex<ChangedPaths>,
    news: Condvar,
}

impl EventQueue {
    /// Adds an event of the system.
    pub(super) fn say(&self, event: notify::Result<Event>) {
        let mut noticed = self.noticed.lock();
        match event {
            Ok(event) => noticed.add(event),
            Err(_) => noticed.lost = true,
        }
        if !noticed.is_empty() {
            self.news.notify_one();
        }
    }

    /// Tells the watcher to stop.
    pub(super) fn stop(&self) {
        self.noticed.lock().stop = true;
        self.news.notify_one();
    }

    /// Waits for events, at most until `late`, and takes all of them. Does not return before
    /// `early`, so that a flood is processed in batches.
    pub(super) fn wait(&self, early: Instant, late: Instant) -> ChangedPaths {
        let mut noticed = self.noticed.lock();
        while !noticed.stop && !self.news.wait_until(&mut noticed, early).timed_out() {}
        while noticed.is_empty() {
            if self.news.wait_until(&mut noticed, late).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *noticed)
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
        let mut noticed = ChangedPaths::default();
        noticed.add(event(READ, "a"));
        assert!(noticed.is_empty());
        for (kind, open, done) in [
            (MADE, false, false),
            (WRITTEN, true, false),
            (TOUCHED, true, false),
            (CLOSED, false, true),
            (WRITTEN, true, false),
            (PUT, false, true),
        ] {
            noticed.add(event(kind, "a"));
            let sign = noticed.paths[&PathBuf::from("a")];
            assert_eq!((sign.open, sign.done), (open, done), "{kind:?}");
        }
    }

    #[test]
    fn a_flood_of_events_is_bounded() {
        let mut noticed = ChangedPaths::default();
        for n in 0..3 * MAX_PATHS {
            noticed.add(event(WRITTEN, &n.to_string()));
        }
        assert!(noticed.lost);
        assert_eq!(noticed.paths.len(), MAX_PATHS);
    }
}
