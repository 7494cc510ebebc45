//! Fetches the sources of the standard library as Debian's package `rust-src`, and the C
//! library that it needs for WASI.
//!
//! The system is not changed: sources, package lists and downloads are kept under the scratch
//! folder, no package is installed, and no privileges beyond an ordinary user's are needed.
//! Signatures are checked as usual. The mirror is the one that apt already uses, so no host
//! name is hard-coded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{entries, remove, step};
use crate::shell;

/// The suite that has a `rust-src` for each recent compiler.
const SUITE: &str = "trixie-backports";
const PACKAGE: &str = "rust-src";
const LIBC: &str = "wasi-libc";
const KEYRING_PACKAGE: &str = "debian-archive-keyring";
const KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder, within the scratch folder, that contains everything written here.
pub(super) const FOLDER: &str = "debian";

/// Downloads and unpacks the sources for a compiler version; returns their folder `library`.
pub(super) fn fetch_library(version: &str, scratch: &Path) -> Result<PathBuf> {
    if !["apt-get", "apt-cache", "dpkg"]
        .iter()
        .all(|tool| shell::succeeds(Command::new(tool).arg("--version")))
    {
        bail!(
            "this is not a Debian system (apt and dpkg are missing), so `{PACKAGE}` cannot be fetched"
        );
    }
    let folder = scratch.join(FOLDER);
    let private = Apt::new(folder.join("private"))?;
    let system = Apt::with_system_sources(folder.join("system"))?;

    step(&format!("reading the package list of {SUITE}"));
    private.update_from(&system)?;
    let listed = private.cache(&["madison", PACKAGE])?;
    let Some(package_version) = matching_version(&listed, version) else {
        bail!(
            "{SUITE} has no `{PACKAGE}` for the compiler {version}; it offers:\n{}",
            listed.trim_end()
        );
    };

    step(&format!("downloading {PACKAGE} {package_version}"));
    let unpacked = private.unpack(&format!("{PACKAGE}={package_version}"))?;
    let sources = unpacked.join("usr/src");
    let library = entries(&sources)?
        .into_iter()
        .map(|folder| folder.join("library"))
        .find(|library| library.join("std/Cargo.toml").is_file())
        .with_context(|| format!("no folder `library` below {}", sources.display()))?;
    Ok(library)
}

/// Downloads and unpacks the C library for WASI; returns the folder with its files.
pub(super) fn fetch_wasi_libc(scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join(FOLDER);
    let private = Apt::new(folder.join("private"))?;
    let system = Apt::with_system_sources(folder.join("system"))?;
    step(&format!("downloading {LIBC}"));
    private.update_from(&system)?;
    let unpacked = private.unpack(LIBC)?;
    Ok(unpacked.join("usr/lib/wasm32-wasi"))
}

/// apt with its own folders.
struct Apt {
    folder: PathBuf,
    /// A file with our own package sources, or `None` for the system's.
    sources: Option<PathBuf>,
}

impl Apt {
    fn new(folder: PathBuf) -> Result<Self> {
        let sources = Some(folder.join("sources.list"));
        Self { folder, sources }.create()
    }

    fn with_system_sources(folder: PathBuf) -> Result<Self> {
        Self {
            folder,
            sources: None,
        }
        .create()
    }

