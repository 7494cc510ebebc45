//! A Rust file without its comments and literals.
//!
//! Rules about code look for words such as `unsafe`, which comments and strings may contain
//! freely. Both are blanked here, character by character, so that lines and columns stay where
//! they were. This is a scanner, not a parser: it knows where comments and literals end, and
//! nothing else.

/// Returns the text with comments, strings and characters replaced by spaces.
pub(super) fn code_view(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut view = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at).unwrap_or(at);
        if end == at {
            view.push(chars[at]);
            at += 1;
        } else {
            view.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    view
}

/// Returns the end of the comment or literal that starts at `at`; `None` if none starts there.
fn skipped(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some(find(chars, at, '\n')),
        '/' if next == Some('*') => Some(block_comment(chars, at)),
        '"' => Some(quoted(chars, at + 1, '"')),
        'r' if !within_word(chars, at) => raw_string(chars, at),
        '\'' => character(chars, at),
        _ => None,
    }
}

/// Returns whether the `r` at `at` is part of a longer word. `br` and `cr` start raw strings
/// too, so they do not count.
fn within_word(chars: &[char], at: usize) -> bool {
    let word = |at: usize| {
        chars
            .get(at)
            .is_some_and(|c| c.is_alphanumeric() || *c == '_')
    };
    match at.checked_sub(1) {
        None => false,
        Some(before) if matches!(chars[before], 'b' | 'c') => before > 0 && word(before - 1),
        Some(before) => word(before),
    }
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    chars[from..]
        .iter()
        .position(|&c| c == wanted)
        .map_or(chars.len(), |n| from + n)
}

/// Returns the end of a block comment. Block comments nest in Rust.
fn block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// Returns the end of a literal with escapes; `at` is the position after its opening quote.
fn quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        // `r#name` is an identifier.
        return None;
    }
    let mut at = open + 1;
    loop {
        at = find(chars, at, '"');
        if at == chars.len() {
            return Some(at);
        }
        at += 1;
        if chars[at..]
            .iter()
            .take(hashes)
            .filter(|&&c| c == '#')
            .count()
            == hashes
        {
            return Some(at + hashes);
        }
    }
}

/// Returns the end of a character literal; `None` for a lifetime, which has no closing quote.
fn character(chars: &[char], at: usize) -> Option<usize> {
    match chars.get(at + 1)? {
        '\\' => Some(quoted(chars, at + 1, '\'')),
        _ if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        code_view(text)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn comments_are_blank() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
    }

    #[test]
    fn literals_are_blank() {
        assert_eq!(
            words(r##"a "b \" c" d r#"e " f"# g br"h" i 'j' k '\'' l"##),
            ["a", "d", "g", "b", "i", "k", "l"]
        );
    }

    #[test]
    fn lifetimes_and_raw_names_stay() {
        assert_eq!(
            words("&'a str, r#type for"),
            ["&'a", "str,", "r#type", "for"]
        );
    }

    #[test]
    fn a_word_that_ends_in_r_starts_no_string() {
        assert_eq!(words(r#"bar"x" y"#), ["bar", "y"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let view = code_view("\"a\nb\"\n/*\n*/ c");
        assert_eq!(view.lines().count(), 4);
        assert_eq!(view.lines().nth(3).map(str::trim), Some("c"));
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_file() {
        assert_eq!(words("a \"b \\"), ["a"]);
        assert_eq!(words("a r#\"b \""), ["a"]);
        assert_eq!(words("a /* b"), ["a"]);
    }
}
