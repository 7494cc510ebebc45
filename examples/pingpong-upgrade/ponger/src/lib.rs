//! Replies to pings. Its versions are in `versions/`; `build.rs` selects the one that the
//! environment names.

include!(concat!(env!("OUT_DIR"), "/version.rs"));
