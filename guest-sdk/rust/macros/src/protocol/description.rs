//! The description of a protocol in the section of its module, for clients that ask a node what a
//! process understands: `guest-sdk/abi.md`, section 2.

use quote::quote;
use syn::{Attribute, Expr, Lit, Meta, Type};

use super::function::Function;

/// Describes the functions: a line of JSON for each.
pub(super) fn described(functions: &[Function]) -> String {
    functions.iter().map(line).collect()
}

/// Returns the description of a function as a line of JSON.
fn line(function: &Function) -> String {
    let name = function.name.to_string();
    let parameters: Vec<String> = (function.fields.iter())
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
        json(&function.variant.to_string()),
        parameters.join(",")
    );
    if let Some(reply) = function.reply() {
        line += &format!(",\"reply\":{}", json(&written(reply)));
    }
    let docs: Vec<String> = function.docs.iter().filter_map(text_of).collect();
    if !docs.is_empty() {
        line += &format!(",\"docs\":{}", json(docs.join("\n").trim()));
    }
    line + "}\n"
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
pub(crate) fn written(ty: &Type) -> String {
    let text = quote!(#ty).to_string();
    let spaced = [
        " :: ", " < ", " <", "< ", " >", " ,", "( ", " )", "[ ", " ]", " ;",
    ];
    spaced
        .iter()
        .fold(text, |text, with| text.replace(with, with.trim()))
}
