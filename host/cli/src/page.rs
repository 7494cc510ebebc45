//! Formats a page of Markdown for a terminal: wraps lines, fits tables, and leaves out what is
//! not for the reader. Supports what this manual uses, and no more.

use std::fmt::Write as _;

/// How a page is formatted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) width: usize,
    pub(crate) colours: bool,
}

/// The minimum width of a table's column.
const NARROWEST: usize = 8;
/// The gap between two columns.
const GAP: &str = "  ";

/// Returns the page without its comments, which are for its tests.
pub(crate) fn without_comments(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let (mut code, mut comment) = (false, false);
    for line in page.lines() {
        code ^= line.starts_with("```");
        if !code && line.starts_with("<!--") {
            comment = true;
        }
        if !comment {
            text += line;
            text.push('\n');
        }
        comment &= !line.contains("-->");
    }
    text
}

/// Returns the page formatted for a terminal.
pub(crate) fn set(page: &str, style: &Style) -> String {
    let page = without_comments(page);
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    let mut blank = true;
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            // A removed comment leaves two empty lines.
            if !blank {
                out.push('\n');
            }
            blank = true;
            continue;
        }
        blank = false;
        if line.starts_with("```") {
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                let _ = writeln!(out, "    {line}");
            }
        } else if let Some(title) = heading(line) {
            let _ = writeln!(out, "{}", style.paint("1;4", &inline(title, style)));
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(next) = lines.next_if(|next| next.starts_with('|')) {
                rows.push(cells(next));
            }
            table(&rows, style, &mut out);
        } else if let Some(picture) = line.strip_prefix("![") {
            let words = picture.split(']').next().unwrap_or_default();
            wrap(&format!("(a picture: {words})"), "", "", style, &mut out);
        } else {
            let mut text = line.to_owned();
            let begins = |line: &str| {
                line.trim().is_empty()
                    || line.starts_with("```")
                    || line.starts_with('|')
                    || line.starts_with("![")
                    || heading(line).is_some()
                    || item(line).is_some()
            };
            while let Some(next) = lines.next_if(|next| !begins(next)) {
                text.push(' ');
                text += next.trim();
            }
            match item(&text) {
                Some((mark, rest)) => {
                    let further = " ".repeat(mark.len());
                    wrap(&inline(rest, style), &mark, &further, style, &mut out);
                }
                None => wrap(&inline(&text, style), "", "", style, &mut out),
            }
        }
    }
    out
}

impl Style {
    fn paint(&self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn heading(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches('#');
    (rest.len() < line.len())
        .then(|| rest.strip_prefix(' '))
        .flatten()
}

/// Returns the mark of a list item with its indent, and the rest.
fn item(line: &str) -> Option<(String, &str)> {
    let text = line.trim_start();
    let indent = &line[..line.len() - text.len()];
    if let Some(rest) = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
        return Some((format!("{indent}- "), rest));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix(". ")?;
    (digits > 0).then(|| (format!("{indent}{}. ", &text[..digits]), rest))
}

/// Formats the marks within a line: code, emphasis and links. Spaces within code become
/// [`HARD`], so that no line breaks there.
fn inline(text: &str, style: &Style) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[', '\\']) {
        out += &rest[..at];
        rest = &rest[at..];
        if let Some((code, after)) = rest[1..].split_once('`').filter(|_| rest.starts_with('`')) {
            let code = code.replace("\\|", "|").replace(' ', HARD);
            out += &match style.colours {
                true => style.paint("36", &code),
                false => format!("`{code}`"),
            };
            rest = after;
        } else if let Some((strong, after)) =
            rest.strip_prefix("**").and_then(|it| it.split_once("**"))
        {
            out += &style.paint("1", strong);
            rest = after;
        } else if let Some((word, after)) = (rest[1..].split_once('*'))
            .filter(|(word, _)| rest.starts_with('*') && !word.is_empty() && !word.starts_with(' '))
        {
            out += &style.paint("3", word);
            rest = after;
        } else if let Some((words, after)) = link(rest) {
            out += &inline(words, style);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\|") {
            out.push('|');
            rest = after;
        } else {
            out += &rest[..1];
            rest = &rest[1..];
        }
    }
    out + rest
}

/// A space at which no line breaks; replaced by a plain one when the line is written.
const HARD: &str = "\u{a0}";

fn link(text: &str) -> Option<(&str, &str)> {
    let (words, after) = text.strip_prefix('[')?.split_once("](")?;
    let (_, after) = after.split_once(')')?;
    (!words.contains('[')).then_some((words, after))
}

/// Returns the number of visible characters: colour sequences take no space.
fn width(text: &str) -> usize {
    let mut count = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            for c in chars.by_ref() {
                if c == 'm' {
                    break;
                }
            }
        } else {
            count += 1;
        }
    }
    count
}

