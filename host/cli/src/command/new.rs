//! `exuvia new`: creates an app or a library in a folder of its own.
//!
//! All files are written to a temporary folder beside the destination, which is then renamed: a
//! failure leaves nothing behind.

mod around;
mod languages;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use exuvia_manifest::is_app_name_character;
use serde_json::json;

use crate::environment;
use crate::error::CliError;
use crate::output::{Output, Tone, clean};
use around::{Workspace, begin_repository};
use languages::{Language, Sdk};

/// The folder of the SDK in a checkout of the project.
const SDK: &str = "guest-sdk/rust";

/// The project's repository, used if there is no checkout.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The maximum length of a name: it is also the name of a crate and of a file.
const MAX_NAME: usize = 64;

/// Words that cargo rejects as a package name, or that cannot name a crate.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "exuvia",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Create an app, or a library of messages
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia new hello && cd hello && exuvia dev
  exuvia new page --template web
  exuvia new hello --lang c
  exuvia new by-hand --template wat
  exuvia new shop --template tree

The SDK is taken from the checkout that this program was built in, from --sdk, or else, for Rust, from
the project's repository.")]
pub(crate) struct Arguments {
    /// The folder to create; its last part is the name
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// The template to use
    #[arg(long, short, value_enum, default_value_t = Template::Rust)]
    template: Template,
    /// The language
    #[arg(long, short, value_enum, default_value_t = Language::Rust, conflicts_with = "template")]
    lang: Language,
    /// The folder of the language's SDK [default: of Rust $EXUVIA_SDK, else found automatically]
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
    /// Initialize a repository, unless the folder is inside one
    #[arg(long, value_enum, default_value_t = Vcs::Git)]
    vcs: Vcs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Vcs {
    Git,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// An app with one process, in Rust
    Rust,
    /// An app with a page in the browser, in Rust: a process for each path
    Web,
    /// An app with one process, in Wasm text: no compiler is needed
    Wat,
    /// An app with a supervision tree, two modules in Rust and the messages between them
    Tree,
    /// A library in Rust: messages that several modules share
    Lib,
}

/// A file of a template: its path and its text.
type File<'a> = (&'a str, &'a str);

/// Where an app has the JSON Schema of its manifest. The templates name it in the first line of
/// `exuvia.toml`; it is not committed, so that it is that of the program in use.
const SCHEMA: &str = ".exuvia/schema.json";

macro_rules! template {
    ($name:literal) => {
        include_str!(concat!("../../templates/", $name))
    };
}

impl Template {
    fn files(self) -> &'static [File<'static>] {
        match self {
            Self::Rust => &[
                ("Cargo.toml", template!("rust/Cargo.toml.in")),
                ("exuvia.toml", template!("rust/exuvia.toml.in")),
                ("README.md", template!("rust/README.md.in")),
                ("src/lib.rs", template!("rust/lib.rs")),
                (".cargo/config.toml", template!("cargo-config.toml")),
                (".gitignore", template!("gitignore")),
            ],
            Self::Web => &[
                ("Cargo.toml", template!("rust/Cargo.toml.in")),
                ("exuvia.toml", template!("web/exuvia.toml.in")),
                ("README.md", template!("web/README.md.in")),
                ("src/lib.rs", template!("web/lib.rs")),
                (".cargo/config.toml", template!("cargo-config.toml")),
                (".gitignore", template!("gitignore")),
            ],
            Self::Wat => &[
                ("exuvia.toml", template!("wat/exuvia.toml.in")),
                ("README.md", template!("wat/README.md.in")),
                (
                    "{{name}}.wat",
                    include_str!("../../../../guest-sdk/wat/counter.wat"),
                ),
                (".gitignore", template!("gitignore")),
            ],
            Self::Tree => &[
                ("Cargo.toml", template!("tree/Cargo.toml.in")),
                ("exuvia.toml", template!("tree/exuvia.toml.in")),
                ("README.md", template!("tree/README.md.in")),
                (
                    "protocol/Cargo.toml",
                    template!("tree/protocol/Cargo.toml.in"),
                ),
                ("protocol/src/lib.rs", template!("tree/protocol/lib.rs")),
                ("store/Cargo.toml", template!("tree/store/Cargo.toml.in")),
                ("store/src/lib.rs", template!("tree/store/lib.rs")),
                ("worker/Cargo.toml", template!("tree/worker/Cargo.toml.in")),
                ("worker/src/lib.rs", template!("tree/worker/lib.rs")),
                (".cargo/config.toml", template!("cargo-config.toml")),
                (".gitignore", template!("gitignore")),
            ],
            Self::Lib => &[
                ("Cargo.toml", template!("lib/Cargo.toml.in")),
                ("README.md", template!("lib/README.md.in")),
                ("src/lib.rs", template!("lib/lib.rs")),
                (".gitignore", template!("gitignore")),
            ],
        }
    }

