//! What browsers want of responses: whether pages of other origins may read them (CORS, as the Fetch standard says), and
//! headers that all of them have, such as `x-content-type-options`.
//!
//! Not the layers of `tower-http`: that for CORS answers every request with `OPTIONS` itself, and those of apps are theirs.

use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::answer::Answer;
use crate::settings::Listen;

/// Which pages of other origins may make requests, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins of the pages: `https://example.com`, or `*`.
    pub origins: Vec<String>,
    /// The methods that they may use.
    pub methods: Vec<String>,
    /// The headers that their requests may have, or `*`.
    pub headers: Vec<String>,
    /// The headers of responses that they may read.
    pub expose: Vec<String>,
    /// Whether requests may have cookies. Not with the origin `*`.
    pub credentials: bool,
    /// How long a browser need not ask again.
    pub max_age: Duration,
}

/// Makes headers of names and values. What is no header is left out.
pub fn response_headers(headers: &[(String, String)]) -> HeaderMap {
    let headers = headers.iter().filter_map(|(name, value)| {
        let name: HeaderName = name.parse().ok()?;
        Some((name, value.parse().ok()?))
    });
    headers.collect()
}

/// Answers what a browser asks before it makes a request for a page. `None`: this is something else.
pub(crate) fn preflight<B>(listen: &Listen, request: &Request<B>) -> Option<Answer> {
    let mut response = listen.cors.as_ref()?.preflight(request)?;
    add(&listen.response_headers, response.headers_mut());
    Some(response)
}

/// Adds the headers that all responses of an address have, to one for a request of this origin.
pub(crate) fn finish(listen: &Listen, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(cors) = &listen.cors {
        cors.allow(origin, headers);
    }
    add(&listen.response_headers, headers);
}

/// Adds the headers of a route to the file that it serves. Not to an error: how long a file may be kept does not hold for it.
pub(crate) fn of_file(headers: &HeaderMap, mut response: Answer) -> Answer {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        add(headers, response.headers_mut());
    }
    response
}

