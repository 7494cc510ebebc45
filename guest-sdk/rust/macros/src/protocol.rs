//! The attribute `protocol`: generates messages and a client from the functions of a trait.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, Expr, FnArg, GenericArgument, Ident, ItemTrait, Lit, Meta, Pat,
    PathArguments, ReceiverKind, ReturnType, TraitItem, TraitItemFn, Type, parse_quote,
};

/// A function of the trait.
struct Function {
    name: Ident,
    variant: Ident,
    docs: Vec<Attribute>,
    waits: bool,
    /// The parameters that are sent in the message.
    fields: Vec<(Ident, Type)>,
    /// The arguments of the call, in order.
    arguments: Vec<TokenStream>,
    answer: Answer,
}

/// How a function is answered.
enum Answer {
    /// It is sent, and no reply is expected.
    None,
    /// It returns the reply.
    Now(Type),
    /// It receives its caller and replies later.
    Later(Type),
}

impl Function {
    fn reply(&self) -> Option<&Type> {
        match &self.answer {
            Answer::None => None,
            Answer::Now(reply) | Answer::Later(reply) => Some(reply),
        }
    }

    fn names(&self) -> Vec<&Ident> {
        self.fields.iter().map(|(name, _)| name).collect()
    }

    /// Returns the description of the function as a line of JSON.
    fn described(&self) -> String {
        let name = self.name.to_string();
        let parameters: Vec<String> = (self.fields.iter())
            .map(|(name, ty)| {
                let name = name.to_string();
                let name = name.trim_start_matches("r#");
                format!(
                    "{{\"name\":{},\"type\":{}}}",
                    json(name),
                    json(&written(ty))
                )
            })
            .collect();
        let mut line = format!(
            "{{\"name\":{},\"message\":{},\"parameters\":[{}]",
            json(name.trim_start_matches("r#")),
            json(&self.variant.to_string()),
            parameters.join(",")
        );
        if let Some(reply) = self.reply() {
            line += &format!(",\"reply\":{}", json(&written(reply)));
        }
        let docs: Vec<String> = self.docs.iter().filter_map(text_of).collect();
        if !docs.is_empty() {
            line += &format!(",\"docs\":{}", json(docs.join("\n").trim()));
        }
        line + "}\n"
    }

    fn types(&self) -> Vec<&Type> {
        self.fields.iter().map(|(_, ty)| ty).collect()
    }