    fn is_app(self) -> bool {
        self != Self::Lib
    }

    fn is_rust(self) -> bool {
        self != Self::Wat
    }
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), CliError> {
    let folder = &arguments.folder;
    let name = name_of(folder)?;
    free(folder)?;
    let template = arguments.template;
    let language = arguments.lang.files();
    let is_app = language.is_some() || template.is_app();
    let is_rust = language.is_none() && template.is_rust();
    let around = is_rust.then(|| Workspace::around(folder)).flatten();
    if let Some(around) = around.as_ref().filter(|_| is_app) {
        apart(around)?;
    }
    let given = arguments.sdk.as_deref();
    let sdk = match (language, template) {
        (Some(_), _) => languages::sdk(arguments.lang, given, folder)?,
        (None, Template::Wat) => Sdk::default(),
        (None, _) => Sdk {
            absolute: sdk(given)?,
            relative: String::new(),
        },
    };
    let fill = |text: &str| {
        text.replace("{{name}}", &name)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{sdk}}", &sdk.absolute)
            .replace("{{sdk_relative}}", &sdk.relative)
    };
    let schema = exuvia_manifest::schema();
    let mut files = language.unwrap_or_else(|| template.files()).to_vec();
    if is_app {
        files.push((SCHEMA, &schema));
    }
    let beside = folder.with_file_name(format!(".{name}.new-{}", std::process::id()));
    let written = write(&beside, &files, fill).and_then(|()| fs::rename(&beside, folder));
    if let Err(error) = written {
        // Remove what was written so far.
        let _ = fs::remove_dir_all(&beside);
        return Err(CliError::failed(format!(
            "could not create {}: {error}",
            folder.display()
        )));
    }
    let repository = arguments.vcs == Vcs::Git && begin_repository(folder);
    let shown = folder.display().to_string();
    if output.is_json() {
        let files: Vec<String> = files.iter().map(|(place, _)| fill(place)).collect();
        let made = json!({ "folder": shown, "files": files, "repository": repository });
        return output.value(&made);
    }
    let word = output.paint(Tone::Good, "created");
    output.line(&format!("{word} {}", clean(&shown)))?;
    if is_app {
        output.line(&format!("  next: cd {} && exuvia dev", clean(&shown)))?;
    } else if let Some(around) = around.filter(|around| around.takes.is_none()) {
        output.line(&format!(
            "  next: add \"{}\" to `members` in {}, or depend on it by its path there",
            clean(&around.below),
            clean(&around.manifest.display().to_string())
        ))?;
    }
    Ok(())
}

/// Fails if the workspace around the app would include it: an app is a workspace of its own,
/// and workspaces cannot be nested.
fn apart(around: &Workspace) -> Result<(), CliError> {
    let Some(takes) = &around.takes else {
        return Ok(());
    };
    Err(CliError::failed(format!(
        "an app is its own Cargo workspace, but the one of {} includes `{takes}`",
        around.manifest.display()
    ))
    .help(format!(
        "choose a folder outside it, or first add `exclude = [\"{}\"]` to its `[workspace]`",
        around.below
    )))
}

