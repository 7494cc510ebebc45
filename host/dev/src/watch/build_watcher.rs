//! Builds an app while it runs: its manifest, its sources, its build commands.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use exuvia_manifest::{
    BuildStep, FILE_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, files as reading,
};
use exuvia_node::{App, BuildInfo, Events, Outdated};

use super::SAVED;
use super::artifacts::{Artifacts, Cause, ScanResult};
use super::link_targets::places;
use super::sources::Sources;
use super::stamp::{Stamp, stamp};
use crate::build::{BuildError, Built, Show, Stopper, build};
use crate::event::Event;
use crate::live::{Begun, Live};

/// How often files are polled while there is no node, and so no watcher.
const POLL: Duration = Duration::from_millis(250);

/// The number of consecutive builds, each triggered by the previous one, after which a build loop
/// is reported.
const TOLD_RESTLESS: u32 = 3;
/// The maximum exponent of the backoff, which is [`SAVED`] times a power of two.
const MOST_RESTLESS: u32 = 11;

/// The manifest of an app, its sources and its builds. Before the app runs, it builds everything
/// ([`BuildWatcher::build`]) and waits for a change that may fix a failure
/// ([`BuildWatcher::wait`]); then [`Watcher::develop`](crate::Watcher::develop) takes it.
#[derive(Debug)]
pub struct BuildWatcher {
    file: PathBuf,
    /// The hash of the manifest's text; `None`: it could not be read.
    seen: Option<blake3::Hash>,
    manifest: Manifest,
    sources: Sources,
    /// The stamps of module files that no build makes, as they were before the boot.
    others: HashMap<PathBuf, Option<Stamp>>,
    colours: bool,
    stopper: Stopper,
    /// Commands whose last run failed or was stopped.
    failing: HashSet<String>,
    running: Option<Running>,
    /// Whether the manifest was applied while a build had failed or a swap was rejected, so that
    /// children may be missing.
    missing: bool,
    /// The number of consecutive builds whose only reason was what had changed during the previous
    /// build.
    restless: u32,
}

/// The running app.
#[derive(Debug)]
struct Running {
    events: Events,
    live: Live,
}

impl BuildWatcher {
    /// Opens the app in a folder, or that of a manifest file. With `colours`, builds are asked for
    /// colours in the output in [`Event::Built`] and [`Event::BuildFailed`].
    ///
    /// # Errors
    ///
    /// What is wrong with the manifest.
    pub fn open(app: &Path, colours: bool) -> Result<BuildWatcher, ManifestError> {
        // The current folder may be removed and created again.
        let app = std::path::absolute(app).unwrap_or_else(|_| app.to_owned());
        let file = if app.is_dir() {
            app.join(FILE_NAME)
        } else {
            app
        };
        // Read before the manifest is parsed, so that an edit in between is detected.
        let seen = read(&file);
        let manifest = Manifest::load(&file)?.for_development();
        Ok(BuildWatcher {
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

    /// Returns the manifest as it was last read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns a handle that stops builds and [`BuildWatcher::wait`].
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs a build command of the manifest; its output goes to stderr.
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

    /// Waits until a source, the manifest or a module file that no build makes changes, and reads
    /// the manifest again if that has changed. Returns the changed files, or nothing if it was
    /// stopped.
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

    /// Connects it to the running app, to which it reports changes.
    pub(super) fn attend(&mut self, app: &App) {
        self.running = Some(Running {
            events: app.node().event_source().clone(),
            live: Live::new(app.node().clone()),
        });
    }

    /// Returns the module files.
    pub(super) fn files(&self) -> BTreeMap<String, PathBuf> {
        files(&self.manifest)
    }

    /// Returns the folders in which every entry matters.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.sources.folders()
    }

    /// Returns the entries of other folders that matter.
    pub(super) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        self.sources.entries().chain(places(&self.file))
    }

    /// Returns after which time to build without an event, because something has changed during a
    /// build. It grows as long as the builds themselves cause the changes.
    pub(super) fn backoff(&self) -> Option<Duration> {
        let pause = SAVED * 2_u32.saturating_pow(self.restless.min(MOST_RESTLESS));
        self.sources.is_pending().then_some(pause)
    }

    /// Returns whether something has changed in addition to what changed during the last build.
    pub(super) fn has_news(&mut self) -> bool {
        let news = self.sources.has_news() || read(&self.file) != self.seen;
        if news {
            // The change is not caused by the build.
            self.restless = 0;
        }
        news
    }

    /// Scans the manifest and the sources, builds what has changed, and has the results swapped in.
    pub(super) fn work(&mut self, noticed: u64, artifacts: &mut Artifacts) {
        self.detect_build_loop();
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
            // Modules that came with the edit, if no build here makes them.
            let looked = artifacts.look(noticed, &Cause::Event);
            running.live.finish(begun, &self.manifest);
            self.missing = looked == ScanResult::Refused
                || !self.failing.is_empty()
                || !artifacts.are_loaded();
        }
    }

