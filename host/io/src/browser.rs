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

/// The headers that [`Cors`] makes, which are the same for all responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsHeaders {
    /// `None`: all.
    origins: Option<Vec<HeaderValue>>,
    methods: Option<HeaderValue>,
    /// `None`: those that are asked for.
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

impl From<Cors> for CorsHeaders {
    /// What is no header is left out.
    fn from(cors: Cors) -> CorsHeaders {
        let is_any = |all: &[String]| all.iter().any(|one| one == "*");
        let list = |all: &[String]| HeaderValue::from_str(&all.join(", ")).ok();
        let origins = cors.origins.iter().filter_map(|origin| origin.parse().ok());
        CorsHeaders {
            origins: (!is_any(&cors.origins)).then(|| origins.collect()),
            methods: list(&cors.methods),
            headers: match is_any(&cors.headers) {
                true => None,
                // Not all, if one is no header.
                false => Some(list(&cors.headers).unwrap_or(HeaderValue::from_static(""))),
            },
            expose: match cors.expose.is_empty() {
                true => None,
                false => list(&cors.expose),
            },
            credentials: cors.credentials,
            max_age: cors.max_age.as_secs().into(),
        }
    }
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

impl CorsHeaders {
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
            let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
            for (name, value) in [
                (ACCESS_CONTROL_ALLOW_METHODS, self.methods.as_ref()),
                (
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    self.headers.as_ref().or(asked),
                ),
                (ACCESS_CONTROL_MAX_AGE, Some(&self.max_age)),
            ] {
                if let Some(value) = value {
                    headers.insert(name, value.clone());
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
        let allowed = match &self.origins {
            // Also without an origin: a cache may give it to pages.
            None => HeaderValue::from_static("*"),
            Some(listed) => {
                // A cache must not give it to pages of another origin.
                headers.append(VARY, ORIGIN.into());
                match origin {
                    Some(origin) if listed.contains(origin) => origin.clone(),
                    _ => return false,
                }
            }
        };
        let is_own = headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers
            .entry(ACCESS_CONTROL_ALLOW_ORIGIN)
            .or_insert(allowed);
        // Whom an app has let in itself is not let in with cookies.
        if self.credentials && self.origins.is_some() && !is_own {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(exposed) = &self.expose {
            let entry = headers.entry(ACCESS_CONTROL_EXPOSE_HEADERS);
            entry.or_insert_with(|| exposed.clone());
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
        let response = CorsHeaders::from(cors.clone()).preflight(&request)?;
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
        let cors = CorsHeaders::from(cors);
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
        assert!(CorsHeaders::from(cors(&["*"])).allow(None, &mut headers));
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
