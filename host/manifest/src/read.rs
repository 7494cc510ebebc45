//! Converts the parsed TOML to the manifest: the keys are those of `keys`.
//! The supervision tree is read in `tree`.
//!
//! Each function continues after a mistake, with the default in place of the bad value, so that all
//! mistakes are found in one pass. The result is used only if there was none.

mod browser;
mod listen;
mod table;
mod tree;
pub(crate) mod value;
mod wasi;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use crate::error::{Found, Problems};
use crate::keys::{LAYOUTS, LEVELS, MODULE, PRIORITIES, ROOT};
use crate::manifest::{Source, is_app_name_character};
use crate::module::{Dev, MemoryLayout};
use crate::{
    AppConfig, Build, Limits, LogSettings, MAX_NAME_BYTES, Manifest, Module, NodeSettings,
    ReleaseSettings,
};
use table::Value;
use table::{At, Table, as_table, parse, wrong_type};
use wasi::{check_folders, grants};

pub(crate) fn manifest(text: &str, base_dir: &Path, problems: &mut Problems) -> Option<Manifest> {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(found) => {
            problems.add(found);
            return None;
        }
    };
    let root = Table::new(parsed.get_ref(), &ROOT, 0..0, "the manifest".to_owned());
    let name = app_name(&root, problems);
    let node = node(&root, problems);
    let limits = limits(&root, &Limits::default(), "", problems);
    let config = config(&root, problems);
    let mut log = log(&root, problems);
    let releases = releases(&root, problems);
    let modules = modules(&root, base_dir, &limits, &mut log, problems);
    let (supervisor, memories) =
        tree::supervisor(&root, &modules, &limits, (text, base_dir), problems);
    let listen = listen::listen(&root, base_dir, &modules, problems);
    root.finish(problems);
    let manifest = Manifest {
        name: name.unwrap_or_default(),
        node,
        log,
        releases,
        modules,
        config,
        limits,
        supervisor,
        listen,
        base_dir: base_dir.to_path_buf(),
        memories,
        source: Source {
            file: String::new(),
            text: String::new(),
        },
    };
    check_folders(&manifest, problems);
    Some(manifest)
}

fn app_name(root: &Table<'_, '_>, problems: &mut Problems) -> Option<String> {
    let Some(app) = root.table("app", || "`[app]`".to_owned(), problems) else {
        if root.key_span("app").is_none() {
            problems.add(
                Found::at(0..0, "the app has no name".to_owned())
                    .help("add:  [app]  with  name = \"my-app\"".to_owned()),
            );
        }
        return None;
    };
    if app.key_span("name").is_none() {
        problems.add(Found::at(
            app.span.clone(),
            "`name` is missing in `[app]`".to_owned(),
        ));
    }
    let name = app.name("name", problems);
    app.finish(problems);
    let name = name?;
    if !name.value.chars().all(is_app_name_character) {
        problems.add(
            Found::at(name.span, "invalid characters in the app's name".to_owned())
                .label("only a-z, 0-9, `_` and `-` are allowed".to_owned()),
        );
    }
    Some(name.value.to_owned())
}

fn node(root: &Table<'_, '_>, problems: &mut Problems) -> NodeSettings {
    let defaults = NodeSettings::default();
    let Some(mut table) = root.table("node", || "`[node]`".to_owned(), problems) else {
        return defaults;
    };
    let settings = NodeSettings {
        schedulers: table.integer32("schedulers", problems),
        frames: table
            .integer32("frames", problems)
            .filter(|frames| *frames > 0),
        frame_memory: table.size("frame_memory", problems),
        normal_share: table
            .integer32("normal_share", problems)
            .unwrap_or(defaults.normal_share),
        processes: table.integer32("processes", problems),
        probation: table
            .integer32("probation", problems)
            .unwrap_or(defaults.probation),
        verify: table
            .duration("verify", problems)
            .unwrap_or(defaults.verify),
        release_threshold: table
            .integer32("release_threshold", problems)
            .unwrap_or(defaults.release_threshold),
        drain_per_s: table
            .integer32("drain_per_s", problems)
            .unwrap_or(defaults.drain_per_s),
    };
    table.retired_duration("verify_ms", "verify", Duration::from_millis(1), problems);
    table.finish(problems);
    settings
}

