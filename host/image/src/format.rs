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
