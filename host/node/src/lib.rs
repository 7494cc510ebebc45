//! A node: the engine, the scheduler and the supervisors put together, and an app booted from its
//! manifest.
//!
//! [`Node`] runs processes and changes their code; [`App`] is a node with a supervision tree from a
//! manifest. Watching files and builds, HTTP and the command line are in other crates.
#![forbid(unsafe_code)]

mod admission;
mod app;
mod background_upgrader;
mod boot_progress;
mod busy;
mod check;
mod config;
mod edit;
mod error;
mod event;
mod from_manifest;
mod grants;
mod host_memory;
mod inspect;
mod lingering;
mod logger;
mod node;
mod operator;
mod outdated;
mod probe;
mod readiness;
mod render;
mod scheduler_glue;
mod snapshot;
mod supervisor;
mod swap;
mod text;
mod top;
mod upgrade_state;
mod upgrade_tracker;
mod virtual_time;

pub use app::{App, BootOptions, StopReport};
pub use check::{Checked, Machine, check, look_at_machine};
pub use config::NodeConfig;
pub use edit::{ExcessMemory, LimitChanges};
pub use error::{
    BootError, CallFailed, NodeError, RestartFailed, SendFailed, SpawnFailed, SwapError,
    TargetError,
};
pub use event::{Event, Events, ExternalEvent, LastMessage, Level, TimedEvent};
pub use inspect::{
    Filter, Inspection, LimitsInfo, LoadedInfo, MessageInfo, ModuleInfo, NodeInfo, ProcessInfo,
    Suspended, TableInfo,
};
pub use inspect::{ReleaseInfo, ReleaseModuleInfo};
pub use lingering::Lingering;
pub use logger::LogRules;
pub use node::{Node, Reply, SpawnOptions};
pub use operator::{Branch, Description, Function, Parameter};
pub use outdated::Outdated;
pub use probe::Probe;
pub use render::{REFUSED_TAG, Rendered, TYPED_TAG};
pub use supervisor::TreeChanges;
pub use swap::{
    AtStage, BuildInfo, DeployOptions, Loops, ModuleBytes, ModuleSwap, Stages, SwapReport,
    SwapStage,
};
pub use text::{excerpt, listed};
pub use top::{SchedulerLoad, Sort, Top, TopProcess};
pub use upgrade_state::UpgradeState;
pub use upgrade_tracker::UpgradeReport;

pub use exuvia_abi::{self as abi, Pid};
pub use exuvia_engine::{
    Direction, Guest, GuestProcess, GuestSystem, HostCaller, LoadError, Method as PageMapMethod,
    Traced,
};
pub use exuvia_process::{self as process, Limits};
