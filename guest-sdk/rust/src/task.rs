//! Waiting without a stack: the futures that an `async` handler awaits, and their executor. A
//! process has at most one handler in progress. While it waits for replies or timers, its
//! continuation is a value on the heap, `run` returns WAITING, and the process may be paged
//! out.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Polled, Poll, Wake, Waker};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Buffer, Context, Error, Match, Message, Pending, Wait, tag};

/// An actor: its state or, while an `async` handler owns the state, the handler.
#[derive(Debug)]
pub struct Slot<A> {
    pub(crate) state: Option<A>,
    pub(crate) handler: Option<Handler<A>>,
}

/// A handler in progress. It owns the state and returns it.
pub(crate) struct Handler<A>(Pin<Box<dyn Future<Output = (A, Context)>>>);

impl<A> std::fmt::Debug for Handler<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}

impl<A> Slot<A> {
    /// Creates an actor that has not been started.
    pub const fn new() -> Slot<A> {
        Slot {
            state: None,
            handler: None,
        }
    }
}

impl<A> Default for Slot<A> {
    fn default() -> Slot<A> {
        Slot::new()
    }
}

impl<A> Handler<A> {
    pub(crate) fn new(handler: impl Future<Output = (A, Context)> + 'static) -> Handler<A> {
        Handler(Box::pin(handler))
    }

    /// Continues as far as the messages that have arrived allow. Returns `None` if it waits for
    /// more.
    pub(crate) fn go_on(&mut self) -> Option<(A, Context)> {
        let again = Arc::new(Again(AtomicBool::new(false)));
        let waker = Waker::from(again.clone());
        let mut polled = Polled::from_waker(&waker);
        loop {
            if let Poll::Ready(done) = self.0.as_mut().poll(&mut polled) {
                return Some(done);
            }
            if !again.0.swap(false, Ordering::Relaxed) && !collect() {
                return None;
            }
        }
    }
}

/// Set when the handler's waker was called during a poll.
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    /// The references that the handler awaits, with the messages that have arrived. Takes no
    /// memory while nothing is awaited: that would add to the image of every idle process.
    static AWAITED: RefCell<Vec<(u64, Option<Message<'static>>)>> = const { RefCell::new(Vec::new()) };
}

/// Takes awaited messages from the mailbox; returns whether there were any.
///
/// # Panics
///
/// If nothing is awaited: the handler would never continue.
fn collect() -> bool {
    AWAITED.with_borrow_mut(|awaited| {
        assert!(
            !awaited.is_empty(),
            "an async handler waits for something that no message can complete: await requests, timers, and what is made of them"
        );
        let mut any = false;
        for (reference, message) in awaited {
            if message.is_none()
                && let Ok(arrived) =
                    Buffer::new().receive(Match::Reference(*reference), Wait::No)
            {
                *message = Some(arrived.into_owned());
                any = true;
            }
        }
        any
    })
}

/// The message that arrives with a reference.
struct Arrival {
    reference: u64,
    /// Whether it is in the list of awaited references.
    listed: bool,
}

impl Arrival {
    fn new(reference: u64) -> Arrival {
        Arrival {
            reference,
            listed: false,
        }
    }

    fn poll(&mut self) -> Poll<Message<'static>> {
        let arrived = AWAITED.with_borrow_mut(|awaited| {
            if !self.listed {
                awaited.push((self.reference, None));
                self.listed = true;
                return None;
            }
            let place = awaited.iter_mut().find(|(of, _)| *of == self.reference);
            place.and_then(|(_, message)| message.take())
        });
        match arrived {
            None => Poll::Pending,
            Some(message) => {
                self.forget();
                Poll::Ready(message)
            }
        }
    }

    /// Removes it from the list.
    fn forget(&mut self) {
        if std::mem::take(&mut self.listed) {
            AWAITED.with_borrow_mut(|awaited| {
                awaited.retain(|(of, _)| *of != self.reference);
                if awaited.is_empty() {
                    *awaited = Vec::new();
                }
            });
        }
    }
}

/// The reply to a request, awaited; created from [`Pending`] by `.await`. If it is dropped
/// before the reply arrives, the request is cancelled.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct Answer<R> {
    arrival: Arrival,
    answered: bool,
    types: PhantomData<fn() -> R>,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.reference)
    }
}

