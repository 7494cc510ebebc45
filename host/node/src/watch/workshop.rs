//! Where an app is made while it runs: its manifest, its sources, its builds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::SAVED;
use super::artifacts::{Artifacts, Cause, Looked};
use super::places::places;
use super::sources::Sources;
use super::stamp::{Stamp, stamp};
use crate::app::App;
use crate::behind::Behind;
use crate::build::{BuildError, Built, Show, Stopper, build};
use crate::event::{Event, Events};
use crate::files as reading;
use crate::live::{Begun, Live};
use crate::manifest::{BuildStep, FILE_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::swap::Made;

/// How often files are looked at while there is no node, and so no watcher.
const POLL: Duration = Duration::from_millis(250);

/// Builds in a row, each caused by the one before, after which it is told.
const TOLD_RESTLESS: u32 = 3;
/// They are made after [`SAVED`] times two to this power at the least often.
const MOST_RESTLESS: u32 = 11;

/// The manifest of an app, its sources and its builds. Before the app runs, it
/// builds all ([`Workshop::build`]) and waits for what mends a failure
/// ([`Workshop::wait`]); then [`App::develop`] takes it.
#[derive(Debug)]
pub struct Workshop {
    file: PathBuf,
    /// Of the manifest's text; `None`: it could not be read.
    seen: Option<blake3::Hash>,
    manifest: Manifest,
    sources: Sources,
    /// Module files that somebody else makes, as they were before the boot.
    others: HashMap<PathBuf, Option<Stamp>>,
    colours: bool,
    stopper: Stopper,
    /// Commands whose last run has failed.
    failing: HashSet<String>,
    running: Option<Running>,
    /// The manifest was applied while a build had failed or a swap was refused, so
    /// that children may be missing.
    missing: bool,
    /// Builds in a row whose only reason was what had changed during the build
    /// before.
    restless: u32,
}

/// The app that runs.
#[derive(Debug)]
struct Running {
    events: Events,
    live: Live,
}

impl Workshop {
    /// Opens the app in a folder, or that of a manifest. With `colours`, builds
    /// are asked for colours in what [`Event::Built`] and [`Event::BuildFailed`]
    /// tell.
    ///
    /// # Errors
    ///
    /// What is wrong with the manifest.
    pub fn open(app: &Path, colours: bool) -> Result<Workshop, ManifestError> {
        // The current folder may go, and come again.
        let app = std::path::absolute(app).unwrap_or_else(|_| app.to_owned());
        let file = if app.is_dir() {
            app.join(FILE_NAME)
        } else {
            app
        };
        // Before it is parsed: what is edited meanwhile is seen as a change.
        let seen = read(&file);
        let manifest = Manifest::load(&file)?.for_development();
        Ok(Workshop {
            seen,
            others: others(&manifest),
            sources: sources(&manifest, &file),
            file,
            manifest,
            colours,
            stopper: Stopper::default(),
            failing: HashSet::new(),
            running: None,
            missing: false,
            restless: 0,
        })
    }

    /// The manifest as it was last read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Stops builds, and [`Workshop::wait`].
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs a build command of the manifest; what it prints goes to stderr.
    ///
    /// # Errors
    ///
    /// How it failed.
    pub fn build(&mut self, step: &BuildStep) -> Result<Built, BuildError> {
        let folder = &self.manifest.base_dir;
        let built = build(step, folder, Show::AsItComes, &self.stopper);
        self.sources.built();
        built
    }

    /// Waits until a source or the manifest changes, and reads the manifest again
    /// if it has. Answers the changed files, and nothing if it was stopped.
    ///
    /// # Errors
    ///
    /// What is wrong with the new manifest.
    pub fn wait(&mut self) -> Result<Vec<String>, ManifestError> {
        while !self.stopper.is_stopped() {
            let changed = self.sources.look();
            let now = read(&self.file);
            if now != self.seen {
                self.seen = now;
                self.manifest = Manifest::load(&self.file)?.for_development();
                self.sources = sources(&self.manifest, &self.file);
                self.others = others(&self.manifest);
                return Ok(self.shown(&[&changed[..], std::slice::from_ref(&self.file)].concat()));
            }
            let now = others(&self.manifest);
            let differs =
                |(file, stamp): &(&PathBuf, &Option<Stamp>)| self.others.get(*file) != Some(*stamp);
            let made: Vec<PathBuf> = (now.iter().filter(differs))
                .map(|(file, _)| file.clone())
                .collect();
            if !changed.is_empty() || !made.is_empty() {
                self.others = now;
                return Ok(self.shown(&[changed, made].concat()));
            }
            std::thread::park_timeout(POLL);
        }
        Ok(Vec::new())
    }

    /// The app runs, and will be told of changes.
    pub(super) fn attend(&mut self, app: &App) {
        self.running = Some(Running {
            events: app.node().0.events.clone(),
            live: app.live(),
        });
    }

    /// The module files.
    pub(super) fn files(&self) -> BTreeMap<String, PathBuf> {
        files(&self.manifest)
    }

    /// Folders all of whose entries matter.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.sources.folders()
    }

    /// Entries of other folders that matter.
    pub(super) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        self.sources.entries().chain(places(&self.file))
    }

    /// After which time there is work without an event: something has changed during
    /// a build. Longer each time, if that is the build's own doing.
    pub(super) fn is_behind(&self) -> Option<Duration> {
        let pause = SAVED * 2_u32.saturating_pow(self.restless.min(MOST_RESTLESS));
        self.sources.is_pending().then_some(pause)
    }

    /// Whether something has changed beside what has changed during the last build.
    pub(super) fn has_news(&mut self) -> bool {
        let news = self.sources.has_news() || read(&self.file) != self.seen;
        if news {
            // Not the build's own doing.
            self.restless = 0;
        }
        news
    }

    /// Looks at the manifest and the sources, builds what has changed, and has
    /// what was built swapped in.
    pub(super) fn work(&mut self, noticed: u64, artifacts: &mut Artifacts) {
        self.notice_unrest();
        let mut changed = self.sources.look();
        let mut steps = self.manifest.builds();
        steps.retain(|step| changed.iter().any(|file| reads(step, file)));
        let now = read(&self.file);
        let mut edit = None;
        if now != self.seen {
            self.seen = now;
            changed.push(self.file.clone());
            edit = self.edited(artifacts, &mut steps);
        }
        if !steps.is_empty() {
            self.make(&steps, &changed, noticed, artifacts);
        }
        if let (Some(begun), Some(running)) = (edit, &self.running) {
            // Modules that came with it, if nobody here builds them.
            let looked = artifacts.look(noticed, &Cause::Event);
            running.live.finish(begun, &self.manifest);
            self.missing =
                looked == Looked::Refused || !self.failing.is_empty() || !artifacts.are_loaded();
        }
    }

    /// Counts builds that are caused by builds, and says so once.
    fn notice_unrest(&mut self) {
        if !self.sources.is_pending() {
            self.restless = 0;
            return;
        }
        self.restless += 1;
        if self.restless == TOLD_RESTLESS {
            let files: Vec<PathBuf> = self.sources.pending().cloned().collect();
            self.tell(Event::Restless {
                files: self.shown(&files),
            });
        }
    }

    /// The manifest is another one: it is read, and begins to be applied. What it
    /// makes necessary to build is added to `due`.
    fn edited(&mut self, artifacts: &mut Artifacts, due: &mut Vec<BuildStep>) -> Option<Begun> {
        let running = self.running.as_ref()?;
        let manifest = match Manifest::load(&self.file) {
            Ok(manifest) => manifest.for_development(),
            Err(error) => {
                running.events.send(Event::ManifestRefused {
                    reason: error.to_string(),
                });
                return None;
            }
        };
        let (before, steps) = (self.manifest.builds(), manifest.builds());
        if steps != before {
            due.retain(|step| steps.contains(step));
            due.extend(steps.iter().filter(|step| !before.contains(step)).cloned());
            self.sources = sources(&manifest, &self.file);
            self.failing
                .retain(|command| steps.iter().any(|step| step.command == *command));
        }
        artifacts.follow(files(&manifest));
        let before = std::mem::replace(&mut self.manifest, manifest);
        Some(running.live.begin(before, &mut self.manifest))
    }

    fn make(
        &mut self,
        steps: &[BuildStep],
        changed: &[PathBuf],
        noticed: u64,
        artifacts: &mut Artifacts,
    ) {
        let shown = self.shown(changed);
        let made_before = self.oldest(steps);
        let mut modules = Vec::new();
        let mut all = Built::default();
        let mut mended = false;
        for step in steps {
            let Some(built) = self.make_one(step, &shown) else {
                continue;
            };
            mended |= self.failing.remove(&step.command);
            modules.extend(step.modules.iter().cloned());
            all.output += &built.output;
            all.took += built.took;
        }
        if modules.is_empty() {
            return;
        }
        let build_ms = all.took.as_secs_f64() * 1e3;
        let tell = |fresh: bool, runs: Option<Vec<Behind>>, mended: bool, dated: Option<String>| {
            Event::Built {
                modules: modules.clone(),
                took_ms: build_ms,
                output: if fresh {
                    all.output.clone()
                } else {
                    String::new()
                },
                new: fresh,
                runs: runs.is_some(),
                behind: runs.unwrap_or_default(),
                mended,
                dated,
            }
        };
        let said = !all.output.trim().is_empty();
        if said {
            self.tell(tell(true, None, false, None));
        }
        let made = Made {
            changed: shown,
            build_ms,
        };
        let looked = artifacts.look(noticed, &Cause::Built(made, modules.clone()));
        if matches!(looked, Looked::Nothing | Looked::Same(_)) {
            let runs = artifacts.run(&modules);
            let mended = runs && (mended || looked == Looked::Same(true));
            let dated = self.dated(changed, made_before).filter(|_| !mended);
            let runs = runs.then(|| artifacts.behind(&modules));
            self.tell(tell(false, runs, mended, dated));
        }
        if looked == Looked::Swapped {
            self.swapped();
        }
    }

    /// Modules are new: children that had to do without them may start.
    pub(super) fn swapped(&mut self) {
        if std::mem::take(&mut self.missing)
            && let Some(running) = &self.running
        {
            running.live.start_missing(&self.manifest);
        }
    }

    fn make_one(&mut self, step: &BuildStep, changed: &[String]) -> Option<Built> {
        self.tell(Event::Building {
            modules: step.modules.clone(),
            changed: changed.to_vec(),
        });
        let show = Show::AtTheEnd {
            colours: self.colours,
        };
        let built = build(step, &self.manifest.base_dir, show, &self.stopper);
        self.sources.built();
        match built {
            Ok(built) => Some(built),
            Err(error) => {
                if !error.stopped {
                    self.failing.insert(step.command.clone());
                    self.tell(Event::BuildFailed {
                        modules: step.modules.clone(),
                        reason: error.to_string(),
                        output: error.output,
                        took_ms: error.took.as_secs_f64() * 1e3,
                    });
                }
                None
            }
        }
    }

    fn tell(&self, event: Event) {
        if let Some(running) = &self.running {
            running.events.send(event);
        }
    }

    /// When the oldest file that these steps make was made.
    fn oldest(&self, steps: &[BuildStep]) -> Option<SystemTime> {
        let modules = steps.iter().flat_map(|step| &step.modules);
        let dates = modules.filter_map(|name| modified(&self.manifest.modules.get(name)?.path));
        dates.min()
    }

    /// The first changed source that is dated before what was made of it last. Tools
    /// that go by dates have taken it for old.
    fn dated(&self, changed: &[PathBuf], made: Option<SystemTime>) -> Option<String> {
        let made = made?;
        let is_older = |file: &&PathBuf| modified(file).is_some_and(|date| date < made);
        let mut sources = changed.iter().filter(|file| **file != self.file);
        let source = sources.find(is_older)?;
        self.shown(std::slice::from_ref(source)).pop()
    }

    /// Paths as the user knows them.
    fn shown(&self, paths: &[PathBuf]) -> Vec<String> {
        let folder = &self.manifest.base_dir;
        let shown = |path: &PathBuf| {
            let path = path.strip_prefix(folder).unwrap_or(path);
            path.display().to_string()
        };
        paths.iter().map(shown).collect()
    }
}

