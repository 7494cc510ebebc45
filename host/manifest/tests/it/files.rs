//! Manifests and modules as files.

use std::path::PathBuf;

use exuvia_manifest::Manifest;

use crate::with_children;

#[test]
fn files_are_loaded_and_checked_on_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Manifest::load(folder.path()).expect_err("no manifest yet");
    let shown = missing.to_string();
    assert!(
        shown.contains("could not read the manifest")
            && shown.contains(&format!(
                "looked for {}",
                folder.path().join("exuvia.toml").display()
            )),
        "{shown}"
    );

    std::fs::write(
        folder.path().join("exuvia.toml"),
        with_children("[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n"),
    )
    .expect("written");
    let manifest = Manifest::load(folder.path()).expect("the folder's manifest");
    assert_eq!(manifest.base_dir, folder.path());
    let wasm: PathBuf = folder.path().join("m.wasm");
    assert_eq!(manifest.modules["m"].path, wasm);

    let shown = manifest.check_files().expect_err("no file yet").to_string();
    for part in [
        "error: the file of module `m` does not exist",
        "exuvia.toml:4:8",
        "4 | path = \"m.wasm\"",
        &format!("looked for {}", wasm.display()),
        &format!(
            "relative to the manifest's folder, {}",
            folder.path().display()
        ),
    ] {
        assert!(shown.contains(part), "`{part}` in\n{shown}");
    }
    std::fs::write(&wasm, b"").expect("written");
    manifest.check_files().expect("the file is there");

    std::fs::write(folder.path().join("exuvia.toml"), b"[app]\n\xff").expect("written");
    let shown = Manifest::load(folder.path().join("exuvia.toml"))
        .expect_err("not UTF-8")
        .to_string();
    assert!(shown.contains("not UTF-8 (line 2)"), "{shown}");
}

#[test]
fn a_module_in_place_of_a_manifest_is_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wasm");
    std::fs::write(&path, b"\0asm\x01\0\0\0\xff").unwrap();
    let message = Manifest::load(&path).unwrap_err().to_string();
    assert!(message.contains("this is a Wasm module"), "{message}");
    assert!(message.contains("exuvia.toml"), "{message}");
}
