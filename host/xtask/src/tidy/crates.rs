//! The allowed dependencies between the host crates.
//!
//! The layers keep Wasm out of the scheduler and HTTP out of the engine, so they are verified
//! against `cargo metadata`. Dev-dependencies are unrestricted: a test may use what it likes.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;

/// A host crate: `exuvia-<name>` in `host/<name>`.
struct Crate {
    name: &'static str,
    /// The host crates that it may use.
    may_use: &'static [&'static str],
    /// Whether it may use crates from outside the project at all.
    third_party: bool,
    reason: &'static str,
}

/// A third-party crate that only some host crates may use. Its name stands for `name` and
/// `name-*`.
struct Restricted {
    name: &'static str,
    only_in: &'static [&'static str],
    reason: &'static str,
}

/// The layers. A host crate that is not listed here is an error.
const CRATES: &[Crate] = &[
    Crate {
        name: "abi",
        may_use: &[],
        third_party: false,
        reason: "guests and host share it, so it knows nothing",
    },
    Crate {
        name: "contract",
        may_use: &["abi"],
        third_party: true,
        reason: "what two modules say of a swap is known without code or a node",
    },
    Crate {
        name: "process",
        may_use: &["abi"],
        third_party: true,
        reason: "mailboxes and signals do not depend on what runs a process",
    },
    Crate {
        name: "scheduler",
        may_use: &[],
        third_party: true,
        reason: "it schedules numbers, and knows nothing of what they stand for",
    },
    Crate {
        name: "code",
        may_use: &["abi"],
        third_party: true,
        reason: "versions and releases are generic over the compiled artifact",
    },
    Crate {
        name: "component",
        may_use: &[],
        third_party: true,
        reason: "it makes a module of a component, and knows neither the ABI's numbers nor who runs it",
    },
    Crate {
        name: "instrument",
        may_use: &["abi"],
        third_party: true,
        reason: "it turns bytes into bytes and runs nothing",
    },
    Crate {
        name: "image",
        may_use: &[],
        third_party: true,
        reason: "it compares bytes, and knows no processes",
    },
    Crate {
        name: "engine",
        may_use: &[
            "abi",
            "contract",
            "process",
            "code",
            "component",
            "instrument",
            "image",
        ],
        third_party: true,
        reason: "the one crate that runs Wasm; it must not know who calls it",
    },
    Crate {
        name: "io",
        may_use: &["abi", "process"],
        third_party: true,
        reason: "a connection is a process, whatever runs the others",
    },
    Crate {
        name: "store",
        may_use: &["code", "process"],
        third_party: true,
        reason: "what is kept on the disk is known without code that runs",
    },
    Crate {
        name: "supervisor",
        may_use: &["process"],
        third_party: true,
        reason: "strategies are a pure state machine",
    },
    Crate {
        name: "manifest",
        may_use: &["abi", "process"],
        third_party: true,
        reason: "a manifest is read without a node; what a grant is, the processes know",
    },
    Crate {
        name: "node",
        may_use: &[
            "manifest",
            "abi",
            "contract",
            "process",
            "scheduler",
            "code",
            "engine",
            "io",
            "store",
            "supervisor",
        ],
        third_party: true,
        reason: "it composes the crates below it",
    },
    Crate {
        name: "dev",
        may_use: &["manifest", "node"],
        third_party: true,
        reason: "it develops an app on a node as any program could",
    },
    Crate {
        name: "api",
        may_use: &[],
        third_party: true,
        reason: "its users are clients, which need no node",
    },
    Crate {
        name: "control",
        may_use: &["api", "node"],
        third_party: true,
        reason: "operators see what the node shows, nothing deeper",
    },
    Crate {
        name: "cli",
        may_use: &["api", "control", "manifest", "node", "dev"],
        third_party: true,
        reason: "a client of the API, plus `node`, `dev` and `control` for run and dev",
    },
    Crate {
        name: "xtask",
        may_use: &["abi"],
        third_party: true,
        reason: "it is compiled before the project, and writes what describes the ABI",
    },
];

