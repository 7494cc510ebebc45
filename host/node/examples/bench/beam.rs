//! The same work on the BEAM: the programs in `host/bench/beam`, compiled and run by the installed
//! Erlang.
//!
//! Each run is a virtual machine of its own, with as many schedulers as the node that it is
//! compared with. The programs print samples under the names of our figures; where Erlang has
//! several ways to do a thing, the name is followed by the way, in brackets.

use std::path::PathBuf;
use std::process::Command;

use crate::figures::Sample;
use crate::runs::measured;

/// The sources, relative to the crate.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/beam");
const COMPILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench/beam");

/// The benchmarks that have an Erlang twin: the names that `twin:run/1` knows.
pub(crate) const TWINS: &[&str] = &[
    "ping-pong-1",
    "ping-pong-2",
    "ping-pong-apart-2",
    "ring-1",
    "ring-2",
    "all-to-all-1",
    "all-to-all-2",
    "fan-in-1",
    "fan-in-2",
    "call-1",
    "call-2",
    "spawn-1",
    "spawn-2",
    "memory-100k",
    "memory-1m",
    "swap-10k-migrated",
    "swap-10k-reused",
    "swap-pause-ready",
    "timers",
    "fairness-1",
    "fairness-2",
    "compute",
];

/// The maximum number of processes: a million and some more.
const PROCESSES: &str = "4194304";

pub(crate) struct Beam {
    /// The release, as Erlang reports it.
    pub(crate) release: String,
}

impl Beam {
    /// Finds Erlang and compiles the programs.
    ///
    /// # Errors
    ///
    /// If Erlang is not installed, or rejects the programs.
    pub(crate) fn prepare() -> Result<Beam, String> {
        let sources = sources()?;
        std::fs::create_dir_all(COMPILED)
            .map_err(|error| format!("cannot make the folder {COMPILED}: {error}"))?;
        let output = Command::new("erlc")
            .args(["+inline", "-o", COMPILED])
            .args(&sources)
            .output()
            .map_err(|error| missing("erlc", &error))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            return Err(format!(
                "erlc does not compile the programs in {SOURCES}:\n{text}"
            ));
        }
        let said = "io:format(\"Erlang/OTP ~s, erts ~s, ~p\", [erlang:system_info(otp_release), \
                    erlang:system_info(version), erlang:system_info(emu_flavor)]), halt().";
        let output = Command::new("erl")
            .args(["-noinput", "-eval", said])
            .output()
            .map_err(|error| missing("erl", &error))?;
        let release = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Beam { release })
    }

    pub(crate) fn has(name: &str) -> bool {
        TWINS.contains(&name)
    }

    /// Runs the twin of a benchmark once.
    pub(crate) fn run(&self, name: &str, quick: bool) -> Result<Vec<Sample>, String> {
        let mut samples = Vec::new();
        for way in ways(name) {
            samples.extend(measured(&mut command(name, quick, way))?);
        }
        Ok(samples)
    }
}

/// Returns the ways that need a virtual machine each: memory that one has freed would serve the
/// next.
fn ways(name: &str) -> &'static [&'static str] {
    if name.starts_with("memory") {
        &["plain", "hibernated"]
    } else {
        &["usual"]
    }
}

fn command(name: &str, quick: bool, way: &str) -> Command {
    let schedulers = match name.rsplit_once('-') {
        Some((_, "1")) => 1,
        Some((_, "2")) => 2,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut command = Command::new("erl");
    command
        .args(["-noinput", "+S", &format!("{schedulers}:{schedulers}")])
        .args([
            "+P", PROCESSES, "-pa", COMPILED, "-run", "twin", "run", name,
        ])
        .args([if quick { "quick" } else { "full" }, SOURCES, way]);
    command
}

fn sources() -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot list {SOURCES}: {error}");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(SOURCES).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "erl") {
            sources.push(path);
        }
    }
    Ok(sources)
}

fn missing(program: &str, error: &std::io::Error) -> String {
    format!(
        "`{program}` cannot be started ({error}): `--against beam` needs Erlang/OTP 25 or newer; \
         on Debian it is the package `erlang-base`"
    )
}
