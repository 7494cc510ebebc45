//! A function of a protocol's trait, as it is read, and as a variant of an enum.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, Pat, PathArguments, ReceiverKind, ReturnType,
    TraitItemFn, Type,
};

/// A function of the trait.
pub(super) struct Function {
    pub(super) name: Ident,
    pub(super) variant: Ident,
    pub(super) docs: Vec<Attribute>,
    pub(super) waits: bool,
    /// The parameters that are sent in the message.
    pub(super) fields: Vec<(Ident, Type)>,
    /// The arguments of the call, in order.
    pub(super) arguments: Vec<TokenStream>,
    pub(super) answer: Answer,
}

/// How a function is answered.
pub(super) enum Answer {
    /// It is sent, and no reply is expected.
    None,
    /// It returns the reply.
    Now(Type),
    /// It receives its caller and replies later.
    Later(Type),
}

impl Function {
    pub(super) fn reply(&self) -> Option<&Type> {
        match &self.answer {
            Answer::None => None,
            Answer::Now(reply) | Answer::Later(reply) => Some(reply),
        }
    }

    pub(super) fn names(&self) -> Vec<&Ident> {
        self.fields.iter().map(|(name, _)| name).collect()
    }

    pub(super) fn types(&self) -> Vec<&Type> {
        self.fields.iter().map(|(_, ty)| ty).collect()
    }

    /// Returns the variant as a pattern or a value.
    pub(super) fn named(&self) -> TokenStream {
        let (variant, names) = (&self.variant, self.names());
        if names.is_empty() {
            quote!(#variant)
        } else {
            quote!(#variant { #(#names),* })
        }
    }

    pub(super) fn declared(&self) -> TokenStream {
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

pub(super) fn read(function: &TraitItemFn) -> syn::Result<Function> {
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
