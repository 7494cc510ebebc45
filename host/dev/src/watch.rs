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
use crate::event::Event;

mod artifacts;
mod build_watcher;
mod debounce;
mod event_queue;
mod folder_watches;
mod link_targets;
mod sources;
mod stamp;
mod walk;
mod whole;

use artifacts::{Artifacts, Cause, ScanResult};
pub use build_watcher::BuildWatcher;
use event_queue::{ChangedPaths, EventQueue};
use folder_watches::FolderWatches;
pub use folder_watches::WatchLimits;

/// Changes of sources within this time are treated as one save.
const SAVED: Duration = Duration::from_millis(20);
/// Sources that change without a pause are scanned after this time.
const LONGEST: Duration = Duration::from_millis(500);
/// The minimum time between two batches of events in a flood.
const FLOOD: Duration = Duration::from_millis(5);
/// How often the watcher checks what no event reports: the module files, and whether watched
/// folders have appeared or were replaced.
const RECHECK: Duration = Duration::from_secs(1);
/// The minimum interval at which sources are polled that the system does not report.
const BLIND: Duration = Duration::from_millis(500);
/// The polling interval is at least this many times the duration of a scan, so that polling takes a
/// tenth of a core at most.
const BLIND_SHARE: u32 = 10;
/// How long dropping a watcher waits for its thread. A swap has its own bounds and is mostly done
/// by then; a thread that hangs in a file system is abandoned.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// A running watcher; dropping it stops it, and the build that may be running.
#[derive(Debug)]
pub struct Watcher {
    post: Arc<EventQueue>,
    stopper: Stopper,
    ended: Receiver<()>,
    told: Option<String>,
}

impl Watcher {
    /// Watches the module files of an app, and swaps in those that change.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn watch(app: &App, limits: &WatchLimits) -> std::io::Result<Watcher> {
        let modules = app.manifest().modules.iter();
        let files: BTreeMap<String, PathBuf> = modules
            .map(|(name, module)| (name.clone(), module.path.clone()))
            .collect();
        let node = app.node().clone();
        let stopper = Stopper::default();
        let artifacts = Artifacts::new(node.clone(), files, stopper.clone());
        Watcher::begin(node, artifacts, None, stopper, limits)
    }

    /// Watches the sources and the manifest as well, builds what has changed, and applies edits of
    /// the manifest. The app must have been booted from the manifest of `build_watcher`.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn develop(
        app: &App,
        mut build_watcher: BuildWatcher,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let node = app.node().clone();
        let stopper = build_watcher.stopper();
        let artifacts = Artifacts::new(node.clone(), build_watcher.files(), stopper.clone());
        build_watcher.attend(app);
        Watcher::begin(node, artifacts, Some(build_watcher), stopper, limits)
    }

    fn begin(
        node: Node,
        artifacts: Artifacts,
        build_watcher: Option<BuildWatcher>,
        stopper: Stopper,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let post = Arc::new(EventQueue::default());
        let mut watch = Watch {
            eyes: FolderWatches::new(&post, limits),
            node,
            artifacts,
            build_watcher,
            entries: HashSet::new(),
            folders: HashSet::new(),
            before_look: limits.before_look.clone(),
            told_blind: None,
        };
        watch.look_for_folders();
        let told = watch.told_blind.clone();
        let (sender, ended) = channel();
        let letters = post.clone();
        std::thread::Builder::new()
            .name("exuvia-watch".into())
            .spawn(move || watch.run(&letters, &sender))?;
        Ok(Watcher {
            post,
            stopper,
            ended,
            told,
        })
    }

    /// Returns why the files are polled, as an event has reported; `None`: the system reports their
    /// changes.
    pub fn is_polling(&self) -> Option<&str> {
        self.told.as_deref()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopper.stop();
        self.post.stop();
        // The thread drops the sender when it ends.
        if self.ended.recv_timeout(LAST_LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the watcher has not ended in time: a file system does not respond, or a swap takes long"
            );
        }
    }
}

struct Watch {
    node: Node,
    artifacts: Artifacts,
    /// The builds, in development.
    build_watcher: Option<BuildWatcher>,
    eyes: FolderWatches,
    /// Entries and folders of sources, and of the manifest.
    entries: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
    before_look: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The reason for polling, once it was reported.
    told_blind: Option<String>,
}

/// When the next actions are due.
struct Times {
    /// When sources first changed since the last scan, by the node's clock and by the system's, and
    /// when they last did.
    saved: Option<(u64, Instant, Instant)>,
    /// When a change during a build was first found pending.
    outdated: Option<Instant>,
    /// When to check next what no event reports.
    look: Instant,
    /// When to poll the sources next.
    blind: Instant,
}

impl Times {
    fn saved_at(&self) -> Option<Instant> {
        let (_, first, last) = self.saved?;
        Some((last + SAVED).min(first + LONGEST))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "files change by the system's clock"
)]
fn now() -> Instant {
    Instant::now()
}

