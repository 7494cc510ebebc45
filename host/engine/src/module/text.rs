//! Modules in other forms than the binary of a core module, which is made when they are loaded: the text format
//! (`.wat`), so that Wasm can be written by hand without any other tool, and components.

use std::borrow::Cow;

use exuvia_component::{fuse, is_component};
use exuvia_instrument::MAX_MODULE_BYTES;

use crate::error::LoadError;

/// Returns whether these bytes are meant as Wasm text: they begin with a parenthesis, or with a
/// comment.
fn is_text(module: &[u8]) -> bool {
    let text = module.trim_ascii_start();
    text.starts_with(b"(") || text.starts_with(b";;")
}

/// Returns the binary of a module in any form.
///
/// # Errors
///
/// Returns what is wrong with the text, and in which line, or with the component.
pub(crate) fn assembled(module: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let binary = if is_text(module) {
        wat::parse_bytes(module).map_err(|error| LoadError::Text(compact(&error.to_string())))?
    } else {
        Cow::Borrowed(module)
    };
    // A longer one is refused for its length.
    if is_component(&binary) && binary.len() <= MAX_MODULE_BYTES {
        return Ok(Cow::Owned(fuse(&binary)?));
    }
    Ok(binary)
}

/// Shortens the assembler's message to one line: the position first, and no excerpt of the source.
fn compact(message: &str) -> String {
    let mut lines = message.lines();
    let what = lines.next().unwrap_or_default().trim();
    let place = lines.find_map(|line| {
        let (_, place) = line.split_once("--> ")?;
        let mut numbers = place.rsplit(':');
        let column = numbers.next()?.trim();
        Some(format!("line {}, column {column}", numbers.next()?))
    });
    match place {
        Some(place) => format!("{place}: {what}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::assembled;
    use crate::error::LoadError;

    #[test]
    fn text_is_assembled_and_everything_else_is_unchanged() {
        for text in [
            "(module)",
            "\n  (module)",
            ";; a module\n(module)",
            "(; a ;)(module)",
        ] {
            let binary = assembled(text.as_bytes()).unwrap();
            assert_eq!(&*binary, b"\0asm\x01\0\0\0", "{text}");
        }
        for other in [&b"\0asm\x01\0\0\0"[..], b"", b"\x7fELF", b"module"] {
            assert_eq!(&*assembled(other).unwrap(), other);
        }
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let Err(LoadError::Text(fault)) = assembled(b"(module\n  (func (result i32) i32.cosnt 1))")
        else {
            panic!("it is no module");
        };
        assert!(
            fault.starts_with("line 2, column 22: unknown operator"),
            "{fault}"
        );
        assert!(assembled(b"(module \xff)").is_err());
        assert!(assembled(b"(module").is_err());
    }
}
