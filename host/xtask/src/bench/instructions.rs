//! `cargo xtask bench instructions`: what one message, call or child costs in instructions and in
//! misses of the first-level cache, counted by valgrind's callgrind. Unlike times, these figures are
//! the same on every machine, so they can be compared with recorded ones.
//!
//! Each kind of work runs twice, with different amounts; the difference is what the operations cost
//! without the start of a node. The simulated cache is that of `CACHE`, so a miss stands for a line
//! that is cold because other processes ran since.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

const USAGE: &str = "usage: cargo xtask bench instructions [--dev] [--check | --save]

  --dev    count in the dev profile, as CI does; otherwise in the release profile
  --check  compare with the recorded figures; fails if one has grown by more than 10 %
  --save   record the figures";

/// The work of the example `bench`, see `count.rs` there.
const WORK: [&str; 6] = [
    "ping-pong",
    "ring-503",
    "waking",
    "call",
    "request",
    "spawn",
];

/// Amounts of work. The first is large enough for what happens once.
const FEW: u64 = 2_000;
const MANY: u64 = 12_000;

/// Size in bytes, associativity and line size of the simulated first-level data cache.
const CACHE: &str = "--D1=32768,8,64";

/// How much a figure may grow, in per cent.
const GROWTH: f64 = 10.0;

/// The file of the recorded figures.
const RECORD: &str = "host/bench/instructions.txt";

/// What an operation costs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: f64,
    misses: f64,
}

/// Costs by profile and work.
type Record = BTreeMap<(String, String), Cost>;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut dev, mut check, mut save) = (false, false, false);
    for arg in args {
        match arg.as_str() {
            "--dev" => dev = true,
            "--check" => check = true,
            "--save" => save = true,
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("`instructions` does not take `{other}`\n\n{USAGE}"),
        }
    }
    if !has_valgrind() {
        bail!("valgrind is missing: install it, for example with `apt-get install valgrind`");
    }
    let root = shell::root();
    let (profile, program) = build(&root, dev)?;
    println!("{profile} profile, for one operation\n");
    println!("| work | instructions | cache misses |\n| --- | ---: | ---: |");
    let path = root.join(RECORD);
    let mut record = read(&path)?;
    let mut grown = Vec::new();
    for work in WORK {
        let cost = count(&program, work)?;
        println!("| {work} | {:.0} | {:.1} |", cost.instructions, cost.misses);
        let key = (profile.to_owned(), work.to_owned());
        if let Some(before) = record.get(&key) {
            let change = (cost.instructions / before.instructions - 1.0) * 100.0;
            if change > GROWTH {
                let from = before.instructions;
                grown.push(format!("{work}: {from:.0} -> {:.0}", cost.instructions));
            }
        } else if check {
            bail!("{RECORD} has no figure of {work} in the {profile} profile: --save records it");
        }
        record.insert(key, cost);
    }
    if save {
        std::fs::write(&path, text(&record)).with_context(|| format!("cannot write {RECORD}"))?;
    } else if check && !grown.is_empty() {
        bail!(
            "more than {GROWTH} % more instructions than recorded: {}\nfind out why, or record them: cargo xtask bench instructions --save",
            grown.join("; ")
        );
    }
    Ok(())
}

/// Returns whether valgrind can be started.
pub(crate) fn has_valgrind() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Builds the benchmarks. Returns the name of the profile, and the program.
fn build(root: &Path, dev: bool) -> Result<(&'static str, PathBuf)> {
    Ok(match dev {
        // For the reason in `checks`, the dev profile is used for the whole workspace.
        true => ("dev", super::build(root, &["--workspace"], "debug")?),
        false => {
            let options = ["--release", "-p", "exuvia-node"];
            ("release", super::build(root, &options, "release")?)
        }
    })
}

fn count(program: &Path, work: &str) -> Result<Cost> {
    let few = totals(program, work, FEW)?;
    let many = totals(program, work, MANY)?;
    let each = |event: &str| -> Result<f64> {
        let of = |totals: &BTreeMap<String, u64>| {
            let total = totals.get(event).copied();
            total.with_context(|| format!("callgrind has not counted {event}"))
        };
        Ok((of(&many)? as f64 - of(&few)? as f64) / (MANY - FEW) as f64)
    };
    Ok(Cost {
        instructions: each("Ir")?,
        misses: each("D1mr")? + each("D1mw")?,
    })
}

/// Runs some work under callgrind. Returns the totals by event.
fn totals(program: &Path, work: &str, operations: u64) -> Result<BTreeMap<String, u64>> {
    let mut command = Command::new("valgrind");
    command
        // Fair: a scheduler that looks for work must not keep the thread from running that has some.
        .args(["--tool=callgrind", "--fair-sched=yes"])
        .args(["--cache-sim=yes", CACHE])
        .arg("--callgrind-out-file=/dev/null")
        .arg(program)
        .args(["--count", work, &operations.to_string()])
        .stdin(Stdio::null());
    let output = command.output().context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the work `{work}` failed under valgrind:\n{said}");
    }
    parse(&said).with_context(|| format!("valgrind's output is not as expected:\n{said}"))
}

/// Reads the lines `Events` and `Collected` of callgrind.
fn parse(said: &str) -> Option<BTreeMap<String, u64>> {
    let words = |name: &str| {
        let line = said.lines().find(|line| line.contains(name))?;
        Some(line.split_once(" : ")?.1.split_whitespace())
    };
    let counts = words("Collected")?.map(|count| count.parse().ok());
    (words("Events ")?)
        .zip(counts)
        .map(|(event, count)| Some((event.to_owned(), count?)))
        .collect()
}

fn read(path: &Path) -> Result<Record> {
    if !path.exists() {
        return Ok(Record::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {RECORD}"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut entry = || -> Option<((String, String), Cost)> {
                let mut word = || words.next();
                let key = (word()?.to_owned(), word()?.to_owned());
                let cost = Cost {
                    instructions: word()?.parse().ok()?,
                    misses: word()?.parse().ok()?,
                };
                Some((key, cost))
            };
            entry().with_context(|| format!("{RECORD}: `{line}` is no figure"))
        })
        .collect()
}

fn text(record: &Record) -> String {
    let mut text =
        "# Written by `cargo xtask bench instructions --save`: profile, work, and what one operation costs in\n# instructions and misses of a first-level cache of 32 KiB.\n".to_owned();
    for ((profile, work), cost) in record {
        let _ = writeln!(
            text,
            "{profile} {work} {:.0} {:.1}",
            cost.instructions, cost.misses
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_callgrind_are_read_by_event() {
        let said = "==1== Command: bench --count call 5\n==1== Events    : Ir Dr D1mr\n==1== Collected : 1550 20 3\n";
        let totals = parse(said).unwrap();
        assert_eq!((totals["Ir"], totals["D1mr"]), (1_550, 3));
        assert_eq!(
            parse("==1== Events    : Ir\n==1== Collected : many\n"),
            None
        );
        assert_eq!(parse("==1== killed\n"), None);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("exuvia-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("record.txt");
        let key = ("dev".to_owned(), "call".to_owned());
        let cost = Cost {
            instructions: 2_900.0,
            misses: 12.5,
        };
        let record = Record::from([(key, cost)]);
        std::fs::write(&path, text(&record)).unwrap();
        assert_eq!(read(&path).unwrap(), record);
        std::fs::write(&path, "dev call many 1\n").unwrap();
        assert!(read(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
