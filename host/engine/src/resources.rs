//! What a process holds of the system. It is with the process's record, and in the store only while
//! its code runs.

pub(crate) mod wasi;
