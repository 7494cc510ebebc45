//! The derive `Layout`: one number from a type's names, offsets and field types.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Data, DataEnum, DataStruct, DeriveInput, Error, Fields, GenericParam, Generics, Index, Member,
    parse_quote,
};

pub(crate) fn expand(item: TokenStream) -> syn::Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let hash = match &item.data {
        Data::Struct(data) => structure(&item, data),
        Data::Enum(data) => enumeration(&item, data),
        Data::Union(union) => {
            return Err(Error::new_spanned(
                union.union_token,
                "a union does not show what it holds, so it has no fingerprint",
            ));
        }
    };
    let name = &item.ident;
    let generics = bounded(item.generics.clone());
    let (implementation, parameters, condition) = generics.split_for_impl();
    Ok(quote! {
        impl #implementation ::exuvia::Layout for #name #parameters #condition {
            const HASH: u64 = #hash.finish();
        }
    })
}

fn bounded(mut generics: Generics) -> Generics {
    for parameter in &mut generics.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.bounds.push(parse_quote!(::exuvia::Layout));
        }
    }
    generics
}

fn structure(item: &DeriveInput, data: &DataStruct) -> TokenStream {
    let name = item.ident.to_string();
    let fields = data
        .fields
        .iter()
        .zip(members(&data.fields))
        .map(|(field, member)| {
            let field_name = text(&member);
            let field_type = &field.ty;
            quote! {
                .text(#field_name)
                .number(::core::mem::offset_of!(Self, #member) as u64)
                .number(<#field_type as ::exuvia::Layout>::HASH)
            }
        });
    quote! {
        ::exuvia::layout::Hash::new("struct").text(#name).size_of::<Self>() #(#fields)*
    }
}

/// Hashes an enum. The offsets inside a variant cannot be queried. They follow from the field
/// types, their order, the size and the compiler's version, which are all part of the hash.
fn enumeration(item: &DeriveInput, data: &DataEnum) -> TokenStream {
    let name = item.ident.to_string();
    let variants =
        data.variants.iter().map(|variant| {
            let variant_name = variant.ident.to_string();
            // The value, not its source text, which may name a constant.
            let discriminant = variant.discriminant.as_ref().map(|(_, value)| {
                quote! { .text("=").number((#value) as i128 as u64) }
            });
            let fields = variant.fields.iter().zip(members(&variant.fields)).map(
                |(field, member)| {
                    let field_name = text(&member);
                    let field_type = &field.ty;
                    quote! { .text(#field_name).number(<#field_type as ::exuvia::Layout>::HASH) }
                },
            );
            let count = variant.fields.len() as u64;
            quote! { .text(#variant_name) #discriminant .number(#count) #(#fields)* }
        });
    quote! {
        ::exuvia::layout::Hash::new("enum").text(#name).size_of::<Self>() #(#variants)*
    }
}

fn members(fields: &Fields) -> impl Iterator<Item = Member> + '_ {
    fields
        .iter()
        .enumerate()
        .map(|(index, field)| match &field.ident {
            Some(name) => Member::Named(name.clone()),
            None => Member::Unnamed(Index {
                // No structure has four billion fields.
                index: u32::try_from(index).unwrap_or(u32::MAX),
                span: Span::call_site(),
            }),
        })
}

fn text(member: &Member) -> String {
    match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::expand;
    use quote::quote;

    #[test]
    fn fields_are_named_with_offset_and_type() {
        let expanded = expand(quote!(
            struct Point {
                x: u64,
            }
        ))
        .unwrap()
        .to_string();
        assert!(expanded.contains("text (\"x\")"));
        assert!(expanded.contains("offset_of ! (Self , x)"));
        assert!(expanded.contains("< u64 as :: exuvia :: Layout > :: HASH"));
    }

    #[test]
    fn a_union_is_rejected() {
        assert!(expand(quote!(union Either { a: u8, b: u16 })).is_err());
    }
}
