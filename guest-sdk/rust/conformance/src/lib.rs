//! The guest of `guest-sdk/conformance`, in Rust: what each message does is said there.

#[cfg(not(feature = "ping"))]
mod guest;
#[cfg(feature = "ping")]
mod ping;
