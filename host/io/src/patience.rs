//! A client has patience, and the host has some with it: a connection that fails when its client takes nothing for too long,
//! knows since when a client is sending something, and tells one that is too slow with the head of its request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long a client may take for its end when the node stops.
pub(crate) const STOPPING: Duration = Duration::from_secs(1);
/// An end of time that a timer can have.
pub(crate) const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Bytes that are read and dropped when a connection is closed, so that the client gets what was written before.
const LINGER: usize = 1 << 20;

/// Bytes of a write that count as something of a response: the answer to a ping of HTTP/2 has fewer.
const SOME: usize = 256;

/// What a client gets whose request does not come to its end. hyper has no response for it: it closes the connection.
const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 20\r\nconnection: close\r\n\r\n408 Request Timeout\n";
/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4), as far as nothing else begins with it.
const HTTP2: &[u8] = b"PRI";

/// Since when a client has been receiving a request that is not complete.
#[derive(Debug)]
pub(crate) struct Receiving {
    began: Instant,
    /// Milliseconds after `began`, plus 1; 0: it sends nothing.
    since: AtomicU64,
    /// It has taken too long.
    is_refused: AtomicBool,
}

impl Receiving {
    pub(crate) fn new() -> Arc<Receiving> {
        Arc::new(Receiving {
            began: Instant::now(),
            since: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
        })
    }

    /// Something has arrived.
    fn begin(&self) {
        if self.since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.since.store(now + 1, Ordering::Relaxed);
        }
    }

    /// It has taken too long: a client of HTTP/1.1 is told, and then reading fails.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// What has arrived is complete.
    pub(crate) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Returns for how long.
    pub(crate) fn time(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => {
                let began = Duration::from_millis(since - 1);
                self.began.elapsed().saturating_sub(began)
            }
        }
    }
}

/// What a client takes of what is written.
#[derive(Debug)]
pub(crate) struct Taking {
    began: Instant,
    /// Milliseconds after `began`, plus 1: when the client has taken something; 0: it has not.
    last: AtomicU64,
    /// Whether a write waits for it.
    waits: AtomicBool,
}

impl Taking {
    pub(crate) fn new() -> Arc<Taking> {
        Arc::new(Taking {
            began: Instant::now(),
            last: AtomicU64::new(0),
            waits: AtomicBool::new(false),
        })
    }

    fn took(&self, bytes: usize) {
        if bytes >= SOME {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.last.store(now + 1, Ordering::Relaxed);
        }
    }

    /// Returns whether a write waits.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Returns when the client has taken something, if it has.
    pub(crate) fn last(&self) -> Option<Instant> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            last => Some(self.began + Duration::from_millis(last - 1)),
        }
    }
}

/// A stream whose writes fail when nothing is taken for some time.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    inner: S,
    limit: Duration,
    /// Runs while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
    receiving: Arc<Receiving>,
    taking: Arc<Taking>,
    /// Whether it is HTTP/2, once something has arrived.
    is_http2: Option<bool>,
    /// Bytes of a refusal that have been written, and those that have been read after it.
    refused: usize,
}

impl<S> Patient<S> {
    pub(crate) fn new(inner: S, limit: Duration) -> Patient<S> {
        Patient::noting(inner, limit, (Receiving::new(), Taking::new()))
    }

