//! Names that belong to one place of `engine`: a kind of resource is known where it is implemented, and
//! everything else asks the trait `Resource`. Comments and texts may name it.

use super::Finding;

/// The sources that are checked.
const ROOT: &str = "host/engine/src/";

/// A word that no name outside of these files and folders contains, in whatever case, and what else to do.
struct Confined {
    word: &'static str,
    to: &'static [&'static str],
    instead: &'static str,
}

const CONFINED: &[Confined] = &[Confined {
    word: "wasi",
    // The setup of an instance puts the functions into it that the shims of `instrument` call.
    to: &["resources.rs", "resources/", "instance/setup.rs"],
    instead: "ask `exuvia_process::resource::Resource`, or `Imports::asynchronous`",
}];

/// Checks a file of `engine`; `view` is its code without comments and literals. What follows its test module is
/// not checked.
pub(super) fn check(path: &str, view: &str, findings: &mut Vec<Finding>) {
    let Some(inner) = path.strip_prefix(ROOT) else {
        return;
    };
    let code = view.find("\n#[cfg(test)]").map_or(view, |at| &view[..at]);
    for Confined { word, to, instead } in CONFINED {
        if to.iter().any(|place| inner.starts_with(place)) {
            continue;
        }
        let has = |name: &str| name.to_lowercase().contains(word);
        let places = to.join(", ");
        if has(inner) {
            let message = format!("a file of that name belongs to {places} of {ROOT}");
            findings.push(Finding::file(path, message));
        }
        for (index, line) in code.lines().enumerate() {
            let mut names = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if let Some(name) = names.find(|name| has(name)) {
                let message =
                    format!("`{name}` belongs to {places} of {ROOT}; elsewhere {instead}");
                findings.push(Finding::line(path, index, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, view: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(path, view, &mut findings);
        findings
    }

    #[test]
    fn a_name_outside_of_its_place_is_found() {
        for view in [
            "use wasmtime_wasi::I32Exit;",
            "use crate::resources::wasi::Wasi;",
            "fn take_wasi()",
            "mod wasi;",
            "struct OldWasiFiles;",
            "SLOT_WASI_END",
        ] {
            let found = findings("host/engine/src/process/exit.rs", &format!("\n{view}"));
            let [Finding { location, .. }] = &found[..] else {
                panic!("`{view}` is found once");
            };
            assert_eq!(location, "host/engine/src/process/exit.rs:2");
        }
        assert_eq!(findings("host/engine/src/host_calls/wasi.rs", "").len(), 1);
        assert_eq!(findings("host/engine/src/wasi/open.rs", "").len(), 1);
    }

    #[test]
    fn its_place_other_crates_and_tests_may_have_it() {
        let import = "use wasmtime_wasi::I32Exit;";
        for path in [
            "host/engine/src/resources.rs",
            "host/engine/src/resources/wasi/call.rs",
            "host/engine/src/instance/setup.rs",
            "host/instrument/src/shims.rs",
            "host/engine/tests/it/transactions.rs",
        ] {
            assert!(findings(path, import).is_empty(), "{path}");
        }
        let test = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{ {import} }}");
        assert!(findings("host/engine/src/guest.rs", &test).is_empty());
    }
}