/// Reads `limits` of a table; limits that it does not set are those of `around`.
fn limits(parent: &Table<'_, '_>, around: &Limits, path: &str, problems: &mut Problems) -> Limits {
    let title = || format!("`[{path}limits]`");
    let Some(table) = parent.table("limits", title, problems) else {
        return around.clone();
    };
    let limits = Limits {
        memory: table.size("memory", problems).unwrap_or(around.memory),
        mailbox_messages: table
            .integer("mailbox_messages", problems)
            .unwrap_or(around.mailbox_messages),
        mailbox_bytes: table
            .size("mailbox_bytes", problems)
            .unwrap_or(around.mailbox_bytes),
        message_bytes: table
            .size("message_bytes", problems)
            .unwrap_or(around.message_bytes),
        children: table
            .integer("children", problems)
            .unwrap_or(around.children),
        descendants: table
            .integer("descendants", problems)
            .or(around.descendants),
        tables: table.size("tables", problems).unwrap_or(around.tables),
        priority: table
            .choice("priority", &PRIORITIES, problems)
            .unwrap_or(around.priority),
        files: table.integer("files", problems).unwrap_or(around.files),
        grants: around.grants.clone(),
    };
    table.finish(problems);
    limits
}

/// Flattens `[config]`: every value by its key, in MessagePack.
fn config(root: &Table<'_, '_>, problems: &mut Problems) -> AppConfig {
    let mut config = AppConfig::new();
    let Some(value) = root.get("config") else {
        return config;
    };
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        problems.add(wrong_type("config", "a table", value));
    } else if value::pack(value, problems).is_some() {
        flatten(String::new(), value, &mut config, problems);
        let bytes: usize = config.values().map(Vec::len).sum();
        if bytes > MAX_CONFIG_BYTES {
            problems.add(Found::at(
                value.span(),
                format!("`[config]` takes {bytes} bytes, more than {MAX_CONFIG_BYTES}"),
            ));
        }
    }
    config
}

/// The maximum size of the flattened `[config]`. Every table is stored in addition to its contents,
/// so a value counts as often as it is deep.
const MAX_CONFIG_BYTES: usize = 16 << 20;

fn flatten(path: String, value: &Value<'_>, config: &mut AppConfig, problems: &mut Problems) {
    if let DeValue::Table(table) = value.get_ref() {
        for (key, value) in table {
            let dot = if path.is_empty() { "" } else { "." };
            let path = format!("{path}{dot}{}", key.get_ref());
            flatten(path, value, config, problems);
        }
    }
    if let Some(packed) = value::pack(value, problems) {
        config.insert(path, packed);
    }
}

fn log(root: &Table<'_, '_>, problems: &mut Problems) -> LogSettings {
    let defaults = LogSettings::default();
    let Some(table) = root.table("log", || "`[log]`".to_owned(), problems) else {
        return defaults;
    };
    let rules = LogSettings {
        level: table
            .choice("level", &LEVELS, problems)
            .unwrap_or(defaults.level),
        modules: defaults.modules,
        lines_per_s: table
            .integer32("lines_per_s", problems)
            .unwrap_or(defaults.lines_per_s),
    };
    table.finish(problems);
    rules
}

fn releases(root: &Table<'_, '_>, problems: &mut Problems) -> ReleaseSettings {
    let defaults = ReleaseSettings::default();
    let Some(table) = root.table("releases", || "`[releases]`".to_owned(), problems) else {
        return defaults;
    };
    let settings = ReleaseSettings {
        keep: table.integer("keep", problems).unwrap_or(defaults.keep),
        keep_bytes: table
            .size("keep_bytes", problems)
            .unwrap_or(defaults.keep_bytes),
    };
    table.finish(problems);
    settings
}

fn modules(
    root: &Table<'_, '_>,
    base_dir: &Path,
    around: &Limits,
    log: &mut LogSettings,
    problems: &mut Problems,
) -> BTreeMap<String, Module> {
    let Some(entries) = root.entries("modules", problems) else {
        return BTreeMap::new();
    };
    let mut modules = BTreeMap::new();
    for (name, value) in entries {
        check_module_name(&name, problems);
        let title = || format!("`[modules.{}]`", name.value);
        let module = as_table(name.value, value, &MODULE, title, problems).map(|table| {
            if let Some(level) = table.choice("log", &LEVELS, problems) {
                log.modules.insert(name.value.to_owned(), level);
            }
            module(table, name.value, base_dir, around, problems)
        });
        // A module with a mistake is kept, or every child of it would be reported as well.
        modules.insert(
            name.value.to_owned(),
            module.unwrap_or(Module {
                path: PathBuf::new(),
                limits: around.clone(),
                memory_layout: MemoryLayout::default(),
                build: None,
                dev: None,
                moved_by: None,
                path_span: value.span(),
            }),
        );
    }
    modules
}

