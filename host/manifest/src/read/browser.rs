//! What `[[listen]]` says to browsers: `cors`, and `response_headers`.

use std::time::Duration;

use exuvia_abi::io::HEADERS_OF_THE_HOST;
use toml::de::DeValue;

use super::listen::{methods, origins};
use super::table::{At, Table, wrong_type};
use crate::error::{Found, Problems};
use crate::listen::Cors;

/// How long a browser need not ask again, unless `max_age` says otherwise.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The methods, unless `methods` says otherwise: those that change what is at a path, and those that read it.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// The headers, unless `headers` says otherwise: without it, a page cannot send JSON.
const HEADERS: [&str; 1] = ["content-type"];

/// Headers that the node sets itself beside [`HEADERS_OF_THE_HOST`], which a process may not set either: what a response says
/// of its trailers, and those of the handshake of a WebSocket.
const OF_THE_NODE: [&str; 4] = [
    "trailer",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
];

/// Reads which pages of other origins may make requests.
pub(super) fn cors(table: &Table<'_, '_>, problems: &mut Problems) -> Option<Cors> {
    let cors = table.table("cors", || "`cors`".to_owned(), problems)?;
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    if cors.key_span("origins").is_none() {
        let message = "`origins` is missing in `cors`".to_owned();
        let help =
            "write whose pages may make requests:  cors = { origins = [\"https://example.com\"] }";
        problems.add(Found::at(cors.span.clone(), message).help(help.to_owned()));
    }
    let origins = origins(&cors, problems);
    let credentials = (cors.boolean("credentials", problems)).unwrap_or_default();
    let is_any = |all: &[String]| all.iter().any(|one| one == "*");
    if credentials && is_any(&origins) {
        let span = cors.key_span("credentials").unwrap_or(cors.span.clone());
        let message = "`credentials` are not for all origins".to_owned();
        let help = "any page could act as whoever looks at it: name the origins instead of `*`";
        problems.add(Found::at(span, message).help(help.to_owned()));
    }
    let expose = names(&cors, "expose", problems);
    if credentials && is_any(&expose) {
        let span = cors.key_span("expose").unwrap_or(cors.span.clone());
        let message = "`expose = [\"*\"]` has no effect with `credentials`".to_owned();
        let help = "browsers take `*` for a name then: write the names of the headers".to_owned();
        problems.add(Found::at(span, message).help(help));
    }
    let given = |key: &str| cors.key_span(key).is_some();
    let read = Cors {
        origins,
        methods: match given("methods") {
            true => methods(&cors, problems),
            false => texts(&METHODS),
        },
        headers: match given("headers") {
            true => names(&cors, "headers", problems),
            false => texts(&HEADERS),
        },
        expose,
        credentials,
        max_age: cors.duration("max_age", problems).unwrap_or(MAX_AGE),
    };
    cors.finish(problems);
    Some(read)
}

/// Reads the names of headers, or `*`.
fn names(table: &Table<'_, '_>, key: &'static str, problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    for at in table.strings(key, problems).unwrap_or_default() {
        if at.value == "*" || is_name(&at, problems) {
            names.push(at.value.to_ascii_lowercase());
        }
    }
    names
}

/// Reads the headers of all responses.
pub(super) fn response_headers(
    table: &Table<'_, '_>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let Some(entries) = table.entries("response_headers", problems) else {
        return headers;
    };
    for (name, value) in entries {
        if !is_name(&name, problems) {
            continue;
        }
        let DeValue::String(text) = value.get_ref() else {
            problems.add(wrong_type(name.value, "a string", value));
            continue;
        };
        let name = At {
            value: name.value.to_ascii_lowercase(),
            span: name.span,
        };
        let known = name.value.as_str();
        if HEADERS_OF_THE_HOST.contains(&known) || OF_THE_NODE.contains(&known) {
            let message = format!("the node sets `{}` itself", name.value);
            problems.add(Found::at(name.span, message));
            continue;
        }
        if headers.iter().any(|(known, _)| *known == name.value) {
            let message = format!(
                "`{}` is there twice: names are the same in any case",
                name.value
            );
            problems.add(Found::at(name.span, message));
            continue;
        }
        // What a header may contain (RFC 9110, section 5.5), without bytes whose meaning is not the same everywhere.
        let is_plain = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if text.trim() != text || !text.bytes().all(is_plain) {
            let message = format!("the value of `{}` is not one of a header", name.value);
            let help = "it is one line of printable ASCII, without spaces around it".to_owned();
            problems.add(Found::at(value.span(), message).help(help));
            continue;
        }
        headers.push((name.value, text.to_string()));
    }
    headers
}

/// Returns whether this is the name of a header (a token of RFC 9110, section 5.6.2), and reports it otherwise.
fn is_name(name: &At<&str>, problems: &mut Problems) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.value.is_empty() && name.value.bytes().all(is_of_token);
    if !is_name {
        let message = format!("`{}` is not the name of a header", name.value);
        problems.add(Found::at(name.span.clone(), message));
    }
    is_name
}
