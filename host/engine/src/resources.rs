//! What processes hold of the system, by kind, and how guests use it. Each kind implements
//! [`Resource`](exuvia_process::resource::Resource), through which the layers below know it: they hold it with the
//! record of a process, and tell it of upgrades, rollbacks and the end. Nothing outside of this folder names a kind.
//!
//! A kind whose functions the host completes asynchronously lends its state to the store for the time of a call
//! (`FrameData::lent`), since the process is not in the store while such a function waits.

mod wasi;

use wasmtime::Linker;

use crate::host_calls;
use crate::instance::factory::{AsyncImports, Imports};
use crate::instance::store::FrameData;

pub(crate) use wasi::check_import;

/// The host functions of each instance: host calls, and those of resources.
pub(crate) const IMPORTS: Imports = Imports {
    define,
    pause: host_calls::pause_function,
    asynchronous: AsyncImports {
        around: wasi::around,
        in_runtime: wasi::in_runtime,
        open: wasi::open,
    },
};

fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    host_calls::define(linker)?;
    wasi::define(linker)
}
