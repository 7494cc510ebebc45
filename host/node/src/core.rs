//! The bottom of a node.

pub(crate) mod observer;
mod virtual_time;