/// Breaks words into lines of this width. A word that is wider gets a line of its own.
fn lines(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide > most {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            *line += word;
            used += wide;
        }
    }
    lines
}

fn wrap(text: &str, first: &str, further: &str, style: &Style, out: &mut String) {
    let most = style.width.saturating_sub(first.len());
    for (number, line) in lines(text, most).iter().enumerate() {
        let before = if number == 0 { first } else { further };
        let _ = writeln!(out, "{before}{}", line.replace(HARD, " "));
    }
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in inner.chars() {
        match (c, cells.last_mut()) {
            ('|', _) if !escaped => cells.push(String::new()),
            (_, Some(cell)) => cell.push(c),
            (_, None) => {}
        }
        escaped = c == '\\' && !escaped;
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// Formats a table, at most as wide as the terminal: the widest columns are wrapped.
fn table(rows: &[Vec<String>], style: &Style, out: &mut String) {
    let is_rule = |row: &Vec<String>| {
        row.iter()
            .all(|cell| !cell.is_empty() && cell.chars().all(|c| "-: ".contains(c)))
    };
    let rows: Vec<Vec<String>> = (rows.iter().filter(|row| !is_rule(row)))
        .map(|row| row.iter().map(|cell| inline(cell, style)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let available = style
        .width
        .saturating_sub(GAP.len() * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<Vec<String>> = (row.iter().zip(&widths))
            .map(|(cell, wide)| lines(cell, *wide))
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..height {
            let mut line = String::new();
            for (cell, wide) in cells.iter().zip(&widths) {
                let part = cell.get(at).map_or("", String::as_str);
                let shown = match number {
                    0 if !part.is_empty() => style.paint("1", part),
                    _ => part.to_owned(),
                };
                line += &shown;
                line += &" ".repeat(wide.saturating_sub(width(part)));
                line += GAP;
            }
            let _ = writeln!(out, "{}", line.trim_end().replace(HARD, " "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, set, width, without_comments};

    const PLAIN: Style = Style {
        width: 40,
        colours: false,
    };

    const PAGE: &str = "# A page\n\n<!-- file: a.rs -->\n```rust\nfn a() {}\n<!-- stays -->\n```\n\n\
        Some text with **strong** words, a [link](other.md#part), `code with spaces` and\nmore of it.\n\n\
        - an item that is long enough to be wrapped somewhere\n- another\n\n\
        | name | meaning |\n| --- | --- |\n| `a\\|b` | what it means, at a length that does not fit |\n\n\
        ![a drawing](x.svg)\n";

    #[test]
    fn a_page_fits_the_terminal() {
        let text = set(PAGE, &PLAIN);
        assert!(!text.contains("<!-- file"), "{text}");
        assert!(
            text.contains("    <!-- stays -->"),
            "code is as it is: {text}"
        );
        assert!(
            text.contains("Some text with strong words, a link,"),
            "{text}"
        );
        assert!(text.contains("`code with spaces`"), "{text}");
        assert!(
            text.contains(
                "\n- an item that is long enough to be\n  wrapped somewhere\n- another\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("`a|b`  what it means, at a length that"),
            "{text}"
        );
        assert!(text.contains("(a picture: a drawing)"), "{text}");
        for line in text.lines() {
            assert!(width(line) <= PLAIN.width, "{line}");
        }
    }

    #[test]
    fn the_whole_manual_can_be_set_at_any_width() {
        let pages = [
            include_str!("../../../docs/cli.md"),
            include_str!("../../../docs/manifest.md"),
            include_str!("../../../docs/benchmarks.md"),
            include_str!("../../../guest-sdk/abi.md"),
        ];
        for page in pages {
            for width in [30, 80, 100] {
                let style = Style {
                    width,
                    colours: true,
                };
                let text = set(page, &style);
                assert!(text.len() > page.len() / 2);
                assert!(!text.contains("](") || !text.contains("<!-- table"));
            }
        }
    }

    #[test]
    fn comments_are_left_out_where_nothing_is_set() {
        let text = without_comments("a\n<!-- one\ntwo -->\nb\n");
        assert_eq!(text, "a\nb\n");
    }
}
