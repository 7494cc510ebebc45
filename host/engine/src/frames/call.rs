//! A call of a guest on a fiber: a future that owns the frame's instance until the call ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::guest::GuestProcess;
use crate::instance::{Ended, Instance};

/// The call in progress, which owns the frame's instance until it ends. Its allocation is
/// kept from call to call, because each message makes one.
pub(super) trait Call: Send {
    /// Begins a call. The previous one is dropped.
    fn begin(&mut self, body: Box<Instance>, process: Box<GuestProcess>);
    /// Polls the call. Returns `None` if none is in progress.
    fn poll(&mut self, waker: &Waker) -> Option<Poll<(Box<Instance>, Ended)>>;
}

struct CallFuture<M, F> {
    make: M,
    future: Pin<Box<Option<F>>>,
}

impl<M, F> Call for CallFuture<M, F>
where
    M: Fn(Box<Instance>, Box<GuestProcess>) -> F + Send,
    F: Future<Output = (Box<Instance>, Ended)> + Send,
{
    fn begin(&mut self, body: Box<Instance>, process: Box<GuestProcess>) {
        self.future.set(Some((self.make)(body, process)));
    }

    fn poll(&mut self, waker: &Waker) -> Option<Poll<(Box<Instance>, Ended)>> {
        let future = self.future.as_mut().as_pin_mut()?;
        let polled = future.poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.future.set(None);
        }
        Some(polled)
    }
}

pub(super) fn call_future<M, F>(make: M) -> Box<dyn Call>
where
    M: Fn(Box<Instance>, Box<GuestProcess>) -> F + Send + 'static,
    F: Future<Output = (Box<Instance>, Ended)> + Send + 'static,
{
    let future = Box::pin(None);
    Box::new(CallFuture { make, future })
}