    /// The same, which notes what it sees there.
    pub(crate) fn noting(
        inner: S,
        limit: Duration,
        (receiving, taking): (Arc<Receiving>, Arc<Taking>),
    ) -> Patient<S> {
        Patient {
            inner,
            limit,
            waits: None,
            receiving,
            taking,
            is_http2: None,
            refused: 0,
        }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Takes the result of a write: while it waits, the time runs.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() != self.waits.is_none() {
            let waits = result.is_pending();
            self.taking.waits.store(waits, Ordering::Relaxed);
        }
        if result.is_ready() {
            self.waits = None;
            return result;
        }
        let limit = self.limit;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(limit)));
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    /// Tells the client that it was too slow, and waits until it has closed its side, as [`linger`] does.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is still being written is not to have this in the middle.
        if self.is_http2 != Some(false) || (self.refused == 0 && self.waits.is_some()) {
            return Poll::Ready(());
        }
        while let Some(rest) = TOO_SLOW.get(self.refused..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *self).poll_write(cx, rest)) {
                Ok(count) if count > 0 => self.refused += count,
                _ => return Poll::Ready(()),
            }
        }
        if ready!(Pin::new(&mut *self).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        while self.refused < TOO_SLOW.len() + LINGER {
            let mut buffer = [0; 512];
            let mut to = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut to)) {
                Ok(()) if !to.filled().is_empty() => self.refused += to.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.receiving.is_refused.load(Ordering::Relaxed) {
            ready!(self.poll_refuse(cx));
            // Not the end: hyper would have something to say about it.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = to.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, to);
        if to.filled().len() > before {
            self.receiving.begin();
            let arrived = &to.filled()[before..];
            self.is_http2.get_or_insert(arrived.starts_with(HTTP2));
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.taking.took(count);
        }
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.taking.took(count);
        }
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.written(cx, result)
    }
}

/// Reads until the client has closed its side too, for some time and some bytes: closed with something unread, the system
/// would reset the connection, and the client lose what was written last.
pub(crate) async fn linger(stream: &mut (impl AsyncRead + Unpin), time: Duration) {
    let discard = async {
        // Not in the task, of which there is one for each connection.
        let mut buffer = vec![0; 4096];
        let mut all = 0;
        while all < LINGER {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => all += count,
            }
        }
    };
    let _ = timeout(time, discard).await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_write_fails_when_nothing_is_taken_for_too_long() {
        let (client, _server) = tokio::io::duplex(10);
        let mut client = Patient::new(client, Duration::from_millis(1));
        let error = client.write_all(&[7; 30]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_takes_something_has_all_the_time_again() {
        let (client, mut server) = tokio::io::duplex(10);
        let mut client = Patient::new(client, LONG);
        client.write_all(&[7; 10]).await.unwrap();
        let write = poll_fn(|cx| Poll::Ready(Pin::new(&mut client).poll_write(cx, &[7; 10])));
        assert!(write.await.is_pending());
        assert!(client.waits.is_some());
        server.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(client.write(&[7; 10]).await.unwrap(), 4);
        assert!(client.waits.is_none());
    }

    #[tokio::test]
    async fn it_is_known_since_when_a_client_sends() {
        let (mut client, server) = tokio::io::duplex(10);
        let receiving = Receiving::new();
        let mut server = Patient::noting(server, LONG, (receiving.clone(), Taking::new()));
        assert_eq!(receiving.time(), Duration::ZERO);
        client.write_all(b"GET").await.unwrap();
        server.read_exact(&mut [0; 2]).await.unwrap();
        let since = receiving.since.load(Ordering::Relaxed);
        assert_ne!(since, 0);
        server.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(receiving.since.load(Ordering::Relaxed), since);
        receiving.end();
        assert_eq!(receiving.time(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_client_that_is_too_slow_is_told_unless_it_speaks_http2() {
        for (bytes, told) in [(&b"GET / HT"[..], TOO_SLOW), (b"PRI * HTTP/2.0", b"")] {
            let (mut client, server) = tokio::io::duplex(1024);
            let receiving = Receiving::new();
            let mut server = Patient::noting(server, LONG, (receiving.clone(), Taking::new()));
            client.write_all(bytes).await.unwrap();
            server.read_exact(&mut [0; 3]).await.unwrap();
            receiving.refuse();
            let reading = tokio::spawn(async move {
                let read = server.read_to_end(&mut Vec::new()).await;
                read.unwrap_err().kind()
            });
            let mut all = vec![0; told.len()];
            client.read_exact(&mut all).await.unwrap();
            assert_eq!(all, told);
            // What it sends now is read, and is nobody's.
            let _ = client.write_all(b"TP/1.1\r\n").await;
            drop(client);
            assert_eq!(reading.await.unwrap(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test]
    async fn what_is_unread_is_read_before_the_end() {
        let (mut client, mut server) = tokio::io::duplex(10);
        let writing = tokio::spawn(async move {
            client.write_all(&[7; 100_000]).await.unwrap();
        });
        linger(&mut server, LONG).await;
        writing.await.unwrap();
    }
}
