//! Watches files: module files, which are swapped in when they change, and in
//! development the sources that they are built from and the manifest.
//!
//! Folders are watched, not files, so that a file that is replaced by a rename
//! stays in view; of a symbolic link also the folders on the way to what it leads to
//! (`places`). An event says only that it is time to look; what is found decides.
//! When that is depends on whose event it is (`settling`): one file is not waited
//! for because of another. Where the system tells of nothing, since it has no
//! watches left, the files are looked at again and again (`eyes`).
//!
//! Everything happens on one thread: builds and swaps come one after another, in
//! the order of the changes. What changes during a build is looked at after it.
//! Nobody waits long for that thread: a file system may not answer it for ever.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::build::Stopper;
use crate::event::Event;
use crate::node::Node;

mod artifacts;
mod eyes;
mod places;
mod post;
mod settling;
mod sources;
mod stamp;
mod walk;
mod whole;
mod workshop;

use artifacts::{Artifacts, Cause, Looked};
use eyes::Eyes;
pub use eyes::WatchLimits;
use post::{Noticed, Post};
pub use workshop::Workshop;

/// Changes of sources within this time are one: they are saved at once.
const SAVED: Duration = Duration::from_millis(20);
/// Sources that change without a pause are looked at after this time.
const LONGEST: Duration = Duration::from_millis(500);
/// Events that come in a flood are heard this often.
const FLOOD: Duration = Duration::from_millis(5);
/// How often it is looked what no event has told: of the module files, and whether
/// folders are there that were not, or are others.
const RECHECK: Duration = Duration::from_secs(1);
/// How often sources are looked at of which the system does not tell, at most.
const BLIND: Duration = Duration::from_millis(500);
/// And so many times longer than a look takes, so that it costs a tenth of a core at
/// most.
const BLIND_SHARE: u32 = 10;
/// How long the end of a watcher waits for what it is at. A swap has its own bounds
/// and is mostly done by then; a file system that does not answer is left alone.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// A running watcher; dropping it stops it, and the build that it may be at.
#[derive(Debug)]
pub struct Watcher {
    post: Arc<Post>,
    stopper: Stopper,
    ended: Receiver<()>,
    told: Option<String>,
}

impl Watcher {
    /// Watches the module files of an app.
    pub(crate) fn start(
        node: Node,
        files: BTreeMap<String, PathBuf>,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let stopper = Stopper::default();
        let artifacts = Artifacts::new(node.clone(), files, stopper.clone());
        Watcher::begin(node, artifacts, None, stopper, limits)
    }

    /// Watches the sources as well, and the manifest.
    pub(crate) fn develop(
        app: &App,
        mut workshop: Workshop,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let node = app.node().clone();
        let stopper = workshop.stopper();
        let artifacts = Artifacts::new(node.clone(), workshop.files(), stopper.clone());
        workshop.attend(app);
        Watcher::begin(node, artifacts, Some(workshop), stopper, limits)
    }