/// Adds headers, except those that are there. `vary` is a list, to which CORS adds as well.
fn add(more: &HeaderMap, headers: &mut HeaderMap) {
    for (name, value) in more {
        if name == VARY {
            headers.append(name, value.clone());
        } else if !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
}

impl Cors {
    /// Answers what a browser asks before it makes a request for a page: whether it may. `None`: this is something else.
    fn preflight<B>(&self, request: &Request<B>) -> Option<Answer> {
        let asked = request.headers();
        let origin = asked.get(ORIGIN)?;
        if request.method() != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.append(VARY, ACCESS_CONTROL_REQUEST_HEADERS.into());
        // Without these headers the browser makes no request.
        if self.allow(Some(origin), headers) {
            let list = |all: &[String]| HeaderValue::from_str(&all.join(", ")).ok();
            let wanted = match self.headers.iter().any(|name| name == "*") {
                true => asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
                false => list(&self.headers),
            };
            for (name, value) in [
                (ACCESS_CONTROL_ALLOW_METHODS, list(&self.methods)),
                (ACCESS_CONTROL_ALLOW_HEADERS, wanted),
                (ACCESS_CONTROL_MAX_AGE, Some(self.max_age.as_secs().into())),
            ] {
                if let Some(value) = value {
                    headers.insert(name, value);
                }
            }
            // It is about what a page may read, and nothing is read of this.
            headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        }
        Some(response)
    }

    /// Adds what lets the pages of an origin read a response, if they may. Returns whether they may. What an app has set
    /// itself stays.
    fn allow(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
        let is_any = self.origins.iter().any(|known| known == "*");
        if !is_any {
            // A cache must not give it to pages of another origin.
            headers.append(VARY, ORIGIN.into());
        }
        let is_listed = |origin: &HeaderValue| {
            let mut known = self.origins.iter();
            known.any(|known| known.as_bytes() == origin.as_bytes())
        };
        let allowed = match origin {
            // Also without an origin: a cache may give it to pages.
            _ if is_any => HeaderValue::from_static("*"),
            Some(origin) if is_listed(origin) => origin.clone(),
            _ => return false,
        };
        let is_own = headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers
            .entry(ACCESS_CONTROL_ALLOW_ORIGIN)
            .or_insert(allowed);
        // Whom an app has let in itself is not let in with cookies.
        if self.credentials && !is_any && !is_own {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let (false, Ok(exposed)) = (
            self.expose.is_empty(),
            HeaderValue::from_str(&self.expose.join(", ")),
        ) {
            headers
                .entry(ACCESS_CONTROL_EXPOSE_HEADERS)
                .or_insert(exposed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Cors {
            origins: texts(origins),
            methods: texts(&["GET", "PUT"]),
            headers: texts(&["content-type", "x-token"]),
            expose: texts(&["x-total"]),
            credentials: false,
            max_age: Duration::from_secs(90),
        }
    }

    fn preflight(cors: &Cors, headers: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::OPTIONS;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let response = cors.preflight(&request)?;
        assert_eq!(response.status(), 204);
        Some(lines(response.headers()))
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let headers = headers.iter();
        let mut lines: Vec<_> = headers
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_browser_asks_whether_it_may() {
        let asks = |origin| {
            [
                ("origin", origin),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "x-other"),
            ]
        };
        let one = cors(&["https://a.com"]);
        let vary = ["vary: access-control-request-headers", "vary: origin"];
        let mut allowed = vec![
            "access-control-allow-headers: content-type, x-token",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-origin: https://a.com",
            "access-control-max-age: 90",
        ];
        allowed.extend(vary);
        assert_eq!(preflight(&one, &asks("https://a.com")).unwrap(), allowed);
        for other in [
            "https://b.com",
            "https://a.com.evil",
            "http://a.com",
            "null",
        ] {
            assert_eq!(preflight(&one, &asks(other)).unwrap(), vary, "{other}");
        }
        let mut any = cors(&["*"]);
        any.headers = vec!["*".to_owned()];
        let allowed = [
            "access-control-allow-headers: x-other",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-origin: *",
            "access-control-max-age: 90",
            "vary: access-control-request-headers",
        ];
        assert_eq!(preflight(&any, &asks("https://b.com")).unwrap(), allowed);
        let mut with_cookies = one;
        with_cookies.credentials = true;
        let asked = preflight(&with_cookies, &asks("https://a.com")).unwrap();
        assert!(asked.contains(&"access-control-allow-credentials: true".to_owned()));
        // An app has requests with this method too.
        assert_eq!(preflight(&any, &[("origin", "https://a.com")]), None);
        assert_eq!(
            preflight(&any, &[("access-control-request-method", "PUT")]),
            None
        );
    }

    #[test]
    fn what_an_app_has_set_stays() {
        let mut cors = cors(&["https://a.com"]);
        cors.credentials = true;
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCESS_CONTROL_ALLOW_ORIGIN,
            "https://own.com".parse().unwrap(),
        );
        headers.insert(VARY, "accept".parse().unwrap());
        assert!(cors.allow(Some(&"https://a.com".parse().unwrap()), &mut headers));
        let expected = [
            "access-control-allow-origin: https://own.com",
            "access-control-expose-headers: x-total",
            "vary: accept",
            "vary: origin",
        ];
        assert_eq!(lines(&headers), expected);
        let mut headers = HeaderMap::new();
        assert!(!cors.allow(None, &mut headers), "not of a page");
        assert_eq!(lines(&headers), ["vary: origin"]);
    }

    #[test]
    fn what_is_for_all_origins_may_be_cached() {
        let mut headers = HeaderMap::new();
        assert!(cors(&["*"]).allow(None, &mut headers));
        let expected = [
            "access-control-allow-origin: *",
            "access-control-expose-headers: x-total",
        ];
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn headers_are_added_that_are_not_there() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let more = response_headers(&[pair("vary", "accept"), pair("x-a", "more")]);
        let mut headers = response_headers(&[pair("vary", "origin"), pair("x-a", "own")]);
        add(&more, &mut headers);
        assert_eq!(
            lines(&headers),
            ["vary: accept", "vary: origin", "x-a: own"]
        );
    }
}
