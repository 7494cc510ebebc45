//! Detects from its bytes whether a module file is complete. Most incomplete ones are still being
//! written.

use std::collections::BTreeSet;

const MAGIC: &[u8] = b"\0asm";
/// The id of custom sections.
const CUSTOM: u8 = 0;
/// The prefix of the custom sections that a module needs: the others are informational.
const NEEDED: &[u8] = b"exuvia";

/// The kinds of sections that a module has. A module with fewer than its predecessor may be cut
/// off: at the end of a section nothing shows that another one follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sections(BTreeSet<Section>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Known(u8),
    Custom(Vec<u8>),
}

impl Sections {
    /// Returns the sections of a module; none if it is not Wasm.
    pub(super) fn of(bytes: &[u8]) -> Sections {
        let mut sections = BTreeSet::new();
        let mut rest = bytes.get(8..).unwrap_or_default();
        if !bytes.starts_with(MAGIC) {
            return Sections(sections);
        }
        while let Next::Section { id, body, next } = next(rest) {
            rest = next;
            if id != CUSTOM {
                sections.insert(Section::Known(id));
            } else if let Some(name) = name(body)
                && name.starts_with(NEEDED)
            {
                sections.insert(Section::Custom(name.to_vec()));
            }
        }
        Sections(sections)
    }

    /// Returns whether the other module has all of these too.
    pub(super) fn are_in(&self, other: &Sections) -> bool {
        self.0.is_subset(&other.0)
    }
}

/// Returns the name of a custom section.
fn name(body: &[u8]) -> Option<&[u8]> {
    let Number::Is(length, rest) = number(body) else {
        return None;
    };
    rest.get(..usize::try_from(length).ok()?)
}

enum Next<'a> {
    Section {
        id: u8,
        body: &'a [u8],
        next: &'a [u8],
    },
    End,
    /// The section extends beyond the last byte.
    CutOff,
    /// This is not a module.
    Wrong,
}

fn next(bytes: &[u8]) -> Next<'_> {
    let Some((&id, after)) = bytes.split_first() else {
        return Next::End;
    };
    let (size, body) = match number(after) {
        Number::Is(size, body) => (size, body),
        Number::CutOff => return Next::CutOff,
        Number::Wrong => return Next::Wrong,
    };
    let split = usize::try_from(size)
        .ok()
        .and_then(|size| body.split_at_checked(size));
    match split {
        Some((body, next)) => Next::Section { id, body, next },
        None => Next::CutOff,
    }
}

enum Number<'a> {
    Is(u64, &'a [u8]),
    CutOff,
    Wrong,
}

/// Parses a number of at most five bytes, and returns it with the rest of the bytes.
fn number(bytes: &[u8]) -> Number<'_> {
    let Some(end) = bytes.iter().take(5).position(|byte| byte & 0x80 == 0) else {
        // A fifth byte that continues is one too many.
        return match bytes.len() < 5 {
            true => Number::CutOff,
            false => Number::Wrong,
        };
    };
    let size = bytes[..=end]
        .iter()
        .rev()
        .fold(0_u64, |size, byte| size << 7 | u64::from(byte & 0x7f));
    Number::Is(size, &bytes[end + 1..])
}

/// Returns whether a module ends before its last section does, or a text before its last
/// parenthesis.
pub(super) fn is_cut_off(bytes: &[u8]) -> bool {
    if bytes.starts_with(MAGIC) || MAGIC.starts_with(bytes) {
        let Some(mut rest) = bytes.get(8..) else {
            return true;
        };
        loop {
            match next(rest) {
                Next::Section { next, .. } => rest = next,
                Next::End | Next::Wrong => return false,
                Next::CutOff => return true,
            }
        }
    }
    is_text(bytes) && is_open(bytes)
}

/// Returns whether this starts like binary Wasm.
pub(super) fn is_wasm(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Returns whether this starts like the text format of Wasm.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(begins, Some(b'(' | b';'))
}

/// Returns whether a text ends within parentheses, a string or a comment.
fn is_open(text: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut comments = 0_usize;
    let mut in_string = false;
    let mut begun = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let after = text.get(at + 1).copied();
        at += 1;
        match (byte, after) {
            (b'\\', Some(_)) if in_string => at += 1,
            (b'"', _) if comments == 0 => in_string = !in_string,
            _ if in_string => {}
            (b'(', Some(b';')) => (comments, at) = (comments + 1, at + 1),
            (b';', Some(b')')) if comments > 0 => (comments, at) = (comments - 1, at + 1),
            _ if comments > 0 => {}
            (b';', Some(b';')) => {
                let line = text[at..].iter().position(|byte| *byte == b'\n');
                at = line.map_or(text.len(), |line| at + line);
            }
            (b'(', _) => (depth, begun) = (depth + 1, true),
            (b')', _) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth > 0 || comments > 0 || in_string || !begun
}

#[cfg(test)]
mod tests {
    use super::{Sections, is_cut_off};

    #[test]
    fn a_module_is_complete_only_at_its_end() {
        let long = "x".repeat(300);
        let module = wat::parse_str(format!(
            "(module (memory 1) (data (i32.const 0) \"{long}\") (func (export \"run\")))"
        ))
        .unwrap();
        assert!(!is_cut_off(&module));
        // At the end of a section nothing shows that another one follows.
        let whole: Vec<usize> = (0..=module.len())
            .filter(|&end| !is_cut_off(&module[..end]))
            .collect();
        assert!(whole.len() < 8 && whole.first() == Some(&8), "{whole:?}");
        assert!(!is_cut_off(b"no module at all"));
        assert!(!is_cut_off(b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff"));
    }

    #[test]
    fn a_module_that_lost_sections_is_detected() {
        let parse = |text: &str| Sections::of(&wat::parse_str(text).unwrap());
        let data = "(memory 1) (data (i32.const 0) \"a\")";
        let whole = parse(&format!(
            "(module {data} (@custom \"exuvia.layout\" \"x\"))"
        ));
        assert!(whole.are_in(&whole));
        assert!(!whole.are_in(&parse(&format!("(module {data})"))));
        let less = parse("(module (memory 1) (@custom \"exuvia.layout\" \"y\"))");
        assert!(!whole.are_in(&less) && less.are_in(&whole));
        // Informational sections may disappear.
        let named = parse(&format!(
            "(module $named {data} (@custom \"producers\" \"x\"))"
        ));
        assert!(named.are_in(&whole));
        let text = Sections::of(b"(module)");
        assert!(text.are_in(&whole) && !whole.are_in(&text));
    }

    #[test]
    fn a_text_module_is_complete_only_at_its_end() {
        let text = "\n;; ((\n(module (; ( (; \" ;) ;) (data \"(\\\"(\") (func)\n) ;; (";
        let end = text.rfind(')').unwrap();
        for cut in 1..=text.len() {
            assert_eq!(
                is_cut_off(&text.as_bytes()[..cut]),
                cut <= end && cut > 1,
                "{cut}"
            );
        }
    }
}
