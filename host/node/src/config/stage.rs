//! The stages of a deployment at which a test may pause it, to see what happens concurrently.

use std::fmt;
use std::sync::Arc;

/// A stage of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStage {
    /// Its modules are compiled; nothing is verified yet.
    Loaded,
    /// Everything is prepared; nothing is committed yet.
    Prepared,
}

/// A hook that is called with the names of the deployed modules and the stage.
type Halt = dyn Fn(&[&str], SwapStage) + Send + Sync;

/// The hook that is called at each stage, by the deploying thread and with no lock held.
#[derive(Clone)]
pub struct AtStage(Arc<Halt>);

impl AtStage {
    /// Makes a hook that calls `call` with the names of the deployed modules and the stage.
    pub fn new(call: impl Fn(&[&str], SwapStage) + Send + Sync + 'static) -> AtStage {
        AtStage(Arc::new(call))
    }

    pub(crate) fn reached(&self, modules: &[&str], stage: SwapStage) {
        (self.0)(modules, stage);
    }
}

impl fmt::Debug for AtStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtStage")
    }
}
