//! Bodies of requests: how they are received, and how many bytes all of them
//! may have together. A body counts from its arrival until its request has been
//! served, so that many clients cannot fill the node's memory, slow or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::{Failure, code};
use crate::framing::MAX_DEPLOY_BYTES;
use crate::host::Host;
use crate::routes::Shared;

/// How many bytes the bodies of all requests under way may have: two
/// deployments of the largest size.
pub const MAX_BODIES_BYTES: usize = 2 * MAX_DEPLOY_BYTES;

/// How many bytes of each body do not count. So a small request, `stop` above
/// all, is served while uploads take all the room; connections are limited, and
/// with them these bytes.
const UNCOUNTED_BYTES: usize = 64 * 1024;

/// How long the rest of a body that is refused is read, and forgotten. Who has
/// not finished writing when the connection is closed gets an error of its own
/// system, and never sees the answer that says why.
const LINGER: Duration = Duration::from_secs(2);

/// Reads the body of a request that nobody wants, unless its sender waits to be
/// asked for it.
pub(crate) async fn forget_request(request: Request) {
    if !request.headers().contains_key(header::EXPECT) {
        forget(request.into_body()).await;
    }
}

/// Reads what is left of a body that nobody wants.
async fn forget(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Who takes longer will see an error of his system.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// The bytes of all bodies.
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

/// What one request has of them; dropped when it has been served.
#[derive(Debug)]
pub(crate) struct Held {
    bodies: Arc<Bodies>,
    counted: usize,
}

impl Held {
    fn new(bodies: &Arc<Bodies>) -> Self {
        let bodies = Arc::clone(bodies);
        Self { bodies, counted: 0 }
    }

    /// The body has `length` bytes by now.
    fn grow_to(&mut self, length: usize) -> Result<(), Failure> {
        let limit = self.bodies.limit;
        let more = length.saturating_sub(UNCOUNTED_BYTES + self.counted);
        let grown = |bytes: usize| bytes.checked_add(more).filter(|bytes| *bytes <= limit);
        // Relaxed: it is a number, and nothing is read by it.
        self.bodies
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .map_err(|_| {
                Failure::new(
                    code::BUSY,
                    format!(
                        "the requests under way may have {limit} bytes in all, and with this one \
                         they have more"
                    ),
                )
                .help("try again when some of them have been served")
            })?;
        self.counted += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// The whole body of a request. Of one that is refused nothing is kept.
#[derive(Debug)]
pub(crate) struct Whole<const LIMIT: usize> {
    pub(crate) bytes: Vec<u8>,
    /// To be kept for as long as the request, or what was made of it.
    pub(crate) held: Held,
}

impl<H: Host, const LIMIT: usize> FromRequest<Arc<Shared<H>>> for Whole<LIMIT> {
    type Rejection = Failure;

    async fn from_request(request: Request, shared: &Arc<Shared<H>>) -> Result<Self, Failure> {
        let too_large = || {
            Failure::new(
                code::TOO_LARGE,
                format!("the body of this request may have {LIMIT} bytes"),
            )
        };
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > LIMIT as u64) {
            forget_request(request).await;
            return Err(too_large());
        }
        let lost = |why: String| Failure::new(code::BAD_REQUEST, why);
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
                    false => lost(format!("the body did not arrive: {error}")),
                })?;
                if let Ok(data) = frame.into_data() {
                    whole.held.grow_to(whole.bytes.len() + data.len())?;
                    whole.bytes.extend_from_slice(&data);
                }
            }
            Ok(())
        };
        let patience = shared.bounds.body;
        match tokio::time::timeout(patience, receive).await {
            Ok(Ok(())) => Ok(whole),
            Ok(Err(refused)) => {
                drop(whole);
                forget(body).await;
                Err(refused)
            }
            Err(_) => Err(lost(format!("the body did not arrive within {patience:?}"))),
        }
    }
}
