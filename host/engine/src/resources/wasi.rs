//! WASI preview 1, the files of a process: the context that `wasmtime-wasi` needs, made from the process's
//! grants when it first calls a function of WASI. It is a [`Resource`].
//!
//! This is the only place of the engine that knows WASI, beside `instance/setup.rs`, which puts the shims' functions
//! into each instance. `call.rs` is what happens before and after each function, `price.rs` what it costs,
//! `path_open.rs` and `exit.rs` have the two functions that are not those of `wasmtime-wasi`, `output.rs` what a
//! process prints, and `imports.rs` which functions there are.
//!
//! The functions of WASI that wait are asynchronous, so modules that import any WASI function run
//! on fibers. A shim around each function (see `instrument`) makes the host take the context out of the process, and
//! the process out of the store, before it, and put both back afterwards. If
//! the function is not done at once, its process is suspended, and `guest::Wake` schedules it again. So
//! no scheduler waits for a file, and a process can be ended in the middle of a function.

mod call;
mod exit;
mod fixed;
mod imports;
mod output;
mod path_open;
mod price;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use exuvia_abi::wasi::errno;
use exuvia_process::resource::{Decision, Holding, Memory, Quota, Resource, Share};
use exuvia_process::{ExitReason, Folder, Grants};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use wasmtime::Linker;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::runtime::with_ambient_tokio_runtime;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

pub(super) use self::call::around;
pub(crate) use self::imports::check_import;
use self::output::Printed;
use crate::host::Host;
use crate::instance::factory::Opened;
use crate::instance::store::FrameData;

/// The WASI state of a process. Dropping it closes its files.
pub(super) struct Wasi {
    context: WasiP1Ctx,
    /// What it has printed and the log has not received.
    printed: Printed,
    /// The numbers of the files that it has opened and not closed.
    opened: BTreeSet<u32>,
    /// Its share of the node's file descriptors: folders and opened files.
    share: Option<Share>,
    /// The arguments of the function that is under way.
    called: Called,
}

/// Arguments of a function.
#[derive(Clone, Copy, Default)]
struct Called {
    first: u32,
    second: u32,
    /// Where the function writes its result.
    result: u32,
}

/// The last of the standard files.
const STDERR: u32 = 2;

impl std::fmt::Debug for Wasi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wasi({} open)", self.opened.len())
    }
}

/// The numbers of files are in the memory of the guest, so files belong to a memory.
impl Resource for Wasi {
    fn holding(&self) -> Holding {
        Holding {
            kind: "open files",
            count: self.opened.len(),
        }
    }

    fn on_upgrade(&mut self, memory: Memory) -> Decision {
        match memory {
            Memory::Same => Decision::Keep,
            Memory::New | Memory::Restored => Decision::Detach,
        }
    }

    fn on_detach(&mut self, log: &mut dyn FnMut(i32, &str)) {
        Printed::write(&self.printed.take(true), log);
    }

    fn on_exit(&mut self, _: &ExitReason, log: &mut dyn FnMut(i32, &str)) {
        Printed::write(&self.printed.take(true), log);
    }
}

