//! The enums of a protocol's messages, requests and replies, which dispatch to its functions.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, ItemTrait};

use super::description::described;
use super::function::{Answer, Function};

fn derives(deserialized: bool) -> TokenStream {
    let deserialize = deserialized.then(|| quote!(, ::exuvia::__serde::Deserialize));
    quote! {
        #[derive(Debug, ::exuvia::__serde::Serialize #deserialize)]
        #[serde(crate = "::exuvia::__serde")]
    }
}

/// Generates the enum of the functions without a reply.
pub(super) fn enumeration(item: &ItemTrait, functions: &[Function]) -> TokenStream {
    let (vis, protocol) = (&item.vis, &item.ident);
    let name = format_ident!("{protocol}Message");
    let derives = derives(true);
    let declared = functions.iter().map(Function::declared);
    let waits = functions.iter().any(|function| function.waits);
    let arms = |waiting: bool| {
        let name = name.clone();
        functions.iter().map(move |function| {
            let (named, call) = (function.named(), call(protocol, function, waiting));
            quote!(#name::#named => #call)
        })
    };
    let (now, waiting) = (arms(false), arms(true));
    let about = format!("What [`{protocol}`] is sent.");
    let description = described(functions);
    quote! {
        #[doc = #about]
        #derives
        #vis enum #name { #(#declared),* }

        impl #name {
            #[doc(hidden)]
            pub const ASYNC: bool = #waits;

            #[doc(hidden)]
            pub const DESCRIPTION: &'static str = #description;

            #[doc(hidden)]
            #[allow(unused_variables, reason = "a message may need nothing")]
            pub fn dispatch<A: #protocol>(self, actor: &mut A, cx: &mut ::exuvia::Context) {
                match self { #(#now),* }
            }

            #[doc(hidden)]
            #[allow(unused_variables, reason = "a message may need nothing")]
            pub async fn dispatch_async<A: #protocol>(
                self,
                actor: &mut A,
                cx: &mut ::exuvia::Context,
            ) {
                match self { #(#waiting),* }
            }
        }
    }
}

/// Generates the call of the actor's function. A function that waits is unreachable in a
/// dispatch that cannot wait.
fn call(protocol: &Ident, function: &Function, waiting: bool) -> TokenStream {
    let (name, arguments) = (&function.name, &function.arguments);
    let call = quote!(#protocol::#name(actor, #(#arguments),*));
    match (function.waits, waiting) {
        (false, _) => call,
        (true, true) => quote!(#call.await),
        (true, false) => quote!(::core::unreachable!("the protocol has functions that wait")),
    }
}

/// Generates the enums of requests and replies.
pub(super) fn request_enumerations(item: &ItemTrait, functions: &[Function]) -> TokenStream {
    let (vis, protocol) = (&item.vis, &item.ident);
    let (request, reply) = (
        format_ident!("{protocol}Request"),
        format_ident!("{protocol}Reply"),
    );
    let (derives_request, derives_reply) = (derives(true), derives(false));
    let declared = functions.iter().map(Function::declared);
    let waits = functions.iter().any(|function| function.waits);
    let replies = functions.iter().map(|function| {
        let (variant, ty) = (&function.variant, function.reply());
        let about = format!("Of `{}`.", function.name);
        quote!(#[doc = #about] #variant(#ty))
    });
    let arms = |waiting: bool| {
        let (request, reply) = (request.clone(), reply.clone());
        functions.iter().map(move |function| {
            let (named, call) = (function.named(), call(protocol, function, waiting));
            let variant = &function.variant;
            match (&function.answer, function.waits && !waiting) {
                (Answer::Now(_), false) => {
                    quote!(#request::#named => ::core::option::Option::Some(#reply::#variant(#call)))
                }
                (_, true) => quote!(#request::#named => #call),
                _ => quote!(#request::#named => { #call; ::core::option::Option::None }),
            }
        })
    };
    let (now, waiting) = (arms(false), arms(true));
    let about_request = format!("What [`{protocol}`] is asked.");
    let description = described(functions);
    let about_reply = format!("What [`{protocol}`] replies: in a message only what is inside.");
    quote! {
        #[doc = #about_request]
        #derives_request
        #vis enum #request { #(#declared),* }

        #[doc = #about_reply]
        #derives_reply
        #[serde(untagged)]
        #vis enum #reply { #(#replies),* }

        impl #request {
            #[doc(hidden)]
            pub const ASYNC: bool = #waits;

            #[doc(hidden)]
            pub const DESCRIPTION: &'static str = #description;

            #[doc(hidden)]
            #[allow(unused_variables, reason = "a request may need nothing")]
            pub fn dispatch<A: #protocol>(
                self,
                actor: &mut A,
                from: ::exuvia::Caller<#reply>,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<#reply> {
                match self { #(#now),* }
            }

            #[doc(hidden)]
            #[allow(unused_variables, reason = "a request may need nothing")]
            pub async fn dispatch_async<A: #protocol>(
                self,
                actor: &mut A,
                from: ::exuvia::Caller<#reply>,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<#reply> {
                match self { #(#waiting),* }
            }
        }
    }
}
