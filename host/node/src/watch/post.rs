//! What the system has said of the watched folders and the watcher has not yet
//! heard.
//!
//! However much is said while a build or a swap takes its time, it is kept as what
//! is true of each path, and of no more than [`MAX_PATHS`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use parking_lot::{Condvar, Mutex};

/// Paths of which it is known that they have changed. With more, any may have.
const MAX_PATHS: usize = 10_000;

/// What is true of a path after all that was said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sign {
    /// Somebody has written to it, and has not closed it since.
    pub(super) open: bool,
    /// Whoever wrote it has closed it, or it was put in place whole.
    pub(super) done: bool,
    /// What stood there is gone. A folder that is made anew there may even have the
    /// same inode, but the watch on it is gone too.
    pub(super) gone: bool,
}

/// All that was said.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// The watcher is to end.
    pub(super) stop: bool,
    /// More was said than is known.
    pub(super) lost: bool,
    pub(super) paths: HashMap<PathBuf, Sign>,
}

impl Noticed {
    pub(super) fn is_empty(&self) -> bool {
        !self.stop && !self.lost && self.paths.is_empty()
    }

    fn add(&mut self, event: Event) {
        if event.need_rescan() {
            self.lost = true;
        }
        // Reading a file is no change of it.
        if let EventKind::Access(kind) = event.kind
            && kind != AccessKind::Close(AccessMode::Write)
        {
            return;
        }
        // It is told once more, with one of its two names each.
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
                    *sign = Sign {
                        done: true,
                        gone: true,
                        ..Sign::default()
                    };
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    *sign = Sign {
                        gone: true,
                        ..Sign::default()
                    };
                }
                _ => {}
            }
        }
    }
}

/// Where the system leaves word for the watcher.
#[derive(Debug, Default)]
pub(super) struct Post {
    noticed: Mutex<Noticed>,
    news: Condvar,
}

impl Post {
    /// The system has something to say.
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

    /// The watcher is to end.
    pub(super) fn stop(&self) {
        self.noticed.lock().stop = true;
        self.news.notify_one();
    }

    /// Waits until something is said, at most until `late`; takes all of it. Not before
    /// `early`, as what is said in a flood is heard together.
    pub(super) fn wait(&self, early: Instant, late: Instant) -> Noticed {
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
    fn of_each_path_it_is_known_whether_somebody_writes_to_it() {
        let mut noticed = Noticed::default();
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
    fn a_flood_is_kept_short() {
        let mut noticed = Noticed::default();
        for n in 0..3 * MAX_PATHS {
            noticed.add(event(WRITTEN, &n.to_string()));
        }
        assert!(noticed.lost);
        assert_eq!(noticed.paths.len(), MAX_PATHS);
    }
}
