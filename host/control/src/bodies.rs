//! Request bodies: how they are received, and how many bytes all of them may hold together. A
//! body counts from its arrival until its request has been served, so that clients cannot
//! exhaust the node's memory by their number, whether they are slow or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use exuvia_api::{MAX_DEPLOY_BYTES, Problem, code};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::host::Host;
use crate::problem::Refusal;
use crate::routes::Shared;

/// The maximum number of bytes in the bodies of all requests in progress: two deployments of
/// the largest size.
pub const MAX_BODIES_BYTES: usize = 2 * MAX_DEPLOY_BYTES;

/// Bytes of each body that are not counted, so that a small request, above all `stop`, is
/// served while uploads use up the limit. The number of connections is limited, and with it the
/// number of uncounted bytes.
const UNCOUNTED_BYTES: usize = 64 * 1024;

/// How long the rest of a rejected body is read and discarded. A client that is still writing
/// when the connection is closed gets an error from its operating system and never sees the
/// response that gives the reason.
const LINGER: Duration = Duration::from_secs(2);

/// Reads and discards the body of a rejected request, unless its sender waits for `100
/// Continue`.
pub(crate) async fn forget_request(request: Request) {
    if !request.headers().contains_key(header::EXPECT) {
        forget(request.into_body()).await;
    }
}

/// Reads and discards what is left of a body.
pub(crate) async fn forget(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // A slower client sees a connection error from its operating system.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Returns whether a request says that its body exceeds a limit.
pub(crate) fn is_announced_above(headers: &HeaderMap, limit: usize) -> bool {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    announced.is_some_and(|length| length > limit as u64)
}

/// Counts the bytes of all bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    limit: usize,
    bytes: AtomicUsize,
}

impl Bodies {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let bytes = AtomicUsize::new(0);
        Arc::new(Self { limit, bytes })
    }
}

/// The share of one request in [`Bodies`]; dropped when the request has been served.
#[derive(Debug)]
pub(crate) struct Held {
    bodies: Arc<Bodies>,
    counted: AtomicUsize,
}

impl Held {
    pub(crate) fn new(bodies: &Arc<Bodies>) -> Self {
        let bodies = Arc::clone(bodies);
        let counted = AtomicUsize::new(0);
        Self { bodies, counted }
    }

    /// Records that the body has grown to `length` bytes. Fails with `busy` if all bodies
    /// together would exceed the limit.
    pub(crate) fn grow_to(&self, length: usize) -> Result<(), Problem> {
        let limit = self.bodies.limit;
        let more = length.saturating_sub(UNCOUNTED_BYTES + self.counted.load(Ordering::Relaxed));
        let grown = |bytes: usize| bytes.checked_add(more).filter(|bytes| *bytes <= limit);
        // Relaxed: a plain counter that orders no other memory access.
        self.bodies
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .map_err(|_| {
                Problem::new(
                    code::BUSY,
                    format!(
                        "the bodies of all open requests would exceed {limit} bytes, which is the limit"
                    ),
                )
                .help("try again when some of them have finished")
            })?;
        self.counted.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let counted = *self.counted.get_mut();
        self.bodies.bytes.fetch_sub(counted, Ordering::Relaxed);
    }
}

/// The whole body of a request. Nothing of a rejected body is kept.
#[derive(Debug)]
pub(crate) struct Whole<const LIMIT: usize> {
    pub(crate) bytes: Vec<u8>,
    /// Must be kept for as long as the request or anything made from its body.
    pub(crate) held: Held,
}

impl<H: Host, const LIMIT: usize> FromRequest<Arc<Shared<H>>> for Whole<LIMIT> {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared<H>>) -> Result<Self, Refusal> {
        let too_large = || {
            Problem::new(
                code::TOO_LARGE,
                format!("the body of this request has more than {LIMIT} bytes, which is the limit"),
            )
        };
        if is_announced_above(request.headers(), LIMIT) {
            forget_request(request).await;
            return Err(too_large().into());
        }
        let lost = |why: String| Problem::new(code::BAD_REQUEST, why);
        let mut whole = Self {
            bytes: Vec::new(),
            held: Held::new(&shared.bodies),
        };
        let mut body = request.into_body();
        let mut limited = Limited::new(&mut body, LIMIT);
        let receive = async {
            while let Some(frame) = limited.frame().await {
                let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
                    true => too_large(),
                    false => lost(format!("the body could not be read: {error}")),
                })?;
                if let Ok(data) = frame.into_data() {
                    whole.held.grow_to(whole.bytes.len() + data.len())?;
                    whole.bytes.extend_from_slice(&data);
                }
            }
            Ok::<(), Problem>(())
        };
        let patience = shared.bounds.body;
        match tokio::time::timeout(patience, receive).await {
            Ok(Ok(())) => Ok(whole),
            Ok(Err(refused)) => {
                drop(whole);
                forget(body).await;
                Err(refused.into())
            }
            Err(_) => Err(lost(format!("the body did not arrive within {patience:?}")).into()),
        }
    }
}
