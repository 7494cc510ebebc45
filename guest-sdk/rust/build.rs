//! Passes the compiler's version to the layout fingerprint: another compiler may lay out the
//! same types differently.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(&rustc)
        .arg("-vV")
        .output()
        .unwrap_or_else(|error| panic!("cannot run `{rustc} -vV`: {error}"));
    assert!(output.status.success(), "`{rustc} -vV` failed");
    // One line, because a build script's variables cannot contain line ends.
    let compiler = String::from_utf8_lossy(&output.stdout).replace(['\n', '\r'], ";");
    println!("cargo:rustc-env=EXUVIA_COMPILER={compiler}");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=EXUVIA_TARGET={target}");
}
