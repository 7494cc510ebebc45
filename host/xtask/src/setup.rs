//! Prepares the toolchain to build guests, and installs a test runner.
//!
//! The Wasm targets come from rustup. Where rustup is missing or cannot reach its server, the
//! standard library is built once from Debian's source package (see `debian`) and installed in
//! the toolchain, so that a plain `cargo build --target` works from then on. Every step is
//! idempotent: what is already installed is left alone.

mod debian;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The target of most guests.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// The target of guests that use files, which `std` accesses through WASI.
pub(crate) const WASI: &str = "wasm32-wasip1";

/// The files that the linker needs for [`WASI`] besides `std`: named as in Debian's
/// `wasi-libc`, and where the compiler looks for them.
const WASI_FILES: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];

/// A guest that uses the standard library and the linker: if it compiles, guests can be built.
const PROBE: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn probe(n: u32) -> usize {\n    format!(\"{n}\").len()\n}\n";

/// The file in a source folder created by this program that holds the compiler version it
/// belongs to.
const MARKER: &str = "exuvia-source-version";

/// Installs everything a developer needs. CI does not call this: it uses the test runner that
/// is present.
pub(crate) fn all() -> Result<()> {
    wasm_targets()?;
    install_nextest();
    Ok(())
}

/// Ensures that guests can be compiled and linked.
pub(crate) fn wasm_targets() -> Result<()> {
    let scratch = shell::root().join("target/setup");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    for target in [TARGET, WASI] {
        wasm_target(&scratch, target)?;
    }
    Ok(())
}

fn wasm_target(scratch: &Path, target: &str) -> Result<()> {
    if probe(scratch, target).is_ok() {
        step(&format!("target {target}: ready"));
        return Ok(());
    }

    step(&format!("target {target}: missing, asking rustup"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", target]);
    if std::env::var_os("RUSTUP_MAX_RETRIES").is_none() {
        // With the default of three retries, a machine without network would wait in vain.
        rustup.env("RUSTUP_MAX_RETRIES", "1");
    }
    let by_rustup = shell::output(&mut rustup);
    if by_rustup.is_ok() && probe(scratch, target).is_ok() {
        step(&format!("target {target}: installed by rustup"));
        return Ok(());
    }
    if let Err(error) = by_rustup {
        step(&format!(
            "rustup cannot help: {}",
            last_line(&format!("{error:#}"))
        ));
    }

    build_std(scratch, target).with_context(|| {
        format!(
            "the target {target} is missing and cannot be built here.\n\
             fix: run `rustup target add {target}` where rustup has network, \
             or use a toolchain that has the target"
        )
    })?;
    probe(scratch, target)
        .with_context(|| format!("std for {target} was built, yet a guest does not compile"))?;
    step(&format!("target {target}: built and installed"));
    Ok(())
}

/// Returns whether `cargo nextest` can be used.
pub(crate) fn has_nextest() -> bool {
    shell::succeeds(shell::cargo(&shell::root()).args(["nextest", "--version"]))
}

/// Installs `cargo-nextest` if it is missing. A failure is not an error: `cargo test` runs the
/// same tests, only slower.
fn install_nextest() {
    if has_nextest() {
        step("cargo-nextest: ready");
        return;
    }
    step("cargo-nextest: missing, installing it with cargo (some minutes)");
    // Not in the project's folder, whose cargo settings are not meant for it.
    let folder = std::env::temp_dir();
    let installed =
        shell::run(shell::cargo(&folder).args(["install", "cargo-nextest", "--locked"]));
    match installed {
        Ok(()) => step("cargo-nextest: installed"),
        Err(error) => step(&format!("{error:#}; tests will use plain `cargo test`")),
    }
}

/// Compiles the probe; the error contains the compiler's output.
fn probe(scratch: &Path, target: &str) -> Result<()> {
    let source = scratch.join("probe.rs");
    fs::write(&source, PROBE).with_context(|| format!("cannot write {}", source.display()))?;
    shell::output(
        shell::rustc()
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "cdylib",
                "--target",
                target,
                "-o",
            ])
            .arg(scratch.join("probe.wasm"))
            .arg(&source),
    )?;
    Ok(())
}

/// Builds the standard library for the target and copies it into the toolchain.
fn build_std(scratch: &Path, target: &str) -> Result<()> {
    let sysroot = PathBuf::from(shell::output(shell::rustc().args(["--print", "sysroot"]))?.trim());
    let version = compiler_version()?;
    let library = ensure_source(&sysroot, &version, scratch)?;
    step(&format!(
        "building std {version} from {}",
        library.display()
    ));

    let package = scratch.join("std-build");
    remove(&package)?;
    fs::create_dir_all(package.join("src"))?;
    let manifest =
        "[package]\nname = \"std-build\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(package.join("Cargo.toml"), manifest)?;
    fs::write(package.join("src/lib.rs"), "")?;
    shell::run(
        shell::cargo(&package)
            .args([
                "build",
                "-Zbuild-std=std,panic_abort",
                "--release",
                "--target",
                target,
            ])
            .args(["--target-dir", "target"])
            // Building std is an unstable feature; this variable allows it on a stable
            // compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            // Flags meant for the host (loom, sanitizers) must not end up in std. Guests are
            // linked with LTO, which reads the bitcode that cargo would otherwise omit.
            .env("RUSTFLAGS", "-C embed-bitcode=yes")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;

    let built = package.join("target").join(target).join("release/deps");
    let installed = sysroot.join("lib/rustlib").join(target).join("lib");
    let libc = match target {
        WASI => Some(debian::fetch_wasi_libc(scratch)?),
        _ => None,
    };
    let install = || {
        install_rlibs(&built, &installed)?;
        libc.map_or(Ok(()), |libc| install_libc(&libc, &installed))
    };
    install().with_context(|| {
        format!(
            "cannot install std in {}\nfix: run this as the owner of the toolchain",
            installed.display()
        )
    })?;
    // Frees some hundred megabytes that are not needed again.
    remove(&package)?;
    remove(&scratch.join(debian::FOLDER))
}

/// Returns the folder `library` of the toolchain's own sources; fetches them if they are
/// missing or of another version.
fn ensure_source(sysroot: &Path, version: &str, scratch: &Path) -> Result<PathBuf> {
    let source = sysroot.join("lib/rustlib/src/rust");
    let library = source.join("library");
    let marker = source.join(MARKER);
    let ours = fs::read_to_string(&marker).ok();
    // Sources without a marker came with the toolchain and belong to it.
    let usable = ours.as_deref().is_none_or(|of| of == version);
    if library.join("std/Cargo.toml").is_file() && usable {
        return Ok(library);
    }
    let fetched = debian::fetch_library(version, scratch)?;
    step(&format!(
        "copying the sources of std to {}",
        library.display()
    ));
    remove(&library)
        .and_then(|()| copy_tree(&fetched, &library))
        .and_then(|()| fs::write(&marker, version).context("cannot write the version marker"))
        .with_context(|| {
            format!(
                "cannot write to {}\nfix: run this as the owner of the toolchain",
                source.display()
            )
        })?;
    Ok(library)
}

/// Replaces the `.rlib` files of the target: two copies of one crate would cause an error
/// later.
fn install_rlibs(built: &Path, installed: &Path) -> Result<()> {
    fs::create_dir_all(installed)?;
    for path in entries(installed)? {
        if path
            .extension()
            .is_some_and(|ext| ext == "rlib" || ext == "rmeta")
        {
            fs::remove_file(path)?;
        }
    }
    let mut count = 0;
    for path in entries(built)? {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // The empty crate that std was built for is not part of std.
        if name.ends_with(".rlib") && !name.starts_with("libstd_build-") {
            fs::copy(&path, installed.join(&name))?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("{} holds no .rlib file", built.display());
    }
    Ok(())
}

/// Copies the C library and the startup objects.
fn install_libc(libc: &Path, installed: &Path) -> Result<()> {
    let folder = installed.join("self-contained");
    fs::create_dir_all(&folder)?;
    for name in WASI_FILES {
        let from = libc.join(name);
        fs::copy(&from, folder.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Returns the compiler's version without its channel and commit, such as `1.95.0`.
fn compiler_version() -> Result<String> {
    let text = shell::output(shell::rustc().arg("--version"))?;
    parse_version(&text).with_context(|| format!("cannot read a version from `{}`", text.trim()))
}

fn parse_version(text: &str) -> Option<String> {
    let word = text.strip_prefix("rustc ")?.split_whitespace().next()?;
    word.starts_with(|c: char| c.is_ascii_digit())
        .then(|| word.to_owned())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    list.map(|entry| Ok(entry?.path())).collect()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let target = to.join(path.file_name().context("a folder entry without a name")?);
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or(text)
        .trim()
}

fn step(line: &str) {
    println!("setup: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_word() {
        assert_eq!(
            parse_version("rustc 1.95.0 (59807616e 2026-04-14)\n").as_deref(),
            Some("1.95.0")
        );
        assert_eq!(
            parse_version("rustc 1.97.0-nightly (abc 2026-05-01)").as_deref(),
            Some("1.97.0-nightly")
        );
        assert_eq!(parse_version("cargo 1.95.0"), None);
    }

    #[test]
    fn the_last_line_skips_blank_ones() {
        assert_eq!(last_line("first\n  second\n\n"), "second");
    }
}
