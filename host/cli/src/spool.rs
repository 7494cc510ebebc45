//! A node's output on its way to a terminal, a pipe or a file: a bounded queue and a writer
//! thread.
//!
//! A stopped terminal, or a pipe that is not read, blocks that thread and nothing else:
//! printing queues a text and returns. Texts that do not fit are dropped and counted, and the
//! count is written in their place when writing works again. On exit, the writer is waited for
//! only a bounded time.
//!
//! The lock covers only the queue and is never held while writing.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::output::styled_lines;

/// The maximum number of queued texts: as many as events may be queued for a listener.
pub(crate) const MOST_TEXTS: usize = 4096;
/// The maximum number of queued bytes.
pub(crate) const MOST_BYTES: usize = 8 << 20;
/// The pause when the output is full and another program has made it nonblocking.
const FULL: Duration = Duration::from_millis(20);

/// Formats the message that a number of texts were dropped, with its newline.
pub(crate) type LaggedMessage = Box<dyn Fn(u64) -> String + Send>;

/// The handle to a writer thread.
#[derive(Clone)]
pub(crate) struct Spool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signaled when there is something to write.
    filled: Condvar,
    /// Signaled when everything has been written.
    empty: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    /// The number of texts in `waiting`.
    texts: usize,
    bytes: usize,
    /// Whether the thread is writing an item that it has taken from the queue.
    writing: bool,
}

enum Item {
    Text(String),
    /// This many texts were dropped here.
    Missed(u64),
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spool({} waiting)", self.0.lock().waiting.len())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No operation under the lock can leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Starts the thread for a writer.
    pub(crate) fn start(
        name: &str,
        writer: impl Write + Send + 'static,
        missed: LaggedMessage,
    ) -> io::Result<Spool> {
        let spool = Spool(Arc::default());
        let shared = spool.0.clone();
        let thread = thread::Builder::new().name(name.into());
        thread.spawn(move || write_on(&shared, writer, &missed))?;
        Ok(spool)
    }

    /// Queues a text. Never waits for its reader.
    pub(crate) fn push(&self, text: String) {
        let mut state = self.0.lock();
        if state.texts >= MOST_TEXTS || state.bytes.saturating_add(text.len()) > MOST_BYTES {
            match state.waiting.back_mut() {
                Some(Item::Missed(count)) => *count += 1,
                _ => state.waiting.push_back(Item::Missed(1)),
            }
            return;
        }
        state.texts += 1;
        state.bytes += text.len();
        state.waiting.push_back(Item::Text(text));
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits until everything has been written, for `patience` at most; returns whether it has.
    pub(crate) fn drained(&self, patience: Duration) -> bool {
        let busy = |state: &mut State| !state.waiting.is_empty() || state.writing;
        let state = self.0.lock();
        let (state, _) = (self.0.empty)
            .wait_timeout_while(state, patience, busy)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.is_empty() && !state.writing
    }
}

/// The writer thread's loop. It never returns; the thread ends with the program.
fn write_on(shared: &Shared, mut writer: impl Write, missed: &LaggedMessage) {
    let mut dropped = 0;
    loop {
        let mut state = shared.lock();
        let item = loop {
            if let Some(item) = state.waiting.pop_front() {
                break item;
            }
            state.writing = false;
            shared.empty.notify_all();
            state = (shared.filled.wait(state)).unwrap_or_else(PoisonError::into_inner);
        };
        state.writing = true;
        if let Item::Text(text) = &item {
            state.texts -= 1;
            state.bytes -= text.len();
        }
        drop(state);
        let text = match item {
            Item::Text(text) => Some(text),
            Item::Missed(count) => {
                dropped += count;
                None
            }
        };
        // The count of texts dropped before a text is written ahead of it.
        if dropped > 0 && write(&mut writer, &missed(dropped)).is_ok() {
            dropped = 0;
        }
        // The disk is full or the reader is gone: this can only be reported later.
        if text.is_some_and(|text| write(&mut writer, &text).is_err()) {
            dropped += 1;
        }
    }
}

/// Writes a whole text, in one call if the system takes it.
fn write(writer: &mut impl Write, text: &str) -> io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match writer.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program that shares the terminal may have made it nonblocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(FULL),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}

/// Collects a text that is written in parts, and queues it when dropped.
pub(crate) struct Line {
    spool: Spool,
    text: Vec<u8>,
}

impl Line {
    pub(crate) fn new(spool: Spool) -> Line {
        let text = Vec::new();
        Line { spool, text }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.text)).into_owned();
            // Continuation lines are indented, so that no text can pass for another line.
            let text = styled_lines(text.trim_end()).replace('\n', "\n    ");
            self.spool.push(text + "\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::{Line, MOST_BYTES, MOST_TEXTS, Spool};

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A stalled reader: each write is reported, and blocks until it is allowed.
    struct Stalled {
        written: Sender<String>,
        allowed: Receiver<io::Result<()>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let _ = self.written.send(text);
            // When the test is over, everything is allowed.
            self.allowed.recv().unwrap_or(Ok(()))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Spool, Receiver<String>, Sender<io::Result<()>>) {
        let (written, texts) = channel();
        let (allow, allowed) = channel();
        let missed = Box::new(|count| format!("missed {count}\n"));
        let spool = Spool::start("stalled", Stalled { written, allowed }, missed).unwrap();
        (spool, texts, allow)
    }

    #[test]
    fn a_stalled_reader_blocks_no_writer_and_gets_the_number_of_lost_lines() {
        let (spool, texts, allow) = stalled();
        spool.push("first\n".into());
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "first\n");
        // The thread holds the first text; as many more fit.
        for number in 0..MOST_TEXTS + 7 {
            spool.push(format!("{number}\n"));
        }
        assert!(!spool.drained(Duration::ZERO));
        for _ in 0..=MOST_TEXTS + 2 {
            allow.send(Ok(())).unwrap();
        }
        for number in 0..MOST_TEXTS {
            assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), format!("{number}\n"));
        }
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "missed 7\n");
        assert!(spool.drained(DEADLINE));
        spool.push("last\n".into());
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "last\n");
        assert!(spool.drained(DEADLINE));
    }

    #[test]
    fn a_log_line_cannot_look_like_two() {
        let (spool, texts, allow) = stalled();
        drop(allow);
        let mut line = Line::new(spool);
        write!(line, "WARN refused: a\nERROR b\u{200b}\x07\n").unwrap();
        drop(line);
        let text = texts.recv_timeout(DEADLINE).unwrap();
        assert_eq!(text, "WARN refused: a\n    ERROR b\\u{200b}\\u{7}\n");
    }

    #[test]
    fn the_queue_is_bounded_by_bytes_too() {
        let (spool, texts, allow) = stalled();
        spool.push("first\n".into());
        texts.recv_timeout(DEADLINE).unwrap();
        spool.push("x".repeat(MOST_BYTES));
        spool.push("one too many\n".into());
        drop(allow);
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap().len(), MOST_BYTES);
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "missed 1\n");
        assert!(spool.drained(DEADLINE));
    }

    #[test]
    fn lost_lines_are_reported_when_writing_works_again() {
        let (spool, texts, allow) = stalled();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        spool.push("lost\n".into());
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "lost\n");
        assert!(spool.drained(DEADLINE));
        spool.push("lost too\n".into());
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "missed 1\n");
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "lost too\n");
        drop(allow);
        assert!(spool.drained(DEADLINE));
        spool.push("kept\n".into());
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "missed 2\n");
        assert_eq!(texts.recv_timeout(DEADLINE).unwrap(), "kept\n");
    }
}
