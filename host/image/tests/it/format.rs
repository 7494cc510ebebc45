//! An image as bytes: written, read against a base, and refused against any other.

use exuvia_image::{After, Base, Image, ImageError, PAGE, Scratch};
use proptest::prelude::*;

const WASM_PAGE: usize = 64 * 1024;
/// Pages of Wasm memory of a fresh process.
const PAGES: usize = 2;
const MEMORY: usize = PAGES * WASM_PAGE;

/// The parts of the header: magic, format version, digest of the base.
const MAGIC: &[u8] = b"exuviaim";
const VERSION: usize = MAGIC.len();
const DIGEST: usize = VERSION + 2;
const IMAGE: usize = DIGEST + 32;

/// Returns the memory of a fresh process.
fn fresh() -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    memory[100] = 1;
    memory
}

fn base_of(memory: &[u8], globals: Vec<u128>) -> Base {
    let pages = u32::try_from(memory.len() / WASM_PAGE).unwrap();
    Base::take(memory, 0..0, globals, pages, Vec::new())
}

fn base() -> Base {
    base_of(&fresh(), vec![1, 2])
}

/// Returns the image of a memory, which may have grown.
fn image_of(base: &Base, mut memory: Vec<u8>, globals: Vec<u128>) -> Image {
    let mut scratch = Scratch::default();
    scratch.ranges.push(0..memory.len());
    scratch.globals = globals;
    Image::take(&mut memory, base, 0..0, After::Keep, &mut scratch)
}

/// Returns the image of a process in whose memory these bytes differ from the base.
fn image(base: &Base, edits: &[(usize, u8)]) -> Image {
    let mut memory = fresh();
    for (at, byte) in edits {
        memory[*at] = *byte;
    }
    image_of(base, memory, vec![1, 5])
}

/// Returns what is refused of these bytes.
fn refusal(bytes: &[u8], base: &Base) -> ImageError {
    Image::from_bytes(bytes, base).unwrap_err()
}

