//! The client of a protocol: a method for each function, on the pid of a process.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ItemTrait;

use super::function::Function;

/// Generates the client.
pub(super) fn client(
    item: &ItemTrait,
    messages: &[Function],
    requests: &[Function],
) -> TokenStream {
    let (vis, protocol) = (&item.vis, &item.ident);
    let client = format_ident!("{protocol}Client");
    let (message, request) = (
        format_ident!("{protocol}Message"),
        format_ident!("{protocol}Request"),
    );
    let sends = messages.iter().map(|function| {
        let (name, docs, named) = (&function.name, &function.docs, function.named());
        let (names, types) = (function.names(), function.types());
        let later = format_ident!("{}_after", function.name);
        let about_later =
            format!("[`{client}::{name}`] after a delay; returns the timer's reference.");
        let about = format!("Sends `{name}`.");
        quote! {
            #[doc = #about]
            ///
            #(#docs)*
            pub fn #name(self, #(#names: #types),*) -> ::core::result::Result<(), ::exuvia::Error> {
                self.pid.send(&#message::#named)
            }

            #[doc = #about_later]
            pub fn #later(
                self,
                delay: ::core::time::Duration,
                #(#names: #types),*
            ) -> ::core::result::Result<u64, ::exuvia::Error> {
                self.pid.send_after(&#message::#named, delay)
            }
        }
    });
    let calls = requests.iter().map(|function| {
        let (name, docs, named) = (&function.name, &function.docs, function.named());
        let (names, types, reply) = (function.names(), function.types(), function.reply());
        let request_name = format_ident!("request_{}", function.name);
        let about = format!("Asks `{name}` and waits for the reply, with this client's timeout.");
        let about_request = format!(
            "Asks `{name}` and goes on. Await the reply in an `async` handler, or keep it."
        );
        quote! {
            #[doc = #about]
            ///
            #(#docs)*
            pub fn #name(self, #(#names: #types),*) -> ::core::result::Result<#reply, ::exuvia::Error> {
                self.pid.call(&#request::#named, self.timeout)
            }

            #[doc = #about_request]
            pub fn #request_name(
                self,
                #(#names: #types),*
            ) -> ::core::result::Result<::exuvia::Pending<#reply>, ::exuvia::Error> {
                self.pid.request(&#request::#named).map(::exuvia::Pending::new)
            }
        }
    });
    let about =
        format!("A process that speaks [`{protocol}`]. In messages and states it is its pid.");
    quote! {
        #[doc = #about]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::exuvia::__serde::Serialize, ::exuvia::__serde::Deserialize)]
        #[serde(crate = "::exuvia::__serde", from = "::exuvia::Pid", into = "::exuvia::Pid")]
        #vis struct #client {
            pid: ::exuvia::Pid,
            timeout: ::exuvia::Wait,
        }

        impl #client {
            /// Returns the client of a process, without checking the pid. Calls wait 5 seconds.
            pub fn new(pid: ::exuvia::Pid) -> Self {
                let timeout = ::exuvia::Wait::For(::core::time::Duration::from_secs(5));
                Self { pid, timeout }
            }

            /// Returns the client of the process with this name.
            pub fn whereis(name: &str) -> ::core::result::Result<Self, ::exuvia::Error> {
                ::exuvia::whereis(name).map(Self::new)
            }

            /// Returns the same client with another timeout for its calls.
            #[must_use]
            pub fn with_timeout(self, timeout: impl ::core::convert::Into<::exuvia::Wait>) -> Self {
                let timeout = timeout.into();
                Self { timeout, ..self }
            }

            /// Returns the pid.
            pub fn pid(self) -> ::exuvia::Pid {
                self.pid
            }

            #(#sends)*
            #(#calls)*
        }

        impl ::core::convert::From<::exuvia::Pid> for #client {
            fn from(pid: ::exuvia::Pid) -> Self {
                Self::new(pid)
            }
        }

        impl ::core::convert::From<#client> for ::exuvia::Pid {
            fn from(client: #client) -> Self {
                client.pid
            }
        }
    }
}
