//! A node: the engine, the scheduler and the supervisors put together, and an app booted from its
//! manifest.
//!
//! [`Node`] runs processes and changes their code; [`App`] is a node with a supervision tree from a
//! manifest. Watching files and builds, HTTP and the command line are in other crates.
#![forbid(unsafe_code)]

mod admission;
mod app;
mod background_upgrader;
mod check;
mod config;
mod core;
mod error;
mod event;
mod first_release;
mod from_manifest;
mod grants;
mod host_memory;
mod inspect;
mod logger;
mod network;
mod node;
mod probe;
mod release_log;
mod render;
mod report;
mod request;
mod sampler;
mod scheduler_glue;
mod snapshot;
mod supervision;
mod swap;
mod upgrade_state;

pub use app::{App, BootOptions, StopReport};
pub use check::{Checked, Contract, Machine, Start, SwapCheck, check, check_swap, machine_info};
pub use config::{AtStage, NodeConfig, SwapStage};
pub use error::{
    BootError, CallFailed, NodeError, RestartFailed, SendFailed, SpawnFailed, SwapError,
    TargetError,
};
pub use event::{Event, Events, ExternalEvent, LastMessage, Level, TimedEvent};
pub use inspect::{
    Branch, Description, DirInfo, Filter, Inspection, LimitsInfo, LoadedInfo, LoggedInfo,
    MessageInfo, ModuleInfo, NodeInfo, ProcessInfo, ReleaseInfo, ReleaseModuleInfo, TableInfo,
    WasiInfo,
};
pub use logger::LogRules;
pub use node::{ExcessMemory, LimitChanges, Node, Reply, SpawnOptions};
pub use probe::Probe;
pub use release_log::{StartWith, StoreOptions};
pub use render::{REFUSED_TAG, Rendered, TYPED_TAG};
pub use report::{
    Choice, Lingering, ModuleSwap, Outdated, Resumed, ResumedModule, Stages, SwapReport,
    UpgradeReport,
};
pub use request::{BuildInfo, DeployOptions, Loops, ModuleBytes};
pub use sampler::{SchedulerLoad, Sort, Top, TopProcess};
pub use supervision::TreeChanges;
pub use upgrade_state::UpgradeState;

pub use crate::core::Suspended;

pub use exuvia_abi::{self as abi, Pid};
pub use exuvia_contract::{
    Comparison, FieldChange, Function, Loss, MessageChange, Parameter, Refusal, Rollback, Way,
};
pub use exuvia_engine::{
    Direction, Guest, GuestProcess, GuestSystem, HostCaller, LoadError, MemoryLayout,
    Method as PageMapMethod, Traced,
};
pub use exuvia_io::{InheritError, InheritedSockets};
pub use exuvia_process::{self as process, Limits};
pub use exuvia_store::{MIN_RELEASES, Origin, Outcome, ReleaseRecord, Retention, StoreError};
