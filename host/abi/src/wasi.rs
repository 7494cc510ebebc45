//! The facts about WASI preview 1 that the host needs; the functions themselves are
//! those of `wasmtime-wasi`. Source: the witx files of WASI, `phases/snapshot`.

/// The module name that guests import the functions from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// The behavior of a function, as far as restricted runs and the scheduler depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Returns at once with data that may differ between processes: arguments,
    /// environment, clocks, random numbers, open folders.
    Tells,
    /// Returns at once, and does not affect files.
    Plain,
    /// Writes to a file or to an output of the process (`stdout`, `stderr`).
    Writes,
    /// May wait for the operating system.
    Waits,
    /// Ends the process.
    Ends,
}
use Act::{Ends, Plain, Tells, Waits, Writes};

/// One function of WASI.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The import's name.
    pub name: &'static str,
    /// Its behavior.
    pub act: Act,
}

const fn f(name: &'static str, act: Act) -> Function {
    Function { name, act }
}

/// All functions, in the order of the specification. The index of a function is its number
/// for the host.
pub const FUNCTIONS: &[Function] = &[
    f("args_get", Tells),
    f("args_sizes_get", Tells),
    f("environ_get", Tells),
    f("environ_sizes_get", Tells),
    f("clock_res_get", Tells),
    f("clock_time_get", Tells),
    f("fd_advise", Waits),
    f("fd_allocate", Waits),
    f("fd_close", Waits),
    f("fd_datasync", Waits),
    f("fd_fdstat_get", Waits),
    f("fd_fdstat_set_flags", Waits),
    f("fd_fdstat_set_rights", Plain),
    f("fd_filestat_get", Waits),
    f("fd_filestat_set_size", Waits),
    f("fd_filestat_set_times", Waits),
    f("fd_pread", Waits),
    f("fd_prestat_get", Tells),
    f("fd_prestat_dir_name", Tells),
    f("fd_pwrite", Writes),
    f("fd_read", Waits),
    f("fd_readdir", Waits),
    f("fd_renumber", Waits),
    f("fd_seek", Waits),
    f("fd_sync", Waits),
    f("fd_tell", Plain),
    f("fd_write", Writes),
    f("path_create_directory", Waits),
    f("path_filestat_get", Waits),
    f("path_filestat_set_times", Waits),
    f("path_link", Waits),
    f("path_open", Waits),
    f("path_readlink", Waits),
    f("path_remove_directory", Waits),
    f("path_rename", Waits),
    f("path_symlink", Waits),
    f("path_unlink_file", Waits),
    f("poll_oneoff", Waits),
    f("proc_exit", Ends),
    f("proc_raise", Plain),
    f("sched_yield", Plain),
    f("random_get", Tells),
    f("sock_accept", Plain),
    f("sock_recv", Plain),
    f("sock_send", Plain),
    f("sock_shutdown", Plain),
];

/// Returns the number of a function. `None`: WASI has no function of that name.
pub fn find(name: &str) -> Option<usize> {
    FUNCTIONS.iter().position(|function| function.name == name)
}

/// Most subscriptions of one `poll_oneoff`, and most parts of one read or write.
pub const PARTS: u32 = 1_024;
/// Longest path, bytes.
pub const PATH: u32 = 4_096;
/// Most bytes that one `random_get` fills.
pub const RANDOM: u32 = 1 << 20;

/// Errors that the host itself returns; all others come from `wasmtime-wasi`.
pub mod errno {
    /// Try again later.
    pub const AGAIN: i32 = 6;
    /// An argument is invalid, for example a number that is too large.
    pub const INVAL: i32 = 28;
    /// The process has as many open files as it may have.
    pub const MFILE: i32 = 33;
    /// A path is too long.
    pub const NAMETOOLONG: i32 = 37;
    /// All processes of the node together have as many open files as they may have.
    pub const NFILE: i32 = 41;
    /// The operation is not supported.
    pub const NOTSUP: i32 = 58;
}
