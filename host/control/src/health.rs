//! Whether a node is up, for probes: of the process, and of the app that it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse as _, Response};
use exuvia_api::{Problem, code};

use crate::host::Host;

/// What the owner of a node knows of it: the node, once it is up, and whether it stops. Shared
/// by the servers of a node, one of which runs before the node does.
#[derive(Debug)]
pub struct Health<H>(Arc<Inner<H>>);

#[derive(Debug)]
struct Inner<H> {
    host: OnceLock<H>,
    stopping: AtomicBool,
}

impl<H> Clone for Health<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> Default for Health<H> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            host: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }))
    }
}

impl<H: Host> Health<H> {
    /// Creates the health of a node that is about to start.
    pub fn new() -> Self {
        Self::default()
    }

    /// The node has started.
    pub fn started(&self, host: H) {
        // A second call changes nothing.
        let _ = self.0.host.set(host);
    }

    /// The node is about to stop.
    pub fn stopping(&self) {
        // Relaxed: a probe that does not see it yet comes a moment earlier.
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the node, once it has started.
    pub(crate) fn host(&self) -> Option<&H> {
        self.0.host.get()
    }

    /// Fails if the app is not up; the problem says why. May block.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let why = match self.host() {
            _ if self.0.stopping.load(Ordering::Relaxed) => Some("the app is stopping".to_owned()),
            None => Some(STARTING.to_owned()),
            Some(host) => host.not_ready(),
        };
        why.map_or(Ok(()), |why| Err(Problem::new(code::NOT_READY, why)))
    }
}

/// Why a node that has not started yet is not ready.
pub(crate) const STARTING: &str = "the app is starting";

pub(crate) fn alive() -> Response {
    "alive\n".into_response()
}

pub(crate) fn ready() -> Response {
    "ready\n".into_response()
}
