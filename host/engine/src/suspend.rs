//! How a guest that is suspended in the middle of a host call exchanges values with the thread that
//! runs its process.

pub(crate) mod fiber;
pub(crate) mod thread;
