//! The files below a folder, and no others: a link that leads out of it is not followed, wherever in a path it is. The system
//! looks at that itself (`openat2(2)`, since Linux 5.6), so there is no moment between the look and the opening.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// How often a path is tried with a `..` of which the system cannot say where it leads, since something is renamed meanwhile.
const TRIES: usize = 8;

/// A folder whose files may be read.
#[derive(Clone, Debug)]
pub(super) struct Beneath(PathBuf);

impl Beneath {
    pub(super) fn new(folder: &Path) -> Beneath {
        Beneath(folder.to_owned())
    }

    /// Opens a file, or a folder, whose path begins with that of this folder.
    async fn find(self, path: PathBuf) -> io::Result<std::fs::File> {
        // It may wait for a disk.
        let opened = tokio::task::spawn_blocking(move || -> io::Result<std::fs::File> {
            let below = path.strip_prefix(&self.0);
            let below = below.map_err(|_| io::Error::from(ErrorKind::NotFound))?;
            let below = match below.as_os_str().is_empty() {
                true => Path::new("."),
                false => below,
            };
            let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat(CWD, &self.0, folder, Mode::empty())?;
            // Not waiting: a pipe would, until somebody writes to it.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            let open = || openat2(&folder, below, flags, Mode::empty(), inside);
            let mut opened = open();
            for _ in 1..TRIES {
                if !matches!(opened, Err(rustix::io::Errno::AGAIN)) {
                    break;
                }
                opened = open();
            }
            match opened {
                Ok(file) => Ok(file.into()),
                // It leads out, or is a socket: as if there were nothing.
                Err(
                    rustix::io::Errno::XDEV | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO,
                ) => Err(ErrorKind::NotFound.into()),
                Err(error) => Err(error.into()),
            }
        });
        let file = opened.await.map_err(io::Error::other)??;
        let kind = file.metadata()?.file_type();
        match kind.is_file() || kind.is_dir() {
            true => Ok(file),
            false => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl Backend for Beneath {
    type File = Open;
    type Metadata = Seen;
    type OpenFuture = BoxFuture<'static, Open>;
    type MetadataFuture = BoxFuture<'static, Seen>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let file = self.clone().find(path);
        Box::pin(async move { Ok(Open(file.await?.into())) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let file = self.clone().find(path);
        Box::pin(async move { file.await?.metadata().map(Seen) })
    }
}

/// What is known of a file.
#[derive(Debug)]
pub(super) struct Seen(std::fs::Metadata);

impl Metadata for Seen {
    fn is_dir(&self) -> bool {
        self.0.is_dir()
    }

    fn modified(&self) -> io::Result<std::time::SystemTime> {
        self.0.modified()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

/// A file that is open.
#[derive(Debug)]
pub(super) struct Open(tokio::fs::File);

impl File for Open {
    type Metadata = Seen;
    type MetadataFuture<'a> = BoxFuture<'a, Seen>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(async move { self.0.metadata().await.map(Seen) })
    }
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncSeek for Open {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn only_what_lies_below_the_folder_is_opened() {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("public");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/a.txt"), "a").unwrap();
        std::fs::write(around.path().join("secret.txt"), "secret").unwrap();
        symlink("deep/a.txt", folder.join("inside.txt")).unwrap();
        symlink("../secret.txt", folder.join("outside.txt")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink(
            around.path().join("secret.txt"),
            folder.join("absolute.txt"),
        )
        .unwrap();
        symlink("round", folder.join("round")).unwrap();
        rustix::fs::mknodat(
            CWD,
            folder.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // The folder itself may be a link: it is the app's.
        symlink("public", around.path().join("current")).unwrap();
        for root in ["public", "current"] {
            let root = around.path().join(root);
            let open = |path: &str| Beneath::new(&root).find(root.join(path));
            for path in ["deep/a.txt", "inside.txt", "deep", ""] {
                assert!(open(path).await.is_ok(), "{path}");
            }
            for path in [
                "outside.txt",
                "absolute.txt",
                "up/secret.txt",
                "up/public/deep/a.txt",
                "round",
                "pipe",
                "none",
            ] {
                let error = open(path).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
            }
            let other = Beneath::new(&root).find(around.path().join("secret.txt"));
            assert_eq!(other.await.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}
