//! Watches files: module files, which are swapped in when they change, and in development the
//! sources that they are built from and the manifest.
//!
//! Folders are watched, not files, so that a file that is replaced by a rename stays in view; for a
//! symbolic link also the folders on the way to its target (`link_targets`). An event only triggers
//! a scan; the result of the scan decides. When the scan happens depends on the file that the event
//! is for (`debounce`): no file waits because of another one. If the system has no watches left and
//! so reports nothing, the files are polled (`folder_watches`).
//!
//! Everything happens on one thread: builds and swaps run one after another, in the order of the
//! changes. What changes during a build is scanned after it. No other thread waits long for this
//! one, since a file system may never respond to it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use exuvia_node::{App, Node};

use crate::build::Stopper;
use crate::build_watcher::{BuildWatcher, module_paths};
use crate::event::Event;
use crate::module_files::{Cause, ModuleFiles, ScanResult};
use crate::rebuilder::Rebuilder;

pub(crate) mod event_queue;
mod folder_watches;
pub(crate) mod link_targets;
pub(crate) mod schedule;

use event_queue::{ChangedPaths, EventQueue};
use folder_watches::FolderWatches;
pub use folder_watches::WatchLimits;
use schedule::Schedule;

/// The minimum time between two batches of events in a flood.
const FLOOD: Duration = Duration::from_millis(5);
/// How long dropping a watcher waits for its thread. A swap has its own bounds and is mostly done
/// by then; a thread that hangs in a file system is abandoned.
const LAST_SCAN: Duration = Duration::from_secs(5);

/// A running watcher; dropping it stops it, and the build that may be running.
#[derive(Debug)]
pub struct Watcher {
    queue: Arc<EventQueue>,
    stopper: Stopper,
    ended: Receiver<()>,
    polling: Option<String>,
}

impl Watcher {
    /// Watches the module files of an app, and swaps in those that change.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn watch(app: &App, limits: &WatchLimits) -> std::io::Result<Watcher> {
        let files = module_paths(app.manifest());
        Watcher::start(app.node(), files, None, Stopper::default(), limits)
    }

    /// Watches the sources and the manifest as well, builds what has changed, and applies edits of
    /// the manifest. The app must have been booted from the manifest of `build_watcher`.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn develop(
        app: &App,
        build_watcher: BuildWatcher,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let stopper = build_watcher.stopper();
        let rebuilder = Rebuilder::new(build_watcher, app.node());
        let files = rebuilder.module_paths();
        Watcher::start(app.node(), files, Some(rebuilder), stopper, limits)
    }

    fn start(
        node: &Node,
        files: BTreeMap<String, PathBuf>,
        rebuilder: Option<Rebuilder>,
        stopper: Stopper,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let queue = Arc::new(EventQueue::default());
        let mut thread = WatcherThread {
            watches: FolderWatches::new(&queue, limits),
            modules: ModuleFiles::new(node.clone(), files, stopper.clone()),
            node: node.clone(),
            rebuilder,
            entries: HashSet::new(),
            folders: HashSet::new(),
            before_scan: limits.before_scan.clone(),
            polling: None,
        };
        thread.update_watches();
        let polling = thread.polling.clone();
        let (sender, ended) = channel();
        let events = queue.clone();
        std::thread::Builder::new()
            .name("exuvia-watch".into())
            .spawn(move || thread.run(&events, &sender))?;
        Ok(Watcher {
            queue,
            stopper,
            ended,
            polling,
        })
    }

    /// Returns why the files are polled, as an event has reported; `None`: the system reports their
    /// changes.
    pub fn polling_reason(&self) -> Option<&str> {
        self.polling.as_deref()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopper.stop();
        self.queue.stop();
        // The thread drops the sender when it ends.
        if self.ended.recv_timeout(LAST_SCAN) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the watcher is not waited for: a file system does not respond, or a swap takes long"
            );
        }
    }
}

/// What the watcher's thread works on.
struct WatcherThread {
    node: Node,
    modules: ModuleFiles,
    /// The builds, in development.
    rebuilder: Option<Rebuilder>,
    watches: FolderWatches,
    /// Entries and folders of sources, and of the manifest.
    entries: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
    before_scan: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The reason for polling, once it was reported.
    polling: Option<String>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "files change by the system's clock"
)]
fn now() -> Instant {
    Instant::now()
}

