//! The files below a folder, and no others: a link that leads out of it is not followed, wherever in a path it is. The system
//! looks at that itself (`openat2(2)`, since Linux 5.6), so there is no moment between the look and the opening.

use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// How often a path is tried with a `..` of which the system cannot say where it leads, since something is renamed meanwhile.
const TRIES: usize = 8;

/// A folder whose files may be read, for one request: what was looked at is what is opened, without looking again.
#[derive(Clone, Debug)]
pub(super) struct Beneath {
    folder: PathBuf,
    /// What was looked at last.
    seen: Arc<Mutex<Option<(PathBuf, Open)>>>,
}

impl Beneath {
    pub(super) fn new(folder: &Path) -> Beneath {
        Beneath {
            folder: folder.to_owned(),
            seen: Arc::default(),
        }
    }

    /// Opens a file, or a folder, whose path begins with that of this folder. What is known of it comes with it.
    async fn find(self, path: PathBuf) -> io::Result<Open> {
        // It may wait for a disk.
        let opened = tokio::task::spawn_blocking(move || {
            let below = path.strip_prefix(&self.folder);
            let below = below.map_err(|_| io::Error::from(ErrorKind::NotFound))?;
            let below = match below.as_os_str().is_empty() {
                true => Path::new("."),
                false => below,
            };
            let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat(CWD, &self.folder, folder, Mode::empty())?;
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
            let file: std::fs::File = match opened {
                Ok(file) => file.into(),
                // It leads out, or is a socket: as if there were nothing.
                Err(
                    rustix::io::Errno::XDEV | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO,
                ) => return Err(ErrorKind::NotFound.into()),
                Err(error) => return Err(error.into()),
            };
            let seen = file.metadata()?;
            let kind = seen.file_type();
            match kind.is_file() || kind.is_dir() {
                true => Ok(Open {
                    file: file.into(),
                    seen: Seen(seen),
                }),
                false => Err(ErrorKind::NotFound.into()),
            }
        });
        opened.await.map_err(io::Error::other)?
    }
}

impl Backend for Beneath {
    type File = Open;
    type Metadata = Seen;
    type OpenFuture = BoxFuture<'static, Open>;
    type MetadataFuture = BoxFuture<'static, Seen>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let seen = self.seen.lock().take_if(|(seen, _)| *seen == path);
        let found = self.clone().find(path);
        Box::pin(async move {
            match seen {
                Some((_, file)) => Ok(file),
                None => found.await,
            }
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let this = self.clone();
        Box::pin(async move {
            if let Some((_, file)) = this.seen.lock().as_ref().filter(|(seen, _)| *seen == path) {
                return Ok(file.seen.clone());
            }
            let file = this.clone().find(path.clone()).await?;
            let seen = file.seen.clone();
            *this.seen.lock() = Some((path, file));
            Ok(seen)
        })
    }
}

/// What is known of a file.
#[derive(Clone, Debug)]
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

/// A file that is open, and what was known of it then.
#[derive(Debug)]
pub(super) struct Open {
    file: tokio::fs::File,
    seen: Seen,
}

impl File for Open {
    type Metadata = Seen;
    type MetadataFuture<'a> = Ready<io::Result<Seen>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.seen.clone()))
    }
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, to)
    }
}

impl AsyncSeek for Open {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_looked_at_is_what_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let other = folder.path().join("b.txt");
        std::fs::write(&path, "before").unwrap();
        std::fs::write(&other, "another").unwrap();
        let beneath = Beneath::new(folder.path());
        let seen = beneath.metadata(path.clone()).await.unwrap();
        assert_eq!((seen.len(), seen.is_dir()), (6, false));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "some time after").unwrap();
        for (path, text) in [(&other, "another"), (&path, "before")] {
            let mut file = beneath.open(path.clone()).await.unwrap();
            assert_eq!(file.metadata().await.unwrap().len(), text.len() as u64);
            let mut found = String::new();
            file.read_to_string(&mut found).await.unwrap();
            assert_eq!(found, text);
        }
        // The next request looks again.
        let next = Beneath::new(folder.path()).metadata(path).await.unwrap();
        assert_eq!(next.len(), 15);
    }

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
