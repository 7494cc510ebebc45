//! The steps of the demo: which file comes next, what must happen to it, and the rows of the table.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use exuvia_node::{App, Event, SwapReport, UpgradeReport};
use serde::Serialize;
use tokio::sync::broadcast::error::TryRecvError;

use crate::clients::{Clients, Totals};

/// The maximum duration of a step.
const PATIENCE: Duration = Duration::from_secs(30);

/// What must happen to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Committed, and all state is upgraded by this path.
    Crosses(&'static str),
    /// Rejected before the commit.
    Refused,
    /// Committed, fails in probation, and is rolled back.
    GoesBack,
}

pub(crate) struct Step {
    /// The version of the file.
    pub(crate) version: &'static str,
    fate: Fate,
    /// The version number in replies after the step: a different one in each version, so that a
    /// step without effect is detected.
    answers: u32,
    /// What the step demonstrates.
    what: &'static str,
    /// Whether the file is truncated and written in two parts instead of replaced by a rename.
    in_place: bool,
}

pub(crate) const STEPS: &[Step] = &[
    step("v2", Fate::Crosses("reused"), 2, "same layout"),
    step("v3", Fate::Crosses("migrated"), 3, "a field added"),
    Step {
        in_place: true,
        ..step("v3b", Fate::Crosses("migrated"), 31, "fields swapped")
    },
    step("v4", Fate::Refused, 31, "cannot load the state"),
    step("v5", Fate::GoesBack, 31, "traps on a third message"),
    step("v2", Fate::Crosses("migrated"), 2, "v2 again"),
];

const fn step(version: &'static str, fate: Fate, answers: u32, what: &'static str) -> Step {
    Step {
        version,
        fate,
        answers,
        what,
        in_place: false,
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    version: &'static str,
    what: &'static str,
    result: String,
    processes: u64,
    queued: u64,
    lost: u64,
    doubled: u64,
    disorder: u64,
    pause_us: [f64; 3],
    /// Milliseconds from the change of the file to the first process on new code.
    running_ms: Option<f64>,
    answers_meanwhile: u64,
    pub(crate) wrong: Vec<String>,
}

/// Puts a version to the manifest's path of the module, by a rename.
pub(crate) fn put(versions: &Path, version: &str, module: &Path) -> Result<(), String> {
    let bytes = read(versions, version)?;
    let partial = module.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, module))
        .map_err(|error| format!("{}: {error}", module.display()))
}

fn read(versions: &Path, version: &str) -> Result<Vec<u8>, String> {
    let path = versions.join(format!("counter-{version}.wasm"));
    std::fs::read(&path).map_err(|error| {
        format!(
            "{}: {error}; `cargo xtask guests` builds it",
            path.display()
        )
    })
}

/// Puts a version there by truncating and writing the file in two parts, as some compilers do.
fn put_in_place(versions: &Path, version: &str, module: &Path) -> Result<(), String> {
    use std::io::Write;
    let bytes = read(versions, version)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(module)?;
        file.write_all(first)?;
        file.flush()?;
        std::thread::park_timeout(Duration::from_millis(20));
        file.write_all(second)
    };
    write().map_err(|error| format!("{}: {error}", module.display()))
}

