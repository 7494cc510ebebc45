//! Reads files that somebody else keeps where a node looks: modules, manifests,
//! sources, ignore files.
//!
//! A name may lead to anything. A pipe would be waited for, a device may act when
//! it is opened or never end, and either may take a file's place between a look
//! and the opening. So nothing is opened that is no ordinary file, an opening does
//! not wait, what was opened is looked at once more, and no more is read than asked
//! for. What can still take time is a file system that does not answer; nobody who
//! must answer may wait for whoever reads here.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// What is said of a pipe, a device or a socket, as the end of a sentence.
pub(crate) const NO_FILE: &str = "is no ordinary file";

/// Opens an ordinary file for reading.
///
/// # Errors
///
/// It cannot be opened, or is something else.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    ordinary(&std::fs::metadata(path)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    ordinary(&metadata)?;
    Ok((file, metadata))
}

fn ordinary(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, NO_FILE)),
    }
}

/// The first bytes of an ordinary file: all, if there are no more than `most`.
///
/// # Errors
///
/// It cannot be read, or is something else.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    let expected = usize::try_from(metadata.len().min(most)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An ordinary file of at most so many bytes.
///
/// # Errors
///
/// It cannot be read, is something else, or has more.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let bytes = read_up_to(path, most.saturating_add(1))?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("has more than {most} bytes, which is the limit"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{NO_FILE, read, read_up_to};

    #[test]
    fn only_ordinary_files_are_opened_and_no_more_is_read_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "12345").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert_eq!(read(&at("link"), 5).unwrap(), b"12345");
        assert_eq!(read_up_to(&at("file"), 2).unwrap(), b"12");
        let error = read(&at("file"), 4).unwrap_err();
        assert!(error.to_string().contains("more than 4 bytes"), "{error}");
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.unwrap().success());
        for other in [&at("pipe"), folder.path(), Path::new("/dev/zero")] {
            let error = read(other, 10).unwrap_err();
            assert_eq!(error.to_string(), NO_FILE, "{}", other.display());
        }
        assert!(read(&at("none"), 10).is_err());
    }
}
