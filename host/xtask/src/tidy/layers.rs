//! The order of the layers inside `engine`: a module imports only from those above it in
//! [`LAYERS`]. It is the plan of that crate; a new module is given its place here.
//!
//! Paths that begin with `crate::` are checked, in imports and elsewhere. Tests may use everything.

use super::Finding;

/// The sources that are checked.
const ROOT: &str = "host/engine/src/";

/// The modules of `engine`, lowest first. Those of one row may use each other.
const LAYERS: &[&[&str]] = &[
    &["error", "timing"],
    &["module"],
    &["resources"],
    &["guest"],
    &["observer", "trace"],
    &["suspend"],
    &["host"],
    &["instance"],
    &["frames"],
    &["host_calls"],
    &["loader"],
    &["executor"],
    &["upgrade"],
    &["process"],
];

/// Checks a file of `engine`; `view` is its code without comments and literals.
pub(super) fn check(path: &str, view: &str, findings: &mut Vec<Finding>) {
    let Some(module) = module_of(path) else {
        return;
    };
    let Some(layer) = layer_of(module) else {
        let message = format!(
            "the module `{module}` has no layer: give it one in host/xtask/src/tidy/layers.rs"
        );
        findings.push(Finding::file(path, message));
        return;
    };
    // What follows is the test module, by the rules of this project.
    let code = view.find("\n#[cfg(test)]").map_or(view, |at| &view[..at]);
    for (at, used) in used_modules(code) {
        if layer_of(used).is_some_and(|used| used > layer) {
            let line = code[..at].matches('\n').count();
            let message = format!(
                "`{module}` is below `{used}` and must not use it: see the order in host/xtask/src/tidy/layers.rs"
            );
            findings.push(Finding::line(path, line, message));
        }
    }
}

/// Returns the top-level module that a file belongs to; `None` if the file is not checked.
fn module_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix(ROOT)?.strip_suffix(".rs")?;
    let module = path.split('/').next()?;
    (module != "lib" && !path.ends_with("/tests")).then_some(module)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Returns the modules that are named after `crate::`, with the position of each path: one, or those
/// of a list in braces.
fn used_modules(code: &str) -> Vec<(usize, &str)> {
    let mut used = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(outer_items(list).into_iter().map(|item| (at, item))),
            None => used.push((at, first_name(rest))),
        }
    }
    used
}

/// Returns the first names of the items of a list up to its closing brace, without lists inside it.
fn outer_items(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(first_name(&list[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

fn first_name(path: &str) -> &str {
    let path = path.trim_start();
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &path[..end.unwrap_or(path.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, view: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&format!("{ROOT}{path}"), view, &mut findings);
        findings
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn an_import_from_a_layer_above_is_found() {
        for view in [
            "use crate::executor::Executor;",
            "use crate::{host::{Host, BlockQuota},\n    executor::Executor};",
            "fn f() { crate::process::turn() }",
        ] {
            let [message] = &findings("frames/pool.rs", view)[..] else {
                panic!("`{view}` breaks the order once");
            };
            assert!(message.contains("`frames` is below"), "{message}");
        }
    }

    #[test]
    fn lower_layers_and_the_own_one_may_be_used() {
        let view = "use crate::guest::Guest;\nuse crate::frames::slots::FrameSlots;\nuse crate::WASM_PAGE;\nuse exuvia_process::System;";
        assert!(findings("frames/pool.rs", view).is_empty());
        assert!(findings("error.rs", "use crate::timing::Timing;").is_empty());
    }

    #[test]
    fn tests_and_the_root_of_the_crate_use_everything() {
        let above = "use crate::executor::Executor;";
        assert!(findings("frames/tests.rs", above).is_empty());
        assert!(findings("lib.rs", "pub use crate::executor::Executor;").is_empty());
        let test = format!("use crate::guest::Guest;\n#[cfg(test)]\nmod tests {{ {above} }}");
        assert!(findings("frames/pool.rs", &test).is_empty());
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        let [message] = &findings("sideways.rs", "")[..] else {
            panic!("it has no layer");
        };
        assert!(message.contains("`sideways` has no layer"), "{message}");
    }

    #[test]
    fn no_module_has_two_layers() {
        let mut all: Vec<_> = LAYERS.iter().flat_map(|layer| layer.iter()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
