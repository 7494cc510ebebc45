//! How a node is set up.

use std::path::PathBuf;
use std::time::Duration;

use exuvia_engine::Method;
use exuvia_process::{Clock, Limits, UNBOUNDED};
use exuvia_scheduler::OTHERS_SHARE;

use crate::logger::LogRules;
use crate::manifest::Manifest;
use crate::swap::AtStage;

/// The settings of a node. All have defaults.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The app's name, for display.
    pub app: String,
    /// Scheduler threads; 0: one for each core.
    pub schedulers: usize,
    /// Frames; 0: what the machine's mapping limit leaves room for.
    pub frames: usize,
    /// Of a hundred turns, those that NORMAL and LOW get while something of HIGH
    /// priority has something to do.
    pub normal_share: u32,
    /// Bytes of memory that frames keep; 0: a quarter of what the machine has.
    pub frame_memory: u64,
    /// Most processes; 0: by what memory the machine has.
    pub processes: usize,
    /// Messages of each process that are transactions after a swap.
    pub probation: u32,
    /// Time budget of a verification.
    pub verify: Duration,
    /// Failures caused by a release that make it go back.
    pub release_threshold: u32,
    /// How long a release is on its own before sleepers are crossed too.
    pub sweep_after: Duration,
    /// What a process may use if nothing else is said.
    pub limits: Limits,
    /// Most memory that a module's initialization, `save` and `load` may take,
    /// bytes: no less than any process may have.
    pub module_memory: u64,
    /// Folder of the compile cache; `None`: no cache.
    pub cache: Option<PathBuf>,
    /// Bytes of compiled functions that are kept for the next version; 0: none.
    /// For those who develop.
    pub functions: usize,
    /// Which log lines of guests are told.
    pub log: LogRules,
    /// The page-map method, forced for tests.
    pub page_map: Option<Method>,
    /// Makes the node's clock. One that is manual stands still until it is moved
    /// (`Node::advance`).
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
            sweep_after: Duration::from_secs(1),
            limits: Limits::default(),
            module_memory: 1 << 32,
            cache: default_cache(),
            functions: 0,
            log: LogRules::default(),
            page_map: None,
            clock: Clock::system,
            at_stage: None,
        }
    }
}

impl NodeConfig {
    /// The settings that a manifest asks for.
    pub fn of(manifest: &Manifest) -> NodeConfig {
        let settings = &manifest.node;
        NodeConfig {
            app: manifest.name.clone(),
            schedulers: settings.schedulers.unwrap_or(0) as usize,
            frames: settings.frames.unwrap_or(0) as usize,
            normal_share: settings.normal_share,
            frame_memory: settings.frame_memory.unwrap_or(0),
            processes: settings.processes.unwrap_or(0) as usize,
            probation: settings.probation,
            verify: settings.verify,
            release_threshold: settings.release_threshold,
            limits: manifest.limits.clone().into(),
            module_memory: manifest.most_memory(),
            log: manifest.log.clone(),
            ..NodeConfig::default()
        }
    }
}

/// Compiled functions that are kept while somebody develops, bytes: those of some
/// twenty modules of a megabyte.
const DEVELOPED_FUNCTIONS: usize = 64 << 20;

impl NodeConfig {
    /// The same for somebody who develops the app: new versions are loaded faster.
    #[must_use]
    pub fn developed(self) -> NodeConfig {
        NodeConfig {
            functions: DEVELOPED_FUNCTIONS,
            ..self
        }
    }
}

/// `$XDG_CACHE_HOME/exuvia` or `~/.cache/exuvia`.
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

impl From<&Limits> for crate::manifest::Limits {
    fn from(limits: &Limits) -> crate::manifest::Limits {
        crate::manifest::Limits {
            memory: limits.memory,
            mailbox_messages: limits.mailbox_messages.into(),
            mailbox_bytes: limits.mailbox_bytes,
            message_bytes: limits.message_bytes.into(),
            children: limits.children.into(),
            descendants: (limits.descendants != UNBOUNDED).then(|| limits.descendants.into()),
            tables: limits.tables,
            priority: limits.priority,
            files: limits.files.into(),
            grants: limits.grants.clone(),
        }
    }
}

impl From<crate::manifest::Limits> for Limits {
    fn from(limits: crate::manifest::Limits) -> Limits {
        let narrow = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Limits {
            memory: limits.memory,
            mailbox_messages: narrow(limits.mailbox_messages),
            mailbox_bytes: limits.mailbox_bytes,
            message_bytes: narrow(limits.message_bytes),
            children: narrow(limits.children),
            descendants: limits.descendants.map_or(UNBOUNDED, narrow),
            tables: limits.tables,
            priority: limits.priority,
            files: narrow(limits.files),
            grants: limits.grants,
        }
    }
}
