//! The languages of `exuvia new --lang`: what each begins with, and where its SDK is.

use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;

use super::{File, in_checkout};
use crate::error::CliError;
use crate::output::clean;

/// A language with an SDK of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust, by cargo
    Rust,
    /// C, by clang or zig cc
    C,
    /// Zig
    Zig,
    /// AssemblyScript, by asc
    Assemblyscript,
    /// JavaScript and TypeScript, in QuickJS
    #[value(alias = "typescript")]
    Javascript,
    /// Go, by its own compiler
    Go,
    /// Python, in RustPython
    Python,
}

macro_rules! of {
    ($folder:literal: $($place:literal $file:literal,)*) => {
        &[$((
            $place,
            include_str!(concat!("../../../../../guest-sdk/", $folder, "/template/", $file)),
        )),*]
    };
}

impl Language {
    /// Returns the folder of its SDK, below `guest-sdk`.
    fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::C => "c",
            Language::Zig => "zig",
            Language::Assemblyscript => "assemblyscript",
            Language::Javascript => "javascript",
            Language::Go => "go",
            Language::Python => "python",
        }
    }

    /// Returns the files of an app with one process. `None`: the templates have several for Rust.
    pub(super) fn files(self) -> Option<&'static [File<'static>]> {
        Some(match self {
            Language::Rust => return None,
            Language::C => of! { "c":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "src/main.c" "src/main.c",
                ".gitignore" "gitignore",
            },
            Language::Zig => of! { "zig":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "build.zig" "build.zig.in",
                "build.zig.zon" "build.zig.zon.in",
                "src/main.zig" "src/main.zig",
                ".gitignore" "gitignore",
            },
            Language::Assemblyscript => of! { "assemblyscript":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "package.json" "package.json.in",
                "tsconfig.json" "tsconfig.json",
                "assembly/main.ts" "assembly/main.ts",
                "assembly/protocol.jsonl" "assembly/protocol.jsonl",
                "assembly/state.json" "assembly/state.json",
                ".gitignore" "gitignore",
            },
            Language::Javascript => of! { "javascript":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "package.json" "package.json.in",
                "tsconfig.json" "tsconfig.json",
                "src/main.ts" "src/main.ts",
                "test/main.test.mjs" "test/main.test.mjs.in",
                ".gitignore" "gitignore",
            },
            Language::Go => of! { "go":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "go.mod" "go.mod.in",
                "main.go" "main.go",
                "main_test.go" "main_test.go",
                ".gitignore" "gitignore",
            },
            Language::Python => of! { "python":
                "README.md" "README.md.in",
                "exuvia.toml" "exuvia.toml.in",
                "src/main.py" "src/main.py",
                "test/test_main.py" "test/test_main.py",
                ".gitignore" "gitignore",
            },
        })
    }
}

/// The folder of a language's SDK, as the files of a new app name it.
#[derive(Default)]
pub(super) struct Sdk {
    /// From the root of the system.
    pub(super) absolute: String,
    /// From the new folder.
    pub(super) relative: String,
}

/// Finds the SDK of a language: in the folder that was given, or in the checkout whose target folder
/// contains this program.
pub(super) fn sdk(
    language: Language,
    given: Option<&Path>,
    new_folder: &Path,
) -> Result<Sdk, CliError> {
    let below = format!("guest-sdk/{}", language.folder());
    let is_sdk = |path: &Path| path.join("build.sh").is_file();
    let found = match given {
        Some(given) => Some(given.to_path_buf()).filter(|path| is_sdk(path)),
        None => in_checkout(&below, is_sdk),
    };
    let Some(found) = found else {
        let what = match given {
            Some(given) => format!(
                "{} is not an SDK: it has no build.sh",
                clean(&given.display().to_string())
            ),
            None => "the SDK is not beside this program".into(),
        };
        return Err(CliError::usage(what).help(format!(
            "name it by --sdk: it is the folder `{below}` in a checkout of Exuvia"
        )));
    };
    let absolute = fs::canonicalize(&found).unwrap_or(found);
    let relative = relative(&absolute, &whole(new_folder));
    Ok(Sdk {
        absolute: absolute.display().to_string(),
        relative: relative.display().to_string(),
    })
}

/// Returns the path of a folder that does not exist yet, from the root of the system.
fn whole(folder: &Path) -> PathBuf {
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_path_buf());
    match folder.file_name() {
        Some(name) => parent.join(name),
        None => parent,
    }
}

/// Returns the way to a path from a folder; both from the root of the system.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let (to, from): (Vec<_>, Vec<_>) = (to.components().collect(), from.components().collect());
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_from_one_folder_to_another() {
        for (to, from, way) in [
            ("/a/b/c", "/a/b/x", "../c"),
            ("/a/b", "/c/d/e", "../../../a/b"),
            ("/a/b/c", "/a", "b/c"),
        ] {
            assert_eq!(relative(Path::new(to), Path::new(from)), Path::new(way));
        }
    }
}
