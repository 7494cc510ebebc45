//! The attribute `actor`: checks the implementation, completes it and exports it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Error, Ident, ImplItem, ImplItemFn, ItemImpl, LitInt, Path, Token, bracketed, parse_quote,
};

struct Arguments {
    schema: LitInt,
    layout: bool,
    http: bool,
    protocol: Option<Path>,
    loads: Option<Loads>,
}

/// The schemas that `migrate` converts, as the section `exuvia.state` has them.
struct Loads {
    json: String,
    span: Span,
}

impl Parse for Loads {
    fn parse(input: ParseStream<'_>) -> syn::Result<Loads> {
        let span = input.span();
        let list;
        bracketed!(list in input);
        let ranges = Punctuated::<Range, Token![,]>::parse_terminated(&list)?;
        let ranges: Vec<String> = (ranges.iter())
            .map(|Range(first, last)| match last {
                None => first.to_string(),
                Some(last) => format!("[{first}, {last}]"),
            })
            .collect();
        let json = format!("[{}]", ranges.join(", "));
        Ok(Loads { json, span })
    }
}

/// A schema, or the first and the last of several.
struct Range(i32, Option<i32>);

impl Parse for Range {
    fn parse(input: ParseStream<'_>) -> syn::Result<Range> {
        let first = input.parse::<LitInt>()?.base10_parse()?;
        if !input.peek(Token![..=]) {
            return Ok(Range(first, None));
        }
        input.parse::<Token![..=]>()?;
        Ok(Range(first, Some(input.parse::<LitInt>()?.base10_parse()?)))
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Arguments> {
        let mut schema = None;
        let mut layout = false;
        let mut http = false;
        let mut protocol = None;
        let mut loads = None;
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name == "schema" {
                input.parse::<Token![=]>()?;
                let number: LitInt = input.parse()?;
                number.base10_parse::<i32>()?;
                schema = Some(number);
            } else if name == "layout" {
                layout = true;
            } else if name == "http" {
                http = true;
            } else if name == "protocol" {
                input.parse::<Token![=]>()?;
                protocol = Some(input.parse::<Path>()?);
            } else if name == "loads" {
                input.parse::<Token![=]>()?;
                loads = Some(input.parse::<Loads>()?);
            } else {
                return Err(Error::new(
                    name.span(),
                    "expected `schema = <number>`, `layout`, `http`, `protocol = <trait>` or `loads = [<schema>]`",
                ));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let schema = schema.ok_or_else(|| {
            Error::new(
                Span::call_site(),
                "give the state's schema a number: `#[exuvia::actor(schema = 1)]`",
            )
        })?;
        Ok(Arguments {
            schema,
            layout,
            http,
            protocol,
            loads,
        })
    }
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let Arguments {
        schema,
        layout,
        http,
        protocol,
        loads,
    } = syn::parse2(arguments)?;
    let mut item: ItemImpl = syn::parse2(item)?;
    if let Some(protocol) = &protocol {
        speak(&mut item, protocol)?;
    }
    if http {
        serve(&mut item)?;
    }
    check(&item)?;
    let loads = taken(&item, loads)?;
    rename_async(&mut item)?;
    complete(&mut item);
    let actor = &item.self_ty;
    let layout = layout.then(|| quote!(, layout));
    let described = protocol.map(|protocol| {
        let (message, request) = (named(&protocol, "Message"), named(&protocol, "Request"));
        quote!(::exuvia::__describe!(#message, #request);)
    });
    Ok(quote! {
        #item
        ::exuvia::__actor!(#actor, #schema, #loads #layout);
        #described
    })
}

fn check(item: &ItemImpl) -> syn::Result<()> {
    let is_actor = item
        .trait_
        .as_ref()
        .and_then(|(path, _)| path.segments.last())
        .is_some_and(|last| last.ident == "Actor");
    if !is_actor {
        return Err(Error::new_spanned(
            &item.self_ty,
            "`#[exuvia::actor]` must be on an `impl Actor for ...`",
        ));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "a module has one actor, so its type cannot be generic",
        ));
    }
    // A missing handler would drop messages of a type that the actor declares.
    for (wanted, type_name) in [("handle", "Message"), ("handle_call", "Request")] {
        if let Some(declared) = declared_type(item, type_name)
            && function(item, wanted).is_none()
        {
            return Err(Error::new_spanned(
                declared,
                format!("`type {type_name}` is given, but `fn {wanted}` is missing"),
            ));
        }
    }
    Ok(())
}

/// Returns what `load` takes, as the section `exuvia.state` has it.
fn taken(item: &ItemImpl, loads: Option<Loads>) -> syn::Result<String> {
    match (function(item, "migrate"), loads) {
        (Some(_), Some(loads)) => Ok(loads.json),
        (Some(_), None) => Ok("\"any\"".to_owned()),
        (None, None) => Ok("\"fields\"".to_owned()),
        (None, Some(loads)) => Err(Error::new(
            loads.span,
            "`loads` says which schemas `fn migrate` converts, and there is none: without it, the state of every schema is read by the names of its fields",
        )),
    }
}

/// Returns the path of an item generated from a protocol: its name with a suffix.
fn named(protocol: &Path, suffix: &str) -> Path {
    let mut path = protocol.clone();
    if let Some(last) = path.segments.last_mut() {
        last.ident = format_ident!("{}{suffix}", last.ident);
    }
    path
}

/// Makes the actor accept the messages of a protocol and dispatch them to its trait.
fn speak(item: &mut ItemImpl, protocol: &Path) -> syn::Result<()> {
    for (kind, names) in [
        ("type", &["Message", "Request", "Reply"][..]),
        ("fn", &["handle", "handle_call"][..]),
    ] {
        for name in names {
            if declared_type(item, name).is_some() || function(item, name).is_some() {
                return Err(Error::new_spanned(
                    protocol,
                    format!("`{kind} {name}` comes from the protocol: omit it"),
                ));
            }
        }
    }
    let named = |suffix| named(protocol, suffix);
    let (message, request, reply) = (named("Message"), named("Request"), named("Reply"));
    let items: [ImplItem; 9] = [
        parse_quote!(
            type Message = #message;
        ),
        parse_quote!(
            type Request = #request;
        ),
        parse_quote!(
            type Reply = #reply;
        ),
        parse_quote!(
            const ASYNC_HANDLE: bool = #message::ASYNC;
        ),
        parse_quote!(
            const ASYNC_HANDLE_CALL: bool = #request::ASYNC;
        ),
        parse_quote!(
            fn handle(&mut self, message: #message, _: ::exuvia::Pid, cx: &mut ::exuvia::Context) {
                message.dispatch(self, cx)
            }
        ),
        parse_quote!(
            async fn handle_async(
                &mut self,
                message: #message,
                _: ::exuvia::Pid,
                cx: &mut ::exuvia::Context,
            ) {
                message.dispatch_async(self, cx).await
            }
        ),
        parse_quote!(
            fn handle_call(
                &mut self,
                request: #request,
                from: ::exuvia::Caller<#reply>,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<#reply> {
                request.dispatch(self, from, cx)
            }
        ),
        parse_quote!(
            async fn handle_call_async(
                &mut self,
                request: #request,
                from: ::exuvia::Caller<#reply>,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<#reply> {
                request.dispatch_async(self, from, cx).await
            }
        ),
    ];
    item.items.extend(items);
    Ok(())
}

/// Makes the actor pass requests of HTTP to the functions of its block with `#[exuvia::http]`.
fn serve(item: &mut ItemImpl) -> syn::Result<()> {
    if let Some(own) = function(item, "handle_http") {
        return Err(Error::new_spanned(
            &own.sig.ident,
            "`http` says that requests go to the functions of `#[exuvia::http]`: omit one of the two",
        ));
    }
    let items: [ImplItem; 4] = [
        parse_quote!(
            const HTTP_HANDLERS: bool = true;
        ),
        parse_quote!(
            const ASYNC_HANDLE_HTTP: bool = <Self as ::exuvia::http::Handlers>::ASYNC;
        ),
        parse_quote!(
            fn handle_http(
                &mut self,
                request: ::exuvia::http::Request,
                from: ::exuvia::http::Responder,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<::exuvia::http::Response> {
                ::exuvia::http::Handlers::handle(self, request, from, cx)
            }
        ),
        parse_quote!(
            async fn handle_http_async(
                &mut self,
                request: ::exuvia::http::Request,
                from: ::exuvia::http::Responder,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<::exuvia::http::Response> {
                ::exuvia::http::Handlers::handle_async(self, request, from, cx).await
            }
        ),
    ];
    item.items.extend(items);
    Ok(())
}

/// Renames `async` handlers and adds the constants that mark them as `async`.
fn rename_async(item: &mut ItemImpl) -> syn::Result<()> {
    let mut constants: Vec<ImplItem> = Vec::new();
    for item in &mut item.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        if function.sig.asyncness.is_none() {
            continue;
        }
        let constant = match function.sig.ident.to_string().as_str() {
            "handle" => "ASYNC_HANDLE",
            "handle_call" => "ASYNC_HANDLE_CALL",
            "handle_http" => "ASYNC_HANDLE_HTTP",
            "handle_socket" => "ASYNC_HANDLE_SOCKET",
            "handle_info" => "ASYNC_HANDLE_INFO",
            // Generated for a protocol or for HTTP, with the constants.
            "handle_async" | "handle_call_async" | "handle_http_async" => continue,
            name => {
                return Err(Error::new_spanned(
                    &function.sig,
                    format!(
                        "`{name}` cannot be async; `handle`, `handle_call`, `handle_http`, `handle_socket` and `handle_info` can: send yourself a message in `init` and wait there"
                    ),
                ));
            }
        };
        let constant = format_ident!("{constant}");
        function.sig.ident = format_ident!("{}_async", function.sig.ident);
        constants.push(parse_quote!(
            const #constant: bool = true;
        ));
    }
    item.items.extend(constants);
    Ok(())
}

fn declared_type<'a>(item: &'a ItemImpl, name: &str) -> Option<&'a syn::ImplItemType> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Type(declared) if declared.ident == name => Some(declared),
        _ => None,
    })
}

