//! The errors of a manifest, and how they are shown.
//!
//! While a manifest is read, problems are byte ranges ([`Found`]). At the end they are converted to
//! lines and columns with the text that they point at, so that an error can be kept and printed
//! without the file.

use std::fmt;
use std::ops::Range;

/// The maximum number of problems that are kept. More would not be read.
const MAX_PROBLEMS: usize = 20;

/// The maximum length of a line that is shown, in characters.
const MAX_SHOWN: usize = 120;

/// Everything that is wrong with one manifest.
///
/// `Display` prints all problems in the form that `cargo` uses, each with its own `error:`, so it
/// should be printed without a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    file: String,
    problems: Vec<Problem>,
    left_out: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The position; `None` if the file could not be read at all.
    pub place: Option<Place>,
    /// The text next to the carets.
    pub label: Option<String>,
    /// How to fix it.
    pub help: Option<String>,
}

/// A position in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The text of the line, or the part of it around the column.
    text: String,
    /// The positions of the carets below `text`, in characters.
    carets: Range<usize>,
}

impl ManifestError {
    pub(super) fn new(file: &str, text: &str, problems: Problems) -> Self {
        let mut found = problems.found;
        found.sort_by_key(|found| found.span.as_ref().map_or(0, |span| span.start));
        let left_out = found.len().saturating_sub(MAX_PROBLEMS) + problems.left_out;
        found.truncate(MAX_PROBLEMS);
        let problems = found
            .into_iter()
            .map(|found| Problem {
                place: found.span.map(|span| place(text, span)),
                message: found.message,
                label: found.label,
                help: found.help,
            })
            .collect();
        Self {
            file: file.to_owned(),
            problems,
            left_out,
        }
    }

    pub(super) fn without_place(file: &str, found: Found) -> Self {
        let mut problems = Problems::default();
        problems.add(found);
        Self::new(file, "", problems)
    }

    /// Returns the file name of the manifest.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the mistakes in the order of the file; at least one, at most 20.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ManifestError {}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            problem.show(&self.file, f)?;
        }
        if self.left_out > 0 {
            writeln!(f, "\nerror: {} more errors are not shown", self.left_out)?;
        }
        Ok(())
    }
}

impl Problem {
    fn show(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let Some(place) = &self.place else {
            writeln!(f, " --> {file}")?;
            if let Some(help) = &self.help {
                writeln!(f, "  = help: {help}")?;
            }
            return Ok(());
        };
        let number = place.line.to_string();
        let width = number.len();
        writeln!(f, "{:width$}--> {file}:{}:{}", "", place.line, place.column)?;
        writeln!(f, "{:width$} |", "")?;
        writeln!(f, "{number} | {}", place.text)?;
        let carets = "^".repeat(place.carets.len().max(1));
        write!(f, "{:width$} | {:2$}{carets}", "", "", place.carets.start)?;
        if let Some(label) = &self.label {
            write!(f, " {label}")?;
        }
        writeln!(f)?;
        if let Some(help) = &self.help {
            writeln!(f, "{:width$} |", "")?;
            writeln!(f, "{:width$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// Converts a byte range to a position. A range over several lines is shown to the end of its first
/// one.
fn place(text: &str, span: Range<usize>) -> Place {
    let start = boundary(text, span.start);
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let rest = &text[line_start..];
    let content = rest[..rest.find('\n').unwrap_or(rest.len())].trim_end_matches('\r');
    let at = text[line_start..start].chars().count();
    let end = boundary(text, span.end.max(start)).min(line_start + content.len());
    let length = text.get(start..end).map_or(0, |part| part.chars().count());

    let total = content.chars().count();
    let from = if total <= MAX_SHOWN {
        0
    } else {
        at.saturating_sub(MAX_SHOWN / 2)
    };
    let shown: String = content
        .chars()
        .skip(from)
        .take(MAX_SHOWN)
        // A tab or a control character has no width of its own.
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let first = at - from;
    let last = (first + length.max(1)).min(MAX_SHOWN).max(first + 1);
    Place {
        line,
        column: at + 1,
        text: shown,
        carets: first..last,
    }
}

/// Returns the nearest start of a character at or before a byte.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A problem that was found while reading.
#[derive(Debug)]
pub(super) struct Found {
    span: Option<Range<usize>>,
    message: String,
    label: Option<String>,
    help: Option<String>,
}

impl Found {
    pub(super) fn at(span: Range<usize>, message: String) -> Self {
        Self {
            span: Some(span),
            ..Self::nowhere(message)
        }
    }

    pub(super) fn nowhere(message: String) -> Self {
        Self {
            span: None,
            message,
            label: None,
            help: None,
        }
    }

    pub(super) fn label(self, label: String) -> Self {
        Self {
            label: Some(label),
            ..self
        }
    }

    pub(super) fn help(self, help: String) -> Self {
        Self {
            help: Some(help),
            ..self
        }
    }
}

/// The problems that were found while reading.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Found>,
    left_out: usize,
}

impl Problems {
    /// Adds a problem. The number is bounded, but higher than what is shown: problems are found out
    /// of order.
    pub(super) fn add(&mut self, found: Found) {
        if self.found.len() < 50 * MAX_PROBLEMS {
            self.found.push(found);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// Returns the known word that was most likely meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_WORD: usize = 64;
    if word.len() > MAX_WORD {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns how many characters must be inserted, removed, changed or swapped with their neighbour
/// to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut above: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(above[j - 2] + 1);
            }
            row.push(best);
        }
        above = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest, place};

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("path", "path", 0),
            ("pth", "path", 1),
            ("apth", "path", 1),
            ("Path", "path", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_similar_words_are_suggested() {
        let known = ["path", "limits"];
        assert_eq!(nearest("limit", known), Some("limits"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }

    #[test]
    fn positions_are_right_for_any_range() {
        let text = "a\r\n\tbé = 1\n";
        let at = place(text, 4..7);
        assert_eq!((at.line, at.column), (2, 2));
        assert_eq!(at.text, " bé = 1");
        assert_eq!(at.carets, 1..3);
        for start in 0..20 {
            for end in 0..20 {
                place(text, start..end);
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_position() {
        let text = format!("{}here{}", "x".repeat(500), "y".repeat(500));
        let at = place(&text, 500..504);
        assert_eq!(at.column, 501);
        assert_eq!(at.text.chars().count(), 120);
        let marked: String = at.text.chars().skip(60).take(4).collect();
        assert_eq!((marked.as_str(), at.carets), ("here", 60..64));
    }
}
