//! `cargo xtask languages`: builds the guests of `guest-sdk/conformance`, one for each language, which the
//! tests of the node run, and runs the SDKs' own tests.
//!
//! Each SDK does that by `guest-sdk/<language>/build.sh FOLDER` and, if there is one, `test.sh`. A language whose
//! tools are missing is named and left out, unless all are wanted.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where they go, below the checkout.
const TARGET: &str = "target/languages";
/// What a script exits with if tools are missing: EX_UNAVAILABLE of sysexits.h.
const MISSING: i32 = 69;
/// Set to want all languages.
const ALL: &str = "EXUVIA_TEST_LANGUAGES";

/// Builds the languages that are named, or all.
pub(crate) fn build(names: &[String]) -> Result<()> {
    let root = shell::root();
    let sdks = sdks(&root)?;
    if let Some(name) = names.iter().find(|name| !sdks.contains(name)) {
        bail!("there is no SDK `{name}`; there are {}", sdks.join(", "));
    }
    let wanted = sdks
        .iter()
        .filter(|sdk| names.is_empty() || names.contains(sdk));
    for sdk in wanted {
        println!("languages: {sdk}");
        let to = root.join(TARGET).join(sdk);
        std::fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let folder = root.join("guest-sdk").join(sdk);
        let is_here = run(&folder.join("build.sh"), &[to.as_os_str()])?
            && (!folder.join("test.sh").is_file() || run(&folder.join("test.sh"), &[])?);
        if !is_here {
            println!("languages: SKIPPED {sdk}: see above");
        }
    }
    Ok(())
}

/// Runs a script of an SDK. Returns whether its tools are here; if not, the script has said what is missing.
fn run(script: &Path, arguments: &[&OsStr]) -> Result<bool> {
    let status = Command::new(script).args(arguments).status();
    let status = status.with_context(|| format!("cannot run {}", script.display()))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(MISSING) if std::env::var_os(ALL).is_none() => Ok(false),
        _ => bail!("{} failed: {status}", script.display()),
    }
}

/// The names of all SDKs.
fn sdks(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("guest-sdk");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut sdks = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().join("build.sh").is_file() {
            sdks.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    sdks.sort();
    Ok(sdks)
}
