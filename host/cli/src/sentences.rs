//! What people read of a node: the one place where an event or a report becomes a line. The node and
//! the API have data only; the server of the API gets these functions for the field `line`.
//!
//! A line begins with the name of its event, and is the same whenever it is written.

mod development;
mod message;
mod swap;

use std::fmt::{self, Write};

use exuvia_api::EventLine;
use exuvia_control::Sentences;
use exuvia_dev::Event as DevEvent;
use exuvia_node::{Choice, Event, LastMessage, Level, Rendered, Resumed, TimedEvent};
use serde_json::Value;

use crate::text::{age, excerpt};

pub(crate) use swap::swap;

/// The sentences of the API.
pub(crate) const SENTENCES: Sentences = Sentences {
    event: event_line,
    swap,
    message: message::message,
};

/// Returns an event as it is printed and sent.
pub(crate) fn event_line(timed: &TimedEvent) -> EventLine {
    let value = serde_json::to_value(timed).unwrap_or(Value::Null);
    EventLine::at(timed.at, event(&timed.event), value)
}

/// Returns the line of an event.
pub(crate) fn event(event: &Event) -> String {
    text(|f| write_event(f, event))
}

/// Returns the line of a refused swap, without the help.
pub(crate) fn refused(what: &str, process: Option<&str>, cause: &str) -> String {
    let process = process.map_or_else(String::new, |it| format!("process {it}: "));
    let cause = one_line(cause);
    format!("swap of {what} refused, the old code keeps running: {process}{cause}")
}

/// Returns what `write` writes.
fn text(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text);
    text
}

fn write_event(f: &mut String, event: &Event) -> fmt::Result {
    match event {
        Event::Swap(report) => f.write_str(&swap(report)),
        Event::UpgradeCompleted(report) => swap::write_upgrade(f, report),
        Event::Refused {
            what,
            process,
            cause,
            help,
            ..
        } => {
            f.write_str(&refused(what, process.as_deref(), cause))?;
            match help {
                Some(help) => write!(f, "; help: {help}"),
                None => Ok(()),
            }
        }
        Event::Log {
            pid,
            module,
            level,
            text,
        } => {
            let level = match level {
                Level::Error => "error",
                Level::Warn => "warn",
                Level::Info => "info",
                Level::Debug => "debug",
            };
            write!(f, "{level} {pid} {module}: {text}")
        }
        Event::Listening { url } => write!(f, "listening {url}"),
        Event::StartPending { child, pid } => write!(
            f,
            "start-pending {child} ({pid}) does not acknowledge its start, and the app waits for it: `run` has to return, or to call `init_ack`; Ctrl-C ends the app"
        ),
        Event::LogCut { module, lines } => write!(
            f,
            "log-cut {module}: {lines} lines dropped, it logs too fast; `lines_per_s` of `[log]` bounds it"
        ),
        Event::EventCut {
            module,
            what,
            events,
        } => write!(
            f,
            "event-cut {module}: {events} more events `{what}` dropped, they come too fast"
        ),
        Event::Exit {
            pid,
            module,
            reason,
            ..
        } => write!(f, "exit {pid} {module}: {reason}"),
        Event::Restarted { child, pid } => {
            write!(f, "restarted {child} as {pid}, with a fresh state")
        }
        Event::NotStarted { child, reason } => {
            write!(
                f,
                "not-started {child}, its supervisor tries again: {reason}"
            )
        }
        Event::UpgradeFailed {
            pid,
            release,
            reason,
        } => {
            let reason = one_line(reason);
            write!(f, "upgrade-failed {pid} to release {release}: {reason}")
        }
        Event::Reverted {
            pid,
            release,
            reason,
        } => write!(
            f,
            "reverted {pid} from release {release}, state and message kept: {reason}"
        ),
        Event::RolledBack {
            from,
            release,
            reason,
        } => write!(
            f,
            "rolled-back release {from}, which failed too often (now release {release}): {reason}"
        ),
        Event::Resumed(resumed) => write_resumed(f, resumed),
        Event::ReleaseUnwritten { release, reason } => write!(
            f,
            "release-unwritten {release}, a start might go on with another one; it is tried again: {reason}"
        ),
        Event::ReleaseWritten { release } => write!(f, "release-written {release}, at last"),
        Event::External(external) => match DevEvent::of(event) {
            Some(event) => development::write(f, event),
            None => write!(f, "{}", external.fields()),
        },
    }
}

fn write_resumed(f: &mut String, resumed: &Resumed) -> fmt::Result {
    let age = age(resumed.at);
    write!(f, "resumed release {} ({age} old)", resumed.stored)?;
    if resumed.release != resumed.stored {
        write!(f, " as release {}", resumed.release)?;
    }
    let mut edited = false;
    for (position, module) in resumed.modules.iter().enumerate() {
        let comma = if position == 0 { ":" } else { ";" };
        let why = match module.from {
            Choice::FileUnchanged => "is that of the release: its file has not changed since",
            Choice::FileMissing => "is that of the release: there is no file",
            Choice::FileUnreadable => "is that of the release: its file cannot be read",
            Choice::Dropped => "is gone: the manifest has it no more",
            Choice::Asked => "is that of the release, not its file",
            Choice::FileEdited => "is from its file, which was edited since",
            Choice::NotInRelease => "is from its file: the release has none",
        };
        edited |= module.from == Choice::FileEdited;
        write!(f, "{comma} {} {why}", module.name)?;
    }
    match edited {
        true => f.write_str("; `exuvia run --release` keeps to the release"),
        false => Ok(()),
    }
}

/// Returns the message that a process was handling when it failed.
pub(crate) fn last_message(last: &LastMessage) -> String {
    const LONG: usize = 200;
    let LastMessage {
        kind,
        from,
        tag,
        payload,
    } = last;
    let payload = match payload {
        Rendered::Empty => return format!("{kind} from {from}, tag {tag}"),
        Rendered::Msgpack(value) => value.to_string(),
        Rendered::Text(text) | Rendered::Hex(text) => text.clone(),
    };
    let payload = excerpt(&payload, LONG);
    format!("{kind} from {from}, tag {tag}: {payload}")
}

/// Joins a text of several lines, for example one with a backtrace, to one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests;
