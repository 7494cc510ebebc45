//! Finds a custom section in the bytes of a module. Nothing else of the module is read: whether it
//! is valid, others decide.

/// The most bytes of a section's contents that are kept, over all sections of its name.
pub const SECTION_BYTES: usize = 64 << 10;

/// The header of a binary module: its magic number and version.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";
/// The id of custom sections.
const CUSTOM: u8 = 0;
/// The most bytes of a number of 32 bits in LEB128.
const LEB_BYTES: usize = 5;

/// Returns the contents of all custom sections of a name, one after the other, up to
/// [`SECTION_BYTES`]; nothing if there are none. What cannot be read of the module ends the search.
pub fn section(wasm: &[u8], name: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = wasm.strip_prefix(HEADER).unwrap_or_default();
    while let Some((id, contents)) = next(&mut rest) {
        if id == CUSTOM
            && let Some(data) = named(contents, name)
        {
            let room = SECTION_BYTES - found.len();
            found.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    found
}

/// Takes a section off the front: its id and its contents.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (id, after) = rest.split_first()?;
    *rest = after;
    let contents = sized(rest)?;
    Some((*id, contents))
}

/// Returns what follows the name of a custom section, if it has that name.
fn named<'a>(mut contents: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let found = sized(&mut contents)?;
    (found == name.as_bytes()).then_some(contents)
}

/// Takes a length and so many bytes off the front.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0u64;
    for at in 0..LEB_BYTES {
        let byte = *rest.get(at)?;
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let (bytes, after) = rest[at + 1..].split_at_checked(usize::try_from(length).ok()?)?;
            *rest = after;
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{HEADER, SECTION_BYTES, section};

    fn module(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut wasm = HEADER.to_vec();
        for (name, data) in sections {
            let size = 1 + name.len() + data.len();
            wasm.push(0);
            // A length need not be written in the shortest form.
            wasm.extend((0..4).map(|at| (size >> (7 * at)) as u8 & 0x7f | 0x80));
            wasm.push(0);
            wasm.push(name.len() as u8);
            wasm.extend_from_slice(name.as_bytes());
            wasm.extend_from_slice(data);
        }
        wasm
    }

    #[test]
    fn sections_of_one_name_count_as_one() {
        let wasm = module(&[("a", b"one"), ("b", b"other"), ("a", b"two")]);
        assert_eq!(section(&wasm, "a"), b"onetwo");
        assert_eq!(section(&wasm, "b"), b"other");
        assert!(section(&wasm, "c").is_empty());
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let long = vec![b'x'; SECTION_BYTES - 1];
        let wasm = module(&[("a", &long), ("a", b"yz"), ("a", b"z")]);
        let found = section(&wasm, "a");
        assert_eq!(found.len(), SECTION_BYTES);
        assert_eq!(found.last(), Some(&b'y'));
    }

    #[test]
    fn what_is_cut_off_ends_the_search() {
        let wasm = module(&[("a", b"one"), ("a", b"two")]);
        for end in 0..wasm.len() {
            let found = section(&wasm[..end], "a");
            assert!(found.is_empty() || found == b"one", "{end}");
        }
        assert!(section(b"", "a").is_empty());
        assert!(section(b"(module)", "a").is_empty());
    }
}
