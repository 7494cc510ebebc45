//! Builds the guest packages to Wasm.
//!
//! Guests have workspaces of their own: a host build must not require a Wasm target. Their
//! artifacts are in `<folder>/target/wasm32-unknown-unknown/release/`, where tests and examples
//! look for them, so the target folder is always passed explicitly, regardless of the user's
//! environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::setup::TARGET;
use crate::shell;

/// The workspace of the SDK, and its package that is not built with the others: `languages` builds it, in
/// several versions.
pub(crate) const SDK: &str = "guest-sdk/rust";
const APART: [&str; 2] = ["--exclude", "exuvia-conformance-guest"];
/// A guest that only a test of components builds, for WASI: see its folder's `build.sh`.
pub(crate) const COMPONENT: &str = "guest-sdk/component/conformance/rust";
/// Folders with guests: one package or workspace each, or a package in each subfolder.
const FOLDERS: &[&str] = &[SDK, "modules", "examples", "host/bench/guest"];

/// A cargo workspace of guests, and its target folder.
pub(crate) struct Workspace {
    pub(crate) folder: PathBuf,
    pub(crate) target_dir: PathBuf,
}

/// Returns all guest workspaces that exist.
pub(crate) fn workspaces(root: &Path) -> Result<Vec<Workspace>> {
    let mut found = Vec::new();
    for name in FOLDERS {
        let folder = root.join(name);
        let target_dir = folder.join("target");
        if folder.join("Cargo.toml").is_file() {
            found.push(Workspace { folder, target_dir });
        } else if folder.is_dir() {
            let entries = std::fs::read_dir(&folder)
                .and_then(|entries| {
                    entries
                        .map(|e| e.map(|e| e.path()))
                        .collect::<Result<Vec<_>, _>>()
                })
                .with_context(|| format!("cannot list {}", folder.display()))?;
            let mut packages: Vec<PathBuf> = entries
                .into_iter()
                .filter(|path| path.join("Cargo.toml").is_file())
                .collect();
            packages.sort();
            found.extend(packages.into_iter().map(|folder| Workspace {
                folder,
                target_dir: target_dir.clone(),
            }));
        }
    }
    Ok(found)
}

/// Builds every guest workspace in the release profile.
pub(crate) fn build() -> Result<()> {
    crate::setup::wasm_targets()?;
    let root = shell::root();
    for Workspace { folder, target_dir } in workspaces(&root)? {
        println!(
            "guests: {}",
            folder.strip_prefix(&root).unwrap_or(&folder).display()
        );
        shell::run(
            shell::cargo(&folder)
                .args([
                    "build",
                    "--workspace",
                    "--release",
                    "--target",
                    TARGET,
                    "--target-dir",
                ])
                .arg(&target_dir)
                .args(APART.iter().filter(|_| folder.ends_with(SDK))),
        )?;
    }
    versions(&root)
}

/// Builds every version of the examples' modules, for the demo and the tests of swaps.
fn versions(root: &Path) -> Result<()> {
    let script = root.join("examples/versions.sh");
    if !script.is_file() {
        return Ok(());
    }
    println!("guests: versions of the examples");
    // The script expects its artifacts in the folder's own target.
    let mut command = std::process::Command::new("bash");
    command.arg(&script).env("CARGO_TARGET_DIR", "target");
    shell::set_allocator(&mut command);
    shell::run(&mut command)
}
