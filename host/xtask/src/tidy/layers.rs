//! The order of the layers inside `engine` and `node`: a module imports only from those above it in
//! the list of its crate, its *plan*. A new module is given its place there.
//!
//! Paths that begin with `crate::` are checked, in imports and elsewhere. Tests may use everything.

use super::Finding;

/// The layers of a crate.
struct Plan {
    /// The sources that are checked.
    root: &'static str,
    /// The modules, lowest first. Those of one row may use each other.
    layers: &'static [&'static [&'static str]],
}

const PLANS: &[Plan] = &[ENGINE, NODE];

const ENGINE: Plan = Plan {
    root: "host/engine/src/",
    layers: &[
        &["error", "timing"],
        &["module"],
        &["guest"],
        &["observer", "trace"],
        &["suspend"],
        &["host"],
        &["instance"],
        &["frames"],
        &["host_calls"],
        &["resources"],
        &["loader"],
        &["executor"],
        &["upgrade"],
        &["process"],
    ],
};

const NODE: Plan = Plan {
    root: "host/node/src/",
    layers: &[
        &["host_memory", "request"],
        &["render"],
        &["report"],
        &["error"],
        &["event"],
        &["logger", "release_log"],
        &["first_release"],
        &["config"],
        &["admission", "from_manifest", "grants", "scheduler_glue"],
        &["core"],
        &["upgrade_state"],
        &["supervision"],
        &["inspect"],
        &["sampler"],
        &["swap"],
        &["background_upgrader", "network"],
        &["node"],
        &["app", "check", "probe", "snapshot"],
    ],
};

impl Plan {
    fn layer_of(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.contains(&module))
    }

    /// Returns the top-level module that a file belongs to; `None` if the file is not checked.
    fn module_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        let path = path.strip_prefix(self.root)?.strip_suffix(".rs")?;
        let module = path.split('/').next()?;
        (module != "lib" && !path.ends_with("/tests")).then_some(module)
    }
}

/// Checks a file; `view` is its code without comments and literals.
pub(super) fn check(path: &str, view: &str, findings: &mut Vec<Finding>) {
    for plan in PLANS {
        if let Some(module) = plan.module_of(path) {
            check_module(plan, module, path, view, findings);
        }
    }
}

fn check_module(plan: &Plan, module: &str, path: &str, view: &str, findings: &mut Vec<Finding>) {
    let Some(layer) = plan.layer_of(module) else {
        let message = format!(
            "the module `{module}` has no layer: give it one in host/xtask/src/tidy/layers.rs"
        );
        findings.push(Finding::file(path, message));
        return;
    };
    // What follows is the test module, by the rules of this project.
    let code = view.find("\n#[cfg(test)]").map_or(view, |at| &view[..at]);
    for (at, used) in used_modules(code) {
        if plan.layer_of(used).is_some_and(|used| used > layer) {
            let line = code[..at].matches('\n').count();
            let message = format!(
                "`{module}` is below `{used}` and must not use it: see the order in host/xtask/src/tidy/layers.rs"
            );
            findings.push(Finding::line(path, line, message));
        }
    }
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
        findings_in(&ENGINE, path, view)
    }

    fn findings_in(plan: &Plan, path: &str, view: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&format!("{}{path}", plan.root), view, &mut findings);
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
    fn each_crate_has_its_own_order() {
        let view = "use crate::node::Node;";
        let [message] = &findings_in(&NODE, "swap/turns.rs", view)[..] else {
            panic!("the parts of a node do not know the node");
        };
        assert!(message.contains("`swap` is below `node`"), "{message}");
        let view = "use crate::core::Core;\nuse crate::frames::Frame;";
        assert!(findings_in(&NODE, "swap/turns.rs", view).is_empty());
    }

    #[test]
    fn no_module_has_two_layers() {
        for plan in PLANS {
            let mut all: Vec<_> = plan.layers.iter().flat_map(|layer| layer.iter()).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", plan.root);
        }
    }
}