const RESTRICTED: &[Restricted] = &[
    Restricted {
        name: "wasmtime",
        only_in: &["engine"],
        reason: "one crate owns all of wasmtime",
    },
    Restricted {
        name: "cranelift",
        only_in: &["engine"],
        reason: "one crate owns all of wasmtime",
    },
    Restricted {
        name: "wasmparser",
        only_in: &["component", "instrument"],
        reason: "what makes a module reads Wasm, and what meters it",
    },
    Restricted {
        name: "wasm-encoder",
        only_in: &["component", "instrument"],
        reason: "what makes a module writes Wasm, and what meters it",
    },
    Restricted {
        name: "tokio",
        // The engine needs it for the trait of a guest's output in `wasmtime-wasi`.
        only_in: &["engine", "io", "node", "api", "control", "cli"],
        reason: "scheduler threads never wait for an async runtime",
    },
    Restricted {
        name: "redb",
        only_in: &["store"],
        reason: "one crate owns the files that outlast a node",
    },
    Restricted {
        name: "notify",
        only_in: &["dev"],
        reason: "the watcher is a part of development",
    },
    Restricted {
        name: "ignore",
        only_in: &["dev"],
        reason: "the watcher is a part of development",
    },
    Restricted {
        name: "axum",
        only_in: &["control"],
        reason: "HTTP ends in the control API",
    },
    Restricted {
        name: "hyper",
        only_in: &["io", "api", "control"],
        reason: "HTTP ends where it arrives: at the listeners and in the control API",
    },
    Restricted {
        name: "schemars",
        only_in: &["api"],
        reason: "the control API describes itself; the manifest's schema has a table of its own",
    },
    Restricted {
        name: "crossbeam-deque",
        only_in: &["scheduler"],
        reason: "run queues belong to the scheduler",
    },
    Restricted {
        name: "anyhow",
        only_in: &["cli", "xtask", "node"],
        reason: "a library's errors have types",
    },
];

const PREFIX: &str = "exuvia-";

/// The part of `cargo metadata` about one package.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    dev: bool,
}

pub(super) fn parse(metadata: &str) -> Result<Vec<Package>> {
    let text = |value: &Value, key: &str| -> Result<String> {
        let text = value[key]
            .as_str()
            .with_context(|| format!("cargo metadata: `{key}` is not a string"))?;
        Ok(text.to_owned())
    };
    let list = |value: &Value, key: &str| -> Result<Vec<Value>> {
        let list = value[key]
            .as_array()
            .with_context(|| format!("cargo metadata: `{key}` is not a list"))?;
        Ok(list.clone())
    };
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata: not JSON")?;
    list(&metadata, "packages")?
        .iter()
        .map(|package| {
            let dependencies = list(package, "dependencies")?
                .iter()
                .map(|dep| {
                    Ok(Dependency {
                        name: text(dep, "name")?,
                        dev: dep["kind"] == "dev",
                    })
                })
                .collect::<Result<_>>()?;
            Ok(Package {
                name: text(package, "name")?,
                dependencies,
            })
        })
        .collect()
}

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let short = package.name.strip_prefix(PREFIX).unwrap_or(&package.name);
        let location = format!("host/{short}/Cargo.toml");
        let Some(row) = CRATES.iter().find(|row| row.name == short) else {
            let message = format!(
                "the crate `{}` has no row in the crate table (xtask, tidy/crates.rs)",
                package.name
            );
            findings.push(Finding::file(&location, message));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| !dependency.dev)
        {
            if let Some(message) = judge(row, &dependency.name) {
                findings.push(Finding::file(&location, message));
            }
        }
    }
    findings
}

