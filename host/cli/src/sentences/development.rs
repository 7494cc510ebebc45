//! The lines of events of development.

use std::fmt::{self, Write};

use exuvia_dev::{Event, listed};
use exuvia_node::Outdated;

use super::swap::write_outdated;

pub(super) fn write(f: &mut String, event: &Event) -> fmt::Result {
    match event {
        Event::FileUnreadable {
            module,
            file,
            reason,
        } => write!(
            f,
            "file-unreadable {file} {reason}; the old code of {module} keeps running, and is replaced when the file is back"
        ),
        Event::Building { modules, changed } => {
            let modules = listed(modules);
            write!(f, "building {modules}")?;
            match changed.is_empty() {
                true => Ok(()),
                false => write!(f, ": {} changed", listed(changed)),
            }
        }
        Event::Built {
            modules,
            took_ms,
            new,
            is_current,
            outdated,
            recovered,
            stale_timestamp,
            ..
        } => {
            let word = if *recovered { "recovered" } else { "built" };
            write!(f, "{word} {} in {took_ms:.0} ms", listed(modules))?;
            if *new {
                return f.write_str(", and says");
            }
            match is_current {
                true => write_current(f, outdated, ", nothing to swap")?,
                false => f.write_str(
                    ": it is the same code that was refused or rolled back; the old code keeps running until it changes",
                )?,
            }
            match stale_timestamp {
                Some(source) => write!(
                    f,
                    "; {source} has changed, but its timestamp is older than the last build, so the build may have skipped it: run `touch {source}`"
                ),
                None => Ok(()),
            }
        }
        Event::BuildLoop { files } => write!(
            f,
            "build-loop: each build changes {}, which starts it again, at growing intervals; list what it reads in `sources`, without what it writes",
            listed(files)
        ),
        Event::Polling { reason, help } => write!(
            f,
            "polling files for changes every second, because {reason}; help: {help}"
        ),
        Event::Recovered { modules, outdated } => {
            write!(f, "recovered {}", listed(modules))?;
            write_current(f, outdated, "")
        }
        Event::BuildFailed {
            modules, reason, ..
        } => write!(
            f,
            "build-failed {}, the old code keeps running: {reason}",
            listed(modules)
        ),
        Event::Manifest {
            applied,
            failed,
            restart,
        } => {
            let mut clauses = applied.clone();
            clauses.extend(failed.iter().map(|it| format!("failed: {it}")));
            if !restart.is_empty() {
                let then = restart.join(" and ");
                clauses.push(format!("at the next start of the app: {then}"));
            }
            if clauses.is_empty() {
                clauses.push("unchanged".into());
            }
            write!(f, "manifest {}", clauses.join("; "))
        }
        Event::ManifestRefused { .. } => {
            f.write_str("manifest-refused, the app keeps its settings")
        }
    }
}

/// Writes that something is the running code, and which processes do not run it.
fn write_current(f: &mut String, outdated: &[Outdated], more: &str) -> fmt::Result {
    f.write_str(": it is the running code")?;
    if outdated.is_empty() {
        return f.write_str(more);
    }
    for (index, outdated) in outdated.iter().enumerate() {
        f.write_str(if index == 0 { ", but not of " } else { "; " })?;
        write_outdated(f, outdated)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use exuvia_dev::Event;
    use exuvia_node::Outdated;

    use super::super::text;
    use super::write;

    #[test]
    fn recovered_code_is_not_said_to_run_where_it_does_not() {
        let recovered = Event::Recovered {
            modules: vec!["actor".into()],
            outdated: vec![Outdated {
                module: "actor@1".into(),
                processes: 1,
                reverted: 1,
                failed: 0,
                exempt: 0,
            }],
        };
        assert_eq!(
            text(|f| write(f, &recovered)),
            "recovered actor: it is the running code, but not of 1 process on actor@1: 1 reverted"
        );
    }
}
