//! The audit log: who did what, a line of JSON each, in files beside the control socket. A thread writes each, so that no
//! request waits for a disk. What was refused has a file of its own: whoever makes many such requests leaves the others'
//! alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use axum::http::{Method, Uri};
use exuvia_api::Role;
use rustix::fs::OFlags;
use serde::Serialize;
use serde_json::json;

use crate::access::Caller;

/// Bytes of the file of changes at which another is begun; the one before is kept.
pub const MAX_AUDIT_BYTES: u64 = 8 << 20;
/// The same of the file of refusals.
pub const MAX_REFUSED_BYTES: u64 = 1 << 20;
/// The most entries that wait to be written. More are counted, and the count is written.
const MAX_WAITING: usize = 1024;
/// The most bytes of a request's path and query in an entry.
const MAX_PATH_BYTES: usize = 512;

/// Where entries go. The threads end with the last of these.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    changes: Queue,
    refusals: Queue,
}

#[derive(Clone, Debug)]
struct Queue {
    entries: SyncSender<Entry>,
    /// How many did not fit.
    left_out: Arc<AtomicU64>,
}

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
        let path = uri.path_and_query().map_or("", |it| it.as_str());
        let path = path.get(..path.floor_char_boundary(MAX_PATH_BYTES));
        Entry {
            at: exuvia_api::now(),
            who: caller.name.to_string(),
            role: caller.role.name(),
            method: method.to_string(),
            path: path.unwrap_or_default().to_owned(),
            status: 0,
            took_ms: 0.0,
        }
    }

    /// A request of somebody without a good token.
    pub(crate) fn unknown(who: String, method: &Method, uri: &Uri) -> Entry {
        let nobody = Caller {
            name: who.into(),
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
    /// Begins to write to files beside a socket, which are made if they are missing and readable by their user only.
    ///
    /// # Errors
    ///
    /// The file that cannot be opened, or for which there is no thread.
    pub(crate) fn start(socket: &Path) -> Result<Audit, (PathBuf, io::Error)> {
        let queue = |name: &str, limit| {
            let path = crate::beside(socket, name);
            Queue::start(&path, limit).map_err(|error| (path, error))
        };
        Ok(Audit {
            changes: queue("audit.jsonl", MAX_AUDIT_BYTES)?,
            refusals: queue("refused.jsonl", MAX_REFUSED_BYTES)?,
        })
    }

    /// Notes an entry; never waits.
    pub(crate) fn note(&self, entry: Entry, is_refused: bool) {
        let queue = match is_refused {
            true => &self.refusals,
            false => &self.changes,
        };
        if queue.entries.try_send(entry).is_err() {
            queue.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Queue {
    fn start(path: &Path, limit: u64) -> io::Result<Queue> {
        let mut log = Log::open(path, limit)?;
        let (sender, entries) = sync_channel(MAX_WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("exuvia-audit".into())
            .spawn(move || log.write_all(&entries, &counted))?;
        Ok(Queue {
            entries: sender,
            left_out,
        })
    }
}

/// A file.
struct Log {
    path: PathBuf,
    limit: u64,
    /// `None`: to be opened again.
    file: Option<File>,
    bytes: u64,
    /// Whether the last line was written; if not, a warning was printed.
    is_good: bool,
}

impl Log {
    fn open(path: &Path, limit: u64) -> io::Result<Log> {
        let mut log = Log {
            path: path.to_owned(),
            limit,
            file: None,
            bytes: 0,
            is_good: true,
        };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<&mut File> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)?;
        self.bytes = file.metadata()?.len();
        Ok(self.file.insert(file))
    }

    fn write_all(&mut self, entries: &Receiver<Entry>, left_out: &AtomicU64) {
        while let Ok(entry) = entries.recv() {
            let missing = left_out.swap(0, Ordering::Relaxed);
            if missing > 0 {
                self.note(&json!({ "at": exuvia_api::now(), "left_out": missing }));
            }
            self.note(&entry);
        }
    }

    fn note<T: Serialize>(&mut self, entry: &T) {
        // A few texts and numbers: they can always be written.
        let mut line = serde_json::to_vec(entry).unwrap_or_default();
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

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 > self.limit {
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            // If that is not possible, the file is emptied: new entries are worth more than old ones.
            if std::fs::rename(&self.path, before).is_err()
                && let Some(file) = &self.file
            {
                file.set_len(0)?;
            }
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.reopen()?,
        };
        match file.write_all(line) {
            Ok(()) => {
                self.bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Of a line that is there in part, the rest of the line is the end.
                let _ = file.write_all(b"\n");
                self.file = None;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::{Method, Uri};

    use super::{Entry, Log, MAX_PATH_BYTES};

    const LIMIT: u64 = 1 << 20;

    fn length(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    #[test]
    fn the_file_is_bounded_and_the_one_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let before = folder.path().join("audit.jsonl.1");
        let mut log = Log::open(&path, LIMIT).unwrap();
        let line = vec![b'x'; 100_000];
        for _ in 0..200 {
            log.write(&line).unwrap();
        }
        assert!(length(&path) <= LIMIT && length(&before) <= LIMIT);
        assert!(length(&before) > LIMIT - 100_001);
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        // It goes on where it ended, whatever is in the way.
        std::fs::remove_file(&before).unwrap();
        std::fs::create_dir(&before).unwrap();
        let mut log = Log::open(&path, LIMIT).unwrap();
        assert_eq!(log.bytes, length(&path));
        for _ in 0..30 {
            log.write(&line).unwrap();
        }
        assert!(length(&path) <= LIMIT);
    }

    #[test]
    fn a_path_is_cut_off_between_two_characters() {
        let path = format!("/{}", "é".repeat(600));
        let uri: Uri = path.parse().unwrap();
        let entry = Entry::unknown("nobody".to_owned(), &Method::GET, &uri);
        assert!(entry.path.len() <= MAX_PATH_BYTES && entry.path.ends_with('é'));
    }
}
