//! What is checked after a manifest has been read, since it depends on more than its text: the files
//! and folders that it names, and what its modules start with.

use std::path::Path;

use crate::error::{Found, ManifestError, Problems};
use crate::files;
use crate::manifest::{Manifest, OwnMemory, Source};
use crate::module::MAX_MODULE_BYTES;
use crate::read::value;

impl Manifest {
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
        self.checked(problems)
    }

    /// Checks that every child may have as much memory as its module starts with, which is known
    /// when the module has been loaded.
    ///
    /// # Errors
    ///
    /// All children that may have less.
    pub fn check_memories(
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
        self.checked(problems)
    }

    fn checked(&self, problems: Problems) -> Result<(), ManifestError> {
        if problems.is_empty() {
            return Ok(());
        }
        let Source { file, text } = &self.source;
        Err(ManifestError::new(file, text, problems))
    }
}

/// Checks that a module can be read from a path.
///
/// # Errors
///
/// What is wrong with the file, as the end of a sentence.
pub fn usable(path: &Path) -> Result<(), String> {
    let describe = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let kind = std::fs::metadata(path).map_err(describe)?;
    if kind.is_dir() {
        return Err("is a folder".to_owned());
    }
    if !kind.is_file() {
        return Err(files::NO_FILE.to_owned());
    }
    if kind.len() > MAX_MODULE_BYTES {
        return Err(format!(
            "has more than {MAX_MODULE_BYTES} bytes, which is the limit"
        ));
    }
    files::open(path).map(drop).map_err(describe)
}

fn shown_dir(dir: &Path) -> String {
    let full = std::path::absolute(dir).or_else(|_| std::env::current_dir());
    full.unwrap_or_else(|_| dir.to_path_buf())
        .display()
        .to_string()
}
