//! `net`: where processes may connect.

use exuvia_manifest::{Limits, Manifest};

use crate::{parse, problems, process, with_children};

fn connect(limits: &Limits) -> Vec<String> {
    let all = limits.grants.connect.iter();
    all.map(ToString::to_string).collect()
}

fn manifest(lines: &str) -> Manifest {
    parse(&with_children(lines)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_child_has_its_modules_unless_it_has_its_own() {
    let manifest = manifest(
        r#"
[modules.m.net]
connect = ["api.example.com:443", "10.0.0.0/8:*", "127.0.0.1:80"]
[[supervisor.children]]
id = "as-module"
module = "m"
[[supervisor.children]]
id = "own"
module = "m"
net = { connect = ["*.example.com:80"] }
[[supervisor.children]]
id = "nothing"
module = "m"
net = {}
"#,
    );
    let of_module = ["api.example.com:443", "10.0.0.0/8:*", "127.0.0.1/32:80"];
    assert_eq!(connect(&manifest.modules["m"].limits), of_module);
    let children = &manifest.supervisor.children;
    assert_eq!(connect(&process(&children[0]).limits), of_module);
    assert_eq!(connect(&process(&children[1]).limits), ["*.example.com:80"]);
    assert!(connect(&process(&children[2]).limits).is_empty());
    assert!(manifest.connects());
}

#[test]
fn nothing_is_granted_by_default() {
    let manifest = manifest("[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\n");
    assert!(connect(&manifest.modules["m"].limits).is_empty());
    assert!(!manifest.connects());
}

#[test]
fn what_is_no_destination_is_reported() {
    let text =
        with_children("[modules.m.net]\nconnect = [\"example.com\", \"a b:1\"]\nlisten = 1\n");
    assert_eq!(
        problems(&text),
        [
            "6:12 `example.com` is no destination: it has no port: write `:443`, or `:*` for any",
            "6:27 `a b:1` is no destination: `a b` is no name of a host",
            "7:1 unknown key `listen` in `[modules.m.net]`",
        ]
    );
}
