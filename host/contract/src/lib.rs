//! What a module says of itself to people and tools: the messages it understands
//! (`exuvia.protocol`) and the state it saves (`exuvia.state`), sections that `guest-sdk/abi.md`
//! describes. And what follows from two modules for a swap from one to the other, before any
//! process is looked at.
//!
//! Everything here is a function of those bytes: it reads no Wasm, and knows no node. Start with
//! [`compare`].

#![forbid(unsafe_code)]

mod compare;
mod protocol;
mod state;
mod types;

pub use compare::{
    Code, Comparison, FieldChange, Loss, MessageChange, Refusal, Rollback, Way, compare,
};
pub use protocol::{Function, Parameter, functions};
pub use state::{Loads, StateContract};
pub use types::{Field, MAX_DEPTH, Type, Variant};