/// Returns why a crate must not use a dependency, or `None` if it may.
fn judge(row: &Crate, dependency: &str) -> Option<String> {
    if let Some(other) = dependency.strip_prefix(PREFIX) {
        let allowed = if row.may_use.is_empty() {
            "no host crate".to_owned()
        } else {
            row.may_use.join(", ")
        };
        return (!row.may_use.contains(&other)).then(|| {
            format!(
                "`{}` must not use `{dependency}`, only {allowed}: {}",
                row.name, row.reason
            )
        });
    }
    if !row.third_party {
        return Some(format!(
            "`{}` must not use `{dependency}` nor any other crate: {}",
            row.name, row.reason
        ));
    }
    let rule = RESTRICTED.iter().find(|rule| {
        dependency
            .strip_prefix(rule.name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })?;
    (!rule.only_in.contains(&row.name)).then(|| {
        let locations = rule.only_in.join(", ");
        format!(
            "`{}` must not use `{dependency}`, which is for {locations} only: {}",
            row.name, rule.reason
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(package: &str, dependencies: &str) -> Vec<String> {
        let metadata = format!(
            r#"{{"packages": [{{"name": "{package}", "dependencies": [{dependencies}]}}]}}"#
        );
        check(&parse(&metadata).unwrap())
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    fn one(package: &str, dependencies: &str) -> String {
        let mut found = findings(package, dependencies);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn a_crate_may_use_what_its_row_lists() {
        let dependencies =
            r#"{"name": "exuvia-abi", "kind": null}, {"name": "wasmtime", "kind": null}"#;
        assert!(findings("exuvia-engine", dependencies).is_empty());
    }

    #[test]
    fn a_layer_is_not_skipped() {
        let message = one("exuvia-dev", r#"{"name": "exuvia-engine", "kind": null}"#);
        assert!(
            message.contains("`dev` must not use `exuvia-engine`, only manifest, node"),
            "{message}"
        );
    }

    #[test]
    fn an_unlisted_crate_is_named() {
        assert!(one("exuvia-helpers", "").contains("has no row"));
    }

    #[test]
    fn abi_uses_nothing() {
        assert!(
            one("exuvia-abi", r#"{"name": "serde", "kind": null}"#).contains("nor any other crate")
        );
    }

    #[test]
    fn build_dependencies_count_and_dev_dependencies_do_not() {
        assert_eq!(
            findings("exuvia-code", r#"{"name": "wasmtime", "kind": "build"}"#).len(),
            1
        );
        assert!(findings("exuvia-code", r#"{"name": "wasmtime", "kind": "dev"}"#).is_empty());
    }

    /// Each restricted crate is rejected somewhere, by its own name and by that of a crate of
    /// its family.
    #[test]
    fn each_restriction_can_fail() {
        for rule in RESTRICTED {
            let outsider = if rule.only_in.contains(&"supervisor") {
                "xtask"
            } else {
                "supervisor"
            };
            for name in [rule.name.to_owned(), format!("{}-extra", rule.name)] {
                let dependency = format!(r#"{{"name": "{name}", "kind": null}}"#);
                assert!(one(&format!("{PREFIX}{outsider}"), &dependency).contains(rule.reason));
                for insider in rule.only_in {
                    assert!(findings(&format!("{PREFIX}{insider}"), &dependency).is_empty());
                }
            }
        }
    }

    /// No row is so permissive that nothing could violate it.
    #[test]
    fn each_row_can_fail() {
        for row in CRATES {
            let dependency = r#"{"name": "exuvia-xtask", "kind": null}"#;
            assert!(one(&format!("{PREFIX}{}", row.name), dependency).contains(row.reason));
        }
    }

    #[test]
    fn a_row_names_rows_only() {
        for row in CRATES {
            for name in row.may_use {
                assert!(CRATES.iter().any(|other| other.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn unexpected_metadata_is_an_error() {
        assert!(parse("{}").is_err());
        assert!(parse("nonsense").is_err());
    }
}