    /// Returns the variant as a pattern or a value.
    fn named(&self) -> TokenStream {
        let (variant, names) = (&self.variant, self.names());
        if names.is_empty() {
            quote!(#variant)
        } else {
            quote!(#variant { #(#names),* })
        }
    }

    fn declared(&self) -> TokenStream {
        let variant = &self.variant;
        let said = format!("`{}`.", self.name);
        let docs = match self.docs.as_slice() {
            [] => quote!(#[doc = #said]),
            docs => quote!(#(#docs)*),
        };
        let (names, types) = (self.names(), self.types());
        if names.is_empty() {
            quote!(#docs #variant)
        } else {
            let about = names
                .iter()
                .map(|name| format!("`{name}` of the function."));
            quote!(#docs #variant { #(#[doc = #about] #names: #types),* })
        }
    }
}

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

fn read(function: &TraitItemFn) -> syn::Result<Function> {
    let signature = &function.sig;
    let wrong = |what: &dyn quote::ToTokens, why: &str| Err(Error::new_spanned(what, why));
    if function.default.is_some() {
        return wrong(signature, "a protocol's function has no body: actors have");
    }
    if !signature.generics.params.is_empty() {
        return wrong(&signature.generics, "a message cannot be generic");
    }
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(receiver)) if matches!(receiver.kind, ReceiverKind::Reference(..)) => {
        }
        _ => {
            return wrong(
                signature,
                "the first parameter must be `&mut self` or `&self`",
            );
        }
    }
    let mut function = Function {
        name: signature.ident.clone(),
        variant: variant(&signature.ident),
        docs: (function.attrs.iter())
            .filter(|attribute| attribute.path().is_ident("doc"))
            .cloned()
            .collect(),
        waits: signature.asyncness.is_some(),
        fields: Vec::new(),
        arguments: Vec::new(),
        answer: match &signature.output {
            ReturnType::Default => Answer::None,
            ReturnType::Type(_, reply) => Answer::Now((**reply).clone()),
        },
    };
    for input in inputs {
        let FnArg::Typed(input) = input else {
            return wrong(signature, "only the first parameter can be `self`");
        };
        let Pat::Ident(name) = &*input.pat else {
            return wrong(&input.pat, "a parameter must have a plain name");
        };
        match &*input.ty {
            Type::Reference(reference) if is(&reference.elem, "Context") => {
                function.arguments.push(quote!(cx));
            }
            Type::Reference(_) => {
                return wrong(&input.ty, "what is sent is owned: take it by value");
            }
            ty => match answered(ty) {
                Some(reply) => {
                    if matches!(function.answer, Answer::Now(_)) {
                        return wrong(
                            ty,
                            "a function that gets its caller returns nothing: it replies to that",
                        );
                    }
                    function.answer = Answer::Later(reply);
                    function
                        .arguments
                        .push(quote!(::exuvia::Caller::new(from.pid, from.reference)));
                }
                None => {
                    let name = &name.ident;
                    function.fields.push((name.clone(), ty.clone()));
                    function.arguments.push(quote!(#name));
                }
            },
        }
    }
    Ok(function)
}

/// Returns whether the type has this name.
fn is(ty: &Type, name: &str) -> bool {
    let Type::Path(path) = ty else { return false };
    let last = path.path.segments.last();
    last.is_some_and(|last| last.ident == name)
}

/// Returns `R` of `Caller<R>`.
fn answered(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Caller" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(reply) => Some(reply.clone()),
        _ => None,
    }
}

/// Returns the text of a documentation line.
fn text_of(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else {
        return None;
    };
    match &meta.value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// Converts a function's name to a variant's, `set_limit` to `SetLimit`.
fn variant(name: &Ident) -> Ident {
    let text = name.to_string();
    let words = text.trim_start_matches("r#").split('_');
    let camel: String = words
        .filter_map(|word| {
            let mut letters = word.chars();
            let first = letters.next()?;
            Some(first.to_uppercase().chain(letters).collect::<String>())
        })
        .collect();
    Ident::new(&camel, name.span())
}

fn derives(deserialized: bool) -> TokenStream {
    let deserialize = deserialized.then(|| quote!(, ::exuvia::__serde::Deserialize));
    quote! {
        #[derive(Debug, ::exuvia::__serde::Serialize #deserialize)]
        #[serde(crate = "::exuvia::__serde")]
    }
}

/// Describes the functions for clients that query a node: a line of JSON for each, see
/// `guest-sdk/abi.md`, section 2.
fn described(functions: &[Function]) -> String {
    functions.iter().map(Function::described).collect()
}

/// Encodes a text as JSON.
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Formats a type as it is usually written.
fn written(ty: &Type) -> String {
    let text = quote!(#ty).to_string();
    let spaced = [
        " :: ", " < ", " <", "< ", " >", " ,", "( ", " )", "[ ", " ]", " ;",
    ];
    spaced
        .iter()
        .fold(text, |text, with| text.replace(with, with.trim()))
}

/// Generates the enum of the functions without a reply.
fn enumeration(item: &ItemTrait, functions: &[Function]) -> TokenStream {
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
fn request_enumerations(item: &ItemTrait, functions: &[Function]) -> TokenStream {
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
    let about_reply = format!("What [`{protocol}`] answers: in a message only what is inside.");
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

/// Generates the client.
fn client(item: &ItemTrait, messages: &[Function], requests: &[Function]) -> TokenStream {
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
            format!("[`{client}::{name}`] after a delay; answers the timer's reference.");
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
        let about = format!("Asks `{name}` and waits for the answer, with this client's timeout.");
        let about_request = format!(
            "Asks `{name}` and goes on. Await the answer in an `async` handler, or keep it."
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
