//! The audit log: who did what, a line of JSON each, in a file beside the control socket. A thread writes it, so that no
//! request waits for a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use axum::http::{Method, Uri};
use exuvia_api::Role;
use serde::Serialize;

use crate::access::Caller;

/// Bytes of the file at which another is begun; the one before is kept.
pub const MAX_AUDIT_BYTES: u64 = 8 << 20;
/// The most entries that wait to be written. More are counted, and the count is written.
const MAX_WAITING: usize = 1024;
/// The most bytes of a request's path and query in an entry.
const MAX_PATH_BYTES: usize = 1024;

/// Where entries go. Its thread ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Audit(SyncSender<Entry>);

/// A request that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    at: String,
    who: String,
    role: &'static str,
    method: String,
    path: String,
    status: u16,
    took_ms: f64,
}

impl Entry {
    pub(crate) fn new(caller: &Caller, method: &Method, uri: &Uri) -> Entry {
        let mut path = uri.path_and_query().map_or("", |it| it.as_str()).to_owned();
        // A path is ASCII.
        path.truncate(MAX_PATH_BYTES);
        Entry {
            at: exuvia_api::now(),
            who: caller.name.to_string(),
            role: caller.role.name(),
            method: method.to_string(),
            path,
            status: 0,
            took_ms: 0.0,
        }
    }

    /// A request of somebody without a good token.
    pub(crate) fn unknown(method: &Method, uri: &Uri) -> Entry {
        let nobody = Caller {
            name: "unknown".into(),
            role: Role::Call,
            scope: Arc::default(),
            audit: None,
        };
        Entry {
            role: "none",
            status: 401,
            ..Entry::new(&nobody, method, uri)
        }
    }

    pub(crate) fn ended(self, status: u16, took: Duration) -> Entry {
        Entry {
            status,
            took_ms: took.as_secs_f64() * 1e3,
            ..self
        }
    }
}

impl Audit {
    /// Begins to write to a file, which is made if it is missing and readable by its user only.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or there is no thread.
    pub(crate) fn start(path: &Path) -> io::Result<Audit> {
        let mut log = Log::open(path)?;
        let (sender, entries) = sync_channel(MAX_WAITING);
        std::thread::Builder::new()
            .name("exuvia-audit".into())
            .spawn(move || log.write_all(&entries))?;
        Ok(Audit(sender))
    }

    /// Notes an entry; never waits.
    pub(crate) fn note(&self, entry: Entry) {
        if let Err(TrySendError::Full(entry)) = self.0.try_send(entry) {
            tracing::warn!(
                "the audit log is behind and leaves out: {} {} by {}",
                entry.method,
                entry.path,
                entry.who
            );
        }
    }
}

/// The file.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Whether the last line was written; if not, a warning was printed.
    is_good: bool,
}

impl Log {
    fn open(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Ok(Log {
            path: path.to_owned(),
            bytes: file.metadata()?.len(),
            file,
            is_good: true,
        })
    }

    fn write_all(&mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            // A few texts and numbers: they can always be written.
            let mut line = serde_json::to_vec(&entry).unwrap_or_default();
            line.push(b'\n');
            let done = self.write(&line);
            if let Err(error) = &done
                && self.is_good
            {
                tracing::warn!(
                    "the audit log {} is not written: {error}",
                    self.path.display()
                );
            }
            self.is_good = done.is_ok();
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 > MAX_AUDIT_BYTES {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            std::fs::rename(&self.path, before)?;
            *self = Log::open(&self.path)?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Log, MAX_AUDIT_BYTES};

    #[test]
    fn the_file_is_bounded_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = Log::open(&path).unwrap();
        let line = vec![b'x'; 100_000];
        for _ in 0..200 {
            log.write(&line).unwrap();
        }
        drop(log);
        let length = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(length("audit.jsonl") <= MAX_AUDIT_BYTES);
        assert!(length("audit.jsonl.1") <= MAX_AUDIT_BYTES);
        assert!(length("audit.jsonl.1") > MAX_AUDIT_BYTES - 100_001);
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        // It goes on where it ended.
        let log = Log::open(&path).unwrap();
        assert_eq!(log.bytes, length("audit.jsonl"));
    }
}
