//! What is known of a loaded module: its code, the base of its processes and the results of the
//! analysis, and how these are made of bytes and cached. Nothing here runs a guest.

pub(crate) mod compile;
pub(crate) mod compile_cache;
pub(crate) mod function_cache;
pub(crate) mod info;
pub(crate) mod lines;
pub(crate) mod missing;
pub(crate) mod stack_policy;
pub(crate) mod text;
