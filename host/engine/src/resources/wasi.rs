//! WASI preview 1 for a process: the context that `wasmtime-wasi` needs, made from the process's
//! grants.
//!
//! The functions of WASI that wait are asynchronous, so modules that import any WASI function run
//! on fibers. A shim around each function (see `instrument`) makes the host take the process out of
//! the store before it, as a call that waits does, and put it back afterwards (`host_calls::wasi`). If
//! the function is not done at once, its process is suspended, and `guest::Wake` schedules it again. So
//! no scheduler waits for a file, and a process can be ended in the middle of a function.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exuvia_abi::limits;
use exuvia_abi::wasi::errno;
use exuvia_process::{Folder, Grants};
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::process::{Resource, getrlimit};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};
use wasmtime_wasi_io::bytes::Bytes;

/// The WASI state of a process. Dropping it closes its files.
pub(crate) struct Wasi {
    pub(crate) context: WasiP1Ctx,
    /// What it has printed and the log has not received.
    pub(crate) printed: Printed,
    /// The numbers of the files that it has opened and not closed.
    opened: BTreeSet<u32>,
    /// Its share of the node's files.
    held: Option<Held>,
    /// The arguments of the function that is under way.
    pub(crate) called: Called,
}

/// Arguments of a function.
#[derive(Clone, Copy, Default)]
pub(crate) struct Called {
    pub(crate) first: u32,
    pub(crate) second: u32,
    /// Where the function writes its result.
    pub(crate) answer: u32,
}

/// The number of files and folders that all processes of a node have open.
#[derive(Debug)]
pub(crate) struct NodeFiles {
    open: AtomicUsize,
    most: usize,
}

/// File descriptors that the host keeps for itself, of those that the system allows.
const RESERVED: u64 = 256;

impl NodeFiles {
    pub(crate) fn new() -> Arc<NodeFiles> {
        let all = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let most = all.saturating_sub(RESERVED).max(all / 4);
        Arc::new(NodeFiles {
            open: AtomicUsize::new(0),
            most: usize::try_from(most).unwrap_or(usize::MAX),
        })
    }

    fn take(self: &Arc<NodeFiles>, count: usize) -> Option<Held> {
        let (order, files) = (Ordering::Relaxed, self.clone());
        let taken = (self.open).fetch_update(order, order, |open| {
            open.checked_add(count).filter(|sum| *sum <= self.most)
        });
        taken.ok().map(|_| Held { files, count })
    }
}

/// A share of the node's files; given back when it is dropped.
#[derive(Debug)]
struct Held {
    files: Arc<NodeFiles>,
    count: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.files.open.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Wasi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wasi({} open)", self.opened.len())
    }
}

impl Wasi {
    /// Creates the WASI state of a process of `module`.
    ///
    /// # Errors
    ///
    /// Returns an error if the node has too many files open, or a folder cannot be opened.
    pub(crate) fn new(
        module: &str,
        grants: &Grants,
        files: &Arc<NodeFiles>,
    ) -> Result<Wasi, String> {
        let held = files.take(grants.folders.len()).ok_or_else(|| {
            format!(
                "the processes of this node have {} files open, which is the limit: raise the limit that `ulimit -n` shows",
                files.most
            )
        })?;
        let mut builder = WasiCtxBuilder::new();
        builder.arg(module).args(&grants.args);
        for (name, value) in &grants.env {
            builder.env(name, value);
        }
        for folder in &grants.folders {
            preopen(&mut builder, folder).map_err(|error| {
                format!(
                    "the granted folder `{}` ({}) cannot be opened: {error}",
                    folder.guest,
                    folder.path().display()
                )
            })?;
        }
        let printed = Printed::default();
        if grants.terminal {
            builder.stdout(tokio::io::stdout());
            builder.stderr(tokio::io::stderr());
        } else {
            builder.stdout(printed.out.clone());
            builder.stderr(printed.err.clone());
        }
        Ok(Wasi {
            context: builder.build_p1(),
            printed,
            opened: BTreeSet::new(),
            held: Some(held),
            called: Called::default(),
        })
    }

    /// Checks whether the process, which may have `most` files open, may open one more, and the
    /// node too. Returns the error number if not.
    pub(crate) fn may_open(&self, most: u32) -> Result<(), i32> {
        if self.opened.len() >= most as usize {
            return Err(errno::MFILE);
        }
        let node = self.held.as_ref().map(|held| &held.files);
        let full = node.is_some_and(|node| node.open.load(Ordering::Relaxed) >= node.most);
        if full { Err(errno::NFILE) } else { Ok(()) }
    }

    /// Returns the number of files that it has opened and not closed.
    pub(crate) fn open_files(&self) -> usize {
        self.opened.len()
    }

    /// Returns whether this is its standard input, output or error, and not a file that has taken
    /// over the number.
    pub(crate) fn is_standard(&self, number: u32) -> bool {
        number <= STDERR && !self.opened.contains(&number)
    }

