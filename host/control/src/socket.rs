//! Ownership of a socket's path.
//!
//! A socket's file outlives a process that was killed, so its presence proves nothing. What
//! proves that a node is alive is the lock on the file beside it, which the kernel releases
//! when the process exits. The lock is therefore taken first; with the lock held, whatever is
//! at the path is stale and may be removed. The lock file is deliberately never removed:
//! otherwise two nodes could lock two different files of the same name.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use exuvia_api::{Role, check_path};
use tokio::net::{UnixListener, UnixSocket};

use crate::error::ServeError;
use crate::remote::Remote;

/// The maximum number of connections that wait to be accepted. Only a faulty client opens more.
const BACKLOG: u32 = 128;

/// The right to listen at a path, held until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Whether this claim created the file at the path.
    bound: bool,
    /// Further sockets, each for a role.
    others: Vec<(Role, Claim)>,
    remote: Option<Remote>,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Claim {
    /// Claims a path. Creates a missing folder, accessible to this user only. Fails if another
    /// node holds the path or the file there is not a stale socket.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, ServeError> {
        let path = path.into();
        check_path(&path)?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| ServeError::io("make the folder", folder, error))?;
        }
        let lock = lock(&path)?;
        remove_left_over(&path)?;
        Ok(Self {
            path,
            bound: false,
            others: Vec::new(),
            remote: None,
            _lock: lock,
        })
    }

    /// Adds a socket whose clients have this role.
    #[must_use]
    pub fn with(mut self, role: Role, other: Claim) -> Self {
        self.others.push((role, other));
        self
    }

    /// Also serves other machines.
    #[must_use]
    pub fn with_remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
    }

    pub(crate) fn take_remote(&mut self) -> Option<Remote> {
        self.remote.take()
    }

    pub(crate) fn take_others(&mut self) -> Vec<(Role, Claim)> {
        std::mem::take(&mut self.others)
    }

    /// Returns the claimed path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens at the path. No client can connect before the mode is set, since a socket that
    /// is bound but not listening refuses connections.
    pub(crate) fn listen(&mut self, mode: u32) -> Result<UnixListener, ServeError> {
        let failed = |error: io::Error| ServeError::io("listen at", &self.path, error);
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(&self.path).map_err(failed)?;
        self.bound = true;
        let failed = |error: io::Error| ServeError::io("listen at", &self.path, error);
        fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bound
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// Takes the lock beside the path and writes this process's ID into it, to be named in the
/// error of a second node.
fn lock(path: &Path) -> Result<File, ServeError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| ServeError::io("open", &name, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(ServeError::AlreadyRunning {
                socket: path.to_path_buf(),
                process: holder(&file),
            });
        }
        Err(TryLockError::Error(error)) => return Err(ServeError::io("lock", &name, error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| ServeError::io("write", &name, error))?;
    Ok(file)
}

fn holder(file: &File) -> Option<u32> {
    /// The digits of a process ID and the newline.
    const LONGEST: u64 = 16;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Removes a stale socket. The caller holds the lock, so no node listens there; another program
/// might.
fn remove_left_over(path: &Path) -> Result<(), ServeError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ServeError::io("look at", path, error)),
    };
    if !kind.is_socket() {
        return Err(ServeError::NotASocket {
            path: path.to_path_buf(),
        });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(ServeError::io("look at", path, error)),
        Ok(_) => {
            return Err(ServeError::Foreign {
                socket: path.to_path_buf(),
            });
        }
    }
    tracing::info!(
        "removed {}, the socket of a node that is gone",
        path.display()
    );
    fs::remove_file(path).map_err(|error| ServeError::io("remove", path, error))
}