/// The stamps of the module files that no build makes.
fn others(manifest: &Manifest) -> HashMap<PathBuf, Option<Stamp>> {
    manifest
        .modules
        .values()
        .filter(|module| module.build.is_none())
        .map(|module| (module.path.clone(), stamp(&module.path)))
        .collect()
}

fn files(manifest: &Manifest) -> BTreeMap<String, PathBuf> {
    manifest
        .modules
        .iter()
        .map(|(name, module)| (name.clone(), module.path.clone()))
        .collect()
}

/// The manifest is looked at by itself: an edit of it is no reason to build.
fn sources(manifest: &Manifest, file: &Path) -> Sources {
    let steps = manifest.builds().into_iter();
    let roots: HashSet<PathBuf> = steps.flat_map(|step| step.sources).collect();
    let made = files(manifest).into_values();
    let made = made.chain([file.to_owned()]);
    Sources::new(roots, made, manifest.written_folders())
}

fn reads(step: &BuildStep, file: &Path) -> bool {
    step.sources.iter().any(|source| file.starts_with(source))
}

/// The hash of a manifest's text, as far as a manifest may go.
fn read(file: &Path) -> Option<blake3::Hash> {
    let most = MAX_MANIFEST_BYTES as u64 + 1;
    let text = reading::read_up_to(file, most).ok()?;
    Some(blake3::hash(&text))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}
