//! The manifest of an app, `exuvia.toml`: its modules, its supervision tree, names and limits.
//! `docs/manifest.md` describes every key.
//!
//! Reading a manifest needs no node and starts nothing, so `check`, editors and tests can use it
//! alone. Every mistake in a file is reported at once, each with its line, its cause and its fix
//! (see [`ManifestError`]). No text makes it panic.
//!
//! The text is parsed by `toml` into a tree with the position of every key, and `read` walks that
//! tree by hand: serde's derive would report only the first mistake, without the path to it.

mod cargo;
mod error;
mod read;
mod table;
mod tree;
mod value;
mod wasi;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exuvia_abi::Priority;
use exuvia_engine::MAX_MODULE_BYTES;
use exuvia_process::Grants;
use exuvia_scheduler::OTHERS_SHARE;
use exuvia_supervisor::{Restart, Shutdown, Strategy, SupervisorSpec};

use crate::files;
use crate::logger::LogRules;
use serde::Serialize;

use error::{Found, Problems};
pub use error::{ManifestError, Place, Problem};

/// The name of the manifest file in an app's folder.
pub const FILE_NAME: &str = "exuvia.toml";

/// The maximum size of a manifest in bytes. One that is written by hand has a few kilobytes.
pub const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The maximum number of children in a manifest, `count` included. They all start with the node;
/// later ones are started by processes and have limits of their own.
pub const MAX_CHILDREN: u64 = 1_000_000;

/// The maximum nesting of supervisors.
pub const MAX_SUPERVISOR_DEPTH: usize = 16;

/// The maximum length of an id or a registered name in bytes, as for Erlang's atoms.
pub const MAX_NAME_BYTES: usize = 255;

/// A manifest that has been read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `[app] name`.
    pub name: String,
    /// `[node]`.
    pub node: NodeSettings,
    /// `[log]`, and `log` of the modules.
    pub log: LogRules,
    /// `[modules.*]` by name.
    pub modules: BTreeMap<String, Module>,
    /// `[config]`.
    pub config: AppConfig,
    /// `[limits]`: the limits of modules that do not set their own.
    pub limits: Limits,
    /// `[supervisor]`, the root of the tree.
    pub supervisor: SupervisorEntry,
    /// The folder that paths are relative to.
    pub base_dir: PathBuf,
    memories: Vec<OwnMemory>,
    source: Source,
}

/// A child's own `limits.memory`, which must not be less than what its module starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnMemory {
    /// The id of the child as written.
    pub(crate) child: String,
    /// A key of [`Manifest::modules`].
    pub(crate) module: String,
    /// The limit in bytes.
    pub(crate) memory: u64,
    span: Range<usize>,
}

/// Settings of the whole node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The number of scheduler threads; by default one per core.
    pub schedulers: Option<u32>,
    /// The maximum number of resident processes; by default the node decides.
    pub frames: Option<u32>,
    /// Bytes of memory that resident processes may keep; by default the node decides.
    pub frame_memory: Option<u64>,
    /// Of a hundred slices, those that processes of NORMAL and LOW priority get while ones of HIGH
    /// priority are ready.
    pub normal_share: u32,
    /// The maximum number of processes; by default the node decides.
    pub processes: Option<u32>,
    /// The number of messages of each process that are transactions after a swap.
    pub probation: u32,
    /// How long a swap may be verified on copies of processes before its commit.
    pub verify: Duration,
    /// The number of failures caused by a release at which it is rolled back.
    pub release_threshold: u32,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            schedulers: None,
            frames: None,
            frame_memory: None,
            normal_share: OTHERS_SHARE,
            processes: None,
            probation: 3,
            verify: Duration::from_millis(100),
            release_threshold: 3,
        }
    }
}

/// What one process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Messages in the mailbox.
    pub mailbox_messages: u64,
    /// Bytes of the messages in the mailbox.
    pub mailbox_bytes: u64,
    /// Bytes of one message.
    pub message_bytes: u64,
    /// Living processes that it has started; for a supervisor, its children.
    pub children: u64,
    /// Living processes below it: its children, their children, and so on; by default as many as
    /// the node may have.
    pub descendants: Option<u64>,
    /// Bytes in its tables.
    pub tables: u64,
    /// The highest priority that it may have.
    #[serde(serialize_with = "lower_case")]
    pub priority: Priority,
    /// Files that it may have open through WASI.
    pub files: u64,
    /// What it may use through WASI: the table `wasi` next to `limits`.
    #[serde(rename = "wasi", serialize_with = "shown")]
    pub grants: Arc<Grants>,
}

fn shown<S: serde::Serializer>(grants: &Arc<Grants>, to: S) -> Result<S::Ok, S::Error> {
    crate::grants::shown(grants, to)
}

fn lower_case<S: serde::Serializer>(priority: &Priority, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{priority:?}").to_lowercase())
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 16 << 20,
            mailbox_messages: 100_000,
            mailbox_bytes: 64 << 20,
            message_bytes: 16 << 20,
            children: 1_000_000,
            descendants: None,
            tables: 64 << 20,
            priority: Priority::Normal,
            files: 64,
            grants: Arc::default(),
        }
    }
}

