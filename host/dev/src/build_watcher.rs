//! The manifest of an app, its sources and its build commands, without a running app.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_manifest::{BuildStep, Manifest, ManifestError};

use crate::build::{BuildError, Built, Show, Stopper, build};
use crate::sources::Sources;
use crate::stamp::{Stamp, stamp};

mod manifest_file;

use manifest_file::ManifestFile;

/// How often files are polled while there is no node, and so no watcher.
const POLL: Duration = Duration::from_millis(250);

/// The manifest of an app, its sources and its builds. Before the app runs, it builds everything
/// ([`BuildWatcher::build`]) and waits for a change that may fix a failure
/// ([`BuildWatcher::wait`]); then [`Watcher::develop`](crate::Watcher::develop) takes it.
#[derive(Debug)]
pub struct BuildWatcher {
    pub(crate) file: ManifestFile,
    pub(crate) manifest: Manifest,
    pub(crate) sources: Sources,
    /// The stamps of module files that no build makes, as they were before the boot.
    others: HashMap<PathBuf, Option<Stamp>>,
    /// Whether builds are asked for colours.
    pub(crate) colours: bool,
    pub(crate) stopper: Stopper,
}

impl BuildWatcher {
    /// Opens the app in a folder, or that of a manifest file. With `colours`, builds are asked for
    /// colours in the output in [`Event::Built`](crate::Event::Built) and
    /// [`Event::BuildFailed`](crate::Event::BuildFailed).
    ///
    /// # Errors
    ///
    /// What is wrong with the manifest.
    pub fn open(app: &Path, colours: bool) -> Result<BuildWatcher, ManifestError> {
        // Before the manifest is read, so that an edit in between is detected.
        let file = ManifestFile::open(app);
        let manifest = file.load()?;
        Ok(BuildWatcher {
            others: others(&manifest),
            sources: sources(&manifest, file.path()),
            file,
            manifest,
            colours,
            stopper: Stopper::default(),
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
        self.run(step, Show::AsItComes)
    }

    pub(crate) fn run(&mut self, step: &BuildStep, show: Show) -> Result<Built, BuildError> {
        let built = build(step, &self.manifest.base_dir, show, &self.stopper);
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
            let mut changed = self.sources.scan();
            if self.file.take_change() {
                self.manifest = self.file.load()?;
                self.rescan_sources();
                self.others = others(&self.manifest);
                changed.push(self.file.path().to_owned());
                return Ok(self.shown(&changed));
            }
            let now = others(&self.manifest);
            let differs = now
                .iter()
                .filter(|(file, stamp)| self.others.get(*file) != Some(*stamp));
            changed.extend(differs.map(|(file, _)| file.clone()));
            if !changed.is_empty() {
                self.others = now;
                return Ok(self.shown(&changed));
            }
            std::thread::park_timeout(POLL);
        }
        Ok(Vec::new())
    }

    /// Scans the sources that the manifest names now.
    pub(crate) fn rescan_sources(&mut self) {
        self.sources = sources(&self.manifest, self.file.path());
    }

    /// Returns the module files.
    pub(crate) fn module_paths(&self) -> BTreeMap<String, PathBuf> {
        module_paths(&self.manifest)
    }

    /// Returns paths as the user knows them.
    pub(crate) fn shown(&self, paths: &[PathBuf]) -> Vec<String> {
        let folder = &self.manifest.base_dir;
        let shown = |path: &PathBuf| {
            let path = path.strip_prefix(folder).unwrap_or(path);
            path.display().to_string()
        };
        paths.iter().map(shown).collect()
    }
}

/// Returns the module files of a manifest.
pub(crate) fn module_paths(manifest: &Manifest) -> BTreeMap<String, PathBuf> {
    let modules = manifest.modules.iter();
    modules
        .map(|(name, module)| (name.clone(), module.path.clone()))
        .collect()
}

/// Returns the stamps of the module files that no build makes.
fn others(manifest: &Manifest) -> HashMap<PathBuf, Option<Stamp>> {
    let modules = manifest.modules.values();
    modules
        .filter(|module| module.build.is_none())
        .map(|module| (module.path.clone(), stamp(&module.path)))
        .collect()
}

/// Returns the sources without the manifest, which is checked separately: an edit of it is no
/// reason to build.
fn sources(manifest: &Manifest, file: &Path) -> Sources {
    let steps = manifest.builds().into_iter();
    let roots: HashSet<PathBuf> = steps.flat_map(|step| step.sources).collect();
    let built_files = module_paths(manifest).into_values();
    let built_files = built_files.chain([file.to_owned()]);
    Sources::new(roots, built_files, manifest.written_folders())
}