pub(crate) fn run(
    app: &App,
    clients: &Clients,
    versions: &Path,
    module: &Path,
    step: &Step,
) -> Result<Row, String> {
    let before = clients.totals();
    let mut events = app.node().events();
    if step.in_place {
        put_in_place(versions, step.version, module)?;
    } else {
        put(versions, step.version, module)?;
    }
    let mut heard = Heard::default();
    let done = wait(|| {
        loop {
            match events.try_recv() {
                Ok(event) => heard.take(event),
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        heard.is_over(step.fate)
    });
    if !done {
        return Err(format!("nothing came of it in {PATIENCE:?}: {heard:?}"));
    }
    let counters = clients.counters() as u64;
    let all = wait(|| clients.on_version(step.answers) == clients.counters());
    let after = clients.totals();
    let mut wrong = heard.check(step.fate, counters);
    if !all {
        let on = clients.on_version(step.answers);
        wrong.push(format!(
            "only {on} counters answer from version {}",
            step.answers
        ));
    }
    if !after.is_clean() {
        wrong.push("messages are lost, doubled or out of order".into());
    }
    let report = heard.swap.as_ref();
    let settled = heard.settled.as_ref();
    Ok(Row {
        version: step.version,
        what: step.what,
        result: heard.result(),
        processes: report.map_or(0, |report| report.processes),
        queued: report.map_or(0, |report| report.queued),
        lost: after.lost() - before.lost(),
        doubled: after.doubled - before.doubled,
        disorder: after.disorder - before.disorder,
        pause_us: settled.map_or([0.0; 3], |settled| settled.pause_us),
        running_ms: settled.and_then(|settled| settled.running_ms),
        answers_meanwhile: after.answered - before.answered,
        wrong,
    })
}

fn wait(mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    false
}

/// The events of the node since the file changed.
#[derive(Debug, Default)]
struct Heard {
    swap: Option<SwapReport>,
    /// The report of that swap's release.
    settled: Option<UpgradeReport>,
    refused: Option<String>,
    /// Releases that were rolled back, and those that processes were reverted from. The event of a
    /// process that was in the middle of a message may arrive when the next file is there already.
    back: Vec<u64>,
    returned: Vec<u64>,
}

impl Heard {
    fn take(&mut self, event: Event) {
        match event {
            Event::Swap(report) => self.swap = Some(*report),
            Event::UpgradeCompleted(report) => {
                // Not the report of the release that the previous step rolled back to.
                let swap = self.swap.as_ref();
                if swap.is_some_and(|swap| swap.release == report.release) {
                    self.settled = Some(report);
                }
            }
            Event::Refused { reason, .. } => self.refused = Some(reason),
            Event::RolledBack { from, .. } => self.back.push(from),
            Event::Reverted { release, .. } => self.returned.push(release),
            _ => {}
        }
    }

    /// Returns how many of these are the release of this swap.
    fn own(&self, releases: &[u64]) -> usize {
        let own = self.swap.as_ref().map(|swap| swap.release);
        releases
            .iter()
            .filter(|release| Some(**release) == own)
            .count()
    }

    fn has_gone_back(&self) -> bool {
        self.own(&self.back) > 0
    }

    fn returned(&self) -> usize {
        self.own(&self.returned)
    }

    fn is_over(&self, fate: Fate) -> bool {
        match fate {
            Fate::Crosses(_) => self.settled.is_some() || self.refused.is_some(),
            Fate::Refused => self.refused.is_some() || self.settled.is_some(),
            Fate::GoesBack => self.has_gone_back() && self.settled.is_some(),
        }
    }

    fn check(&self, fate: Fate, counters: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        match (fate, &self.settled) {
            (Fate::Crosses(path), Some(report)) => {
                if report.upgraded != [(path, counters)] {
                    wrong.push(format!(
                        "expected all {path}, but it was {:?}",
                        report.upgraded
                    ));
                }
                if report.failed > 0 {
                    wrong.push(format!("the upgrade of {} processes failed", report.failed));
                }
                if let Some(by) = report.superseded_by {
                    wrong.push(format!("release {by} superseded it"));
                }
                if self.has_gone_back() || self.returned() > 0 {
                    wrong.push("processes were reverted".into());
                }
            }
            (Fate::Crosses(_), None) => wrong.push("it was refused".into()),
            (Fate::Refused, Some(_)) => wrong.push("it was not refused".into()),
            (Fate::GoesBack, _) if self.returned() == 0 => {
                wrong.push("no process was reverted".into());
            }
            _ => {}
        }
        wrong
    }

    fn result(&self) -> String {
        if let Some(reason) = &self.refused {
            let short: String = reason.chars().take(40).collect();
            return format!("refused: {short}...");
        }
        let mut text = String::new();
        if let Some(report) = &self.settled {
            for (path, count) in &report.upgraded {
                let _ = write!(text, "{count} {path} ");
            }
        }
        if self.has_gone_back() {
            let _ = write!(text, "then rolled back ({} in probation)", self.returned());
        }
        text.trim().to_owned()
    }
}

pub(crate) fn table(rows: &[Row]) -> String {
    let heads = [
        "file",
        "what",
        "result",
        "procs",
        "queued",
        "lost",
        "doubled",
        "disorder",
        "pause us p50/p99/max",
        "running ms",
        "answers",
    ];
    let mut lines: Vec<[String; 11]> = vec![heads.map(str::to_owned)];
    for row in rows {
        let [p50, p99, max] = row.pause_us;
        lines.push([
            row.version.to_owned(),
            row.what.to_owned(),
            row.result.clone(),
            row.processes.to_string(),
            row.queued.to_string(),
            row.lost.to_string(),
            row.doubled.to_string(),
            row.disorder.to_string(),
            format!("{p50:.0}/{p99:.0}/{max:.0}"),
            row.running_ms
                .map_or_else(|| "-".into(), |ms| format!("{ms:.0}")),
            row.answers_meanwhile.to_string(),
        ]);
    }
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            // Text to the left, numbers to the right.
            if column < 3 {
                let _ = write!(text, "{cell:<width$}  ");
            } else {
                let _ = write!(text, "{cell:>width$}  ");
            }
        }
        let wrong = index.checked_sub(1).map_or(&[][..], |i| &rows[i].wrong);
        text.truncate(text.trim_end().len());
        for wrong in wrong {
            let _ = write!(text, "\n    ! {wrong}");
        }
        text.push('\n');
    }
    text
}

pub(crate) fn json(rows: &[Row], total: &Totals) -> String {
    serde_json::json!({ "swaps": rows, "total": total }).to_string()
}
