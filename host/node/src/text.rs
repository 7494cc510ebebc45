//! Shortens text for one line.

/// Returns the first few names, and how many more there are.
pub fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// Returns the first `most` characters of a text, and `...` if there are more.
pub fn excerpt(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{excerpt, listed};

    #[test]
    fn long_texts_and_lists_are_shortened() {
        assert_eq!(excerpt("zähler", 6), "zähler");
        assert_eq!(excerpt("zähler", 2), "zä...");
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        assert_eq!(listed(&names[..3]), "a, b, c");
        assert_eq!(listed(&names), "a, b, c and 2 more");
    }
}
