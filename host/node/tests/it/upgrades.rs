//! How processes are upgraded.

mod loops;
mod state;
