//! The latencies that a developer notices, and the cost of watching, measured with the program
//! `exuvia` as a user runs it. `docs/benchmarks.md` has the figures.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// How much is measured.
struct Scale {
    /// The number of timed saves and starts.
    saves: usize,
    rust_saves: usize,
    starts: usize,
    /// How long processor time is measured.
    watched: Duration,
    /// The number of processes in the benchmark of `top`.
    processes: u32,
}

const FULL: Scale = Scale {
    saves: 21,
    rust_saves: 7,
    starts: 7,
    watched: Duration::from_secs(20),
    processes: 100_000,
};

/// To see that the benchmarks run; the figures mean little.
const QUICK: Scale = Scale {
    saves: 3,
    rust_saves: 1,
    starts: 1,
    watched: Duration::from_secs(2),
    processes: 1_000,
};

/// Runs the benchmarks and prints their results; with `--quick` few of each, with the profile
/// `dev`.
pub(super) fn run(args: &[String]) -> Result<()> {
    let quick = match args {
        [] => false,
        [only] if only == "--quick" => true,
        _ => bail!("`bench dev` takes `--quick` and nothing else"),
    };
    let root = shell::root();
    let mut build = shell::cargo(&root);
    build.args(["build", "--package", "exuvia-cli", "--target-dir"]);
    build.arg(root.join("target"));
    if !quick {
        build.arg("--release");
    }
    super::status(&mut build, "the build of exuvia")?;
    let bench = Bench {
        exuvia: root.join(match quick {
            true => "target/debug/exuvia",
            false => "target/release/exuvia",
        }),
        folder: Scratch::new()?,
        scale: if quick { QUICK } else { FULL },
    };
    bench.starts()?;
    bench.saves()?;
    bench.rust_saves()?;
    bench.idle()?;
    bench.top()
}

struct Bench {
    exuvia: PathBuf,
    folder: Scratch,
    scale: Scale,
}

