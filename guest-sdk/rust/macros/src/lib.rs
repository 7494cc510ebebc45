//! The attributes `#[exuvia::actor]`, `#[exuvia::http]` and `#[exuvia::protocol]`, and the derives `Layout` and `Saved`. Use
//! them through the crate `exuvia`, which documents them beside what they expand to.
#![forbid(unsafe_code)]

mod actor;
mod http;
mod layout;
mod protocol;
mod saved;

use proc_macro::TokenStream;

/// Exports an implementation of `Actor` as the module's process, and fills in the associated
/// types that are left out.
///
/// - `schema = number`: the version number of the state's schema. Increase it when fields are
///   added, removed or change their meaning. Required.
/// - `protocol = Trait`: the actor implements this trait, which is declared as a protocol with
///   `#[exuvia::protocol]`, and accepts its messages. It then has no `handle` and no
///   `handle_call` of its own. Optional.
/// - `http`: requests of HTTP go to the functions of a block with `#[exuvia::http]`. Optional.
/// - `layout`: the state derives `Layout`, and a version with the same fingerprint may reuse a
///   process's memory without `save` and `load`. See `exuvia::Layout` for what that promises.
///   Optional.
/// - `loads = [1, 3..=5]`: the schemas of other versions whose state `migrate` converts. Without it,
///   only `migrate` itself knows. Without `migrate`, the state of every schema is read by the names of
///   its fields. `exuvia check OLD NEW` uses it, for a state that derives `Saved`. Optional.
///
/// A module has one actor.
#[proc_macro_attribute]
pub fn actor(arguments: TokenStream, item: TokenStream) -> TokenStream {
    actor::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes the functions of an `impl` block the handlers of requests of HTTP. See `exuvia::http`.
#[proc_macro_attribute]
pub fn http(arguments: TokenStream, item: TokenStream) -> TokenStream {
    http::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Declares a trait as a protocol: generates the messages that its functions stand for, and a
/// client that sends them. See `exuvia::protocol`.
#[proc_macro_attribute]
pub fn protocol(arguments: TokenStream, item: TokenStream) -> TokenStream {
    protocol::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives the fingerprint of a type's memory layout.
#[proc_macro_derive(Layout)]
pub fn layout(item: TokenStream) -> TokenStream {
    layout::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives how serde saves a type. See `exuvia::Saved`.
#[proc_macro_derive(Saved)]
pub fn saved(item: TokenStream) -> TokenStream {
    saved::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