impl WatcherThread {
    /// Runs until the queue is stopped. The sender is dropped at the end.
    fn run(mut self, queue: &EventQueue, _ended: &Sender<()>) {
        // Picks up what was saved during the boot.
        self.build(self.node.now());
        let mut schedule = Schedule::new(now());
        let mut early = now();
        loop {
            let backoff = self.rebuilder.as_ref().and_then(Rebuilder::backoff);
            schedule.set_backoff(backoff, now());
            schedule.set_polling(self.rebuilder.is_some() && self.watches.missing().is_some());
            let changes = queue.wait(early, schedule.next(self.modules.ready_at()));
            if changes.stop {
                return;
            }
            if let Some(before_scan) = &self.before_scan {
                before_scan();
            }
            let (time, clock) = (now(), self.node.now());
            early = time + FLOOD;
            if !changes.is_empty() && self.note(&changes, clock, time) {
                schedule.saved(clock, time);
            }
            let pending = schedule.has_backoff();
            if let Some(noticed) = schedule.take_saved(time) {
                self.build_after_events(noticed, pending);
            }
            let scanned = self.modules.scan_ready(time);
            self.scanned(scanned);
            if schedule.take_backoff(time) {
                self.build(clock);
            }
            if schedule.is_poll_due(time) {
                self.build_after_events(clock, schedule.has_backoff());
                schedule.polled(time, now());
            }
            if schedule.is_recheck_due(time) {
                self.recheck(clock);
                schedule.rechecked(now());
            }
        }
    }

    /// Notes the events of the system. Returns whether sources or the manifest may have changed.
    fn note(&mut self, changes: &ChangedPaths, clock: u64, time: Instant) -> bool {
        let (mut of_sources, mut of_folders) = (changes.lost, changes.lost);
        if changes.lost {
            self.modules.touch_all(clock, time);
        }
        for (path, hint) in &changes.paths {
            of_folders |= self.modules.touch(path, *hint, clock, time)
                | self.entries.contains(path)
                | self.watches.is_watched(path);
            of_sources |= path.parent().is_some_and(|it| self.folders.contains(it));
            if hint.gone {
                self.watches.forget(path);
            }
        }
        if of_folders && self.update_watches() {
            // Files in a new folder may be older than its watch.
            self.modules.touch_all(clock, time);
        }
        (of_sources || of_folders) && self.rebuilder.is_some()
    }

    /// Builds what has changed. After a change during the last build only if something else has
    /// changed too: the events may be of that build.
    fn build_after_events(&mut self, noticed: u64, pending: bool) {
        let news = (self.rebuilder.as_mut()).is_some_and(|it| !pending || it.has_news());
        if news {
            self.build(noticed);
        }
    }

    /// Builds from the sources that have changed. New folders may have come with them.
    fn build(&mut self, noticed: u64) {
        let Some(rebuilder) = &mut self.rebuilder else {
            return;
        };
        rebuilder.build_changes(noticed, &mut self.modules);
        // Files in a new folder may be newer than the scan.
        if self.update_watches()
            && let Some(rebuilder) = &mut self.rebuilder
        {
            rebuilder.build_changes(noticed, &mut self.modules);
        }
    }

    /// Scans what no event reports.
    fn recheck(&mut self, clock: u64) {
        let new = self.update_watches();
        if new {
            self.build(clock);
        }
        let cause = if new { Cause::Event } else { Cause::Periodic };
        let scanned = self.modules.scan(clock, &cause);
        self.scanned(scanned);
    }

    fn scanned(&mut self, result: ScanResult) {
        if result == ScanResult::Swapped
            && let Some(rebuilder) = &mut self.rebuilder
        {
            rebuilder.swapped();
        }
    }

    /// Watches each folder that matters, or the nearest existing folder above it. Returns whether a
    /// folder is watched that was not before.
    fn update_watches(&mut self) -> bool {
        self.entries.clear();
        self.folders.clear();
        if let Some(rebuilder) = &self.rebuilder {
            self.entries.extend(rebuilder.entries());
            self.folders.extend(rebuilder.folders().map(Path::to_owned));
        }
        let entries = self.modules.entries().chain(&self.entries);
        let parents = entries.filter_map(|entry| entry.parent());
        let mut wanted: HashSet<PathBuf> = parents.map(Path::to_owned).collect();
        wanted.extend(self.folders.iter().cloned());
        let new = self.watches.watch_exactly(&wanted);
        self.report_polling();
        new
    }

    /// Reports, once, that files are polled.
    fn report_polling(&mut self) {
        let (Some(missing), None) = (self.watches.missing(), &self.polling) else {
            return;
        };
        self.polling = Some(missing.reason.clone());
        self.node.event_source().publish(Event::Polling {
            reason: missing.reason.clone(),
            help: missing.help.clone(),
        });
    }
}