fn check_module_name(name: &At<&str>, problems: &mut Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let fits = (1..=MAX_NAME_BYTES).contains(&name.value.len());
    if !fits || !name.value.chars().all(allowed) {
        problems.add(
            Found::at(name.span.clone(), "not a name for a module".to_owned()).label(format!(
                "1 to {} of A-Z, a-z, 0-9, `_` and `-`",
                MAX_NAME_BYTES
            )),
        );
    }
}

fn module(
    table: Table<'_, '_>,
    name: &str,
    base_dir: &Path,
    around: &Limits,
    problems: &mut Problems,
) -> Module {
    let path = table.string("path", problems);
    if table.key_span("path").is_none() {
        problems.add(
            Found::at(table.span.clone(), format!("module `{name}` has no `path`"))
                .help(format!("add:  path = \"{name}.wasm\"")),
        );
    }
    if let Some(path) = path.as_ref().filter(|path| path.value.is_empty()) {
        problems.add(Found::at(path.span.clone(), "`path` is empty".to_owned()));
    }
    let place = format!("modules.{name}.");
    let mut limits = limits(&table, around, &place, problems);
    limits.grants = grants(&table, base_dir, &limits.grants, &place, problems);
    let build = build(&table, name, base_dir, problems);
    let path = path.unwrap_or(At {
        value: "",
        span: table.span.clone(),
    });
    let sources = build.as_ref().map(|build| &build.sources[..]);
    let dev = dev(&table, (name, &path), base_dir, sources, problems);
    let memory_layout = table
        .choice("memory_layout", &LAYOUTS, problems)
        .unwrap_or_default();
    table.finish(problems);
    Module {
        path: base_dir.join(path.value),
        limits,
        memory_layout,
        build,
        dev,
        moved_by: None,
        path_span: path.span,
    }
}

/// Reads `dev` of a module, whose file is `path` by default.
fn dev(
    table: &Table<'_, '_>,
    (name, path): (&str, &At<&str>),
    base_dir: &Path,
    sources: Option<&[PathBuf]>,
    problems: &mut Problems,
) -> Option<Dev> {
    let title = || format!("`[modules.{name}.dev]`");
    let table = table.table("dev", title, problems)?;
    let own = table.string("path", problems);
    let command = table.string("build", problems);
    if table.key_span("build").is_none() {
        problems.add(
            Found::at(
                table.span.clone(),
                format!("`dev` of module `{name}` has no `build`"),
            )
            .help("add the command that builds the file:  build = \"...\"".to_owned()),
        );
    }
    table.finish(problems);
    let path = own.unwrap_or_else(|| path.clone());
    let command = command?;
    if path.value.is_empty() || command.value.trim().is_empty() {
        let what = if path.value.is_empty() {
            "path"
        } else {
            "build"
        };
        let span = if path.value.is_empty() {
            path.span
        } else {
            command.span
        };
        problems.add(Found::at(span, format!("`{what}` is empty")));
        return None;
    }
    Some(Dev {
        path: base_dir.join(path.value),
        path_span: path.span,
        build: Build {
            command: command.value.trim().to_owned(),
            sources: sources.map_or_else(|| vec![base_dir.to_owned()], <[PathBuf]>::to_vec),
        },
        moved_by: None,
    })
}

/// Reads `build` and `sources` of a module.
fn build(
    table: &Table<'_, '_>,
    name: &str,
    base_dir: &Path,
    problems: &mut Problems,
) -> Option<Build> {
    let command = table.string("build", problems);
    let sources = table.strings("sources", problems);
    let Some(command) = command else {
        if let (None, Some(span)) = (table.key_span("build"), table.key_span("sources")) {
            problems.add(
                Found::at(
                    span,
                    format!("module `{name}` has `sources` but no `build`"),
                )
                .help("add the command that builds the file:  build = \"...\"".to_owned()),
            );
        }
        return None;
    };
    if command.value.trim().is_empty() {
        problems.add(Found::at(command.span, "`build` is empty".to_owned()).help(
            "write a shell command, or omit `build` if the file is built elsewhere".to_owned(),
        ));
    }
    Some(Build {
        command: command.value.trim().to_owned(),
        sources: match sources {
            Some(sources) => sources.iter().map(|at| base_dir.join(at.value)).collect(),
            None => vec![base_dir.to_owned()],
        },
    })
}