    fn begin(
        node: Node,
        artifacts: Artifacts,
        workshop: Option<Workshop>,
        stopper: Stopper,
        limits: &WatchLimits,
    ) -> std::io::Result<Watcher> {
        let post = Arc::new(Post::default());
        let mut watch = Watch {
            eyes: Eyes::new(&post, limits),
            node,
            artifacts,
            workshop,
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

    /// Why the files are looked at again and again, as an event has told; `None`: the
    /// system tells of their changes.
    pub fn is_blind(&self) -> Option<&str> {
        self.told.as_deref()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopper.stop();
        self.post.stop();
        // The sender goes with the thread.
        if self.ended.recv_timeout(LAST_LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the watcher is not waited for: a file system does not answer, or a swap takes long"
            );
        }
    }
}

struct Watch {
    node: Node,
    artifacts: Artifacts,
    /// In development, who builds.
    workshop: Option<Workshop>,
    eyes: Eyes,
    /// Entries and folders of sources, and of the manifest.
    entries: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
    before_look: Option<Arc<dyn Fn() + Send + Sync>>,
    /// That the system does not tell of changes was said, in these words.
    told_blind: Option<String>,
}

/// When what is to be done.
struct Times {
    /// Since when sources have changed, also by the node's clock, and last did.
    saved: Option<(u64, Instant, Instant)>,
    /// Since when something waits that has changed during a build.
    behind: Option<Instant>,
    /// The next look at what no event tells of.
    look: Instant,
    /// The next look at sources without an event.
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
    /// Until it is told to stop. The sender is dropped at the end.
    fn run(mut self, post: &Post, _ended: &Sender<()>) {
        // What was saved during the boot.
        self.work(self.clock());
        let mut times = Times {
            saved: None,
            behind: None,
            look: now() + RECHECK,
            blind: now() + BLIND,
        };
        let mut early = now();
        loop {
            let pause = self.workshop.as_ref().and_then(Workshop::is_behind);
            times.behind = pause.map(|_| times.behind.unwrap_or_else(now));
            let behind_at = times.behind.zip(pause).map(|(since, pause)| since + pause);
            let is_blind = self.workshop.is_some() && self.eyes.blind().is_some();
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
                self.work_on_events(since, times.behind.is_some());
            }
            let looked = self.artifacts.look_at_ready(time);
            self.has_looked(looked);
            if behind_at.is_some_and(|due| due <= time) {
                times.behind = None;
                self.work(clock);
            }
            if is_blind && times.blind <= time {
                self.work_on_events(clock, times.behind.is_some());
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

    /// Takes note of what the system has said. Answers whether sources or the
    /// manifest may have changed.
    fn hear(&mut self, noticed: &Noticed, clock: u64, time: Instant) -> bool {
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
            // Files in a folder that has come may be older than its watch.
            self.artifacts.touch_all(clock, time);
        }
        (of_sources || of_folders) && self.workshop.is_some()
    }

    /// What waits since a build waits on, unless something else has changed: the
    /// events may be of that build.
    fn work_on_events(&mut self, noticed: u64, behind: bool) {
        let news = (self.workshop.as_mut()).is_some_and(|it| !behind || it.has_news());
        if news {
            self.work(noticed);
        }
    }

    fn has_looked(&mut self, looked: Looked) {
        if looked == Looked::Swapped
            && let Some(workshop) = &mut self.workshop
        {
            workshop.swapped();
        }
    }

    fn clock(&self) -> u64 {
        self.node.0.system.clock.now()
    }

    /// Builds what sources have changed of. Folders may have come with them.
    fn work(&mut self, noticed: u64) {
        let Some(workshop) = &mut self.workshop else {
            return;
        };
        workshop.work(noticed, &mut self.artifacts);
        // Files in a folder that has come may be newer than the look.
        if self.look_for_folders()
            && let Some(workshop) = &mut self.workshop
        {
            workshop.work(noticed, &mut self.artifacts);
        }
    }

    /// Watches each folder that matters, or the nearest folder above it that
    /// exists. Answers whether anything is watched that was not before.
    fn look_for_folders(&mut self) -> bool {
        self.entries.clear();
        self.folders.clear();
        if let Some(workshop) = &self.workshop {
            self.entries.extend(workshop.entries());
            self.folders.extend(workshop.folders().map(Path::to_owned));
        }
        let entries = self.artifacts.entries().chain(&self.entries);
        let parents = entries.filter_map(|entry| entry.parent());
        let mut wanted: HashSet<PathBuf> = parents.map(Path::to_owned).collect();
        wanted.extend(self.folders.iter().cloned());
        let new = self.eyes.turn_to(&wanted);
        self.tell_blind();
        new
    }

    /// Says, once, that changes are looked for.
    fn tell_blind(&mut self) {
        let (Some(blind), None) = (self.eyes.blind(), &self.told_blind) else {
            return;
        };
        self.told_blind = Some(blind.why.clone());
        self.node.0.events.send(Event::Looking {
            reason: blind.why.clone(),
            help: blind.fix.clone(),
        });
    }
}
