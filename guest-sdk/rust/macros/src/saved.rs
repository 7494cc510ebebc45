//! The derive `Saved`: how serde saves a type, in the words of the section `exuvia.state`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Error, Fields, GenericParam, Generics, LitStr, Type,
    parse_quote,
};

use crate::protocol::written;

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let container = Container::read(&item.attrs)?;
    let text = match &item.data {
        Data::Struct(data) => structure(&container, &data.fields)?,
        Data::Enum(data) => enumeration(&container, data)?,
        Data::Union(union) => {
            return Err(Error::new_spanned(
                union.union_token,
                "serde saves no union",
            ));
        }
    };
    let name = &item.ident;
    let generics = bounded(item.generics.clone());
    let (implementation, parameters, condition) = generics.split_for_impl();
    Ok(quote! {
        impl #implementation ::exuvia::Saved for #name #parameters #condition {
            const TYPE: ::exuvia::saved::TypeText = {
                use ::exuvia::saved::Foreign as _;
                #text
            };
        }
    })
}

fn bounded(mut generics: Generics) -> Generics {
    for parameter in &mut generics.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.bounds.push(parse_quote!(::exuvia::Saved));
        }
    }
    generics
}

fn structure(container: &Container, fields: &Fields) -> syn::Result<TokenStream> {
    if container.transparent {
        let mut fields = read_fields(container, fields)?;
        if fields.len() == 1 {
            return Ok(fields.remove(0).text);
        }
    }
    content(container, fields)
        .map(|text| text.unwrap_or_else(|| quote!(::exuvia::saved::TypeText::new("nil"))))
}