/// The configuration of the app: values in MessagePack by key, both tables and what is in them. A
/// key is the path of names, joined by dots.
pub type AppConfig = BTreeMap<String, Vec<u8>>;

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The path of its file: the manifest's folder and the given path.
    pub path: PathBuf,
    /// The limits of its processes.
    pub limits: Limits,
    /// How the file is built; `None`: not by a command of the manifest.
    pub build: Option<Build>,
    /// What [`Manifest::for_development`] uses instead.
    dev: Option<Dev>,
    /// The setting of cargo that moves the file from where the manifest has it.
    moved_by: Option<String>,
    /// The position of the path in the manifest.
    path_span: Range<usize>,
}

/// Another file of the same module, and how it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dev {
    path: PathBuf,
    path_span: Range<usize>,
    build: Build,
    moved_by: Option<String>,
}

/// How the file of a module is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// A command for `sh`, run in the manifest's folder.
    pub command: String,
    /// The files and folders that it reads. A change of one of them triggers the command in
    /// development.
    pub sources: Vec<PathBuf>,
}

/// A build command, and everything that it builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStep {
    /// A command for `sh`.
    pub command: String,
    /// The modules that have this command, in order.
    pub modules: Vec<String>,
    /// The sources of all of them.
    pub sources: Vec<PathBuf>,
}

/// A supervisor in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorEntry {
    /// Which children are restarted together.
    pub strategy: Strategy,
    /// The maximum number of restarts within the period.
    pub intensity: u32,
    /// The period.
    pub period: Duration,
    /// The maximum number of children (`[limits] children`).
    pub max_children: u64,
    /// Its children, in start order.
    pub children: Vec<Child>,
}

impl Default for SupervisorEntry {
    fn default() -> Self {
        let spec = SupervisorSpec::default();
        Self {
            strategy: spec.strategy,
            intensity: spec.intensity,
            period: Duration::from_millis(spec.period_ms),
            max_children: Limits::default().children,
            children: Vec::new(),
        }
    }
}

impl SupervisorEntry {
    /// Returns its children that are processes, and those of the supervisors below.
    pub(crate) fn processes(&self) -> Vec<&Process> {
        let mut processes = Vec::new();
        for child in &self.children {
            match &child.work {
                Work::Process(process) => processes.push(process),
                Work::Supervisor(supervisor) => processes.extend(supervisor.processes()),
            }
        }
        processes
    }

    /// Returns the specification for the state machine.
    pub fn spec(&self) -> SupervisorSpec {
        SupervisorSpec {
            strategy: self.strategy,
            intensity: self.intensity,
            period_ms: u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX),
            max_children: usize::try_from(self.max_children).unwrap_or(usize::MAX),
        }
    }
}

/// One entry under `children`; with `count`, that many children.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// The id as written. With `count` the ids of the children are derived from it: see
    /// [`Child::instances`].
    pub id: String,
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// What runs.
    pub work: Work,
}

/// What a child runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A process of a module.
    Process(Process),
    /// A nested supervisor.
    Supervisor(SupervisorEntry),
}

/// A child that is a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// A key of [`Manifest::modules`].
    pub module: String,
    /// How many of it run; by default one.
    pub count: Option<u32>,
    /// The registered name; with `count`, a pattern with `{n}`.
    pub name: Option<String>,
    /// The arguments as MessagePack; empty when there are none.
    pub args: Vec<u8>,
    /// Its limits.
    pub limits: Limits,
    /// Whether it may ask its supervisor, and those below that one, to start and stop children.
    pub manages: bool,
}

/// One child of an entry: its id and its registered name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildInstance {
    /// Unique within the supervisor.
    pub id: String,
    /// Unique within the manifest.
    pub name: Option<String>,
}

impl Child {
    /// Returns the children of this entry: itself, or with `count = 3` `id-0`, `id-1` and `id-2`,
    /// whose names have the number in place of `{n}`.
    pub fn instances(&self) -> impl Iterator<Item = ChildInstance> {
        let (count, name) = match &self.work {
            Work::Process(process) => (process.count, process.name.as_deref()),
            Work::Supervisor(_) => (None, None),
        };
        (0..count.unwrap_or(1)).map(move |n| match count {
            None => ChildInstance {
                id: self.id.clone(),
                name: name.map(str::to_owned),
            },
            Some(_) => ChildInstance {
                id: format!("{}-{n}", self.id),
                name: name.map(|name| name.replace("{n}", &n.to_string())),
            },
        })
    }
}

