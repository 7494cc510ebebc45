//! Waits for what nothing announces.

use std::time::Duration;

/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds` returns true. Fails if it never does; `what` says what did not happen.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, holds).await.is_err() {
        panic!("{what}: not within {PATIENCE:?}");
    }
}
