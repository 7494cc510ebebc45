//! Copies the version that `EXUVIA_COUNTER_VERSION` names to where `src/lib.rs` includes it:
//! all versions are one package, so that a function has the same name in all of them.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=EXUVIA_COUNTER_VERSION");
    let version = env::var("EXUVIA_COUNTER_VERSION").unwrap_or_else(|_| "v1".to_owned());
    let source = format!("versions/{version}.rs");
    println!("cargo:rerun-if-changed={source}");
    let text = fs::read_to_string(&source)
        .unwrap_or_else(|error| panic!("EXUVIA_COUNTER_VERSION={version}: {source}: {error}"));
    // An included file cannot have inner doc comments. The lines must stay where they are: a
    // panic's line number is data, and equal data is a condition for reusing a process's
    // memory.
    let text = text.replace("\n//!", "\n//");
    let text = text
        .strip_prefix("//!")
        .map_or(text.clone(), |rest| format!("//{rest}"));
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("version.rs"), text).expect("the folder is writable");
}
