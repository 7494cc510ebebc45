//! Checks on the modules themselves what the demonstration of each kind of upgrade relies on:
//! which sections differ between two versions.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The IDs of the sections that must be unchanged for a process's memory to be reused.
const SECTIONS: [(u8, &str); 9] = [
    (1, "types"),
    (2, "imports"),
    (3, "functions"),
    (4, "tables"),
    (5, "memories"),
    (6, "globals"),
    (7, "exports"),
    (9, "elements"),
    (11, "data"),
];
const CODE: u8 = 10;
const CUSTOM: u8 = 0;

/// A parsed module: standard sections by ID, custom sections by name.
struct Module {
    sections: BTreeMap<u8, Vec<u8>>,
    custom: BTreeMap<String, Vec<u8>>,
}

impl Module {
    fn read(path: &Path) -> Module {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut rest = bytes.strip_prefix(b"\0asm\x01\0\0\0").expect("a module");
        let mut module = Module {
            sections: BTreeMap::new(),
            custom: BTreeMap::new(),
        };
        while let Some((id, after)) = rest.split_first() {
            let (length, after) = number(after);
            let (body, after) = after.split_at(length);
            rest = after;
            if *id == CUSTOM {
                let (length, body) = number(body);
                let (name, body) = body.split_at(length);
                let name = String::from_utf8_lossy(name).into_owned();
                module.custom.insert(name, body.to_vec());
            } else {
                module.sections.insert(*id, body.to_vec());
            }
        }
        module
    }

    fn layout(&self) -> &[u8] {
        &self.custom["exuvia.layout"]
    }
}

/// Decodes a LEB128 number; returns it and the rest of the bytes.
fn number(bytes: &[u8]) -> (usize, &[u8]) {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return (value, &bytes[index + 1..]);
        }
    }
    panic!("the number has no end");
}

fn assert_carried(before: &Module, after: &Module) {
    for (id, name) in SECTIONS {
        assert_eq!(
            before.sections.get(&id),
            after.sections.get(&id),
            "{name} differ"
        );
    }
    assert_ne!(
        before.sections[&CODE], after.sections[&CODE],
        "code is equal"
    );
    assert_eq!(before.custom["name"], after.custom["name"], "names differ");
    assert_eq!(before.layout(), after.layout(), "layouts differ");
}

#[test]
fn versions_differ_where_they_should() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(examples.join("versions.sh"))
        .status()
        .expect("the script runs");
    assert!(built.success(), "the versions do not build");
    let module = |name: &str| Module::read(&examples.join("target/versions").join(name));

    let [v1, v2, v3, v3b, v5] =
        ["v1", "v2", "v3", "v3b", "v5"].map(|version| module(&format!("counter-{version}.wasm")));
    assert_carried(&v1, &v2);
    assert_ne!(v2.layout(), v3.layout(), "a field was added");
    assert_ne!(v3.layout(), v3b.layout(), "two fields were exchanged");
    assert_ne!(v3.layout(), v5.layout(), "a field was added");

    assert_carried(&module("ponger-v1.wasm"), &module("ponger-v2.wasm"));
}