/// Returns the bytes of an image with this content.
fn with_header(base: &Base, content: &[u8]) -> Vec<u8> {
    let mut bytes = image(base, &[]).to_bytes(base);
    bytes.truncate(IMAGE);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn a_process_continues_on_a_node_that_has_the_same_base() {
    let here = base();
    let mut memory = fresh();
    memory.resize(3 * WASM_PAGE, 0);
    memory[100] = 0;
    memory[MEMORY - 8..MEMORY + 8].fill(7);
    let bytes = image_of(&here, memory.clone(), vec![1, u128::MAX]).to_bytes(&here);

    let there = base();
    let image = Image::from_bytes(&bytes, &there).unwrap();
    assert_eq!(image.memory_pages(), 3);
    let mut restored = vec![0xff; 3 * WASM_PAGE];
    let everything = 0..restored.len();
    there.restore(&mut restored, &[everything]);
    assert_eq!(image.apply(&mut restored), [(1, u128::MAX)]);
    assert!(restored == memory);
}

#[test]
fn the_header_has_the_magic_the_version_and_the_digest_of_the_base() {
    let base = base();
    let bytes = image(&base, &[(7, 7)]).to_bytes(&base);
    assert_eq!(bytes[..VERSION], *MAGIC);
    assert_eq!(bytes[VERSION..DIGEST], 1u16.to_le_bytes());
    assert_eq!(bytes[DIGEST..IMAGE], *base.digest());
}

#[test]
fn an_image_is_refused_with_any_other_base() {
    let one = base();
    let bytes = image(&one, &[(7, 7)]).to_bytes(&one);
    let mut memory = fresh();
    memory[PAGE] = 1;
    let mut longer = fresh();
    longer.resize(3 * WASM_PAGE, 0);
    for (what, other) in [
        ("memory", base_of(&memory, vec![1, 2])),
        ("size", base_of(&longer, vec![1, 2])),
        ("globals", base_of(&fresh(), vec![1, 3])),
        ("number of globals", base_of(&fresh(), vec![1, 2, 0])),
    ] {
        assert_eq!(refusal(&bytes, &other), ImageError::OtherBase, "{what}");
    }
    assert!(Image::from_bytes(&bytes, &base()).is_ok());
    let why = ImageError::OtherBase.to_string();
    assert!(why.contains("another initial state"), "{why}");
}

#[test]
fn a_format_version_that_is_not_known_is_refused_with_both_versions() {
    let base = base();
    for version in [0u16, 2, 0x0100, u16::MAX] {
        let mut bytes = image(&base, &[(7, 7)]).to_bytes(&base);
        bytes[VERSION..DIGEST].copy_from_slice(&version.to_le_bytes());
        // What follows is not looked at: a later format may have another header.
        bytes.truncate(DIGEST);
        let error = refusal(&bytes, &base);
        assert_eq!(error, ImageError::UnknownVersion(version));
        let why = error.to_string();
        for part in [&format!("version {version},"), "reads version 1"] {
            assert!(why.contains(part), "{why}");
        }
    }
}

#[test]
fn bytes_that_are_no_image_are_refused() {
    let base = base();
    let bytes = image(&base, &[(7, 7)]).to_bytes(&base);
    assert_eq!(refusal(&[b'x'; 80], &base), ImageError::NoImage);
    for length in 0..bytes.len() {
        let expected = match length {
            ..IMAGE => ImageError::NoImage,
            _ => ImageError::Malformed,
        };
        assert_eq!(refusal(&bytes[..length], &base), expected, "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(refusal(&longer, &base), ImageError::Malformed);
}

/// The content is numbers as LEB128: pages, then runs (gap, words, the words) up to 0 words, then
/// globals (index + 1, sixteen bytes) up to 0.
#[test]
fn an_image_that_lies_outside_of_its_memory_is_refused() {
    let base = base();
    let accepted = |content: &[u8]| Image::from_bytes(&with_header(&base, content), &base);
    assert!(accepted(&[2, 0, 0, 0]).is_ok());
    let word = [0; 8];
    // 16,384 words are the two pages: the last of them, and the one behind it.
    let last = [&[2, 0xff, 0x7f, 1], &word[..], &[0, 0, 0]].concat();
    assert!(accepted(&last).is_ok());
    let behind = [&[2, 0x80, 0x80, 1, 1], &word[..], &[0, 0, 0]].concat();
    // 65,537 pages, one more than a Wasm memory may have.
    let pages = [0x81, 0x80, 4, 0, 0, 0];
    let global = [&[2, 0, 0, 3], &[0; 16][..], &[0]].concat();
    let endless = [&[2, 1], &[0xff; 9][..], &[1, 0, 0, 0]].concat();
    for (what, content) in [
        ("a word behind the memory", &behind[..]),
        ("a memory that is too large", &pages),
        ("a memory smaller than the base's", &[1, 0, 0, 0]),
        ("a global that is not there", &global),
        ("more words than there are bytes", &endless),
        ("no end of the globals", &[2, 0, 0]),
    ] {
        assert_eq!(accepted(content), Err(ImageError::Malformed), "{what}");
    }
    let broken = Image::broken(2).to_bytes(&base);
    assert_eq!(refusal(&broken, &base), ImageError::Malformed);
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0..MEMORY, any::<u8>()), 0..40)
}

proptest! {
    #[test]
    fn an_image_is_read_as_it_was_written(edits in edits()) {
        let base = base();
        let image = image(&base, &edits);
        prop_assert_eq!(Image::from_bytes(&image.to_bytes(&base), &base), Ok(image));
    }

    /// What is accepted can be applied.
    #[test]
    fn changed_bytes_are_refused_or_harmless(
        edits in edits(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let base = base();
        let mut bytes = image(&base, &edits).to_bytes(&base);
        for (at, byte) in changes {
            let at = IMAGE + at.index(bytes.len() - IMAGE);
            bytes[at] = byte;
        }
        let cut = cut.index(bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Ok(image) = Image::from_bytes(bytes, &base) {
                let pages = image.memory_pages() as usize;
                prop_assume!(pages < 64);
                let mut memory = vec![0; pages * WASM_PAGE];
                let globals = image.apply(&mut memory);
                prop_assert!(globals.iter().all(|(index, _)| *index < 2));
            }
        }
    }
}
