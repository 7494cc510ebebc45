//! The bytes of an image outside of the process that it belongs to: in a snapshot, on another node.
//!
//! An image is a difference, so it means nothing without its base. Therefore a header precedes it:
//!
//! ```text
//!   8 bytes   magic, "exuviaim"
//!   2 bytes   format version, little-endian
//!  32 bytes   digest of the base
//!   image     as `image` describes it
//! ```
//!
//! Reading is total: an image that does not fit the base, or whose runs do not lie in its memory,
//! is refused. There is no checksum: what stores an image has one for all that it stores.

use std::fmt;

use crate::WASM_PAGE;
use crate::image::{Base, Image, WORD, read_number};

const MAGIC: [u8; 8] = *b"exuviaim";
const VERSION: u16 = 1;
/// Bytes of the digest of a base.
const DIGEST: usize = 32;
/// Bytes of the header.
const HEADER: usize = MAGIC.len() + size_of::<u16>() + DIGEST;
/// The most pages of a Wasm memory.
const MOST_PAGES: u64 = 1 << 16;

/// Why bytes are no image of a process with this base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// They do not begin as an image does.
    NoImage,
    /// The image has this format version, which this host does not know.
    UnknownVersion(u16),
    /// The image belongs to another base.
    OtherBase,
    /// The image is incomplete, or lies outside of its memory.
    Malformed,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NoImage => f.write_str("this is no image"),
            ImageError::UnknownVersion(version) => write!(
                f,
                "the image has format version {version}, and this host reads version {VERSION}"
            ),
            ImageError::OtherBase => {
                f.write_str("the image belongs to a version with another initial state")
            }
            ImageError::Malformed => {
                f.write_str("the image is incomplete, or lies outside of its memory")
            }
        }
    }
}

impl std::error::Error for ImageError {}

impl Image {
    /// Returns the bytes of the image, with a header that names its base.
    pub fn to_bytes(&self, base: &Base) -> Vec<u8> {
        let image = self.bytes();
        let mut bytes = Vec::with_capacity(HEADER + image.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(base.digest());
        bytes.extend_from_slice(image);
        bytes
    }

    /// Reads an image against this base.
    ///
    /// # Errors
    ///
    /// Returns an [`ImageError`] if the bytes are anything but one whole image against this base.
    pub fn from_bytes(bytes: &[u8], base: &Base) -> Result<Image, ImageError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(ImageError::NoImage)?;
        if *magic != MAGIC {
            return Err(ImageError::NoImage);
        }
        let (version, rest) = rest.split_first_chunk().ok_or(ImageError::NoImage)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(ImageError::UnknownVersion(version));
        }
        let (digest, image) = rest
            .split_first_chunk::<DIGEST>()
            .ok_or(ImageError::NoImage)?;
        if digest != base.digest() {
            return Err(ImageError::OtherBase);
        }
        check(image, base).ok_or(ImageError::Malformed)?;
        Ok(Image::new(image))
    }
}

/// Checks that an image can be applied: `None` if not.
fn check(image: &[u8], base: &Base) -> Option<()> {
    let mut reader = image;
    let pages = number(&mut reader)?;
    if pages < u64::from(base.memory_pages) || pages > MOST_PAGES {
        return None;
    }
    let memory = pages * WASM_PAGE as u64;
    let mut at = 0u64;
    loop {
        let (gap, words) = (number(&mut reader)?, number(&mut reader)?);
        if words == 0 {
            break;
        }
        let length = words.checked_mul(WORD as u64)?;
        at = at.checked_add(gap.checked_mul(WORD as u64)?)?;
        at = at.checked_add(length)?;
        if at > memory {
            return None;
        }
        reader = reader.get(usize::try_from(length).ok()?..)?;
    }
    loop {
        let index = number(&mut reader)?;
        if index == 0 {
            return reader.is_empty().then_some(());
        }
        if index > base.globals.len() as u64 {
            return None;
        }
        reader = reader.get(size_of::<u128>()..)?;
    }
}

/// Reads a number, which must be there.
fn number(reader: &mut &[u8]) -> Option<u64> {
    (!reader.is_empty()).then(|| read_number(reader))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::{After, PAGE, Scratch};

    const MEMORY: usize = 2 * WASM_PAGE;

    fn base(globals: Vec<u128>) -> Base {
        let mut memory = vec![0; MEMORY];
        memory[100] = 1;
        Base::take(&memory, 0..0, globals, 2, Vec::new())
    }

    /// Returns the image of a memory in which these bytes differ from the base.
    fn image(base: &Base, edits: &[(usize, u8)]) -> Image {
        let mut memory = vec![0; MEMORY];
        memory[100] = 1;
        let mut pages: Vec<usize> = edits.iter().map(|(at, _)| at / PAGE).collect();
        pages.sort_unstable();
        pages.dedup();
        for (at, byte) in edits {
            memory[*at] = *byte;
        }
        let range = |page: usize| -> Range<usize> { page * PAGE..(page + 1) * PAGE };
        let mut scratch = Scratch::default();
        scratch.ranges = pages.into_iter().map(range).collect();
        scratch.globals = vec![1, 5];
        Image::take(&mut memory, base, 0..0, After::Keep, &mut scratch)
    }

    fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
        prop::collection::vec((0..MEMORY, any::<u8>()), 0..40)
    }

    proptest! {
        #[test]
        fn an_image_is_read_as_it_was_written(edits in edits()) {
            let base = base(vec![1, 2]);
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
            let base = base(vec![1, 2]);
            let mut bytes = image(&base, &edits).to_bytes(&base);
            for (at, byte) in changes {
                let at = HEADER + at.index(bytes.len() - HEADER);
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

    #[test]
    fn an_image_of_another_base_is_refused() {
        let (one, other) = (base(vec![1, 2]), base(vec![1, 3]));
        let bytes = image(&one, &[(7, 7)]).to_bytes(&one);
        assert!(Image::from_bytes(&bytes, &base(vec![1, 2])).is_ok());
        let error = Image::from_bytes(&bytes, &other);
        assert_eq!(error, Err(ImageError::OtherBase));
    }

    #[test]
    fn each_refusal_says_why() {
        let base = base(vec![1, 2]);
        let bytes = image(&base, &[(7, 7)]).to_bytes(&base);
        let error = |bytes: &[u8]| Image::from_bytes(bytes, &base).err();
        assert_eq!(error(b""), Some(ImageError::NoImage));
        assert_eq!(error(&[b'x'; 80]), Some(ImageError::NoImage));
        let mut newer = bytes.clone();
        newer[MAGIC.len()] = 9;
        assert_eq!(error(&newer), Some(ImageError::UnknownVersion(9)));
        let last = bytes.len() - 1;
        assert_eq!(error(&bytes[..last]), Some(ImageError::Malformed));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(error(&longer), Some(ImageError::Malformed));
        let broken = Image::broken(2).to_bytes(&base);
        assert_eq!(error(&broken), Some(ImageError::Malformed));
    }
}
