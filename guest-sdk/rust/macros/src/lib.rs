//! The attributes `#[exuvia::actor]` and `#[exuvia::protocol]`, and the derive `Layout`. Use them through
//! the crate `exuvia`, which documents them beside what they expand to.
#![forbid(unsafe_code)]

mod actor;
mod layout;
mod protocol;

use proc_macro::TokenStream;

/// Exports an implementation of `Actor` as the module's process, and fills in
/// the associated types that are left out.
///
/// - `schema = number`: the number of the state's schema. Raise it when fields
///   are added, removed or change their meaning. Required.
/// - `protocol = Trait`: the actor implements this trait, made a protocol by
///   `#[exuvia::protocol]`, and takes its messages. Then it has no `handle` and no
///   `handle_call` of its own. Optional.
/// - `layout`: the state derives `Layout`, and processes may be carried to a
///   version with the same fingerprint without being saved and loaded. See
///   `exuvia::Layout` for what that promises. Optional.
///
/// A module has one actor.
#[proc_macro_attribute]
pub fn actor(arguments: TokenStream, item: TokenStream) -> TokenStream {
    actor::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a protocol of a trait: the messages that its functions stand for, and a client that sends
/// them. See `exuvia::protocol`.
#[proc_macro_attribute]
pub fn protocol(arguments: TokenStream, item: TokenStream) -> TokenStream {
    protocol::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives the fingerprint of how a type lies in memory.
#[proc_macro_derive(Layout)]
pub fn layout(item: TokenStream) -> TokenStream {
    layout::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
