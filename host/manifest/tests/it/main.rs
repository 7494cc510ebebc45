//! The manifest through its public face. What all tests share is here.

mod files;
mod grants;
mod limits;
mod listen;
mod mistakes;
mod net;
mod schema;
mod values;

use exuvia_manifest::{Child, Manifest, ManifestError, Work};

/// The full form, but for builds, the log and `wasi`.
const FULL: &str = r#"
[app]
name = "counter"

[node]
schedulers = 2
frames = 1024
frame_memory = "512MiB"
normal_share = 25
processes = 20000
probation = 4
verify = "250ms"
release_threshold = 5
drain_per_s = 200

[modules.counter]
path = "target/counter.wasm"

[modules.small]
path = "small.wat"
[modules.small.limits]
memory = "1MiB"

[limits]
memory = "32MiB"
mailbox_messages = 1000
mailbox_bytes = 65536
message_bytes = "4KiB"
children = 5000
descendants = 9000
tables = "1MiB"
priority = "high"
files = 7

[supervisor]
strategy = "rest_for_one"
intensity = 7
period = "1m"

[[supervisor.children]]
id = "counter"
module = "counter"
count = 3
name = "counter-{n}"
args = { start = 0, big = 18446744073709551615, list = [1.5, true, "x"], day = 1979-05-27 }
restart = "transient"
shutdown = "100ms"

[[supervisor.children]]
id = "workers"
restart = "temporary"
[supervisor.children.supervisor]
strategy = "one_for_all"
[[supervisor.children.supervisor.children]]
id = "one"
module = "small"
name = "one"
shutdown = "brutal_kill"
limits = { children = 0 }

[[supervisor.children]]
id = "last"
module = "small"
shutdown = "infinity"
manages = true
"#;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, "exuvia.toml", "/app")
}

/// The full message for a manifest that must not be accepted.
fn refused(text: &str) -> String {
    match parse(text) {
        Ok(manifest) => panic!("accepted: {manifest:?}"),
        Err(error) => error.to_string(),
    }
}

/// Only the messages and places.
fn problems(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("a mistake");
    error
        .problems()
        .iter()
        .map(|problem| match &problem.place {
            Some(place) => format!("{}:{} {}", place.line, place.column, problem.message),
            None => problem.message.clone(),
        })
        .collect()
}

/// A manifest with one module `m` and these lines after it.
fn with_children(lines: &str) -> String {
    format!("[app]\nname = \"a\"\n[modules.m]\npath = \"m.wasm\"\n{lines}")
}

fn process(child: &Child) -> &exuvia_manifest::Process {
    match &child.work {
        Work::Process(process) => process,
        Work::Supervisor(_) => panic!("`{}` is a supervisor", child.id),
    }
}
