//! The settings of a node.

mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_engine::{MemoryLayout, Method};
use exuvia_process::{Clock, Limits};
use exuvia_scheduler::OTHERS_SHARE;

use crate::logger::LogRules;

pub use stage::{AtStage, SwapStage};

/// The settings of a node. All have defaults.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The name of the app, for display.
    pub app: String,
    /// The number of scheduler threads; 0: one per core.
    pub schedulers: usize,
    /// The number of frames; 0: as many as the machine's mapping limit allows.
    pub frames: usize,
    /// Of a hundred slices, those that processes of NORMAL and LOW priority get while ones of HIGH
    /// priority are ready.
    pub normal_share: u32,
    /// Bytes of memory that frames keep; 0: a quarter of the machine's memory.
    pub frame_memory: u64,
    /// The maximum number of processes; 0: derived from the machine's memory.
    pub processes: usize,
    /// The number of messages of each process that are transactions after a swap.
    pub probation: u32,
    /// The time budget of a verification.
    pub verify: Duration,
    /// The number of failures caused by a release at which it is rolled back.
    pub release_threshold: u32,
    /// How many sockets are closed in a second when the node stops.
    pub drain_per_s: u32,
    /// How long after a commit idle processes are upgraded in the background.
    pub background_upgrade_after: Duration,
    /// What a process may use unless the manifest says otherwise.
    pub limits: Limits,
    /// The most memory that a module's initialization, `save` and `load` may take, in bytes: no
    /// less than any process may have.
    pub module_memory: u64,
    /// How the memories of processes lie whose module is not in the manifest.
    pub memory_layout: MemoryLayout,
    /// The folder of the compile cache; `None`: no cache.
    pub cache: Option<PathBuf>,
    /// Bytes of compiled functions that are kept for the next version; 0: none. For development.
    pub functions: usize,
    /// Which log lines of guests are reported.
    pub log: LogRules,
    /// The folder of the app, if clients of HTTP are its developers: responses say what has failed in a process.
    pub sources: Option<PathBuf>,
    /// Forces a page-map method, for tests.
    pub page_map: Option<Method>,
    /// Makes the clock of the node. A manual one stands still until it is moved (`Node::advance`).
    pub clock: fn() -> Clock,
    /// Called at the stages of each deployment, for tests.
    pub at_stage: Option<AtStage>,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            app: "app".into(),
            schedulers: 0,
            frames: 0,
            normal_share: OTHERS_SHARE,
            frame_memory: 0,
            processes: 0,
            probation: 3,
            verify: Duration::from_millis(100),
            release_threshold: 3,
            drain_per_s: 1_000,
            background_upgrade_after: Duration::from_secs(1),
            limits: Limits::default(),
            module_memory: 1 << 32,
            memory_layout: MemoryLayout::Packed,
            cache: default_cache(),
            functions: 0,
            log: LogRules::default(),
            sources: None,
            page_map: None,
            clock: Clock::system,
            at_stage: None,
        }
    }
}

/// Bytes of compiled functions that are kept during development: those of some twenty modules of a
/// megabyte.
const DEVELOPED_FUNCTIONS: usize = 64 << 20;

impl NodeConfig {
    /// Returns these settings for the development of the app in a folder: new versions load faster, and responses to
    /// HTTP say what has failed.
    #[must_use]
    pub fn developed(self, folder: &Path) -> NodeConfig {
        NodeConfig {
            functions: DEVELOPED_FUNCTIONS,
            sources: Some(folder.to_owned()),
            ..self
        }
    }
}

/// Returns `$XDG_CACHE_HOME/exuvia` or `~/.cache/exuvia`.
fn default_cache() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("exuvia"))
}
