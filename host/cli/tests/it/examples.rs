//! The examples' own tests, which run them in nodes of this build.

use std::path::Path;
use std::process::Command;

/// Tests a package of the examples' workspace, which needs the guests that `cargo xtask guests`
/// builds.
fn tested(package: &str) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["test", "--package", package, "--target-dir"])
        .arg(examples.join("target/tests"))
        .current_dir(&examples)
        .env("EXUVIA", env!("CARGO_BIN_EXE_exuvia"))
        // Those of the host's build are of other crates.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{}\n{}",
        text(&done.stdout),
        text(&done.stderr)
    );
}

#[test]
fn the_bank() {
    tested("exuvia-example-bank-protocol");
}
