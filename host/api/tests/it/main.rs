//! The API as a document.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod document;