/// A temporary folder, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let name = format!("exuvia-bench-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    fn exuvia(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.exuvia);
        command.args(arguments).current_dir(folder);
        command
    }

    /// Creates an app from the Wasm text template, which needs no compiler.
    fn app(&self, name: &str) -> Result<PathBuf> {
        self.app_of(name, "wat")
    }

    fn app_of(&self, name: &str, template: &str) -> Result<PathBuf> {
        let new = ["new", name, "--template", template];
        shell::output(&mut self.exuvia(&self.folder.0, &new))?;
        Ok(self.folder.0.join(name))
    }

    fn dev(&self, app: &Path) -> Result<Running> {
        let mut command = self.exuvia(app, &["dev", "--json"]);
        Running::start(command.stderr(Stdio::null()))
    }

    /// Times from the command `new` until a process of the app runs.
    fn starts(&self) -> Result<()> {
        let mut times = Vec::new();
        for number in 0..self.scale.starts {
            let began = Instant::now();
            let app = self.app(&format!("start-{number}"))?;
            let mut dev = self.dev(&app)?;
            dev.wait_for("started")?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        print("new and dev to the first process, ms", &mut times);
        Ok(())
    }

    /// Times from the save of a module until its code is that of the app. Two versions of the
    /// example `counter` alternate, each time with a section of its own: what differs has been
    /// compiled before and the rest is cached, as when a developer has changed a function.
    fn saves(&self) -> Result<()> {
        let app = self.app("saves")?;
        let manifest = app.join("exuvia.toml");
        let text = std::fs::read_to_string(&manifest)?;
        // Stands in for a compiler, whose time is not measured.
        let built = "saves.wasm\"\nbuild = \"cp code saves.wasm\"\nsources = [\"code\"]";
        std::fs::write(&manifest, text.replace("saves.wat\"", built))?;
        let versions = shell::root().join("examples/target/versions");
        let read = |name: &str| {
            std::fs::read(versions.join(name))
                .context("build the guests first: `cargo xtask guests`")
        };
        let versions = [read("counter-v1.wasm")?, read("counter-v2.wasm")?];
        let version = |number: usize| {
            let name = format!("save-{number:02}");
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            let section = [&[0, length + 1, length], name.as_bytes()].concat();
            [&versions[number % 2], &section[..]].concat()
        };
        let file = app.join("code");
        std::fs::write(&file, version(0))?;
        let mut dev = self.dev(&app)?;
        dev.wait_for("started")?;
        let mut times = Vec::new();
        for number in 1..=self.scale.saves {
            // Not while the work after the previous swap is still going on.
            std::thread::sleep(Duration::from_millis(1_500));
            let beside = app.join("saved");
            std::fs::write(&beside, version(number))?;
            let began = Instant::now();
            std::fs::rename(&beside, &file)?;
            dev.wait_for("swap")?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let size = versions[0].len() >> 10;
        print(
            &format!("save to new code, module of {size} KiB, ms"),
            &mut times,
        );
        Ok(())
    }

    /// The same for a line of Rust, including the compiler: as `dev` builds the template, and
    /// as it would if the template had no separate profile for it.
    fn rust_saves(&self) -> Result<()> {
        let app = self.app_of("rust-saves", "rust")?;
        let source = app.join("src/lib.rs");
        let text = std::fs::read_to_string(&source)?;
        for profile in ["dev", "release"] {
            if profile == "release" {
                let manifest = app.join("exuvia.toml");
                let text = std::fs::read_to_string(&manifest)?;
                let blocks = text.split("\n\n").filter(|block| !block.contains(".dev]"));
                std::fs::write(&manifest, blocks.collect::<Vec<_>>().join("\n\n"))?;
            }
            let mut dev = self.dev(&app)?;
            dev.wait_for("started")?;
            let mut times = Vec::new();
            for number in 1..=self.scale.rust_saves {
                // Not while the work after the previous swap is still going on.
                std::thread::sleep(Duration::from_millis(1_500));
                let beside = app.join("saved");
                let said = format!("the {profile} count {number} is");
                std::fs::write(&beside, text.replace("the count is", &said))?;
                let began = Instant::now();
                std::fs::rename(&beside, &source)?;
                dev.wait_for("swap")?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            print(
                &format!("save of a line in Rust to new code, profile {profile}, ms"),
                &mut times,
            );
        }
        Ok(())
    }

    /// Measures what `dev` costs when nothing happens.
    fn idle(&self) -> Result<()> {
        let app = self.app("idle")?;
        let mut dev = self.dev(&app)?;
        dev.wait_for("started")?;
        std::thread::sleep(Duration::from_secs(3));
        let share = share_of(dev.id(), self.scale.watched)?;
        println!("dev idle, % of a core: {share:.2}");
        Ok(())
    }

    /// Measures what `top` costs the node, and what it uses itself.
    fn top(&self) -> Result<()> {
        let app = self.app("top")?;
        let manifest = app.join("exuvia.toml");
        let text = std::fs::read_to_string(&manifest)?;
        let name = text
            .lines()
            .find(|line| line.starts_with("name = \"counter\""));
        let many = format!("name = \"counter-{{n}}\"\ncount = {}", self.scale.processes);
        std::fs::write(
            &manifest,
            text.replace(name.unwrap_or("name = \"counter\""), &many),
        )?;
        let mut command = self.exuvia(&app, &["run", "--json", "--no-watch", "."]);
        let mut node = Running::start(command.stderr(Stdio::null()))?;
        node.wait_for("started")?;
        std::thread::sleep(Duration::from_secs(5));
        let before = share_of(node.id(), self.scale.watched)?;
        let mut command = self.exuvia(&app, &["top", "--count", "1000"]);
        let mut top = Running::start(&mut command)?;
        top.drain();
        std::thread::sleep(Duration::from_secs(3));
        let began = spent(top.id())?;
        let with = share_of(node.id(), self.scale.watched)?;
        let own = (spent(top.id())? - began).as_secs_f64() / self.scale.watched.as_secs_f64() * 1e2;
        println!(
            "top at 1 Hz, {} processes, % of a core: node {with:.2} (without {before:.2}), top {own:.2}",
            self.scale.processes
        );
        Ok(())
    }
}

/// A program that is killed when this is dropped.
struct Running {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Running> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start exuvia")?;
        let output = child.stdout.take().context("it has no output")?;
        Ok(Running {
            child,
            lines: Some(BufReader::new(output).lines()),
        })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads lines until an event of that name.
    fn wait_for(&mut self, name: &str) -> Result<()> {
        for line in self.lines.as_mut().context("nothing reads it")? {
            let line = line?;
            let value: Value = serde_json::from_str(&line).context("no JSON")?;
            match value["event"]["event"].as_str() {
                Some(event) if event == name => return Ok(()),
                Some("refused" | "build-failed") => bail!("it was refused: {line}"),
                _ => {}
            }
        }
        bail!("exuvia has ended before `{name}`")
    }

    /// Reads and discards the program's further output on a thread.
    fn drain(&mut self) {
        if let Some(lines) = self.lines.take() {
            std::thread::spawn(move || lines.for_each(drop));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the share of a core that a process uses over `time`, in percent.
fn share_of(process: u32, time: Duration) -> Result<f64> {
    let before = spent(process)?;
    std::thread::sleep(time);
    Ok((spent(process)? - before).as_secs_f64() / time.as_secs_f64() * 1e2)
}

/// Returns the processor time that a process has used: fields 14 and 15 of `proc_pid_stat(5)`,
/// in ticks of 10 ms.
fn spent(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = stat.rsplit_once(')').context("no process's figures")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn print(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let (least, most) = (times[0], times[times.len() - 1]);
    let median = times[times.len() / 2];
    println!("{what}: {median:.0} ({least:.0} to {most:.0})");
}
