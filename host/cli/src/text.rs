//! Texts for people: deceptive characters are found, long texts shortened, and times told by their age.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns whether a character is invisible, looks like a space without being one, or moves the
/// characters beside it (Unicode Annex 9). With such characters the name of a guest could pass
/// for another, and its text for the node's.
pub(crate) fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || c.is_whitespace()
        || matches!(c,
            // Format characters, and those that are ignorable by default or drawn as nothing.
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the first `most` characters of a text, and `...` if there are more.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns how long ago a time was, in milliseconds since 1970, in one unit.
pub(crate) fn age(at_ms: u64) -> String {
    span(now_ms().saturating_sub(at_ms))
}

/// Returns how far a time is in the future.
pub(crate) fn until(at_ms: u64) -> String {
    match at_ms.saturating_sub(now_ms()) {
        0 => "expired".to_owned(),
        left => format!("in {}", span(left)),
    }
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[expect(clippy::disallowed_methods, reason = "an age for people")]
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{excerpt, is_hidden};

    #[test]
    fn a_long_text_is_shortened() {
        assert_eq!(excerpt("zähler", 6), "zähler");
        assert_eq!(excerpt("zähler", 2), "zä...");
    }

    #[test]
    fn invisible_characters_are_recognized() {
        for c in "\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}\u{202e}\u{2066}\u{e0041}\u{fe0f}\u{a0}\u{3000}\u{7}\u{9b}\n"
            .chars()
        {
            assert!(is_hidden(c), "{}", c.escape_unicode());
        }
        for c in "aZ9 ~äß€漢字✓𝄞".chars() {
            assert!(!is_hidden(c), "{c}");
        }
    }
}
