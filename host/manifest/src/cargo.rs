//! Finds the files that cargo builds. A manifest has paths like `target/...`, as usual; but a user
//! of cargo may have moved the target folder with a variable or in a configuration, which cargo
//! also applies in a build command. And in development another file of a module is built than for a
//! deployment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Build, Manifest, Module, files};

/// The maximum bytes that are read of a configuration.
const MAX_CONFIG: u64 = 1 << 20;
/// The target folder in a manifest's paths.
const TARGET: &str = "target";

impl Manifest {
    /// Returns the manifest for development: modules are those in their tables `dev`.
    #[must_use]
    pub fn for_development(mut self) -> Self {
        for module in self.modules.values_mut() {
            if let Some(dev) = module.dev.take() {
                module.path = dev.path;
                module.path_span = dev.path_span;
                module.build = Some(dev.build);
                module.moved_by = dev.moved_by;
            }
        }
        self
    }

    /// Returns a file that may be the one which the build of a module has not made: cargo has put
    /// it into another one of its folders.
    pub fn made_elsewhere(&self, module: &Module) -> Option<PathBuf> {
        made_elsewhere(&self.base_dir, &module.path)
    }

    /// Moves paths in cargo's target folder to where that is.
    pub(super) fn follow_cargo(&mut self) {
        let Some(target) = Target::of(&self.base_dir) else {
            return;
        };
        let base_dir = &self.base_dir;
        let follow = |path: &mut PathBuf, build: &Build| {
            let place = target.place(base_dir, path, &build.command)?;
            *path = place;
            Some(target.by.clone())
        };
        for module in self.modules.values_mut() {
            if let Some(build) = &module.build {
                module.moved_by = follow(&mut module.path, build);
            }
            if let Some(dev) = &mut module.dev {
                dev.moved_by = follow(&mut dev.path, &dev.build);
            }
        }
    }
}

/// Cargo's target folder, if it is not the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) folder: PathBuf,
    /// The variable or configuration that sets it.
    pub(super) by: String,
}

impl Target {
    /// Returns the target folder of commands that run in a folder; `None`: it is not set.
    pub(super) fn of(folder: &Path) -> Option<Target> {
        Target::with(folder, &|name| std::env::var_os(name))
    }

    fn with(folder: &Path, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Target> {
        let folder = std::path::absolute(folder).ok()?;
        for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                return Some(Target {
                    folder: folder.join(value),
                    by: name.to_owned(),
                });
            }
        }
        let home = variable("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cargo")));
        let above = folder.ancestors().map(|folder| folder.join(".cargo"));
        above.chain(home).find_map(|folder| configured(&folder))
    }

    /// Returns the path of a module's file that a command builds, if it is in cargo's target
    /// folder.
    pub(super) fn place(&self, base_dir: &Path, path: &Path, command: &str) -> Option<PathBuf> {
        let mut words = command.split_whitespace();
        if words.next() != Some("cargo") || words.any(|word| word.starts_with("--target-dir")) {
            return None;
        }
        let below = path
            .strip_prefix(base_dir)
            .ok()?
            .strip_prefix(TARGET)
            .ok()?;
        Some(self.folder.join(below))
    }
}

/// Reads the configuration in a folder `.cargo`. Its paths are relative to the folder that contains
/// it.
fn configured(folder: &Path) -> Option<Target> {
    let file = ["config", "config.toml"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|file| file.is_file())?;
    let bytes = files::read(&file, MAX_CONFIG).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let config: toml::Table = text.parse().ok()?;
    let target = config.get("build")?.get("target-dir")?.as_str()?;
    Some(Target {
        folder: folder.parent()?.join(target),
        by: format!("`build.target-dir` in {}", file.display()),
    })
}

/// Returns a file of the same name that cargo has built elsewhere: for another target, or with
/// another profile. If there are several, the newest.
pub(super) fn made_elsewhere(base_dir: &Path, path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let below = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    let configured = Target::of(base_dir).map(|target| target.folder);
    let targets = [Some(base_dir.join(TARGET)), configured];
    let found = (targets.into_iter().flatten())
        .flat_map(below)
        .flat_map(|folder| {
            [folder.join(name)]
                .into_iter()
                .chain(below(folder).map(|it| it.join(name)))
        })
        .filter(|file| file != path && file.is_file());
    found.max_by_key(|file| file.metadata().and_then(|it| it.modified()).ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Target, made_elsewhere};

    #[test]
    fn variables_override_configurations_and_near_ones_override_far_ones() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("home/.cargo")).unwrap();
        fs::create_dir_all(at("a/b/.cargo")).unwrap();
        let set = |of: &'static str, to: PathBuf| {
            move |name: &str| (name == of).then(|| to.clone().into_os_string())
        };
        let home = set("HOME", at("home"));
        let target = |variable: &dyn Fn(&str) -> Option<std::ffi::OsString>| {
            Target::with(&at("a/b"), variable).map(|target| target.folder)
        };
        assert_eq!(target(&home), None);
        let config = "[build]\ntarget-dir = \"made\"\n";
        fs::write(at("home/.cargo/config.toml"), config).unwrap();
        assert_eq!(target(&home), Some(at("home/made")));
        fs::create_dir(at("a/.cargo")).unwrap();
        fs::write(at("a/.cargo/config.toml"), config).unwrap();
        assert_eq!(target(&home), Some(at("a/made")));
        // The app's own configuration, which has other settings only.
        fs::write(at("a/b/.cargo/config.toml"), "[build]\njobs = 1\n").unwrap();
        assert_eq!(target(&home), Some(at("a/made")));
        let variable = set("CARGO_TARGET_DIR", "else".into());
        assert_eq!(target(&variable), Some(at("a/b/else")));
    }

    #[test]
    fn only_outputs_of_cargo_are_listed() {
        let target = Target {
            folder: "/made".into(),
            by: String::new(),
        };
        let place = |path: &str, command: &str| {
            let path = Path::new("app").join(path);
            target.place(Path::new("app"), &path, command)
        };
        let file = "target/wasm32-wasip1/release/a.wasm";
        let there = Some(PathBuf::from("/made/wasm32-wasip1/release/a.wasm"));
        assert_eq!(place(file, "cargo build --release"), there);
        assert_eq!(place(file, "cargo build --target-dir target"), None);
        assert_eq!(place(file, "make"), None);
        assert_eq!(place("out/a.wasm", "cargo build"), None);
    }

    #[test]
    fn the_output_of_another_profile_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("target/wasm32-wasip1/debug/a.wasm");
        fs::create_dir_all(made.parent().unwrap()).unwrap();
        let wanted = folder.path().join("target/wasm32-wasip1/release/a.wasm");
        assert_eq!(made_elsewhere(folder.path(), &wanted), None);
        fs::write(&made, "").unwrap();
        assert_eq!(made_elsewhere(folder.path(), &wanted), Some(made));
    }
}
