//! The subcommands.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod new;
pub(crate) mod ps;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod stop;
