//! Builds an app while it runs: when its sources or its manifest change, the commands that read them
//! run, and the results are swapped in.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use exuvia_manifest::BuildStep;
use exuvia_node::{BuildInfo, Events, Node, Outdated};

use crate::build::{Built, Show};
use crate::build_watcher::{BuildWatcher, module_paths};
use crate::event::Event;
use crate::live::{Begun, Live};
use crate::module_files::{Cause, ModuleFiles, ScanResult};
use crate::watcher::link_targets::deciding_entries;
use crate::watcher::schedule::SAVED;

/// The number of consecutive builds, each triggered by the previous one, after which a build loop
/// is reported.
const LOOP: u32 = 3;
/// The maximum exponent of the backoff, which is [`SAVED`] times a power of two.
const MAX_BACKOFF: u32 = 11;

/// The builds of a running app.
#[derive(Debug)]
pub(crate) struct Rebuilder {
    app: BuildWatcher,
    events: Events,
    live: Live,
    /// Commands whose last run failed or was stopped.
    failing: HashSet<String>,
    /// Whether the manifest was applied while a build had failed or a swap was rejected, so that
    /// children may be missing.
    missing: bool,
    /// The number of consecutive builds whose only reason was what had changed during the previous
    /// build.
    chained: u32,
}

/// The commands that have run after a change, and succeeded.
#[derive(Debug, Default)]
struct Batch {
    modules: Vec<String>,
    output: String,
    took: Duration,
    /// Whether one of them had failed before.
    recovered: bool,
}

impl Batch {
    fn build_ms(&self) -> f64 {
        self.took.as_secs_f64() * 1e3
    }

    /// Makes the event that shows what the commands have printed.
    fn printed(&self) -> Event {
        Event::Built {
            modules: self.modules.clone(),
            took_ms: self.build_ms(),
            output: self.output.clone(),
            new: true,
            is_current: false,
            outdated: Vec::new(),
            recovered: false,
            stale_timestamp: None,
        }
    }

    /// Makes the event that no swap follows. `current`: the files hold the running code, which
    /// these processes do not run.
    fn unchanged(
        &self,
        current: Option<Vec<Outdated>>,
        recovered: bool,
        stale_timestamp: Option<String>,
    ) -> Event {
        Event::Built {
            modules: self.modules.clone(),
            took_ms: self.build_ms(),
            output: String::new(),
            new: false,
            is_current: current.is_some(),
            outdated: current.unwrap_or_default(),
            recovered,
            stale_timestamp,
        }
    }
}

impl Rebuilder {
    pub(crate) fn new(app: BuildWatcher, node: &Node) -> Rebuilder {
        Rebuilder {
            app,
            events: node.event_source().clone(),
            live: Live::new(node.clone()),
            failing: HashSet::new(),
            missing: false,
            chained: 0,
        }
    }

    /// Returns the module files.
    pub(crate) fn module_paths(&self) -> BTreeMap<String, PathBuf> {
        self.app.module_paths()
    }