    /// Records that it has opened a file.
    pub(crate) fn has_opened(&mut self, number: u32) {
        if self.opened.insert(number)
            && let Some(held) = &mut self.held
        {
            held.count += 1;
            held.files.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that it has closed a file, or something else.
    pub(crate) fn has_closed(&mut self, number: u32) {
        if self.opened.remove(&number)
            && let Some(held) = &mut self.held
        {
            held.count -= 1;
            held.files.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Records that it has moved a file to the number of another one, which is closed.
    pub(crate) fn has_renumbered(&mut self, from: u32, to: u32) {
        if from != to && self.opened.contains(&from) {
            self.has_closed(from);
            self.has_opened(to);
        } else if from != to {
            self.has_closed(to);
        }
    }

    /// Creates a WASI state that can do nothing but print.
    pub(crate) fn closed() -> Box<Wasi> {
        let printed = Printed::default();
        let mut builder = WasiCtxBuilder::new();
        builder.stdout(printed.out.clone());
        builder.stderr(printed.err.clone());
        Box::new(Wasi {
            context: builder.build_p1(),
            printed,
            opened: BTreeSet::new(),
            held: None,
            called: Called::default(),
        })
    }
}

fn preopen(builder: &mut WasiCtxBuilder, folder: &Folder) -> wasmtime::Result<()> {
    let perms = match folder.write {
        true => FsPerms::ReadWrite,
        false => FsPerms::ReadOnly,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut opened = rustix::fs::openat(CWD, &folder.host, flags, Mode::empty())?;
    for below in &folder.below {
        // A process that was granted the outer folder may have put a link there.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        opened = rustix::fs::openat2(&opened, below, flags, Mode::empty(), resolve)?;
    }
    // Exactly the folder that was opened, whatever is at its path by now.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    builder.preopened_dir(path, &folder.guest, perms)?;
    Ok(())
}

/// What a process has printed: its standard output and its errors.
#[derive(Clone, Default)]
pub(crate) struct Printed {
    out: Said,
    err: Said,
}

impl Printed {
    /// Takes the complete lines, and with `rest` also what follows the last of them: first those of
    /// the output, then those of the errors.
    pub(crate) fn take(&self, rest: bool) -> [Vec<String>; 2] {
        [self.out.lines(rest), self.err.lines(rest)]
    }
}

/// The last of the standard files.
const STDERR: u32 = 2;

/// Bytes that a process may print before they are taken to the log. What one call prints beyond
/// this is left out.
const SAID: usize = 64 << 10;

/// One of the two streams.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Text>>);

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    left_out: usize,
}

impl Said {
    fn lines(&self, rest: bool) -> Vec<String> {
        let text = &mut *self.0.lock();
        let end = match text.bytes.iter().rposition(|byte| *byte == b'\n') {
            _ if rest => text.bytes.len(),
            // A long line is not held back until its end.
            _ if text.bytes.len() >= limits::LOG_LINE as usize => text.bytes.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let mut lines = Vec::new();
        for line in text.bytes[..end].split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            lines.push(
                String::from_utf8_lossy(&line[..line.len().min(limits::LOG_LINE as usize)])
                    .into_owned(),
            );
        }
        text.bytes.drain(..end);
        let left_out = std::mem::take(&mut text.left_out);
        if left_out > 0 {
            lines.push(format!("({left_out} more bytes were dropped)"));
        }
        lines
    }

    fn add(&self, bytes: &[u8]) {
        let text = &mut *self.0.lock();
        let fits = bytes.len().min(SAID.saturating_sub(text.bytes.len()));
        text.bytes.extend(&bytes[..fits]);
        text.left_out += bytes.len() - fits;
    }
}

impl IsTerminal for Said {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Said {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Said {
    async fn ready(&mut self) {}
}

impl OutputStream for Said {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(SAID)
    }
}

impl tokio::io::AsyncWrite for Said {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.add(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_output_comes_out_by_lines() {
        let said = Said::default();
        said.add(b"one\r\n\ntw");
        assert_eq!(said.lines(false), ["one", ""]);
        assert!(said.lines(false).is_empty());
        said.add(b"o\nthree");
        assert_eq!(said.lines(false), ["two"]);
        assert_eq!(said.lines(true), ["three"]);
        assert!(said.lines(true).is_empty());
    }

    #[test]
    fn output_beyond_the_limit_is_dropped() {
        let said = Said::default();
        said.add(&[b'x'; 10_000]);
        let [line] = &said.lines(false)[..] else {
            panic!("a long line is not waited for");
        };
        assert_eq!(line.len(), limits::LOG_LINE as usize);
        for _ in 0..20 {
            said.add(&[b"y".repeat(9_999), b"\n".to_vec()].concat());
        }
        let lines = said.lines(false);
        assert_eq!(lines.len(), 8, "{}", lines.len());
        let left_out = format!("({} more bytes were dropped)", 200_000 - SAID);
        assert_eq!(lines[7], left_out);
    }

    #[test]
    fn files_of_all_processes_are_counted() {
        let node = Arc::new(NodeFiles {
            open: AtomicUsize::new(0),
            most: 3,
        });
        let folder = Folder {
            guest: "/".into(),
            host: "/".into(),
            below: Vec::new(),
            write: false,
        };
        let grants = Grants {
            folders: vec![folder.clone(), folder],
            ..Grants::default()
        };
        let mut one = Wasi::new("m", &grants, &node).expect("two of three");
        let error = Wasi::new("m", &grants, &node).expect_err("four of three");
        assert!(
            error.contains("have 3 files open, which is the limit"),
            "{error}"
        );
        assert_eq!(one.may_open(1), Ok(()));
        one.has_opened(5);
        assert_eq!(one.may_open(1), Err(errno::MFILE));
        assert_eq!(one.may_open(9), Err(errno::NFILE));
        one.has_renumbered(5, 1);
        assert!(!one.is_standard(1) && one.is_standard(2));
        one.has_closed(7);
        one.has_closed(1);
        assert_eq!(one.may_open(1), Ok(()));
        one.has_opened(4);
        drop(one);
        assert_eq!(node.open.load(Ordering::Relaxed), 0);
        // What cannot be opened is not counted.
        let gone = Grants {
            folders: vec![Folder {
                guest: "/x".into(),
                host: "/nowhere/at/all".into(),
                below: Vec::new(),
                write: false,
            }],
            ..Grants::default()
        };
        assert!(Wasi::new("m", &gone, &node).is_err());
        assert_eq!(node.open.load(Ordering::Relaxed), 0);
    }
}
