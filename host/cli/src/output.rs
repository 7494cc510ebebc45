//! Terminal output. Results go to stdout, errors to stderr; with `--json` both are JSON on
//! stdout, one value per line.
//!
//! Guests choose names and log lines, so control characters, and others that are invisible or
//! move the characters beside them, are never passed on: they could rewrite what the terminal
//! shows, or make one name pass for another.
//!
//! Commands wait for the reader of their output. A node does not: its output and its log go
//! through two spools (`spool`).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use exuvia_api::EventLine;
use serde::Serialize;
use serde_json::{Value, json};

use crate::environment;
use crate::error::CliError;
use crate::gate::Gate;
use crate::sentences;
use crate::spool::Spool;
use crate::text::is_hidden;

/// How long to wait for stderr if waiting for stdout has timed out.
const OTHER: Duration = Duration::from_millis(100);

/// Where results are written, and in which format.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    paint: bool,
    paint_faults: bool,
    /// Set for a node.
    spools: OnceLock<Spools>,
}

#[derive(Debug)]
struct Spools {
    results: Spool,
    /// Stderr: errors and the host's log.
    faults: Spool,
    gate: Gate,
}

/// Returns whether two open files are the same terminal, pipe or file on disk.
fn is_same(one: &File, other: &File) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Colours, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
    Strong,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }

    /// Returns the tone for an event, by its name.
    fn of_event(line: &EventLine) -> Self {
        match line.event["event"].as_str().unwrap_or_default() {
            "manifest"
                if line.event["failed"]
                    .as_array()
                    .is_some_and(|it| !it.is_empty()) =>
            {
                Self::Bad
            }
            "swap" | "started" | "listening" | "manifest" | "built" | "recovered" => Self::Good,
            "building" | "message" => Self::Quiet,
            "upgrade-completed" if line.event["superseded_by"].is_null() => Self::Good,
            "upgrade-completed" => Self::Warning,
            "log" => match line.event["level"].as_str().unwrap_or_default() {
                "error" => Self::Bad,
                "warn" => Self::Warning,
                _ => Self::Quiet,
            },
            "refused" | "exit" | "rolled-back" | "ended" | "build-failed" | "manifest-refused" => {
                Self::Bad
            }
            "upgrade-failed" | "reverted" | "file-unreadable" | "lagged" | "interrupted"
            | "log-cut" | "event-cut" | "start-pending" | "restarted" | "not-started"
            | "build-loop" | "polling" => Self::Warning,
            _ => Self::Strong,
        }
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let wanted = environment("NO_COLOR").is_none()
            && environment("TERM").is_none_or(|terminal| terminal != "dumb");
        Self {
            json,
            paint: wanted && io::stdout().is_terminal(),
            paint_faults: wanted && io::stderr().is_terminal(),
            spools: OnceLock::new(),
        }
    }

    /// Switches to spools: from now on nothing that is printed waits for its reader. Returns
    /// the spool of stderr and the rate limit of the log.
    pub(crate) fn spool(&self) -> Result<(Spool, Gate), CliError> {
        let failed = |error: io::Error| {
            CliError::failed(format!("the output thread could not be started: {error}"))
        };
        let (json, paint) = (self.json, self.paint);
        let missed = move |count| {
            let plain = Output {
                json,
                paint,
                paint_faults: false,
                spools: OnceLock::new(),
            };
            plain.event_text(&missed_line(count)) + "\n"
        };
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
        // If both are the same, such as a terminal, one spool keeps the lines in order.
        let are_one = is_same(&stdout, &stderr);
        let results = Spool::start("exuvia-stdout", stdout, Box::new(missed)).map_err(failed)?;
        let missed = |count| {
            format!("lagged: {count} lines were dropped because nothing read them in time\n")
        };
        let faults = match are_one {
            true => results.clone(),
            false => Spool::start("exuvia-stderr", stderr, Box::new(missed)).map_err(failed)?,
        };
        let spools = self.spools.get_or_init(|| Spools {
            results,
            faults,
            gate: Gate::new(),
        });
        Ok((spools.faults.clone(), spools.gate.clone()))
    }

    /// Reports suppressed log lines; with `all`, those of the current second too.
    pub(crate) fn tell_left_out(&self, all: bool) {
        if let Some(spools) = self.spools.get() {
            for line in spools.gate.left_out(all) {
                spools.faults.push(clean(&line) + "\n");
            }
        }
    }

    /// Waits until all output has been read, for `patience` at most.
    pub(crate) fn finish(&self, patience: Duration) {
        self.tell_left_out(true);
        if let Some(spools) = self.spools.get() {
            // Both usually have the same reader, so it is not waited for twice.
            let read = spools.results.drained(patience);
            spools.faults.drained(match read {
                true => patience,
                false => OTHER,
            });
        }
    }

    fn write_line(&self, text: &str) -> Result<(), CliError> {
        match self.spools.get() {
            None => write_line(text),
            Some(spools) => {
                spools.results.push(format!("{text}\n"));
                Ok(())
            }
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether output is coloured.
    pub(crate) fn has_colours(&self) -> bool {
        self.paint
    }

    /// Prints a line of text; the newline is added.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        self.write_line(text)
    }

    /// Prints a value as a line of JSON.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = json_text(value)
            .map_err(|error| CliError::failed(format!("could not write the result: {error}")))?;
        self.write_line(&text)
    }

    /// Prints an event, with its first word in the colour of its meaning.
    pub(crate) fn event(&self, event: &EventLine) -> Result<(), CliError> {
        self.write_line(&self.event_text(event))
    }

    fn event_text(&self, event: &EventLine) -> String {
        if self.json {
            // A string and a value that is already JSON: serialization cannot fail.
            return json_text(event).unwrap_or_default();
        }
        let refused = refusal(&event.event);
        let line = clean(refused.as_ref().map_or(&event.line, |(first, _)| first));
        let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let first = format!("{}{rest}", self.paint(Tone::of_event(event), word));
        match refused {
            Some((_, Some(help))) => format!("{first}\n{}", self.detail_text("help", &help)),
            _ => first,
        }
    }

    /// Prints a detail that belongs to the previous line.
    pub(crate) fn detail(&self, what: &str, text: &str) -> Result<(), CliError> {
        self.line(&self.detail_text(what, text))
    }

    fn detail_text(&self, what: &str, text: &str) -> String {
        let word = self.paint(Tone::Strong, what);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        format!("    {word}: {}", clean(&lines.join(" ")))
    }

    /// Returns the text in a colour, if output is coloured.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        painted(self.paint, tone, text)
    }

    /// Warns the user about an operation that was carried out nevertheless. Goes to stderr,
    /// since it is not a result.
    pub(crate) fn warn(&self, text: &str) {
        let word = painted(self.paint_faults, Tone::Warning, "warning");
        self.write_fault(format!("{word}: {}\n", clean_lines(text)));
    }

    fn write_fault(&self, text: String) {
        match self.spools.get() {
            Some(spools) => spools.faults.push(text),
            // If this fails, there is no other way to report it.
            None => drop(io::stderr().lock().write_all(text.as_bytes())),
        }
    }

    /// Reports an error and returns the exit code for it.
    pub(crate) fn fault(&self, fault: &CliError) -> ExitCode {
        let report = match fault {
            CliError::Report(report) => report,
            CliError::ReaderGone => return ExitCode::SUCCESS,
            CliError::Shown(exit) => return ExitCode::from(*exit as u8),
        };
        if self.json {
            let mut error = json!({ "code": report.code, "message": report.message });
            if let Some(help) = &report.help {
                error["help"] = json!(help);
            }
            let mut line = json!({ "error": error });
            if self.spools.get().is_some() {
                line["at"] = json!(exuvia_api::now());
            }
            // If this fails too, there is no other way to report it.
            let _ = self.value(&line);
        } else {
            let mut text = String::new();
            if !report.complete {
                let _ = write!(text, "{}: ", painted(self.paint_faults, Tone::Bad, "error"));
            }
            text.push_str(clean_lines(&report.message).trim_end());
            if let Some(help) = &report.help {
                let word = painted(self.paint_faults, Tone::Strong, "help");
                let _ = write!(text, "\n  {word}: {}", clean_lines(help));
            }
            text.push('\n');
            self.write_fault(text);
        }
        ExitCode::from(report.exit as u8)
    }
}