    /// Returns the folders in which every entry matters.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.app.sources.folders()
    }

    /// Returns the entries of other folders that matter.
    pub(crate) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let of_manifest = deciding_entries(self.app.file.path());
        self.app.sources.entries().chain(of_manifest)
    }

    /// Returns after which time to build without an event, because something has changed during a
    /// build. It grows as long as the builds themselves cause the changes.
    pub(crate) fn backoff(&self) -> Option<Duration> {
        let pause = SAVED * 2_u32.saturating_pow(self.chained.min(MAX_BACKOFF));
        self.app.sources.is_pending().then_some(pause)
    }

    /// Returns whether something has changed in addition to what changed during the last build.
    pub(crate) fn has_news(&mut self) -> bool {
        let news = self.app.sources.has_news() || self.app.file.has_changed();
        if news {
            // The change is not caused by the build.
            self.chained = 0;
        }
        news
    }

    /// Scans the manifest and the sources, builds what has changed, and has the results swapped in.
    /// `noticed` is the time of the change by the node's clock.
    pub(crate) fn build_changes(&mut self, noticed: u64, files: &mut ModuleFiles) {
        self.detect_build_loop();
        let mut changed = self.app.sources.scan();
        let mut steps = self.app.manifest.builds();
        steps.retain(|step| changed.iter().any(|file| reads(step, file)));
        let mut edit = None;
        if self.app.file.take_change() {
            changed.push(self.app.file.path().to_owned());
            edit = self.begin_edit(files, &mut steps);
        }
        if !steps.is_empty() {
            self.build(&steps, &changed, noticed, files);
        }
        if let Some(begun) = edit {
            // Modules that came with the edit, if no build here makes them.
            let scanned = files.scan(noticed, &Cause::Event);
            self.live.finish(begun, &self.app.manifest);
            self.missing =
                scanned == ScanResult::Refused || !self.failing.is_empty() || !files.are_loaded();
        }
    }

    /// Counts builds that are triggered by builds, and reports a loop once.
    fn detect_build_loop(&mut self) {
        if !self.app.sources.is_pending() {
            self.chained = 0;
            return;
        }
        self.chained += 1;
        if self.chained == LOOP {
            let files: Vec<PathBuf> = self.app.sources.pending().cloned().collect();
            self.events.publish(Event::BuildLoop {
                files: self.app.shown(&files),
            });
        }
    }

    /// Reads an edited manifest, and begins to apply it. Adds the builds that it requires to `due`.
    fn begin_edit(&mut self, files: &mut ModuleFiles, due: &mut Vec<BuildStep>) -> Option<Begun> {
        let manifest = match self.app.file.load() {
            Ok(manifest) => manifest,
            Err(error) => {
                self.events.publish(Event::ManifestRefused {
                    reason: error.to_string(),
                });
                return None;
            }
        };
        files.follow(module_paths(&manifest));
        let before = std::mem::replace(&mut self.app.manifest, manifest);
        let (old, new) = (before.builds(), self.app.manifest.builds());
        if old != new {
            due.retain(|step| new.contains(step));
            due.extend(new.iter().filter(|step| !old.contains(step)).cloned());
            self.app.rescan_sources();
            self.failing
                .retain(|command| new.iter().any(|step| step.command == *command));
        }
        files.set_unbuilt(self.unbuilt());
        Some(self.live.begin(before, &mut self.app.manifest))
    }

    /// Runs build commands, and has the results swapped in.
    fn build(
        &mut self,
        steps: &[BuildStep],
        changed: &[PathBuf],
        noticed: u64,
        files: &mut ModuleFiles,
    ) {
        let shown = self.app.shown(changed);
        let made_before = self.oldest(steps);
        let batch = self.run(steps, &shown);
        // Nothing is read while a command runs: this thread does both.
        files.set_unbuilt(self.unbuilt());
        if batch.modules.is_empty() {
            return;
        }
        if !batch.output.trim().is_empty() {
            self.events.publish(batch.printed());
        }
        let made = BuildInfo {
            changed: shown,
            build_ms: batch.build_ms(),
        };
        let scanned = files.scan(noticed, &Cause::Built(made, batch.modules.clone()));
        match scanned {
            ScanResult::Refused => {}
            ScanResult::Swapped => self.swapped(),
            ScanResult::Nothing | ScanResult::Same(_) => {
                let is_current = files.are_running(&batch.modules);
                let recovered =
                    is_current && (batch.recovered || scanned == ScanResult::Same(true));
                let stale_timestamp = match recovered {
                    true => None,
                    false => self.stale_timestamp(changed, made_before),
                };
                let current = is_current.then(|| files.outdated(&batch.modules));
                self.events
                    .publish(batch.unchanged(current, recovered, stale_timestamp));
            }
        }
    }

    /// Runs build commands one after the other. Failures are reported.
    fn run(&mut self, steps: &[BuildStep], changed: &[String]) -> Batch {
        let mut batch = Batch::default();
        for step in steps {
            let Some(built) = self.run_one(step, changed) else {
                continue;
            };
            batch.recovered |= self.failing.remove(&step.command);
            batch.modules.extend(step.modules.iter().cloned());
            batch.output += &built.output;
            batch.took += built.took;
        }
        batch
    }

    fn run_one(&mut self, step: &BuildStep, changed: &[String]) -> Option<Built> {
        self.events.publish(Event::Building {
            modules: step.modules.clone(),
            changed: changed.to_vec(),
        });
        let show = Show::AtTheEnd {
            colours: self.app.colours,
        };
        let error = match self.app.run(step, show) {
            Ok(built) => return Some(built),
            Err(error) => error,
        };
        self.failing.insert(step.command.clone());
        if !error.stopped {
            self.events.publish(Event::BuildFailed {
                modules: step.modules.clone(),
                reason: error.to_string(),
                took_ms: error.took.as_secs_f64() * 1e3,
                output: error.output,
            });
        }
        None
    }

    /// Returns the modules that a command makes whose last run failed. It may have written
    /// the files of some and not of others, and none completely.
    fn unbuilt(&self) -> HashSet<String> {
        let steps = self.app.manifest.builds().into_iter();
        steps
            .filter(|step| self.failing.contains(&step.command))
            .flat_map(|step| step.modules)
            .collect()
    }

    /// Called when modules are new: starts children that were missing them.
    pub(crate) fn swapped(&mut self) {
        if std::mem::take(&mut self.missing) {
            self.live.start_missing(&self.app.manifest);
        }
    }

    /// Returns the oldest modification time of the files that these steps make.
    fn oldest(&self, steps: &[BuildStep]) -> Option<SystemTime> {
        let modules = steps.iter().flat_map(|step| &step.modules);
        let times = modules.filter_map(|name| modified(&self.app.manifest.modules.get(name)?.path));
        times.min()
    }

    /// Returns the first changed source with a timestamp before `made`, the time of what was last
    /// built from it. Tools that compare timestamps took it for unchanged.
    fn stale_timestamp(&self, changed: &[PathBuf], made: Option<SystemTime>) -> Option<String> {
        let made = made?;
        let is_older = |file: &&PathBuf| modified(file).is_some_and(|time| time < made);
        let mut sources = (changed.iter()).filter(|file| *file != self.app.file.path());
        let source = sources.find(is_older)?;
        self.app.shown(std::slice::from_ref(source)).pop()
    }
}

fn reads(step: &BuildStep, file: &Path) -> bool {
    step.sources.iter().any(|source| file.starts_with(source))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}
