//! node

pub mod manifest;
