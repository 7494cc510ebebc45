//! A manifest as a whole, where it comes from, and what can be asked of it.
//!
//! The text is parsed by `toml` into a tree with the position of every key, and `read` walks that
//! tree by hand: serde's derive would report only the first mistake, without the path to it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Found, ManifestError, Problems};
use crate::limits::{Grants, Limits};
use crate::listen::Listen;
use crate::module::{BuildStep, Module};
use crate::settings::{LogSettings, NodeSettings, ReleaseSettings};
use crate::supervisor::{MAX_NAME_BYTES, SupervisorEntry, Work};
use crate::{files, read};

/// The name of the manifest file in an app's folder.
pub const FILE_NAME: &str = "exuvia.toml";

/// The maximum size of a manifest in bytes. One that is written by hand has a few kilobytes.
pub const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// A manifest that has been read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `[app] name`.
    pub name: String,
    /// `[node]`.
    pub node: NodeSettings,
    /// `[log]`, and `log` of the modules.
    pub log: LogSettings,
    /// `[releases]`.
    pub releases: ReleaseSettings,
    /// `[modules.*]` by name.
    pub modules: BTreeMap<String, Module>,
    /// `[config]`.
    pub config: AppConfig,
    /// `[limits]`: the limits of modules that do not set their own.
    pub limits: Limits,
    /// `[supervisor]`, the root of the tree.
    pub supervisor: SupervisorEntry,
    /// `[[listen]]`: where HTTP is served.
    pub listen: Vec<Listen>,
    /// The folder that paths are relative to.
    pub base_dir: PathBuf,
    pub(crate) memories: Vec<OwnMemory>,
    pub(crate) source: Source,
}

/// A child's own `limits.memory`, which must not be less than what its module starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnMemory {
    /// The id of the child as written.
    pub child: String,
    /// A key of [`Manifest::modules`].
    pub module: String,
    /// The limit in bytes.
    pub memory: u64,
    pub(crate) span: Range<usize>,
}

/// The configuration of the app: values in MessagePack by key, both tables and what is in them. A
/// key is the path of names, joined by dots.
pub type AppConfig = BTreeMap<String, Vec<u8>>;

