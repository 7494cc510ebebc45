//! What the engine and other nodes see of images: the bytes that leave a node.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod format;
