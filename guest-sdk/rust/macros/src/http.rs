//! The attribute `http`: finds the handlers of a block, and generates what calls them.
//!
//! - `pattern`: the paths of handlers, and which is more exact.

mod pattern;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, LitStr, Meta,
    Pat, PatType, PathArguments, ReturnType, Type,
};

use pattern::Pattern;

/// The attributes of handlers, and their methods.
const METHODS: [(&str, &str); 5] = [
    ("get", "GET"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
];

/// A path, the methods that it has, and the numbers of their handlers.
struct Place {
    pattern: Option<Pattern>,
    methods: Vec<(&'static str, usize)>,
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "`#[exuvia::http]` takes no arguments: paths are those of the functions, `#[get(\"/path\")]`",
        ));
    }
    let mut item: ItemImpl = syn::parse2(item)?;
    if item.trait_.is_some() || !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.self_ty,
            "`#[exuvia::http]` must be on an `impl` block of an actor, without a trait or parameters",
        ));
    }
    let mut places: Vec<Place> = Vec::new();
    let mut calls = Vec::new();
    let mut waits = false;
    for item in &mut item.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let routes = routes(function)?;
        if routes.is_empty() {
            continue;
        }
        calls.push(call(function, &routes)?);
        waits |= function.sig.asyncness.is_some();
        for (method, pattern, attribute) in routes {
            add(&mut places, method, pattern, calls.len() - 1)
                .map_err(|why| Error::new_spanned(attribute, why))?;
        }
    }
    if calls.is_empty() {
        return Err(Error::new_spanned(
            &item.self_ty,
            "no function of this block has `#[get(\"/path\")]` or the like",
        ));
    }
    places.sort_by_key(|place| place.pattern.as_ref().map_or(vec![u8::MAX], Pattern::rank));
    let places = places.into_iter().map(|place| {
        let Place {
            pattern,
            mut methods,
        } = place;
        // As the node does.
        if let Some((_, get)) = methods.iter().find(|(method, _)| *method == "GET") {
            methods.push(("HEAD", *get));
        }
        methods.sort_unstable();
        let allowed: Vec<&str> = methods.iter().map(|(method, _)| *method).collect();
        let allowed = allowed.join(", ");
        let pattern = match pattern.as_ref().map(Pattern::text) {
            Some(text) => quote!(::core::option::Option::Some(#text)),
            None => quote!(::core::option::Option::None),
        };
        let methods = methods
            .iter()
            .map(|(method, number)| quote!((#method, #number)));
        quote!(::exuvia::http::Place {
            pattern: #pattern,
            methods: &[#(#methods),*],
            allowed: #allowed,
        })
    });
    let (asyncness, name) = match waits {
        true => (Some(quote!(async)), format_ident!("handle_async")),
        false => (None, format_ident!("handle")),
    };
    // The last one is for all numbers: the compiler does not know which there are.
    let numbers = (0..calls.len()).map(|number| match number + 1 == calls.len() {
        true => quote!(_),
        false => quote!(#number),
    });
    let actor = &item.self_ty;
    Ok(quote! {
        #item

        const _: () = ::core::assert!(
            <#actor as ::exuvia::Actor>::HTTP_HANDLERS,
            "the actor does not know of its handlers: write `http` in `#[exuvia::actor(schema = ..., http)]`"
        );

        #[allow(unused_variables, reason = "a handler need not take everything")]
        impl ::exuvia::http::Handlers for #actor {
            const ASYNC: bool = #waits;

            #asyncness fn #name(
                &mut self,
                mut request: ::exuvia::http::Request,
                from: ::exuvia::http::Responder,
                cx: &mut ::exuvia::Context,
            ) -> ::core::option::Option<::exuvia::http::Response> {
                const PATHS: &::exuvia::http::Paths = &[#(#places),*];
                let handler = match ::exuvia::http::find(&mut request, PATHS) {
                    ::core::result::Result::Ok(handler) => handler,
                    ::core::result::Result::Err(response) => {
                        return ::core::option::Option::Some(response);
                    }
                };
                match handler {
                    #(#numbers => { #calls })*
                }
            }
        }
    })
}

/// A method and a path of a function, with the attribute that has them.
type Route = (&'static str, Option<Pattern>, Attribute);

/// Takes the attributes that make the function a handler.
fn routes(function: &mut ImplItemFn) -> syn::Result<Vec<Route>> {
    let mut routes = Vec::new();
    let mut others = Vec::new();
    for attribute in std::mem::take(&mut function.attrs) {
        let known = METHODS
            .iter()
            .find(|(name, _)| attribute.path().is_ident(name));
        let Some((_, method)) = known else {
            others.push(attribute);
            continue;
        };
        let pattern = match &attribute.meta {
            Meta::Path(_) => None,
            _ => {
                let path: LitStr = attribute.parse_args()?;
                let pattern = Pattern::read(&path.value());
                Some(pattern.map_err(|why| Error::new_spanned(&path, why))?)
            }
        };
        routes.push((*method, pattern, attribute));
    }
    function.attrs = others;
    Ok(routes)
}

fn add(
    places: &mut Vec<Place>,
    method: &'static str,
    pattern: Option<Pattern>,
    number: usize,
) -> Result<(), String> {
    let shape = pattern.as_ref().map(Pattern::shape);
    let known = places
        .iter_mut()
        .find(|place| place.pattern.as_ref().map(Pattern::shape) == shape);
    let Some(place) = known else {
        let methods = vec![(method, number)];
        places.push(Place { pattern, methods });
        return Ok(());
    };
    if place.methods.iter().any(|(known, _)| *known == method) {
        return Err("another handler has the same path and method".to_owned());
    }
    if let (Some(before), Some(pattern)) = (&place.pattern, &pattern)
        && before.text() != pattern.text()
    {
        let before = before.text();
        return Err(format!(
            "another handler calls the same path `{before}`: give the parameters the same names"
        ));
    }
    place.methods.push((method, number));
    Ok(())
}

/// Generates the call of a handler: its arguments, and what becomes of what it returns.
fn call(function: &mut ImplItemFn, routes: &[Route]) -> syn::Result<TokenStream> {
    let signature = &mut function.sig;
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &signature.generics,
            "a handler cannot be generic",
        ));
    }
    let mut arguments = Vec::new();
    let mut taken = Vec::new();
    let mut responds = false;
    for (number, input) in signature.inputs.iter_mut().enumerate() {
        let input = match input {
            FnArg::Receiver(_) => {
                arguments.push(quote!(self));
                continue;
            }
            FnArg::Typed(input) => input,
        };
        let header = header(input)?;
        let ty = &*input.ty;
        if let Type::Reference(reference) = ty {
            arguments.push(match last(&reference.elem) {
                Some(name) if name == "Request" => quote!(&request),
                Some(name) if name == "Context" => quote!(cx),
                _ => {
                    return Err(Error::new_spanned(
                        ty,
                        "of references, a handler takes `&Request` and `&mut Context`",
                    ));
                }
            });
            continue;
        }
        if last(ty).is_some_and(|name| name == "Responder") {
            responds = true;
            arguments.push(quote!(from));
            continue;
        }
        let made = match header {
            Some(name) => match inner(ty, "Option") {
                Some(inner) => quote!(::exuvia::http::header_if_any::<#inner>(&request, #name)),
                None => quote!(::exuvia::http::header::<#ty>(&request, #name)),
            },
            None => match parameter(input, routes)? {
                Some(name) => quote!(::exuvia::http::Request::param::<#ty>(&request, #name)),
                None => quote!(<#ty as ::exuvia::http::FromRequest>::from_request(&request)),
            },
        };
        let argument = format_ident!("argument_{number}");
        taken.push(quote! {
            let #argument = match #made {
                ::core::result::Result::Ok(argument) => argument,
                ::core::result::Result::Err(response) => {
                    return ::core::option::Option::Some(response);
                }
            };
        });
        arguments.push(quote!(#argument));
    }
    let wait = signature.asyncness.map(|_| quote!(.await));
    let name = &signature.ident;
    let call = quote!(Self::#name(#(#arguments),*) #wait);
    if !responds {
        return Ok(quote! {
            #(#taken)*
            ::core::option::Option::Some(::exuvia::http::IntoResponse::into_response(#call))
        });
    }
    if !matches!(signature.output, ReturnType::Default) {
        return Err(Error::new_spanned(
            &signature.output,
            "a handler that gets the `Responder` returns nothing: it responds with that",
        ));
    }
    Ok(quote! {
        #(#taken)*
        #call;
        ::core::option::Option::None
    })
}

/// Takes the attribute `header` of an argument.
fn header(input: &mut PatType) -> syn::Result<Option<String>> {
    let place = (input.attrs.iter()).position(|attribute| attribute.path().is_ident("header"));
    let Some(place) = place else {
        return Ok(None);
    };
    let name: LitStr = input.attrs.remove(place).parse_args()?;
    Ok(Some(name.value()))
}

/// Returns the parameter of the path that an argument is, by its name.
fn parameter(input: &PatType, routes: &[Route]) -> syn::Result<Option<String>> {
    let Pat::Ident(argument) = &*input.pat else {
        return Ok(None);
    };
    let name = argument.ident.to_string();
    let name = name.trim_start_matches("r#");
    let has = |(_, pattern, _): &&Route| pattern.as_ref().is_some_and(|path| path.has(name));
    match routes.iter().filter(has).count() {
        0 => Ok(None),
        all if all == routes.len() => Ok(Some(name.to_owned())),
        _ => Err(Error::new_spanned(
            argument,
            format!("not all paths of this handler have a parameter `{name}`"),
        )),
    }
}

/// Returns the last part of a type's name.
fn last(ty: &Type) -> Option<&Ident> {
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().map(|last| &last.ident)
}

/// Returns `T` of `Option<T>`.
fn inner<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(inner) if last.ident == name => Some(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::expand;

    fn mistake(functions: TokenStream) -> String {
        let expanded = expand(quote!(), quote!(impl Thing { #functions }));
        expanded.unwrap_err().to_string()
    }

    #[test]
    fn the_most_exact_path_comes_first() {
        let expanded = expand(
            quote!(),
            quote!(impl Thing {
                #[put]
                #[get]
                fn other(&self) {}
                #[get("/{*rest}")]
                fn rest(&self, rest: String) {}
                #[get("/a/{b}")]
                fn b(&self) {}
                #[delete("/a/{b}")]
                fn delete(&self, b: u8) {}
                #[get("/a/new")]
                fn new(&self) {}
            }),
        );
        let expanded = expanded.unwrap().to_string().replace(' ', "");
        let some = |path: &str| format!("::core::option::Option::Some(\"{path}\")");
        let none = "::core::option::Option::None".to_owned();
        let paths = [
            (
                some("/a/new"),
                "(\"GET\",4usize),(\"HEAD\",4usize)",
                "GET, HEAD",
            ),
            (
                some("/a/{b}"),
                "(\"DELETE\",3usize),(\"GET\",2usize),(\"HEAD\",2usize)",
                "DELETE, GET, HEAD",
            ),
            (
                some("/{*rest}"),
                "(\"GET\",1usize),(\"HEAD\",1usize)",
                "GET, HEAD",
            ),
            (
                none,
                "(\"GET\",0usize),(\"HEAD\",0usize),(\"PUT\",0usize)",
                "GET, HEAD, PUT",
            ),
        ];
        let paths = paths.map(|(pattern, methods, allowed)| {
            let allowed = allowed.replace(' ', "");
            format!("::exuvia::http::Place{{pattern:{pattern},methods:&[{methods}],allowed:\"{allowed}\",}}")
        });
        let paths = format!("&[{}]", paths.join(","));
        assert!(expanded.contains(&paths), "{paths} in {expanded}");
        assert!(expanded.contains("constASYNC:bool=false"));
        assert!(!expanded.contains("#[get"), "the attributes are taken away");
    }

    #[test]
    fn invalid_handlers_are_reported() {
        for (functions, words) in [
            (
                quote!(
                    fn helper(&self) {}
                ),
                "no function of this block",
            ),
            (
                quote!(
                    #[get("a")]
                    fn f(&self) {}
                ),
                "begins with `/`",
            ),
            (
                quote!(
                    #[get("/a{b}")]
                    fn f(&self) {}
                ),
                "a whole segment",
            ),
            (
                quote!(
                    #[get("/a?b")]
                    fn f(&self) {}
                ),
                "before the query",
            ),
            (
                quote!(
                    #[get("/{*a}/b")]
                    fn f(&self) {}
                ),
                "is the last",
            ),
            (
                quote!(
                    #[get("/{a}/{a}")]
                    fn f(&self) {}
                ),
                "twice",
            ),
            (
                quote!(
                    #[get("/{}")]
                    fn f(&self) {}
                ),
                "a whole segment",
            ),
            (
                quote!(
                    #[get(a)]
                    fn f(&self) {}
                ),
                "expected string literal",
            ),
            (
                quote!(
                    #[get("/{a}")]
                    fn f(&self) {}
                    #[get("/{b}")]
                    fn g(&self) {}
                ),
                "same path and method",
            ),
            (
                quote!(
                    #[get("/{a}")]
                    fn f(&self) {}
                    #[put("/{b}")]
                    fn g(&self) {}
                ),
                "the same names",
            ),
            (
                quote!(
                    #[get("/{a}")]
                    #[get("/")]
                    fn f(&self, a: u8) {}
                ),
                "not all paths",
            ),
            (
                quote!(
                    #[get]
                    fn f(&self, a: &str) {}
                ),
                "of references",
            ),
            (
                quote!(
                    #[get]
                    fn f(&self, from: Responder) -> u8 {}
                ),
                "returns nothing",
            ),
            (
                quote!(
                    #[get]
                    fn f<T>(&self, t: T) {}
                ),
                "cannot be generic",
            ),
        ] {
            let mistake = mistake(functions.clone());
            assert!(mistake.contains(words), "{functions}: {mistake}");
        }
        let error = expand(quote!("/a"), quote!(impl Thing {})).unwrap_err();
        assert!(error.to_string().contains("takes no arguments"));
        let error = expand(quote!(), quote!(impl Actor for Thing {})).unwrap_err();
        assert!(error.to_string().contains("without a trait"));
    }
}