/// Defines the functions of WASI.
pub(super) fn define(linker: &mut Linker<FrameData>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, Wasi::context)?;
    linker.allow_shadowing(true);
    path_open::define(linker)?;
    exit::define(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Calls a function that polls a guest in the runtime that functions of WASI need while they wait.
pub(super) fn in_runtime(poll: &mut dyn FnMut()) {
    with_ambient_tokio_runtime(poll);
}

/// Opens what a process of `module` is granted.
///
/// # Errors
///
/// Returns an error if the node has too many files open, or a folder cannot be opened.
pub(super) fn open(module: &str, grants: &Grants, host: &Host) -> Opened {
    Ok(Box::new(Wasi::open(module, grants, &host.descriptors)?))
}

impl Wasi {
    fn open(module: &str, grants: &Grants, descriptors: &Arc<Quota>) -> Result<Wasi, String> {
        let share = descriptors.take(grants.folders.len()).ok_or_else(|| {
            format!(
                "the processes of this node have {} files open, which is the limit: raise the limit that `ulimit -n` shows",
                descriptors.most()
            )
        })?;
        let mut builder = WasiCtxBuilder::new();
        builder.arg(module).args(&grants.args);
        for (name, value) in &grants.env {
            builder.env(name, value);
        }
        for folder in &grants.folders {
            preopen(&mut builder, folder).map_err(|error| {
                format!(
                    "the granted folder `{}` ({}) cannot be opened: {error}",
                    folder.guest,
                    folder.path().display()
                )
            })?;
        }
        let printed = Printed::default();
        if grants.terminal {
            builder.stdout(tokio::io::stdout());
            builder.stderr(tokio::io::stderr());
        } else {
            printed.connect(&mut builder);
        }
        Ok(Wasi {
            context: builder.build_p1(),
            printed,
            opened: BTreeSet::new(),
            share: Some(share),
            called: Called::default(),
        })
    }

    /// Returns a WASI state that can do nothing but print, whose clocks and random numbers are real or
    /// those of a stage of the initialization.
    fn closed(fixed: Option<&'static str>) -> Wasi {
        let printed = Printed::default();
        let mut builder = WasiCtxBuilder::new();
        printed.connect(&mut builder);
        if let Some(stage) = fixed {
            fixed::set(&mut builder, stage);
        }
        Wasi {
            context: builder.build_p1(),
            printed,
            opened: BTreeSet::new(),
            share: None,
            called: Called::default(),
        }
    }

    /// Returns the context of the function that is under way.
    fn context(data: &mut FrameData) -> &mut WasiP1Ctx {
        let wasi = data.lent::<Wasi>();
        &mut wasi
            .expect("the shim around each function has lent it")
            .context
    }

    /// Checks whether the process, which may have `most` files open, may open one more, and the
    /// node too. Returns the error number if not.
    fn may_open(&self, most: u32) -> Result<(), i32> {
        if self.opened.len() >= most as usize {
            return Err(errno::MFILE);
        }
        let share = self.share.as_ref();
        match share.is_some_and(|share| share.quota().is_used_up()) {
            true => Err(errno::NFILE),
            false => Ok(()),
        }
    }

    /// Returns whether this is its standard input, output or error, and not a file that has taken
    /// over the number.
    fn is_standard(&self, number: u32) -> bool {
        number <= STDERR && !self.opened.contains(&number)
    }

    /// Records that it has opened a file.
    fn has_opened(&mut self, number: u32) {
        if self.opened.insert(number)
            && let Some(share) = &mut self.share
        {
            share.grow();
        }
    }

    /// Records that it has closed a file, or something else.
    fn has_closed(&mut self, number: u32) {
        if self.opened.remove(&number)
            && let Some(share) = &mut self.share
        {
            share.shrink();
        }
    }

    /// Records that it has moved a file to the number of another one, which is closed.
    fn has_renumbered(&mut self, from: u32, to: u32) {
        if from != to && self.opened.contains(&from) {
            self.has_closed(from);
            self.has_opened(to);
        } else if from != to {
            self.has_closed(to);
        }
    }
}

fn preopen(builder: &mut WasiCtxBuilder, folder: &Folder) -> wasmtime::Result<()> {
    let perms = match folder.write {
        true => FsPerms::ReadWrite,
        false => FsPerms::ReadOnly,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut opened = rustix::fs::openat(CWD, &folder.host, flags, Mode::empty())?;
    for below in &folder.below {
        // A process that was granted the outer folder may have put a link there.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        opened = rustix::fs::openat2(&opened, below, flags, Mode::empty(), resolve)?;
    }
    // Exactly the folder that was opened, whatever is at its path by now.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    builder.preopened_dir(path, &folder.guest, perms)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_processes_are_counted() {
        let node = Quota::new(3);
        let folder = Folder {
            guest: "/".into(),
            host: "/".into(),
            below: Vec::new(),
            write: false,
        };
        let grants = Grants {
            folders: vec![folder.clone(), folder],
            ..Grants::default()
        };
        let mut one = Wasi::open("m", &grants, &node).expect("two of three");
        let error = Wasi::open("m", &grants, &node).expect_err("four of three");
        assert!(
            error.contains("have 3 files open, which is the limit"),
            "{error}"
        );
        assert_eq!(one.may_open(1), Ok(()));
        one.has_opened(5);
        assert_eq!(one.may_open(1), Err(errno::MFILE));
        assert_eq!(one.may_open(9), Err(errno::NFILE));
        one.has_renumbered(5, 1);
        assert!(!one.is_standard(1) && one.is_standard(2));
        one.has_closed(7);
        one.has_closed(1);
        assert_eq!(one.may_open(1), Ok(()));
        one.has_opened(4);
        drop(one);
        assert_eq!(node.used(), 0);
        // What cannot be opened is not counted.
        let gone = Grants {
            folders: vec![Folder {
                guest: "/x".into(),
                host: "/nowhere/at/all".into(),
                below: Vec::new(),
                write: false,
            }],
            ..Grants::default()
        };
        assert!(Wasi::open("m", &gone, &node).is_err());
        assert_eq!(node.used(), 0);
    }
}