fn function<'a>(item: &'a ItemImpl, name: &str) -> Option<&'a ImplItemFn> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Fn(function) if function.sig.ident == name => Some(function),
        _ => None,
    })
}

fn complete(item: &mut ItemImpl) {
    let defaults: [(&str, ImplItem); 4] = [
        (
            "Args",
            parse_quote!(
                type Args = ();
            ),
        ),
        (
            "Message",
            parse_quote!(
                type Message = ::exuvia::Never;
            ),
        ),
        (
            "Request",
            parse_quote!(
                type Request = ::exuvia::Never;
            ),
        ),
        (
            "Reply",
            parse_quote!(
                type Reply = ();
            ),
        ),
    ];
    for (name, default) in defaults {
        if declared_type(item, name).is_none() {
            item.items.push(default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::expand;
    use quote::quote;

    #[test]
    fn missing_types_are_filled_in_and_given_ones_kept() {
        let expanded = expand(
            quote!(schema = 3, layout),
            quote! {
                impl Actor for Thing {
                    type Args = u8;
                    fn init(args: u8, cx: &mut Context) -> Result<Self, String> { Ok(Thing) }
                }
            },
        )
        .unwrap()
        .to_string();
        assert!(expanded.contains("type Args = u8"));
        assert!(!expanded.contains("type Args = ()"));
        assert!(expanded.contains("type Request = :: exuvia :: Never"));
        assert!(
            expanded.contains(":: exuvia :: __actor ! (Thing , 3 , \"\\\"fields\\\"\" , layout)"),
            "{expanded}"
        );
    }

    #[test]
    fn what_migrate_takes_is_said_or_not_known() {
        let migrating = quote!(impl Actor for Thing { fn migrate() {} });
        for (arguments, json) in [
            (quote!(schema = 9, loads = [1, 3..=5]), "[1, [3, 5]]"),
            (quote!(schema = 9, loads = []), "[]"),
            (quote!(schema = 9), "\\\"any\\\""),
        ] {
            let expanded = expand(arguments, migrating.clone()).unwrap().to_string();
            let call = format!(":: exuvia :: __actor ! (Thing , 9 , \"{json}\")");
            assert!(expanded.contains(&call), "{call}: {expanded}");
        }
    }

    #[test]
    fn invalid_arguments_are_reported() {
        let item = quote! { impl Actor for Thing { type Request = u8; } };
        let error = expand(quote!(schema = 1), item.clone()).unwrap_err();
        assert!(error.to_string().contains("`fn handle_call` is missing"));
        let error = expand(quote!(), item.clone()).unwrap_err();
        assert!(error.to_string().contains("schema = 1"));
        let error = expand(quote!(scheme = 1), item).unwrap_err();
        assert!(error.to_string().contains("expected `schema"));
        let error = expand(
            quote!(schema = 2, loads = [1]),
            quote!(impl Actor for Thing {}),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`fn migrate`"), "{error}");
        let own = quote! { impl Actor for Thing { fn handle_http(&mut self) {} } };
        let error = expand(quote!(schema = 1, http), own).unwrap_err();
        assert!(error.to_string().contains("omit one of the two"));
        let error = expand(quote!(schema = 1), quote!(impl Thing {})).unwrap_err();
        assert!(error.to_string().contains("impl Actor for"));
    }
}