/// For a refused swap, returns the line with its cause, and the help: two pieces of information
/// that are easier to read apart.
fn refusal(event: &Value) -> Option<(String, Option<String>)> {
    let text = |key: &str| event[key].as_str();
    if text("event") != Some("refused") {
        return None;
    }
    let (what, cause) = (text("what")?, text("cause")?);
    let first = sentences::refused(what, text("process"), cause);
    Some((first, text("help").map(str::to_owned)))
}

fn painted(on: bool, tone: Tone, text: &str) -> String {
    if on {
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    } else {
        text.to_owned()
    }
}

fn write_line(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    // Flush each line as it is written: a reader may follow live.
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::ReaderGone,
            _ => CliError::failed(format!("could not write the result: {error}")),
        })
}

fn missed_line(count: u64) -> EventLine {
    EventLine::now(
        format!("lagged: {count} lines were dropped because nothing read them in time"),
        json!({ "event": "lagged", "missed": count }),
    )
}

/// Returns a value as a line of JSON. What [`clean`] escapes in text is escaped here too, as
/// JSON does it: a program that reads it gets the same characters.
fn json_text(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Such characters are only in strings: the text has no spaces of its own.
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped)
}

/// Returns the text on one line, with control characters escaped.
pub(crate) fn clean(text: &str) -> String {
    escape(text, |_| false)
}

