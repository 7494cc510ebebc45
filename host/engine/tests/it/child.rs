//! Tests that measure or limit a whole process of the operating system, and so need one of their own.

use std::process::{Command, Stdio};

/// Set in the child.
const CHILD: &str = "EXUVIA_TEST_CHILD";
/// After so many seconds a child is ended, whatever it does: long forms take some minutes.
const DEADLINE: &str = "1800";

/// Runs `test` (the name of the test that calls this) again in a process of its own, under limits of the
/// shell's `ulimit`. Returns whether this is that process: then the test goes on.
pub(crate) fn child(test: &str, limits: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let script = format!(r#"{limits}; exec timeout -s KILL {DEADLINE} "$0" "$@""#);
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let and = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}\n{said}\n{and}",
        output.status
    );
    eprintln!("{said}");
    false
}