    fn create(self) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "parts"] {
            let folder = self.folder.join(name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(self)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The output is parsed by this program.
        command.env("LC_ALL", "C.UTF-8");
        let mut option = |name: &str, path: &Path| {
            command.arg("-o").arg(format!("{name}={}", path.display()));
        };
        option("Dir::State::lists", &self.folder.join("lists"));
        option("Dir::Cache", &self.folder.join("cache"));
        if let Some(sources) = &self.sources {
            option("Dir::Etc::sourcelist", sources);
            option("Dir::Etc::sourceparts", &self.folder.join("parts"));
        }
        // As root, apt downloads as another user, which may not be able to read the project's
        // folder. Downloads are verified nevertheless.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }

    fn get(&self, args: &[&str]) -> Result<String> {
        shell::output(self.command("apt-get").arg("-q").args(args))
    }

    fn cache(&self, args: &[&str]) -> Result<String> {
        shell::output(self.command("apt-cache").args(args))
    }

    /// Reads the package list of the suite from the first mirror that has it.
    fn update_from(&self, system: &Apt) -> Result<()> {
        let mirrors = mirrors(system)?;
        let mut keyrings = Vec::new();
        let installed = Path::new("/").join(KEYRING);
        if installed.is_file() {
            keyrings.push(installed);
        }
        let mut failures = String::new();
        for round in 0..2 {
            for keyring in &keyrings {
                for mirror in &mirrors {
                    match self.update(mirror, keyring) {
                        Ok(()) => return Ok(()),
                        Err(error) => failures.push_str(&format!("\n{error:#}")),
                    }
                }
            }
            if round == 0 {
                // The installed keys may be older than the suite. The new ones are
                // authenticated by the system's own keys.
                step(&format!(
                    "the installed keys do not cover {SUITE}; downloading {KEYRING_PACKAGE}"
                ));
                system.update_what_answers();
                keyrings = vec![system.unpack(KEYRING_PACKAGE)?.join(KEYRING)];
            }
        }
        bail!("no mirror of this system serves {SUITE} with a valid signature:{failures}")
    }

    fn update(&self, mirror: &str, keyring: &Path) -> Result<()> {
        let Some(sources) = &self.sources else {
            bail!("the system's package sources cannot be changed")
        };
        fs::write(
            sources,
            format!(
                "deb [signed-by={}] {mirror} {SUITE} main\n",
                keyring.display()
            ),
        )?;
        // Without this option apt only warns about a list that it cannot fetch.
        self.get(&["-o", "APT::Update::Error-Mode=any", "update"])?;
        Ok(())
    }

    /// Updates the package lists. A source that does not respond is not an error here: what is
    /// missing shows when it is used.
    fn update_what_answers(&self) {
        if let Err(error) = self.get(&["update"]) {
            step(&format!("some package sources do not answer: {error:#}"));
        }
    }

    /// Downloads a package and unpacks it into a new folder, without installing it.
    fn unpack(&self, package: &str) -> Result<PathBuf> {
        let folder = self.folder.join("download");
        remove(&folder)?;
        let unpacked = folder.join("unpacked");
        fs::create_dir_all(&unpacked)?;
        shell::output(
            self.command("apt-get")
                .args(["-q", "download", package])
                .current_dir(&folder),
        )?;
        let file = entries(&folder)?
            .into_iter()
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
            .with_context(|| format!("apt-get left no package in {}", folder.display()))?;
        shell::output(Command::new("dpkg").arg("-x").arg(&file).arg(&unpacked))?;
        Ok(unpacked)
    }
}

/// Returns the mirrors that apt is configured with, without duplicates, in apt's order.
fn mirrors(system: &Apt) -> Result<Vec<String>> {
    let query = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ];
    let mut found = distinct(&shell::output(Command::new("apt-get").args(query))?);
    if found.is_empty() {
        // apt lists nothing before its first update, as in a new container.
        system.update_what_answers();
        found = distinct(&system.get(&query)?);
    }
    if found.is_empty() {
        bail!("apt is configured with no package source");
    }
    Ok(found)
}

fn distinct(lines: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !found.iter().any(|known| known == line) {
            found.push(line.to_owned());
        }
    }
    found
}

/// Returns the package version for a compiler version, from the output of `apt-cache madison`.
fn matching_version(table: &str, compiler: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let version = line.split('|').nth(1)?.trim();
        let rest = version.strip_prefix(compiler)?;
        rest.starts_with(['+', '-', '~'])
            .then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_must_match_exactly() {
        let table =
            "  rust-src | 1.95.01+dfsg1-1 | mirror\n  rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror\n";
        assert_eq!(
            matching_version(table, "1.95.0").as_deref(),
            Some("1.95.0+dfsg1-2~bpo13+1")
        );
        assert_eq!(matching_version(table, "1.95"), None);
        assert_eq!(matching_version("", "1.95.0"), None);
    }

    #[test]
    fn mirrors_are_listed_once() {
        assert_eq!(distinct("b\na\n\nb\n"), ["b", "a"]);
    }
}
