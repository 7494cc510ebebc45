//! What `exuvia new` makes can be built, loaded and tested as it is. All templates
//! share one target folder, since their dependencies are the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::app::{answer, exuvia};

const WASM: &str = "wasm32-unknown-unknown";

#[test]
fn every_template_is_built_checked_and_tested() {
    let around = tempfile::tempdir().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    fs::create_dir_all(&target).unwrap();
    for (template, modules, has_tests) in [
        ("rust", &["of_rust.wasm"][..], true),
        ("tree", &["store.wasm", "worker.wasm"], false),
        ("lib", &[], false),
    ] {
        let name = format!("of-{template}");
        let made = answer(exuvia(around.path()).args(["new", &name, "--template", template]));
        assert_eq!(made.code, Some(0), "{made:?}");
        let folder = around.path().join(&name);
        std::os::unix::fs::symlink(&target, folder.join("target")).unwrap();
        if !modules.is_empty() {
            let built = answer(exuvia(&folder).arg("build"));
            assert_eq!(built.code, Some(0), "{built:?}");
        }
        for module in modules {
            let file = format!("target/{WASM}/release/{module}");
            let checked = answer(exuvia(&folder).args(["check", &file, "--json"]));
            let checked: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
            assert_eq!(checked["module"]["save"], true, "{checked}");
            // The stack is that of `.cargo/config.toml`.
            let memory = checked["module"]["memory_bytes"].as_u64().unwrap();
            assert!(memory < 600_000, "{checked}");
        }
        let task = if has_tests { "test" } else { "check" };
        let status = Command::new(env!("CARGO"))
            .args([task, "--workspace", "--quiet"])
            .current_dir(&folder)
            .status()
            .unwrap();
        assert!(status.success(), "cargo {task} of the template {template}");
    }
}