impl<R> Answer<R> {
    pub(crate) fn new(reference: u64) -> Answer<R> {
        Answer {
            arrival: Arrival::new(reference),
            answered: false,
            types: PhantomData,
        }
    }

    /// Returns the message of the reply when it is there.
    pub(crate) fn poll_message(&mut self) -> Poll<Message<'static>> {
        let message = std::task::ready!(self.arrival.poll());
        self.answered = true;
        Poll::Ready(message)
    }
}

impl<R: DeserializeOwned> Future for Answer<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Polled<'_>) -> Poll<Self::Output> {
        let message = std::task::ready!(self.poll_message());
        Poll::Ready(message.decode())
    }
}

impl<R> Drop for Answer<R> {
    fn drop(&mut self) {
        self.arrival.forget();
        if !self.answered {
            Pending::<R>::new(self.arrival.reference).cancel();
        }
    }
}

impl<R: DeserializeOwned> IntoFuture for Pending<R> {
    type Output = Result<R, Error>;
    type IntoFuture = Answer<R>;

    fn into_future(self) -> Answer<R> {
        Answer::new(self.reference())
    }
}

impl<R: DeserializeOwned> Pending<R> {
    /// Awaits the reply for at most `limit`; after that, returns [`Error::Timeout`] and cancels
    /// the request.
    ///
    /// ```
    /// # use exuvia::prelude::*;
    /// # use std::time::Duration;
    /// async fn total(a: Address<(), (), u64>, b: Address<(), (), u64>) -> Result<u64, Error> {
    ///     let (one, two) = (a.request(&())?, b.request(&())?);
    ///     let limit = Duration::from_secs(5);
    ///     Ok(one.within(limit).await? + two.within(limit).await?)
    /// }
    /// # let _ = total;
    /// ```
    pub async fn within(self, limit: Duration) -> Result<R, Error> {
        let (mut answer, mut late) = (self.into_future(), after(limit)?);
        std::future::poll_fn(|polled| {
            if let Poll::Ready(answer) = Pin::new(&mut answer).poll(polled) {
                return Poll::Ready(answer);
            }
            Pin::new(&mut late)
                .poll(polled)
                .map(|()| Err(Error::Timeout))
        })
        .await
    }
}

/// A timer, awaited; from [`after`]. If it is dropped before it fires, it is cancelled.
#[must_use = "nothing waits before it is awaited"]
#[derive(Debug)]
pub struct After {
    arrival: Arrival,
    over: bool,
}

/// Waits without a stack: for `async` handlers, where [`sleep`](crate::sleep) would occupy one.
/// The delay starts now. Fails if this process has too many timers.
///
/// ```
/// use std::time::Duration;
/// async fn twice(work: impl Fn()) -> Result<(), exuvia::Error> {
///     work();
///     exuvia::after(Duration::from_secs(1))?.await;
///     work();
///     Ok(())
/// }
/// # let _ = twice(|| ());
/// ```
pub fn after(delay: Duration) -> Result<After, Error> {
    let timer = crate::me().send_bytes_after(tag::AWAITED, &[], delay)?;
    Ok(After {
        arrival: Arrival::new(timer),
        over: false,
    })
}

impl Future for After {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Polled<'_>) -> Poll<()> {
        let arrived = self.arrival.poll().map(drop);
        self.over |= arrived.is_ready();
        arrived
    }
}

impl Drop for After {
    fn drop(&mut self) {
        self.arrival.forget();
        if !self.over && crate::cancel_timer(self.arrival.reference).is_none() {
            // It has fired already.
            let _ = Buffer::new().receive(Match::Reference(self.arrival.reference), Wait::No);
        }
    }
}

/// Awaits several futures concurrently, and returns all their results, in order.
///
/// ```
/// use exuvia::prelude::*;
/// async fn sum(shards: &[Address<(), (), u64>]) -> Result<u64, Error> {
///     let asked: Result<Vec<_>, _> = shards.iter().map(|shard| shard.request(&())).collect();
///     exuvia::join_all(asked?).await.into_iter().sum()
/// }
/// # let _ = sum;
/// ```
pub async fn join_all<F: IntoFuture>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future.into_future()), None))
        .collect();
    std::future::poll_fn(|polled| {
        let mut all = true;
        for (future, result) in &mut futures {
            if result.is_none() {
                match future.as_mut().poll(polled) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}
