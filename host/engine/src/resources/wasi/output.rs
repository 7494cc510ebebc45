//! What a process prints: its standard output and its errors, until the log receives them by lines.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use exuvia_abi::{limits, log};
use parking_lot::Mutex;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi_io::bytes::Bytes;

/// What a process has printed: its standard output and its errors.
#[derive(Default)]
pub(super) struct Printed {
    out: Stream,
    err: Stream,
}

impl Printed {
    /// Takes the complete lines, and with `rest` also what follows the last of them: first those of
    /// the output, then those of the errors.
    pub(super) fn take(&self, rest: bool) -> [Vec<String>; 2] {
        [self.out.lines(rest), self.err.lines(rest)]
    }

    /// Has standard output and errors of a context come here.
    pub(super) fn connect(&self, builder: &mut WasiCtxBuilder) {
        builder.stdout(self.out.clone());
        builder.stderr(self.err.clone());
    }

    /// Writes lines that were taken to a log, with their levels.
    pub(super) fn write(lines: &[Vec<String>; 2], log: &mut dyn FnMut(i32, &str)) {
        for (lines, level) in lines.iter().zip([log::INFO, log::WARN]) {
            for line in lines {
                log(level, line);
            }
        }
    }
}

/// Bytes that a process may print before they are taken to the log. What one call prints beyond
/// this is left out.
const PENDING: usize = 64 << 10;

/// One of the two streams.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<Text>>);

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Stream {
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
        let dropped = std::mem::take(&mut text.dropped);
        if dropped > 0 {
            lines.push(format!("({dropped} more bytes were dropped)"));
        }
        lines
    }

    fn add(&self, bytes: &[u8]) {
        let text = &mut *self.0.lock();
        let fits = bytes.len().min(PENDING.saturating_sub(text.bytes.len()));
        text.bytes.extend(&bytes[..fits]);
        text.dropped += bytes.len() - fits;
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PENDING)
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.add(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_output_comes_out_by_lines() {
        let stream = Stream::default();
        stream.add(b"one\r\n\ntw");
        assert_eq!(stream.lines(false), ["one", ""]);
        assert!(stream.lines(false).is_empty());
        stream.add(b"o\nthree");
        assert_eq!(stream.lines(false), ["two"]);
        assert_eq!(stream.lines(true), ["three"]);
        assert!(stream.lines(true).is_empty());
    }

    #[test]
    fn output_beyond_the_limit_is_dropped() {
        let stream = Stream::default();
        stream.add(&[b'x'; 10_000]);
        let [line] = &stream.lines(false)[..] else {
            panic!("a long line is not waited for");
        };
        assert_eq!(line.len(), limits::LOG_LINE as usize);
        for _ in 0..20 {
            stream.add(&[b"y".repeat(9_999), b"\n".to_vec()].concat());
        }
        let lines = stream.lines(false);
        assert_eq!(lines.len(), 8, "{}", lines.len());
        let dropped = format!("({} more bytes were dropped)", 200_000 - PENDING);
        assert_eq!(lines[7], dropped);
    }
}
