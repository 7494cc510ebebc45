//! Reads files that other programs put where a node looks: modules, manifests, sources, ignore
//! files.
//!
//! A name may refer to anything. Opening a pipe may block, a device may act when it is opened or
//! never end, and either may replace a file between a check and the opening. So only regular files
//! are opened, opening does not block, the opened file is checked once more, and no more is read
//! than asked for. A file system that does not respond can still block; threads that must stay
//! responsive must not wait for the thread that reads here.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The description of a pipe, a device or a socket, as the end of a sentence.
pub const NO_FILE: &str = "is not a regular file";

/// Opens a regular file for reading.
///
/// # Errors
///
/// If it cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
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

/// Returns the first `most` bytes of a regular file, or the whole file if it is shorter.
///
/// # Errors
///
/// If it cannot be read, or is not a regular file.
pub fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    let expected = usize::try_from(metadata.len().min(most)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the contents of a regular file of at most `most` bytes.
///
/// # Errors
///
/// If it cannot be read, is not a regular file, or is longer.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
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
    fn only_regular_files_are_opened_and_reads_are_bounded() {
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
