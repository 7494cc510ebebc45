//! The attribute `protocol`: generates messages and a client from the functions of a trait.
//!
//! - `function`: a function of the trait.
//! - `messages`: the enums of messages, requests and replies.
//! - `description`: what a node tells clients of the functions.
//! - `client`: the client.

mod client;
mod description;
mod function;
mod messages;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemTrait, ReturnType, TraitItem, Type, parse_quote};

use client::client;
pub(crate) use description::written;
use function::read;
use messages::{enumeration, request_enumerations};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "`#[exuvia::protocol]` takes no arguments",
        ));
    }
    let mut item: ItemTrait = syn::parse2(item)?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "a protocol has one set of messages, so its trait cannot be generic",
        ));
    }
    let mut functions = Vec::new();
    for item in &mut item.items {
        let TraitItem::Fn(function) = item else {
            return Err(Error::new_spanned(
                item,
                "a protocol has functions only: each is a message",
            ));
        };
        functions.push(read(function)?);
        // As the compiler requires it in a public trait.
        if function.sig.asyncness.take().is_some() {
            let output: Type = match &function.sig.output {
                ReturnType::Default => parse_quote!(()),
                ReturnType::Type(_, output) => (**output).clone(),
            };
            function.sig.output = parse_quote!(-> impl ::core::future::Future<Output = #output>);
        }
    }
    let (requests, messages): (Vec<_>, Vec<_>) = functions
        .into_iter()
        .partition(|function| function.reply().is_some());
    let messages_of = enumeration(&item, &messages);
    let requests_of = request_enumerations(&item, &requests);
    let client = client(&item, &messages, &requests);
    Ok(quote! {
        #item
        #messages_of
        #requests_of
        #client
    })
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::expand;

    fn mistake(item: proc_macro2::TokenStream) -> String {
        expand(quote!(), item).unwrap_err().to_string()
    }

    #[test]
    fn invalid_arguments_are_reported() {
        for (item, words) in [
            (
                quote!(
                    trait T<X> {}
                ),
                "cannot be generic",
            ),
            (
                quote!(
                    trait T {
                        type X;
                    }
                ),
                "functions only",
            ),
            (
                quote!(
                    trait T {
                        fn f(&self) {}
                    }
                ),
                "has no body",
            ),
            (
                quote!(
                    trait T {
                        fn f<X>(&self, x: X);
                    }
                ),
                "cannot be generic",
            ),
            (
                quote!(
                    trait T {
                        fn f(x: u8);
                    }
                ),
                "first parameter",
            ),
            (
                quote!(
                    trait T {
                        fn f(self);
                    }
                ),
                "first parameter",
            ),
            (
                quote!(
                    trait T {
                        fn f(&self, (a, b): (u8, u8));
                    }
                ),
                "plain name",
            ),
            (
                quote!(
                    trait T {
                        fn f(&self, text: &str);
                    }
                ),
                "by value",
            ),
            (
                quote!(
                    trait T {
                        fn f(&self, from: Caller<u8>) -> u8;
                    }
                ),
                "returns nothing",
            ),
        ] {
            assert!(mistake(item.clone()).contains(words), "{item}");
        }
    }

    #[test]
    fn functions_are_described_in_the_protocol_section() {
        let item = quote! {
            pub trait Counter {
                /// Adds "so much".
                fn add_up(&mut self, by: u64, why: Option<Vec<String>>, cx: &mut Context);
                fn get(&self) -> Result<u64, String>;
            }
        };
        let made = expand(quote!(), item).unwrap();
        let file: syn::File = syn::parse2(made).unwrap();
        let mut described = Vec::new();
        for item in &file.items {
            let syn::Item::Impl(item) = item else {
                continue;
            };
            for item in &item.items {
                if let syn::ImplItem::Const(constant) = item
                    && constant.ident == "DESCRIPTION"
                    && let syn::Expr::Lit(literal) = &constant.expr
                    && let syn::Lit::Str(text) = &literal.lit
                {
                    described.push(text.value());
                }
            }
        }
        assert_eq!(
            described,
            [
                "{\"name\":\"add_up\",\"message\":\"AddUp\",\"parameters\":[{\"name\":\"by\",\"type\":\"u64\"},{\"name\":\"why\",\"type\":\"Option<Vec<String>>\"}],\"docs\":\"Adds \\\"so much\\\".\"}\n",
                "{\"name\":\"get\",\"message\":\"Get\",\"parameters\":[],\"reply\":\"Result<u64, String>\"}\n",
            ]
        );
    }

    #[test]
    fn functions_become_variants_and_methods() {
        let made = expand(
            quote!(),
            quote! {
                pub trait Counter {
                    fn add_up(&mut self, by: u64, cx: &mut Context);
                    fn get(&self) -> u64;
                }
            },
        )
        .unwrap()
        .to_string();
        for part in [
            "AddUp { # [doc",
            "# [doc = \"`get`.\"] Get }",
            "fn add_up_after",
            "fn request_get",
            "Counter :: add_up (actor , by , cx)",
        ] {
            assert!(made.contains(part), "{part} in {made}");
        }
    }
}