impl Watch {
    /// Runs until it is told to stop. The sender is dropped at the end.
    fn run(mut self, post: &EventQueue, _ended: &Sender<()>) {
        // Picks up what was saved during the boot.
        self.work(self.clock());
        let mut times = Times {
            saved: None,
            outdated: None,
            look: now() + RECHECK,
            blind: now() + BLIND,
        };
        let mut early = now();
        loop {
            let pause = self.build_watcher.as_ref().and_then(BuildWatcher::backoff);
            times.outdated = pause.map(|_| times.outdated.unwrap_or_else(now));
            let behind_at = times
                .outdated
                .zip(pause)
                .map(|(since, pause)| since + pause);
            let is_blind = self.build_watcher.is_some() && self.eyes.unavailable().is_some();
            let due = [
                times.saved_at(),
                behind_at,
                self.artifacts.ready_at(),
                is_blind.then_some(times.blind),
            ];
            let due = due.into_iter().flatten().min();
            let late = due.map_or(times.look, |due| due.min(times.look));
            let noticed = post.wait(early, late);
            if noticed.stop {
                return;
            }
            if let Some(before_look) = &self.before_look {
                before_look();
            }
            let (time, clock) = (now(), self.clock());
            early = time + FLOOD;
            if !noticed.is_empty() && self.hear(&noticed, clock, time) {
                let (since, first, _) = times.saved.unwrap_or((clock, time, time));
                times.saved = Some((since, first, time));
            }
            if times.saved_at().is_some_and(|due| due <= time)
                && let Some((since, ..)) = times.saved.take()
            {
                self.work_on_events(since, times.outdated.is_some());
            }
            let looked = self.artifacts.look_at_ready(time);
            self.has_looked(looked);
            if behind_at.is_some_and(|due| due <= time) {
                times.outdated = None;
                self.work(clock);
            }
            if is_blind && times.blind <= time {
                self.work_on_events(clock, times.outdated.is_some());
                times.blind = now() + BLIND.max((now() - time) * BLIND_SHARE);
            }
            if times.look <= time {
                let new = self.look_for_folders();
                if new {
                    self.work(clock);
                }
                let cause = if new { Cause::Event } else { Cause::Look };
                let looked = self.artifacts.look(clock, &cause);
                self.has_looked(looked);
                times.look = now() + RECHECK;
            }
        }
    }

    /// Processes the events of the system. Returns whether sources or the manifest may have
    /// changed.
    fn hear(&mut self, noticed: &ChangedPaths, clock: u64, time: Instant) -> bool {
        let mut of_sources = noticed.lost;
        if noticed.lost {
            self.artifacts.touch_all(clock, time);
        }
        let mut of_folders = noticed.lost;
        for (path, sign) in &noticed.paths {
            of_folders |= self.artifacts.touch(path, *sign, clock, time)
                | self.entries.contains(path)
                | self.eyes.is_watched(path);
            of_sources |= path.parent().is_some_and(|it| self.folders.contains(it));
            if sign.gone {
                self.eyes.forget(path);
            }
        }
        if of_folders && self.look_for_folders() {
            // Files in a new folder may be older than its watch.
            self.artifacts.touch_all(clock, time);
        }
        (of_sources || of_folders) && self.build_watcher.is_some()
    }

    /// Builds what has changed. After a change during the last build only if something else has
    /// changed too: the events may be of that build.
    fn work_on_events(&mut self, noticed: u64, outdated: bool) {
        let news = (self.build_watcher.as_mut()).is_some_and(|it| !outdated || it.has_news());
        if news {
            self.work(noticed);
        }
    }

    fn has_looked(&mut self, looked: ScanResult) {
        if looked == ScanResult::Swapped
            && let Some(build_watcher) = &mut self.build_watcher
        {
            build_watcher.swapped();
        }
    }

    fn clock(&self) -> u64 {
        self.node.now()
    }

    /// Builds from the sources that have changed. New folders may have come with them.
    fn work(&mut self, noticed: u64) {
        let Some(build_watcher) = &mut self.build_watcher else {
            return;
        };
        build_watcher.work(noticed, &mut self.artifacts);
        // Files in a new folder may be newer than the scan.
        if self.look_for_folders()
            && let Some(build_watcher) = &mut self.build_watcher
        {
            build_watcher.work(noticed, &mut self.artifacts);
        }
    }

    /// Watches each folder that matters, or the nearest existing folder above it. Returns whether a
    /// folder is watched that was not before.
    fn look_for_folders(&mut self) -> bool {
        self.entries.clear();
        self.folders.clear();
        if let Some(build_watcher) = &self.build_watcher {
            self.entries.extend(build_watcher.entries());
            self.folders
                .extend(build_watcher.folders().map(Path::to_owned));
        }
        let entries = self.artifacts.entries().chain(&self.entries);
        let parents = entries.filter_map(|entry| entry.parent());
        let mut wanted: HashSet<PathBuf> = parents.map(Path::to_owned).collect();
        wanted.extend(self.folders.iter().cloned());
        let new = self.eyes.turn_to(&wanted);
        self.tell_blind();
        new
    }

    /// Reports, once, that files are polled.
    fn tell_blind(&mut self) {
        let (Some(blind), None) = (self.eyes.unavailable(), &self.told_blind) else {
            return;
        };
        self.told_blind = Some(blind.why.clone());
        self.node.event_source().publish(Event::Polling {
            reason: blind.why.clone(),
            help: blind.fix.clone(),
        });
    }
}