/// The text of the manifest, kept so that problems that are found after reading can be shown with
/// their line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    file: String,
    text: String,
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
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        let mut name: String = (stem.to_lowercase().chars())
            .map(|c| if allowed(c) { c } else { '_' })
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

    /// Checks that the file of every module can be read, and that the folders that modules are
    /// granted exist. Not part of reading, since a build may create them.
    ///
    /// # Errors
    ///
    /// All files and folders that are missing or unusable.
    pub fn check_files(&self) -> Result<(), ManifestError> {
        let mut problems = Problems::default();
        for (name, module) in &self.modules {
            let folders = module.limits.grants.folders.iter();
            for folder in folders.filter(|folder| !folder.host.is_dir()) {
                problems.add(
                    Found::at(
                        module.path_span.clone(),
                        format!(
                            "the folder that module `{name}` is granted as `{}` is {}",
                            folder.guest,
                            if folder.host.exists() {
                                "no folder"
                            } else {
                                "not there"
                            }
                        ),
                    )
                    .label(format!("looked for {}", folder.host.display()))
                    .help(match folder.host.exists() {
                        true => "correct the path in `wasi.dirs`".to_owned(),
                        false => format!(
                            "`mkdir -p {}`, or correct the path in `wasi.dirs`",
                            folder.host.display()
                        ),
                    }),
                );
            }
            let Err(what) = usable(&module.path) else {
                continue;
            };
            let full = std::path::absolute(&module.path).unwrap_or_else(|_| module.path.clone());
            problems.add(
                Found::at(
                    module.path_span.clone(),
                    format!("the file of module `{name}` {what}"),
                )
                .label(match &module.moved_by {
                    None => format!("looked for {}", full.display()),
                    Some(by) => {
                        format!(
                            "looked for {}, where cargo writes it because of {by}",
                            full.display()
                        )
                    }
                })
                .help(match &module.build {
                    Some(build) => format!(
                        "`exuvia build` makes it, with `{}`; or correct the path: it is relative \
                         to the manifest's folder, {}",
                        build.command,
                        shown_dir(&self.base_dir)
                    ),
                    None => format!(
                        "build the module, or correct the path: it is relative to the manifest's \
                         folder, {}",
                        shown_dir(&self.base_dir)
                    ),
                }),
            );
        }
        self.told(problems)
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

    fn told(&self, problems: Problems) -> Result<(), ManifestError> {
        if problems.is_empty() {
            return Ok(());
        }
        let Source { file, text } = &self.source;
        Err(ManifestError::new(file, text, problems))
    }

    /// Returns the folders that processes may write to.
    pub fn written_folders(&self) -> Vec<PathBuf> {
        let modules = self.modules.values().map(|module| &module.limits);
        let children = self.supervisor.processes().into_iter();
        modules
            .chain(children.map(|process| &process.limits))
            .flat_map(|limits| &limits.grants.folders)
            .filter(|folder| folder.write)
            .map(|folder| folder.host.clone())
            .collect()
    }

    /// Returns the most memory that any process may have, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
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
    pub(crate) fn own_memories(&self) -> &[OwnMemory] {
        &self.memories
    }

    /// Checks that every child may have as much memory as its module starts with, which is known
    /// when the module has been loaded.
    ///
    /// # Errors
    ///
    /// All children that may have less.
    pub(crate) fn check_memories(
        &self,
        begins_with: impl Fn(&str) -> Option<u64>,
    ) -> Result<(), ManifestError> {
        let mut problems = Problems::default();
        for own in &self.memories {
            let OwnMemory { child, module, .. } = own;
            let Some(wanted) = begins_with(module).filter(|wanted| *wanted > own.memory) else {
                continue;
            };
            problems.add(
                Found::at(
                    own.span.clone(),
                    format!(
                        "the memory limit of child `{child}` is {} bytes, but its module `{module}` starts with {wanted}",
                        own.memory
                    ),
                )
                .label(format!("less than {}", value::shown_size(wanted)))
                .help(format!(
                    "write \"{}\" or more, or build the module with a smaller initial memory",
                    value::shown_size(wanted)
                )),
            );
        }
        self.told(problems)
    }

    /// Returns how many processes start with the node, without supervisors.
    pub fn process_count(&self) -> u64 {
        fn count(supervisor: &SupervisorEntry) -> u64 {
            supervisor
                .children
                .iter()
                .map(|child| match &child.work {
                    Work::Process(process) => u64::from(process.count.unwrap_or(1)),
                    Work::Supervisor(supervisor) => count(supervisor),
                })
                .sum()
        }
        count(&self.supervisor)
    }
}

/// Checks that a module can be read from a path.
///
/// # Errors
///
/// What is wrong with the file, as the end of a sentence.
pub fn usable(path: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let kind = std::fs::metadata(path).map_err(told)?;
    if kind.is_dir() {
        return Err("is a folder".to_owned());
    }
    if !kind.is_file() {
        return Err(files::NO_FILE.to_owned());
    }
    if kind.len() > MAX_MODULE_BYTES as u64 {
        return Err(format!(
            "has more than {MAX_MODULE_BYTES} bytes, which is the limit"
        ));
    }
    files::open(path).map(drop).map_err(told)
}

fn shown_dir(dir: &Path) -> String {
    let full = std::path::absolute(dir).or_else(|_| std::env::current_dir());
    full.unwrap_or_else(|_| dir.to_path_buf())
        .display()
        .to_string()
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
