//! Runs other programs and finds the project's folders.
//!
//! Every command that a user may want to repeat is printed before it runs. Nothing here goes
//! through a shell, so no argument needs quoting.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Settings of jemalloc, which rustc uses: huge pages, which are given back late. On a virtual
/// machine where programs must ask for huge pages (the default of most distributions), rustc takes
/// half the time then: page faults are expensive there. Measured: `regex-syntax` in the release
/// profile 11.7 s without and 5.7 s with this, medians of three.
const ALLOCATOR: (&str, &str) = (
    "MALLOC_CONF",
    "thp:always,metadata_thp:always,dirty_decay_ms:60000,narenas:2",
);

/// Returns the project's top folder.
///
/// cargo sets `CARGO_MANIFEST_DIR` at run time too; the compiled-in value is for a binary that
/// is started directly.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match here.ancestors().nth(2) {
        Some(root) => root.to_path_buf(),
        None => here,
    }
}

/// Returns a command for the cargo that runs this program, with `folder` as working directory.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    set_allocator(&mut command);
    command
}

/// Has the compilers that a command starts use [`ALLOCATOR`], if the user has not chosen otherwise.
pub(crate) fn set_allocator(command: &mut Command) {
    let (name, settings) = ALLOCATOR;
    if std::env::var_os(name).is_none() {
        command.env(name, settings);
    }
}

/// Returns a command for the compiler that cargo would use.
pub(crate) fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Prints the command and runs it in this terminal. Fails if it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    println!("==> {line}");
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Returns whether the command can be started and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Returns the standard output of a command. If it fails, the error includes its standard
/// error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}):\n{}",
            describe(command),
            output.status,
            stderr.trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| {
        format!(
            "`{}` printed something that is not UTF-8",
            describe(command)
        )
    })
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start `{}`; is it installed?",
        command.get_program().to_string_lossy()
    )
}

/// Returns the command as a user would type it, without the path of its program.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_this_crate() {
        assert!(root().join("host/xtask/Cargo.toml").is_file());
    }

    #[test]
    fn a_command_is_shown_without_its_folder() {
        let mut command = Command::new("some/folder/cargo");
        command.args(["test", "--workspace"]);
        assert_eq!(describe(&command), "cargo test --workspace");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-here")).expect_err("cannot start");
        assert!(error.to_string().contains("no-such-program-here"));
    }
}
