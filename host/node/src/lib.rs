//! A node: the engine, the scheduler and the supervisors put together, an app
//! booted from its manifest, and its module files watched and swapped.
//!
//! Who knows what: [`Node`] runs processes and changes their code; [`App`] is
//! a node with a supervision tree from a manifest; a [`Watcher`] turns changed
//! files into swaps, and with a [`Workshop`] changed sources into files. HTTP and the command line are other crates' business.
#![forbid(unsafe_code)]

mod admission;
mod app;
mod behind;
mod build;
mod busy;
mod check;
mod config;
mod error;
mod event;
mod files;
mod grants;
mod hub;
mod inspect;
mod left;
mod live;
mod logger;
mod machine;
pub mod manifest;
mod node;
mod operator;
mod probe;
mod settle;
mod shown;
mod supervisor;
mod swap;
mod sweeper;
mod top;
mod virtual_time;
mod watch;

pub use app::{App, BootOptions, StopReport};
pub use behind::Behind;
pub use build::{BuildError, Built, KEPT_OUTPUT, Show, Stopper, build};
pub use check::{Checked, Machine, check, look_at_machine};
pub use config::NodeConfig;
pub use error::{
    BootError, CallFailed, NodeError, RestartFailed, SendFailed, SpawnFailed, SwapError,
    TargetError,
};
pub use event::{Event, Events, LastMessage, Level, Told};
pub use inspect::{
    Filter, Inspection, LoadedInfo, MessageInfo, ModuleInfo, NodeInfo, ProcessInfo, Suspended,
    TableInfo,
};
pub use left::LeftOn;
pub use logger::LogRules;
pub use node::{Node, Reply, SpawnOptions};
pub use operator::{Branch, Description, Function, Parameter};
pub use probe::Probe;
pub use settle::SettledReport;
pub use shown::{REFUSED_TAG, Shown, TYPED_TAG};
pub use swap::{
    AtStage, DeployOptions, Loops, Made, ModuleBytes, ModuleSwap, Stages, SwapReport, SwapStage,
};
pub use top::{SchedulerLoad, Sort, Top, TopProcess};
pub use watch::{WatchLimits, Watcher, Workshop};

pub use exuvia_abi::{self as abi, Pid};
pub use exuvia_engine::{
    Direction, Guest, GuestOwn, GuestSystem, LoadError, Method as PageMapMethod, Traced,
};
pub use exuvia_process::{self as process, Limits};
