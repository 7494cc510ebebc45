//! The lines of swaps, of the upgrades that follow, and of processes on old code.

use std::fmt::{self, Write};

use exuvia_dev::listed;
use exuvia_node::{Lingering, ModuleSwap, Outdated, SwapReport, UpgradeReport};

use super::text;

/// Returns the line of a swap. Upgrades are not in it, but in the line of the completed upgrade.
pub(crate) fn swap(report: &SwapReport) -> String {
    text(|f| write_swap(f, report))
}

fn write_swap(f: &mut String, report: &SwapReport) -> fmt::Result {
    if report.modules.is_empty() {
        write!(f, "nothing changed (release {})", report.release)?;
        if report.killed > 0 {
            let left: u64 = report.exempt_on.iter().map(|left| left.processes).sum();
            if left > 0 {
                let killed = lingering_clause(&report.exempt_on, "was exempt", "were exempt");
                write!(f, "; killed: {killed}")?;
            }
            if report.killed > left {
                write!(f, "; {} killed while computing", report.killed - left)?;
            }
        } else if report.exempt > 0 {
            let left = lingering_clause(&report.exempt_on, "is still exempt", "are still exempt");
            let them = if report.exempt == 1 { "it" } else { "them" };
            write!(f, "; {left}; deploy it again with --kill to kill {them}")?;
        }
        for outdated in &report.outdated {
            f.write_str("; ")?;
            write_outdated(f, outdated)?;
        }
        return write_still(f, report);
    }
    f.write_str(match (report.planned, report.rollback) {
        (true, _) => "plan",
        (false, true) => "rollback",
        (false, false) => "swap",
    })?;
    let processes = report.processes;
    let plural = if processes == 1 { "" } else { "es" };
    write!(f, "{}", changes(&report.modules))?;
    if !report.changed.is_empty() {
        write!(f, "  {}", listed(&report.changed))?;
    }
    write!(f, "  {processes} process{plural}")?;
    // A rollback is not verified, and 0 would look like a fault.
    if processes > 0 && !report.rollback {
        write!(f, " (verified {}", report.verified)?;
        for (index, (path, count)) in report.verified_by_path.iter().enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{count} {path}")?;
        }
        match (&report.not_reused, report.verified_by_path.first()) {
            (None, Some((path, _))) if *path == "reused" => {
                f.write_str(", the layout is the same")?;
            }
            (Some(why), Some((path, _))) if *path == "migrated" => {
                write!(f, ", because {why}")?;
            }
            _ => {}
        }
        f.write_str(")")?;
    }
    if report.exempt > 0 {
        write!(f, "  {} exempt", report.exempt)?;
    }
    if report.killed > 0 {
        write!(f, "  {} killed", report.killed)?;
    }
    if report.queued > 0 {
        write!(f, "  queued {}", report.queued)?;
    }
    write_still(f, report)?;
    // Upgrades are not here, but in the line of the completed upgrade: this line is the same
    // whenever it is written.
    let stages = &report.stages;
    if report.planned {
        let (load, verify) = (stages.load, stages.verify);
        return write!(
            f,
            "  load {load:.1} ms, verify {verify:.1} ms; nothing has changed"
        );
    }
    if let Some(build) = stages.build {
        write!(f, "  build {build:.0} ms,")?;
    } else {
        f.write_str(" ")?;
    }
    write!(
        f,
        " load {:.1} ms, verify {:.1} ms, prepare {:.1} ms,",
        stages.load, stages.verify, stages.prepare
    )?;
    if let Some(store) = stages.store {
        write!(f, " store {store:.1} ms,")?;
    }
    write!(f, " commit {:.2} ms", stages.commit)
}

/// Writes which processes are still on old code although they were killed, or because they
/// wait.
fn write_still(f: &mut String, report: &SwapReport) -> fmt::Result {
    if !report.unended.is_empty() {
        write!(f, "  not exited: {}", listed(&report.unended))?;
    }
    if !report.busy.is_empty() {
        let busy = listed(&report.busy);
        write!(f, "  {} in a waiting handler: {busy}", report.busy.len())?;
    }
    Ok(())
}

/// Writes the line of an upgrade that is complete, or superseded.
pub(super) fn write_upgrade(f: &mut String, report: &UpgradeReport) -> fmt::Result {
    let word = match report.superseded_by {
        Some(_) => "superseded",
        None => "upgrade-completed",
    };
    write!(f, "{word}{}", changes(&report.modules))?;
    let upgraded: u64 = report.upgraded.iter().map(|(_, count)| count).sum();
    if let Some(by) = report.superseded_by {
        write!(
            f,
            " by release {by}  {upgraded} of {} processes had been upgraded",
            report.processes
        )?;
    }
    for (index, (path, count)) in report.upgraded.iter().enumerate() {
        let before = match (index, report.superseded_by) {
            (0, None) => "  ",
            (0, Some(_)) => ": ",
            _ => ", ",
        };
        write!(f, "{before}{count} {path}")?;
    }
    if upgraded > 0 {
        let [p50, p99, max] = report.pause_us;
        write!(
            f,
            " ({} in the background)  pause p50/p99/max {p50:.0}/{p99:.0}/{max:.0} us",
            report.background
        )?;
    }
    write!(
        f,
        "  {} failed, {} reverted",
        report.failed, report.reverted
    )?;
    if report.exempt > 0 {
        write!(f, ", {} exempt", report.exempt)?;
    }
    if let Some(running) = report.running_ms {
        write!(f, "  change to new code {running:.0} ms")?;
    }
    write!(f, "  {:.0} ms after the commit", report.took_ms)?;
    if report.failed > 0 {
        f.write_str(
            "; failed processes keep their old code: `exuvia ps` shows why, `exuvia restart PID` starts one on the current code with a fresh state",
        )?;
    }
    Ok(())
}

/// Returns the changed modules for display, each after a space.
fn changes(modules: &[ModuleSwap]) -> String {
    modules
        .iter()
        .map(|module| match module.from {
            Some(from) => format!(" {} {from} -> {}", module.name, module.to),
            None => format!(" {} new {}", module.name, module.to),
        })
        .collect()
}

/// Returns "2 processes were exempt on counter@1, 1 on counter@2", as the end of a line; `one` and
/// `many` are the verbs.
fn lingering_clause(exempt_on: &[Lingering], one: &str, many: &str) -> String {
    let mut text = String::new();
    for (index, left) in exempt_on.iter().enumerate() {
        let Lingering { module, processes } = left;
        text += &match (index, processes) {
            (0, 1) => format!("1 process {one} on {module}"),
            (0, _) => format!("{processes} processes {many} on {module}"),
            _ => format!(", {processes} on {module}"),
        };
    }
    text
}

/// Writes "2 processes on counter@1: 1 reverted, 1 failed".
pub(super) fn write_outdated(f: &mut String, outdated: &Outdated) -> fmt::Result {
    let Outdated {
        module,
        processes,
        reverted,
        failed,
        exempt,
    } = outdated;
    let plural = if *processes == 1 { "" } else { "es" };
    write!(f, "{processes} process{plural} on {module}")?;
    let waiting = processes.saturating_sub(reverted + failed + exempt);
    let parts = [
        (*reverted, "reverted"),
        (*failed, "failed"),
        (*exempt, "exempt"),
        (waiting, "pending"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    for (index, (count, what)) in parts.enumerate() {
        let before = if index == 0 { ": " } else { ", " };
        write!(f, "{before}{count} {what}")?;
    }
    Ok(())
}