    /// Counts builds that are triggered by builds, and reports a loop once.
    fn detect_build_loop(&mut self) {
        if !self.sources.is_pending() {
            self.restless = 0;
            return;
        }
        self.restless += 1;
        if self.restless == TOLD_RESTLESS {
            let files: Vec<PathBuf> = self.sources.pending().cloned().collect();
            self.tell(Event::BuildLoop {
                files: self.shown(&files),
            });
        }
    }

    /// Reads an edited manifest, and begins to apply it. Adds the builds that it requires to `due`.
    fn edited(&mut self, artifacts: &mut Artifacts, due: &mut Vec<BuildStep>) -> Option<Begun> {
        let running = self.running.as_ref()?;
        let manifest = match Manifest::load(&self.file) {
            Ok(manifest) => manifest.for_development(),
            Err(error) => {
                running.events.publish(Event::ManifestRefused {
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
        artifacts.leave_alone(self.unbuilt());
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
        let mut recovered = false;
        for step in steps {
            let Some(built) = self.make_one(step, &shown) else {
                continue;
            };
            recovered |= self.failing.remove(&step.command);
            modules.extend(step.modules.iter().cloned());
            all.output += &built.output;
            all.took += built.took;
        }
        // Nothing is read while a command runs: this thread does both.
        artifacts.leave_alone(self.unbuilt());
        if modules.is_empty() {
            return;
        }
        let build_ms = all.took.as_secs_f64() * 1e3;
        let tell = |fresh: bool,
                    current: Option<Vec<Outdated>>,
                    recovered: bool,
                    stale_timestamp: Option<String>| {
            Event::Built {
                modules: modules.clone(),
                took_ms: build_ms,
                output: if fresh {
                    all.output.clone()
                } else {
                    String::new()
                },
                new: fresh,
                is_current: current.is_some(),
                outdated: current.unwrap_or_default(),
                recovered,
                stale_timestamp,
            }
        };
        let said = !all.output.trim().is_empty();
        if said {
            self.tell(tell(true, None, false, None));
        }
        let made = BuildInfo {
            changed: shown,
            build_ms,
        };
        let looked = artifacts.look(noticed, &Cause::Built(made, modules.clone()));
        if matches!(looked, ScanResult::Nothing | ScanResult::Same(_)) {
            let is_current = artifacts.run(&modules);
            let recovered = is_current && (recovered || looked == ScanResult::Same(true));
            let stale_timestamp = self
                .stale_timestamp(changed, made_before)
                .filter(|_| !recovered);
            let current = is_current.then(|| artifacts.outdated(&modules));
            self.tell(tell(false, current, recovered, stale_timestamp));
        }
        if looked == ScanResult::Swapped {
            self.swapped();
        }
    }

    /// Returns the modules that a command makes whose last run failed. It may have written
    /// the files of some and not of others, and none completely.
    fn unbuilt(&self) -> HashSet<String> {
        let steps = self.manifest.builds().into_iter();
        steps
            .filter(|step| self.failing.contains(&step.command))
            .flat_map(|step| step.modules)
            .collect()
    }

    /// Called when modules are new: starts children that were missing them.
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
                self.failing.insert(step.command.clone());
                if !error.stopped {
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
            running.events.publish(event);
        }
    }

    /// Returns the oldest modification time of the files that these steps make.
    fn oldest(&self, steps: &[BuildStep]) -> Option<SystemTime> {
        let modules = steps.iter().flat_map(|step| &step.modules);
        let dates = modules.filter_map(|name| modified(&self.manifest.modules.get(name)?.path));
        dates.min()
    }

    /// Returns the first changed source with a timestamp before `made`, the time of what was last
    /// built from it. Tools that compare timestamps took it for unchanged.
    fn stale_timestamp(&self, changed: &[PathBuf], made: Option<SystemTime>) -> Option<String> {
        let made = made?;
        let is_older = |file: &&PathBuf| modified(file).is_some_and(|date| date < made);
        let mut sources = changed.iter().filter(|file| **file != self.file);
        let source = sources.find(is_older)?;
        self.shown(std::slice::from_ref(source)).pop()
    }

    /// Returns paths as the user knows them.
    fn shown(&self, paths: &[PathBuf]) -> Vec<String> {
        let folder = &self.manifest.base_dir;
        let shown = |path: &PathBuf| {
            let path = path.strip_prefix(folder).unwrap_or(path);
            path.display().to_string()
        };
        paths.iter().map(shown).collect()
    }
}

/// Returns the stamps of the module files that no build makes.
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

/// Returns the sources without the manifest, which is checked separately: an edit of it is no
/// reason to build.
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

/// Returns the hash of a manifest's text, up to the maximum length of a manifest.
fn read(file: &Path) -> Option<blake3::Hash> {
    let most = MAX_MANIFEST_BYTES as u64 + 1;
    let text = reading::read_up_to(file, most).ok()?;
    Some(blake3::hash(&text))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}
