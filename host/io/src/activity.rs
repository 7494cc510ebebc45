//! What a connection of HTTP is doing: whether requests are under way until their last byte, and for how long a response has
//! been waiting for its client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::patience::{Receiving, Taking};

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Requests whose responses are not complete.
    under_way: AtomicUsize,
    /// When the last one was.
    last: Mutex<Instant>,
    /// Since when the client sends what is not complete.
    pub(crate) receiving: Arc<Receiving>,
    /// What it takes of the responses. hyper asks a body for more before all of it is written.
    pub(crate) taking: Arc<Taking>,
    /// Known with the first request.
    is_http2: AtomicBool,
    /// The bodies that the connection has not asked for more, and since when: their clients take nothing.
    waiting: Mutex<HashMap<u64, Instant, foldhash::fast::FixedState>>,
    /// Requests so far.
    requests: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Activity> {
        Arc::new(Activity {
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            receiving: Receiving::new(),
            taking: Taking::new(),
            is_http2: AtomicBool::new(false),
            waiting: Mutex::default(),
            requests: AtomicU64::new(0),
        })
    }

    /// A request has begun. It is under way as long as what is returned exists.
    pub(crate) fn begin(self: &Arc<Self>, is_http2: bool) -> UnderWay {
        self.receiving.end();
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            number: self.requests.fetch_add(1, Ordering::Relaxed),
            activity: self.clone(),
        }
    }

    /// Returns whether there was no request for so long, and nothing of a response has been taken.
    pub(crate) fn is_idle(&self, idle: Duration) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
            && !self.taking.waits()
            && self.taken_since(*self.last.lock()).elapsed() >= idle
    }

    /// Returns whether a connection of HTTP/1.1 has been idle for so long.
    pub(crate) fn is_quiet(&self, time: Duration) -> bool {
        !self.is_http2.load(Ordering::Relaxed) && self.is_idle(time)
    }

    /// Returns the later one of a time and that at which the client has taken something.
    fn taken_since(&self, time: Instant) -> Instant {
        self.taking.last().map_or(time, |last| last.max(time))
    }

    /// Returns whether the client has taken too long for the head of a request. With HTTP/2, what arrives between requests
    /// need not be one.
    pub(crate) fn is_slow(&self, reading: Duration) -> bool {
        !self.is_http2.load(Ordering::Relaxed)
            && self.under_way.load(Ordering::Relaxed) == 0
            && self.receiving.time() >= reading
    }

    /// Returns whether a response has been waiting for so long until its client takes something.
    pub(crate) fn is_stalled(&self, limit: Duration) -> bool {
        let waiting = self.waiting.lock();
        let waits = |since: &Instant| self.taken_since(*since).elapsed() >= limit;
        waiting.values().any(waits)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    number: u64,
    activity: Arc<Activity>,
}

impl UnderWay {
    fn waits(&self) {
        let mut waiting = self.activity.waiting.lock();
        waiting.insert(self.number, Instant::now());
    }

    fn waits_no_more(&self) {
        self.activity.waiting.lock().remove(&self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.waits_no_more();
        *self.activity.last.lock() = Instant::now();
        // What has arrived meanwhile was its body, or is the next request: its time begins now.
        self.activity.receiving.end();
        self.activity.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response, with its request.
#[derive(Debug)]
pub(crate) struct Tracked<B> {
    body: B,
    under_way: UnderWay,
}

impl<B> Tracked<B> {
    pub(crate) fn new(body: B, under_way: UnderWay) -> Tracked<B> {
        under_way.waits();
        Tracked { body, under_way }
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.under_way.waits_no_more();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.under_way.waits();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::patience::Patient;

    #[tokio::test]
    async fn a_request_is_under_way_until_its_response_has_been_taken() {
        let activity = Activity::new();
        assert!(activity.is_idle(Duration::ZERO));
        let mut body = Tracked::new(Full::new(Bytes::from("hello")), activity.begin(false));
        assert!(!activity.is_idle(Duration::ZERO));
        assert!(
            activity.is_stalled(Duration::ZERO),
            "nothing has been taken"
        );
        assert!(!activity.is_stalled(Duration::from_secs(3600)));
        body.frame().await.unwrap().unwrap();
        assert!(body.is_end_stream());
        drop(body);
        assert!(activity.is_idle(Duration::ZERO));
        assert!(!activity.is_stalled(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_client_that_takes_something_is_neither_idle_nor_stalled() {
        const LONG: Duration = Duration::from_secs(3600);
        let activity = Activity::new();
        let (server, mut client) = tokio::io::duplex(1_000);
        let noted = (activity.receiving.clone(), activity.taking.clone());
        let mut server = Patient::noting(server, LONG, noted);
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        // The answer to a ping is nothing of a response.
        server.write_all(&[7; 17]).await.unwrap();
        assert_eq!(activity.taken_since(began), began);
        // All of a response has been given to hyper, and is not written yet.
        let writing = tokio::spawn(async move { server.write_all(&[7; 3_000]).await });
        client.read_exact(&mut [0; 1_017]).await.unwrap();
        while !activity.taking.waits() {
            tokio::task::yield_now().await;
        }
        assert!(!activity.is_idle(Duration::ZERO), "a write waits");
        client.read_exact(&mut [0; 2_000]).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(activity.is_idle(Duration::ZERO));
        // The time counts from what was taken last.
        assert!(activity.taken_since(began) >= began + Duration::from_millis(19));
        let later = Instant::now() + LONG;
        assert_eq!(activity.taken_since(later), later);
    }
}
