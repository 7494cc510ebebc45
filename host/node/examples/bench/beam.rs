//! The same work on the BEAM: the programs in `host/bench/beam`, compiled and run by the installed
//! Erlang, or by the one that the environment variable [`ERL`] names.
//!
//! Each run is a virtual machine of its own, with as many schedulers as the node that it is
//! compared with. The programs print samples under the names of our figures; where Erlang has
//! several ways to do a thing, the name is followed by the way, in brackets.

use std::path::PathBuf;
use std::process::Command;

use crate::figures::Sample;
use crate::runs::measured;
use crate::{Scale, http};

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
    "http",
];

/// The servers of `twin_http` that the requests go to.
const HTTP_SERVERS: [&str; 2] = ["cowboy", "gen_tcp"];

/// The environment variable with the command that starts Erlang, its words separated by spaces: the
/// path of `erl`, or for one in a folder of its own `chroot /srv/otp erl`. The compiler is the `erlc`
/// beside it.
const ERL: &str = "EXUVIA_ERL";

/// The oldest release that figures are compared with.
const OLDEST: u32 = 27;

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
        let mut erlc = program("erlc")?;
        let output = erlc
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
        let output = program("erl")?
            .args(["-noinput", "-eval", said])
            .output()
            .map_err(|error| missing("erl", &error))?;
        let release = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let number = release.strip_prefix("Erlang/OTP ").and_then(|rest| {
            let (number, _) = rest.split_once(',')?;
            number.parse::<u32>().ok()
        });
        match number {
            Some(number) if number >= OLDEST => Ok(Beam { release }),
            _ => Err(format!(
                "this is `{release}`: figures are compared with Erlang/OTP {OLDEST} or newer, since older ones send messages more slowly; {HOW_TO_GET}"
            )),
        }
    }

    pub(crate) fn has(name: &str) -> bool {
        TWINS.contains(&name)
    }

    /// Runs the twin of a benchmark once.
    pub(crate) fn run(&self, name: &str, quick: bool) -> Result<Vec<Sample>, String> {
        let mut samples = Vec::new();
        if name == "http" {
            for way in HTTP_SERVERS {
                let mut server = program("erl")?;
                server.args(["-noinput", "+S", "1:1", "+P", PROCESSES, "-pa", COMPILED]);
                server.args(["-run", "twin_http", "start", way]);
                samples.extend(http::requests_of_beam(server, way, Scale { quick })?);
            }
            return Ok(samples);
        }
        for way in ways(name) {
            samples.extend(measured(&mut command(name, quick, way)?)?);
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

fn command(name: &str, quick: bool, way: &str) -> Result<Command, String> {
    let schedulers = match name.rsplit_once('-') {
        Some((_, "1")) => 1,
        Some((_, "2")) => 2,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut command = program("erl")?;
    command
        .args(["-noinput", "+S", &format!("{schedulers}:{schedulers}")])
        .args([
            "+P", PROCESSES, "-pa", COMPILED, "-run", "twin", "run", name,
        ])
        .args([if quick { "quick" } else { "full" }, SOURCES, way]);
    Ok(command)
}

/// Returns the command that starts `erl` or `erlc`.
fn program(name: &str) -> Result<Command, String> {
    let known = std::env::var(ERL).unwrap_or_else(|_| "erl".into());
    let words = words(&known, name).ok_or_else(|| {
        format!("{ERL} is `{known}`: it is a command that ends with the path of `erl`")
    })?;
    let (first, rest) = words.split_first().ok_or("no command")?;
    let mut command = Command::new(first);
    command.args(rest);
    Ok(command)
}

/// Returns the words of a command that starts `erl`, for the program of this name beside it.
fn words(erl: &str, name: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = erl.split_whitespace().map(str::to_owned).collect();
    let last = words.pop()?;
    let folder = last.strip_suffix("erl")?;
    let is_path = folder.is_empty() || folder.ends_with('/');
    is_path.then(|| words.push(format!("{folder}{name}")))?;
    Some(words)
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
    format!("`{program}` cannot be started ({error}): {HOW_TO_GET}")
}

/// What to do if there is no Erlang, or an old one.
const HOW_TO_GET: &str = "docs/benchmarks.md says how to get one without installing it, and EXUVIA_ERL is the command that starts it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_taken_from_beside_erl() {
        let erlc = |erl: &str| words(erl, "erlc").map(|words| words.join(" "));
        assert_eq!(erlc("erl").unwrap(), "erlc");
        assert_eq!(erlc("/opt/otp/bin/erl").unwrap(), "/opt/otp/bin/erlc");
        assert_eq!(erlc("chroot /srv/otp erl").unwrap(), "chroot /srv/otp erlc");
        for wrong in ["", " ", "/opt/otp/bin", "/opt/nerl"] {
            assert_eq!(erlc(wrong), None, "{wrong}");
        }
    }
}