/// Like [`clean`], but keeps line breaks and tabs.
pub(crate) fn clean_lines(text: &str) -> String {
    escape(text, |c| c == '\n' || c == '\t')
}

/// Like [`clean_lines`], but also keeps colours: sequences that only change how the text after
/// them looks. The output of a compiler is not a guest's, and yet it may quote anything.
pub(crate) fn styled_lines(text: &str) -> String {
    let mut styled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(at);
        styled += &clean_lines(before);
        let inner = sequence[2..]
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b';')
            .count();
        let (sequence, after) = sequence.split_at(2 + inner);
        rest = match after.strip_prefix('m') {
            Some(after) => {
                styled += sequence;
                styled.push('m');
                after
            }
            None => {
                styled += &clean_lines(sequence);
                after
            }
        };
    }
    styled + &clean_lines(rest)
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !keep(c) {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}

/// Formats a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths.is_multiple_of(10) || tenths >= 1000 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Formats a count: `1 process`, `2 processes`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use exuvia_api::EventLine;
    use serde_json::json;

    use super::{Tone, bytes, clean, clean_lines, count, json_text, painted, styled_lines};

    #[test]
    fn a_guest_cannot_write_to_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{9b}d"), "a\\u{1b}[2Jb\\nc\\u{9b}d");
        assert_eq!(clean_lines("a\nb\x07"), "a\nb\\u{7}");
        assert_eq!(clean("zähler ✓"), "zähler ✓");
        assert_eq!(clean_lines("a\u{202e}b\u{2066}"), "a\\u{202e}b\\u{2066}");
        assert_eq!(clean("pay\u{200b}roll"), "pay\\u{200b}roll");
        assert_eq!(
            styled_lines("\x1b[1;31merror\x1b[0m: \x1b[2J\x1b]0;title\x07\n\x1b[38;5;9"),
            "\x1b[1;31merror\x1b[0m: \\u{1b}[2J\\u{1b}]0;title\\u{7}\n\\u{1b}[38;5;9"
        );
    }

    #[test]
    fn control_characters_are_escaped_in_json() {
        let value = json!({"k\u{202e}": ["a\u{7f}\u{9b}\u{2029}b", "zähler ✓ \u{1f980}", 1.5, "\u{e0041}"]});
        let text = json_text(&value).unwrap();
        assert_eq!(
            text,
            "{\"k\\u202e\":[\"a\\u007f\\u009b\\u2029b\",\"zähler ✓ \u{1f980}\",1.5,\"\\udb40\\udc41\"]}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn sizes_and_counts() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (65536, "64 KiB"),
            (1_100_000, "1 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(count(1, "process", "processes"), "1 process");
        assert_eq!(count(0, "process", "processes"), "0 processes");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(painted(false, Tone::Bad, "x"), "x");
        assert_eq!(painted(true, Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }

    #[test]
    fn events_are_coloured_by_severity() {
        let tone = |event| Tone::of_event(&EventLine::now("", event));
        assert_eq!(tone(json!({"event": "swap"})), Tone::Good);
        assert_eq!(tone(json!({"event": "upgrade-completed"})), Tone::Good);
        let superseded = json!({"event": "upgrade-completed", "superseded_by": 3});
        assert_eq!(tone(superseded), Tone::Warning);
        assert_eq!(tone(json!({"event": "log", "level": "error"})), Tone::Bad);
        assert_eq!(tone(json!({"event": "log", "level": "info"})), Tone::Quiet);
        assert_eq!(tone(json!(null)), Tone::Strong);
    }
}
