//! What `#[exuvia::http]` expands to uses this: it finds the handler of a request.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::{Request, Responder, Response};
use crate::Context;

/// The handlers of an actor. One of the two functions is implemented.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers of HTTP",
    note = "write `#[exuvia::http]` over an `impl {Self}` with functions that have `#[get(\"/path\")]` and the like, or leave out `http` of `#[exuvia::actor]`"
)]
pub trait Handlers {
    /// Whether any of them is `async`.
    const ASYNC: bool;

    fn handle(&mut self, request: Request, from: Responder, cx: &mut Context) -> Option<Response> {
        let _ = (request, from, cx);
        None
    }

    fn handle_async(
        &mut self,
        request: Request,
        from: Responder,
        cx: &mut Context,
    ) -> impl Future<Output = Option<Response>> {
        let _ = (request, from, cx);
        std::future::ready(None)
    }
}

/// The paths of an actor, the most exact first.
#[doc(hidden)]
pub type Paths = [Place];

/// A path of an actor.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place {
    /// `None`: any path.
    pub pattern: Option<&'static str>,
    /// Its methods, with the numbers of their handlers.
    pub methods: &'static [(&'static str, usize)],
    /// The same as text: what `Allow` says.
    pub allowed: &'static str,
}

/// Returns the number of the handler, and adds the parameters of its path to the request. The most exact path wins, as among the
/// routes of a manifest, whatever its methods are.
#[doc(hidden)]
pub fn find(request: &mut Request, paths: &Paths) -> Result<usize, Response> {
    for place in paths {
        let fits = |pattern| matched(pattern, &request.path);
        let Some(parameters) = place.pattern.map_or(Some(Vec::new()), fits) else {
            continue;
        };
        let mut methods = place.methods.iter();
        let Some((_, handler)) = methods.find(|(method, _)| *method == request.method) else {
            let (method, allowed) = (&request.method, place.allowed);
            let why = format!("there is no {method} here, only {allowed}");
            return Err(Response::error(405, why).header("allow", allowed));
        };
        let mut decoded = Vec::with_capacity(parameters.len());
        for (name, value) in parameters {
            match percent_decode_str(value).decode_utf8() {
                Ok(value) => decoded.push((name.to_owned(), value.into_owned())),
                Err(_) => {
                    let why = format!("`{name}` of the path is not UTF-8");
                    return Err(Response::error(400, why));
                }
            }
        }
        request.params.extend(decoded);
        return Ok(*handler);
    }
    Err(Response::error(404, "no handler has this path"))
}

/// Returns the parameters of a path, as they were sent, if it fits: `{name}` is one segment, `{*name}` the rest, and neither is
/// empty.
fn matched<'a>(pattern: &'static str, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut parameters = Vec::new();
    let mut rest = Some(path);
    for wanted in pattern.split('/') {
        let all = rest?;
        let name = wanted
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        if let Some(name) = name.and_then(|name| name.strip_prefix('*')) {
            parameters.push((name, all));
            return (!all.is_empty()).then_some(parameters);
        }
        let (segment, after) = match all.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (all, None),
        };
        rest = after;
        match name {
            Some(name) if !segment.is_empty() => parameters.push((name, segment)),
            None if segment == wanted => {}
            _ => return None,
        }
    }
    rest.is_none().then_some(parameters)
}

/// Reads a header, which must be there.
#[doc(hidden)]
pub fn header<T: FromStr<Err: fmt::Display>>(request: &Request, name: &str) -> Result<T, Response> {
    header_if_any(request, name)?
        .ok_or_else(|| Response::error(400, format!("there is no header `{name}`")))
}

/// Reads a header, if there is one. One that is no text is not taken for none.
#[doc(hidden)]
pub fn header_if_any<T: FromStr<Err: fmt::Display>>(
    request: &Request,
    name: &str,
) -> Result<Option<T>, Response> {
    let is_it = |(known, _): &(&str, &[u8])| known.eq_ignore_ascii_case(name);
    let Some((_, value)) = request.headers().find(is_it) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value);
    let text = text.map_err(|_| format!("the header `{name}` is no text"));
    let value = text.and_then(|text| {
        let value = text.parse();
        value.map_err(|error| format!("the header `{name}`: {error}"))
    });
    value.map(Some).map_err(|why| Response::error(400, why))
}

#[cfg(test)]
mod tests {
    use super::matched;

    #[test]
    fn a_path_fits_a_pattern_segment_by_segment() {
        for (pattern, path, parameters) in [
            ("/", "/", Some(vec![])),
            ("/", "/a", None),
            ("/a", "/a", Some(vec![])),
            ("/a", "/a/", None),
            ("/a/", "/a", None),
            ("/a/{b}", "/a/7", Some(vec![("b", "7")])),
            ("/a/{b}", "/a/", None),
            ("/a/{b}", "/a/7/c", None),
            ("/a/{b}/c", "/a/7%2F8/c", Some(vec![("b", "7%2F8")])),
            (
                "/{a}/{*rest}",
                "/x/y/z",
                Some(vec![("a", "x"), ("rest", "y/z")]),
            ),
            ("/{a}/{*rest}", "/x/", None),
            ("/{a}/{*rest}", "/x", None),
            ("/a", "", None),
        ] {
            assert_eq!(matched(pattern, path), parameters, "{pattern} {path}");
        }
    }
}