fn enumeration(container: &Container, data: &DataEnum) -> syn::Result<TokenStream> {
    let mut text = quote!(::exuvia::saved::TypeText::new("Enum<"));
    for variant in &data.variants {
        let own = Named::read(&variant.attrs)?;
        if own.skipped {
            continue;
        }
        let names = own.names(&variant.ident.to_string(), |name| {
            container.rules.variant(name)
        })?;
        let inner = Container::read_rules(&variant.attrs)?;
        text = match content(&inner, &variant.fields)? {
            None => quote!(#text.next(#names)),
            Some(content) => {
                let begin = format!("{names}: ");
                quote!(#text.next(#begin).add(#content))
            }
        };
    }
    Ok(quote!(#text.text(">")))
}

/// What a struct or a variant is saved as: a record, a tuple, the only value in it; `None`: nothing.
fn content(container: &Container, fields: &Fields) -> syn::Result<Option<TokenStream>> {
    let read = read_fields(container, fields)?;
    Ok(match fields {
        Fields::Unit => None,
        Fields::Unnamed(all) if all.unnamed.len() == 1 => {
            read.into_iter().next().map(|field| field.text)
        }
        Fields::Unnamed(_) => Some(joined("Tuple<", ">", &read)),
        Fields::Named(_) => Some(joined("{", "}", &read)),
    })
}

fn joined(begin: &str, end: &str, fields: &[Field]) -> TokenStream {
    let mut text = quote!(::exuvia::saved::TypeText::new(#begin));
    for Field {
        names,
        text: ty,
        is_flat,
    } in fields
    {
        text = match is_flat {
            true => quote!(#text.flat(#ty)),
            false => quote!(#text.next(#names).add(#ty)),
        };
    }
    quote!(#text.text(#end))
}

struct Field {
    /// Its names, up to its type; empty in a tuple.
    names: String,
    text: TokenStream,
    /// Whether its fields become those of the whole.
    is_flat: bool,
}

fn read_fields(container: &Container, fields: &Fields) -> syn::Result<Vec<Field>> {
    let mut found = Vec::new();
    for field in fields {
        let own = Named::read(&field.attrs)?;
        if own.skipped {
            continue;
        }
        let names = match &field.ident {
            None => String::new(),
            Some(name) => {
                let names = own.names(&name.to_string(), |name| container.rules.field(name))?;
                let missing = if own.default || container.default {
                    "?"
                } else {
                    ""
                };
                format!("{names}{missing}: ")
            }
        };
        found.push(Field {
            names,
            text: asked(&field.ty, own.with.as_deref()),
            is_flat: own.is_flat,
        });
    }
    Ok(found)
}

/// Asks a type for its description; by functions of one's own it is saved as nobody knows.
fn asked(ty: &Type, with: Option<&str>) -> TokenStream {
    let name = written(ty);
    let name = match with {
        None => name,
        Some(with) => format!("{name} with {with}"),
    };
    let name: String = name
        .chars()
        .filter(|c| !matches!(c, '\'' | '"' | '\\'))
        .collect();
    let known = match with {
        None => quote!(<::exuvia::saved::Asked<#ty>>::TYPE),
        Some(_) => quote!(::core::option::Option::None),
    };
    quote!(::exuvia::saved::or_named(#known, #name))
}

/// The attributes of serde that say what a type is saved as.
#[derive(Default)]
struct Container {
    rules: Rules,
    default: bool,
    transparent: bool,
}

/// How the names of fields and variants are changed.
#[derive(Default)]
struct Rules(Option<String>);

impl Container {
    fn read(attributes: &[Attribute]) -> syn::Result<Container> {
        let mut found = Container::default();
        each(attributes, |meta, name| {
            match name {
                "rename_all" => found.rules = Rules(Some(value(meta)?)),
                "default" => {
                    found.default = true;
                    skip_value(meta)?;
                }
                "transparent" => found.transparent = true,
                "rename" | "bound" | "crate" | "expecting" | "deny_unknown_fields" => {
                    skip_value(meta)?
                }
                _ => return Err(not_known(meta, name)),
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads those of a variant that concern its fields.
    fn read_rules(attributes: &[Attribute]) -> syn::Result<Container> {
        let mut found = Container::default();
        each(attributes, |meta, name| match name {
            "rename_all" => {
                found.rules = Rules(Some(value(meta)?));
                Ok(())
            }
            _ => skip_value(meta),
        })?;
        Ok(found)
    }
}

/// The attributes of serde of a field or a variant.
#[derive(Default)]
struct Named {
    saved_as: Option<String>,
    aliases: Vec<String>,
    default: bool,
    skipped: bool,
    with: Option<String>,
    is_flat: bool,
}

impl Named {
    fn read(attributes: &[Attribute]) -> syn::Result<Named> {
        let mut found = Named::default();
        each(attributes, |meta, name| {
            match name {
                "rename" if meta.input.peek(syn::token::Paren) => {
                    meta.parse_nested_meta(|inner| {
                        let name = value(&inner)?;
                        match inner.path.is_ident("serialize") {
                            true => found.saved_as = Some(name),
                            false => found.aliases.push(name),
                        }
                        Ok(())
                    })?;
                }
                "rename" => found.saved_as = Some(value(meta)?),
                "alias" => found.aliases.push(value(meta)?),
                "default" => {
                    found.default = true;
                    skip_value(meta)?;
                }
                "skip" | "skip_serializing" | "skip_deserializing" => found.skipped = true,
                "flatten" => found.is_flat = true,
                "with" | "serialize_with" | "deserialize_with" => found.with = Some(value(meta)?),
                "skip_serializing_if" | "bound" | "borrow" | "rename_all" => skip_value(meta)?,
                _ => return Err(not_known(meta, name)),
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns the name, and the others by which it is found: `total|count`.
    fn names(&self, ident: &str, rule: impl Fn(&str) -> String) -> syn::Result<String> {
        let ident = ident.trim_start_matches("r#");
        let name = (self.saved_as.clone()).unwrap_or_else(|| rule(ident));
        let mut names = vec![name];
        for alias in &self.aliases {
            if !names.contains(alias) {
                names.push(alias.clone());
            }
        }
        if let Some(name) = names
            .iter()
            .find(|name| name.contains(is_sign) || name.is_empty())
        {
            let message =
                format!("`Saved` cannot describe the name `{name}`: leave the derive out");
            return Err(Error::new(proc_macro2::Span::call_site(), message));
        }
        Ok(names.join("|"))
    }
}

/// What has a meaning in a description, or in the JSON around it.
fn is_sign(c: char) -> bool {
    matches!(
        c,
        '<' | '>' | ',' | ':' | '{' | '}' | '?' | '|' | '\'' | '"' | '\\'
    ) || c.is_control()
}

impl Rules {
    fn field(&self, name: &str) -> String {
        let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
        self.apply(name, &words)
    }

    fn variant(&self, name: &str) -> String {
        let mut words = Vec::new();
        let mut begin = 0;
        for (at, c) in name.char_indices().skip(1) {
            if c.is_uppercase() {
                words.push(&name[begin..at]);
                begin = at;
            }
        }
        words.push(&name[begin..]);
        self.apply(name, &words)
    }

    fn apply(&self, name: &str, words: &[&str]) -> String {
        let lower = || words.iter().map(|word| word.to_lowercase());
        let joined = |between: &str| lower().collect::<Vec<_>>().join(between);
        let capital = |word: String| {
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_uppercase().to_string());
            first.unwrap_or_default() + chars.as_str()
        };
        let Some(rule) = &self.0 else {
            return name.to_owned();
        };
        match rule.as_str() {
            "lowercase" => name.to_lowercase(),
            "UPPERCASE" => name.to_uppercase(),
            "PascalCase" => lower().map(capital).collect(),
            "camelCase" => {
                let (first, rest): (Vec<_>, Vec<_>) =
                    (lower().enumerate()).partition(|(at, _)| *at == 0);
                let first = first.into_iter().map(|(_, word)| word);
                first
                    .chain(rest.into_iter().map(|(_, word)| capital(word)))
                    .collect()
            }
            "snake_case" => joined("_"),
            "SCREAMING_SNAKE_CASE" => joined("_").to_uppercase(),
            "kebab-case" => joined("-"),
            "SCREAMING-KEBAB-CASE" => joined("-").to_uppercase(),
            _ => name.to_owned(),
        }
    }
}

/// Calls a function for each part of the attributes `serde`.
fn each(
    attributes: &[Attribute],
    mut part: impl FnMut(&ParseNestedMeta<'_>, &str) -> syn::Result<()>,
) -> syn::Result<()> {
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string);
            part(&meta, &name.unwrap_or_default())
        })?;
    }
    Ok(())
}

fn value(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// Reads over `= "..."` or `(...)`, if it is there.
fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(syn::Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        meta.parse_nested_meta(|inner| skip_value(&inner))?;
    }
    Ok(())
}

fn not_known(meta: &ParseNestedMeta<'_>, name: &str) -> Error {
    meta.error(format!(
        "`Saved` does not know what `{name}` makes of what is saved: leave the derive out of this type, which is then compared by its name"
    ))
}

#[cfg(test)]
mod tests {
    use super::{Rules, expand};
    use quote::quote;

    #[test]
    fn names_follow_the_rules_of_serde() {
        for (rule, field, variant) in [
            ("lowercase", "next_step", "nextstep"),
            ("UPPERCASE", "NEXT_STEP", "NEXTSTEP"),
            ("PascalCase", "NextStep", "NextStep"),
            ("camelCase", "nextStep", "nextStep"),
            ("snake_case", "next_step", "next_step"),
            ("SCREAMING_SNAKE_CASE", "NEXT_STEP", "NEXT_STEP"),
            ("kebab-case", "next-step", "next-step"),
            ("SCREAMING-KEBAB-CASE", "NEXT-STEP", "NEXT-STEP"),
        ] {
            let rules = Rules(Some(rule.to_owned()));
            assert_eq!(rules.field("next_step"), field, "{rule}");
            assert_eq!(rules.variant("NextStep"), variant, "{rule}");
        }
        assert_eq!(Rules(None).field("next_step"), "next_step");
    }

    #[test]
    fn what_it_does_not_know_is_an_error_with_a_way_out() {
        for item in [
            quote!(
                #[serde(tag = "kind")]
                enum Mode {
                    On,
                }
            ),
            quote!(
                #[serde(from = "u8")]
                struct Mode(u8);
            ),
            quote!(
                struct Mode {
                    #[serde(getter = "get")]
                    rest: u8,
                }
            ),
            quote!(
                struct Mode {
                    #[serde(rename = "a:b")]
                    rest: u8,
                }
            ),
        ] {
            let error = expand(item).unwrap_err().to_string();
            assert!(error.contains("leave the derive out"), "{error}");
        }
        assert!(expand(quote!(union Either { a: u8, b: u16 })).is_err());
    }
}
