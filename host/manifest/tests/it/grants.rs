//! What processes may use through WASI: the tables `wasi`.

use std::path::Path;

use exuvia_manifest::{Grants, Manifest, ManifestError};

use crate::{parse, process};

/// An app with one module and one child.
fn with_wasi(module: &str, child: &str) -> Result<Manifest, ManifestError> {
    parse(&format!(
        r#"
[app]
name = "a"
[modules.m]
path = "m.wasm"
{module}
[[supervisor.children]]
id = "c"
module = "m"
{child}
"#
    ))
}

#[test]
fn grants_are_those_of_the_module_or_of_the_child() {
    let module = r#"
[modules.m.wasi]
args = ["one", "two"]
env = { A = "b" }
inherit_env = ["PATH", "SURELY_NOT_THERE"]
stdio = "terminal"
[modules.m.wasi.dirs]
"/in" = "in"
"/out" = { path = "/srv/out", access = "write" }
"#;
    let manifest = with_wasi(module, "").expect("a good manifest");
    let grants = &manifest.modules["m"].limits.grants;
    assert_eq!(grants.args, ["one", "two"]);
    assert_eq!(grants.env["A"], "b");
    assert_eq!(grants.env["PATH"], std::env::var("PATH").expect("a path"));
    assert_eq!(grants.env.len(), 2);
    assert!(grants.terminal);
    let folders: Vec<_> = (grants.folders.iter())
        .map(|folder| (folder.guest.as_str(), folder.host.as_path(), folder.write))
        .collect();
    let expected = [
        ("/in", Path::new("/app/in"), false),
        ("/out", Path::new("/srv/out"), true),
    ];
    assert_eq!(folders, expected);
    assert_eq!(
        process(&manifest.supervisor.children[0]).limits.grants,
        *grants
    );
    let own = with_wasi(module, "[supervisor.children.wasi]\nargs = [\"x\"]");
    let own = own.expect("a good manifest");
    let grants = &process(&own.supervisor.children[0]).limits.grants;
    assert_eq!((grants.args.len(), grants.folders.len()), (1, 0));
    // Nothing, if nothing is said.
    let none = with_wasi("", "").expect("a good manifest");
    assert_eq!(none.modules["m"].limits.grants, Grants::default());
}

#[test]
fn invalid_grants_are_reported() {
    for (module, said) in [
        ("[modules.m.wasi]\ndir = {}", "did you mean `dirs`?"),
        ("[modules.m.wasi]\nstdio = \"logs\"", "did you mean `log`?"),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = 7 }",
            "must be a path or a table",
        ),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = \"\" }",
            "without a path",
        ),
        (
            "[modules.m.wasi]\ndirs = { \"\" = \"a\" }",
            "without a path",
        ),
        ("[modules.m.wasi]\ndirs = { \"/a\" = {} }", "has no `path`"),
        (
            "[modules.m.wasi]\ndirs = { \"/a\" = { path = \"x\", access = \"rw\" } }",
            "`rw` is not a known `access`",
        ),
        ("[modules.m.wasi]\nenv = { A = 1 }", "must be a string"),
        ("[modules.m.wasi]\nenv = { \"A=B\" = \"x\" }", "has a `=`"),
        ("[modules.m.wasi]\nargs = [\"a\\u0000\"]", "zero byte"),
        ("[modules.m.wasi]\nargs = 3", "`args` must be"),
        ("[modules.m.limits]\nfiles = -1", "`files` must be from"),
    ] {
        let error = with_wasi(module, "").expect_err(module).to_string();
        assert!(error.contains(said), "{module}\n{error}");
    }
}

#[test]
fn a_granted_folder_must_exist() {
    let manifest = with_wasi("[modules.m.wasi.dirs]\n\"/a\" = \"nowhere\"", "");
    let error = manifest.expect("a good manifest").check_files();
    let error = error.expect_err("it is not there").to_string();
    assert!(
        error.contains("granted as `/a`") && error.contains("mkdir -p /app/nowhere"),
        "{error}"
    );
}

/// A process that writes to the outer folder could replace the inner one by a link.
#[test]
fn a_folder_inside_a_writable_grant_is_rejected() {
    for (module, child, bad) in [
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"x/y\"",
            "",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"z/../x/./y\"",
            "",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }",
            "\"/b\" = \"x/y\"",
            true,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }",
            "\"/b\" = \"x\"",
            false,
        ),
        (
            "\"/a\" = { path = \"x/y\", access = \"write\" }\n\"/b\" = \"x\"",
            "",
            false,
        ),
        (
            "\"/a\" = { path = \"x\", access = \"write\" }\n\"/b\" = \"xy\"",
            "",
            false,
        ),
    ] {
        let child = match child {
            "" => String::new(),
            child => format!("[supervisor.children.wasi.dirs]\n{child}"),
        };
        let read = with_wasi(&format!("[modules.m.wasi.dirs]\n{module}"), &child);
        match read {
            Ok(_) => assert!(!bad, "{module}\n{child}"),
            Err(error) => {
                assert!(
                    bad && error.to_string().contains("lies in /app/x"),
                    "{error}"
                );
            }
        }
    }
}