/// The text of the manifest, kept so that problems that are found after reading can be shown with
/// their line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Manifest {
    /// Reads a manifest file, or `exuvia.toml` in a folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be read; otherwise everything that is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let given = path.as_ref();
        let path = if given.is_dir() {
            given.join(FILE_NAME)
        } else {
            given.to_path_buf()
        };
        let file = path.display().to_string();
        let text = read_file(&path).map_err(|found| ManifestError::without_place(&file, found))?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        let mut manifest = Self::parse(&text, &file, base_dir)?;
        manifest.follow_cargo();
        Ok(manifest)
    }

    /// Returns the manifest of an app that has one process of one module, both named after the
    /// module's file.
    ///
    /// # Errors
    ///
    /// If no valid manifest can be made for the file.
    pub fn of_module(file: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let file = file.as_ref();
        let shown = file.display().to_string();
        let lossy = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
        let stem = file.file_stem().map(lossy).unwrap_or_default();
        let mut name: String = (stem.to_lowercase().chars())
            .map(|c| if is_app_name_character(c) { c } else { '_' })
            .collect();
        if name.is_empty() {
            name.push_str("app");
        }
        name.truncate(MAX_NAME_BYTES);
        let text = format!(
            "[app]\nname = \"{name}\"\n[modules.{name}]\npath = \"module\"\n\
             [[supervisor.children]]\nid = \"{name}\"\nname = \"{name}\"\nmodule = \"{name}\"\n"
        );
        let base_dir = file.parent().unwrap_or(Path::new(""));
        let mut manifest = Self::parse(&text, &shown, base_dir)?;
        for module in manifest.modules.values_mut() {
            module.path = file.to_owned();
        }
        Ok(manifest)
    }

    /// Reads a manifest from a text. `file_name` is only shown; paths in the manifest are relative
    /// to `base_dir`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text.
    pub fn parse(
        text: &str,
        file_name: &str,
        base_dir: impl AsRef<Path>,
    ) -> Result<Self, ManifestError> {
        let mut problems = Problems::default();
        let read = read::manifest(text, base_dir.as_ref(), &mut problems);
        match read {
            Some(manifest) if problems.is_empty() => Ok(Self {
                source: Source {
                    file: file_name.to_owned(),
                    text: text.to_owned(),
                },
                ..manifest
            }),
            _ => Err(ManifestError::new(file_name, text, problems)),
        }
    }

    /// Returns the build commands, each once, however many modules have it. They are ordered by the
    /// names of the modules.
    pub fn builds(&self) -> Vec<BuildStep> {
        let mut steps: Vec<BuildStep> = Vec::new();
        for (name, module) in &self.modules {
            let Some(build) = &module.build else {
                continue;
            };
            let known = steps.iter().position(|it| it.command == build.command);
            let at = known.unwrap_or_else(|| {
                steps.push(BuildStep {
                    command: build.command.clone(),
                    modules: Vec::new(),
                    sources: Vec::new(),
                });
                steps.len() - 1
            });
            let step = &mut steps[at];
            step.modules.push(name.clone());
            for source in &build.sources {
                if !step.sources.contains(source) {
                    step.sources.push(source.clone());
                }
            }
        }
        steps
    }

    /// Returns what processes are granted: those of each module and of each child.
    fn all_grants(&self) -> impl Iterator<Item = &Grants> {
        let modules = self.modules.values().map(|module| &module.limits);
        let children = self.supervisor.processes().into_iter();
        let all = modules.chain(children.map(|process| &process.limits));
        all.map(|limits| &limits.grants)
    }

    /// Returns the folders that processes may write to.
    pub fn written_folders(&self) -> Vec<PathBuf> {
        self.all_grants()
            .flat_map(|grants| &grants.folders)
            .filter(|folder| folder.write)
            .map(|folder| folder.host.clone())
            .collect()
    }

    /// Returns whether any process may connect to the outside.
    pub fn connects(&self) -> bool {
        self.all_grants().any(|grants| !grants.connect.is_empty())
    }

    /// Returns the most memory that any process may have, in bytes.
    pub fn most_memory(&self) -> u64 {
        let modules = self.modules.values().map(|module| module.limits.memory);
        let children = self.memories.iter().map(|own| own.memory);
        modules.chain(children).fold(self.limits.memory, u64::max)
    }

    /// Lowers every `limits.memory` to `most` bytes; returns whether one was higher.
    pub fn at_most_memory(&mut self, most: u64) -> bool {
        fn of_children(supervisor: &mut SupervisorEntry, lower: &mut impl FnMut(&mut u64)) {
            for child in &mut supervisor.children {
                match &mut child.work {
                    Work::Process(process) => lower(&mut process.limits.memory),
                    Work::Supervisor(supervisor) => of_children(supervisor, lower),
                }
            }
        }
        let mut lowered = false;
        let mut lower = |memory: &mut u64| {
            lowered |= *memory > most;
            *memory = (*memory).min(most);
        };
        lower(&mut self.limits.memory);
        for module in self.modules.values_mut() {
            lower(&mut module.limits.memory);
        }
        for own in &mut self.memories {
            lower(&mut own.memory);
        }
        of_children(&mut self.supervisor, &mut lower);
        lowered
    }

    /// Returns the children with a `limits.memory` of their own.
    pub fn own_memories(&self) -> &[OwnMemory] {
        &self.memories
    }

    /// Returns how many processes start with the node, without supervisors.
    pub fn process_count(&self) -> u64 {
        let processes = self.supervisor.processes().into_iter();
        processes
            .map(|process| u64::from(process.count.unwrap_or(1)))
            .sum()
    }
}

/// Returns whether a name of an app may have this character.
pub fn is_app_name_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-'
}

fn read_file(path: &Path) -> Result<String, Found> {
    let refused = |error: std::io::Error| {
        let found = Found::nowhere(format!("could not read the manifest: {error}"));
        match std::path::absolute(path) {
            Ok(full) if error.kind() == std::io::ErrorKind::NotFound => found.help(format!(
                "looked for {}; an app's folder contains a file `{FILE_NAME}`",
                full.display()
            )),
            _ => found,
        }
    };
    if std::fs::metadata(path).is_ok_and(|kind| !kind.is_file()) {
        return Err(Found::nowhere(format!("the manifest {}", files::NO_FILE)));
    }
    let limit = u64::try_from(MAX_MANIFEST_BYTES).unwrap_or(u64::MAX);
    let bytes = files::read_up_to(path, limit.saturating_add(1)).map_err(refused)?;
    if bytes.starts_with(b"\0asm") {
        return Err(
            Found::nowhere("this is a Wasm module, not a manifest".to_owned()).help(format!(
                "pass the app instead: a folder with a file `{FILE_NAME}` that has the module's path"
            )),
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        Found::nowhere(format!("the manifest is not UTF-8 (line {line})"))
            .help("save the file as UTF-8".to_owned())
    })
}