fn write(folder: &Path, files: &[File<'_>], fill: impl Fn(&str) -> String) -> std::io::Result<()> {
    for (place, text) in files {
        let path = folder.join(fill(place));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, fill(text))?;
    }
    Ok(())
}

/// Returns the name that a folder gives, if it is valid for an app, a module and a crate.
fn name_of(folder: &Path) -> Result<String, CliError> {
    let wrong = |why: String| {
        CliError::usage(why).help(
            "use a-z, 0-9, `_` and `-`, and begin with a letter: it names the folder, the app and the crate",
        )
    };
    let Some(name) = folder.file_name() else {
        return Err(wrong(format!("`{}` has no name", folder.display())));
    };
    let Some(name) = name.to_str() else {
        return Err(wrong("the name is not UTF-8".into()));
    };
    let begins_with_a_letter = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins_with_a_letter || !name.chars().all(is_app_name_character) {
        return Err(wrong(format!("invalid app name `{}`", clean(name))));
    }
    if name.len() > MAX_NAME {
        return Err(wrong(format!(
            "the name has more than {MAX_NAME} characters"
        )));
    }
    if RESERVED.contains(&name.replace('-', "_").as_str()) {
        return Err(wrong(format!(
            "`{name}` is reserved: no crate can have this name"
        )));
    }
    Ok(name.to_owned())
}

/// Checks that a folder can be created at the path: nothing is overwritten.
fn free(folder: &Path) -> Result<(), CliError> {
    let taken = |what: &str| {
        CliError::failed(format!("{} {what}", folder.display()))
            .help("choose another name, or remove it first")
    };
    if let Some(parent) = folder.parent()
        && !parent.as_os_str().is_empty()
    {
        fs::create_dir_all(parent).map_err(|error| {
            CliError::failed(format!("could not create {}: {error}", parent.display()))
        })?;
    }
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(taken("is not empty")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(taken("is a file")),
        Err(error) => Err(taken(&format!("cannot be read: {error}"))),
    }
}

/// Returns the SDK's dependency specification for `Cargo.toml`.
fn sdk(given: Option<&Path>) -> Result<String, CliError> {
    let given = given
        .map(Path::to_path_buf)
        .or_else(|| environment("EXUVIA_SDK").map(PathBuf::from));
    let Some(path) = given else {
        return Ok(match in_checkout(SDK, is_sdk) {
            Some(path) => dependency(&path),
            None => format!("{{ git = \"{REPOSITORY}\" }}"),
        });
    };
    match is_sdk(&path) {
        true => Ok(dependency(&path)),
        false => Err(CliError::usage(format!(
            "{} is not the Rust SDK: it has no Cargo.toml of the package `exuvia`",
            path.display()
        ))
        .help(format!("it is the folder `{SDK}` in a checkout of Exuvia"))),
    }
}

fn dependency(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A basic string of TOML accepts JSON's escapes.
    format!("{{ path = {} }}", json!(path.display().to_string()))
}

/// Returns a folder of the checkout whose target folder contains this program, if it is what is looked for.
fn in_checkout(folder: &str, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let mut folders = program.ancestors().map(|above| above.join(folder));
    folders.find(|path| is_it(path))
}

fn is_sdk(path: &Path) -> bool {
    fs::read_to_string(path.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"exuvia\""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::name_of;

    #[test]
    fn names() {
        for (folder, name) in [("hello", "hello"), ("/tmp/a-b_2", "a-b_2"), ("x/", "x")] {
            assert_eq!(name_of(Path::new(folder)).unwrap(), name);
        }
        for folder in [
            "",
            "/",
            "..",
            "Hello",
            "1st",
            "-x",
            "a b",
            "a.b",
            "é",
            "core",
            "proc-macro",
            "exuvia",
            &"x".repeat(65),
        ] {
            assert!(name_of(Path::new(folder)).is_err(), "{folder}");
        }
    }
}
