//! The places in a deployment at which a test may hold it, and see what happens
//! beside it meanwhile.

use std::fmt;
use std::sync::Arc;

/// How far a deployment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStage {
    /// Its modules are compiled, and nothing is verified yet.
    Loaded,
    /// All is ready, and nothing is committed yet.
    Prepared,
}

/// What is done there, with the modules that are deployed.
type Halt = dyn Fn(&[&str], SwapStage) + Send + Sync;

/// What is called at each stage, by the thread that deploys and with no lock held.
#[derive(Clone)]
pub struct AtStage(Arc<Halt>);

impl AtStage {
    /// Calls this, with the names of the modules that are deployed.
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
