//! Responses of the host itself: what a status means, and for developers what has failed, as a page.

use std::fmt::Write as _;
use std::path::{Component, Path};
use std::pin::Pin;

use bytes::Bytes;
use exuvia_process::ExitReason;
use http_body_util::{Either, Full};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};

use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::stream::Streamed;

/// A response: its body is there as a whole, or comes in parts from a process or from a file.
pub(crate) type Answer =
    Response<Either<Full<Bytes>, Either<Streamed, Pin<Box<ServeFileSystemResponseBody>>>>>;

/// Lines of source before and after the one that is named.
const AROUND: usize = 4;
/// Bytes of a source that is shown in part.
const SOURCE: u64 = 4 << 20;

/// A response of the host: what the status means, and more if there is more to say.
pub(crate) fn plain(status: StatusCode, more: &str) -> Answer {
    let name = status.canonical_reason().unwrap_or_default();
    let text = match more {
        "" => format!("{} {name}\n", status.as_u16()),
        more => format!("{} {name}: {more}\n", status.as_u16()),
    };
    with_body(status, "text/plain; charset=utf-8", text)
}

pub(crate) fn with_body(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// The client may try again soon.
pub(crate) fn busy(why: &str) -> Answer {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    let soon = HeaderValue::from_static("1");
    answer.headers_mut().insert(RETRY_AFTER, soon);
    answer
}

/// Leads to another address. A path stays a path, whatever its parameters are: with two slashes it would be a host.
pub(crate) fn redirect(to: &str) -> Answer {
    let path = to.trim_start_matches(['/', '\\']);
    let to = match to.starts_with('/') {
        true => format!("/{path}"),
        false => to.to_owned(),
    };
    let Ok(to) = HeaderValue::from_str(&to) else {
        return plain(StatusCode::BAD_REQUEST, "the path makes no address");
    };
    let mut answer = plain(StatusCode::TEMPORARY_REDIRECT, "");
    answer.headers_mut().insert(LOCATION, to);
    answer
}

/// What has failed in an app: for the log in any case, and for the client if it is a developer.
pub(crate) struct Failure {
    /// In some words.
    pub(crate) what: String,
    /// The whole text, such as a backtrace.
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure {
            what: what.into(),
            details: String::new(),
        }
    }

    pub(crate) fn ended(reason: &ExitReason) -> Failure {
        let text = String::from_utf8_lossy(reason.bytes());
        Failure {
            what: format!("the process has ended: {reason}"),
            details: text.into_owned(),
        }
    }

    /// Makes the response. `sources` is the folder of the app, if clients are developers: a browser gets a page.
    pub(crate) fn answer(&self, sources: Option<&Path>, headers: &HeaderMap) -> Answer {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let Some(sources) = sources else {
            return plain(status, "");
        };
        let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        if !accepts.is_some_and(|kinds| kinds.contains("text/html")) {
            return plain(status, &self.what);
        }
        with_body(status, "text/html; charset=utf-8", self.page(sources))
    }

    fn page(&self, sources: &Path) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>500: {what}</title>\n<style>\n\
             body {{ font: 1rem/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}\n\
             h1 {{ font-size: 1.3rem; border-left: .4rem solid #c33; padding-left: .8rem }}\n\
             pre {{ background: #f4f4f4; padding: .8rem; overflow: auto; font-size: .85rem }}\n\
             mark {{ background: #fdd }}\n</style>\n<h1>{what}</h1>\n",
            what = escaped(&self.what)
        );
        if let Some(place) = Place::find(&self.details)
            && let Some(excerpt) = place.excerpt(sources)
        {
            let _ = writeln!(
                page,
                "<p>{}, line {}</p>\n<pre>{excerpt}</pre>",
                escaped(place.file),
                place.line
            );
        }
        if !self.details.is_empty() {
            let _ = writeln!(page, "<pre>{}</pre>", escaped(&self.details));
        }
        page.push_str(
            "<p>You see this page because the app runs in <code>exuvia dev</code>.</p>\n</html>\n",
        );
        page
    }
}

/// A place in a source, as the panics of several languages name it: `src/lib.rs:30:5`.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    file: &'a str,
    line: usize,
}

impl<'a> Place<'a> {
    fn find(text: &'a str) -> Option<Place<'a>> {
        let is_around = |c: char| c.is_whitespace() || "'\"()[],".contains(c);
        text.split(is_around).find_map(|word| {
            let mut parts = word.splitn(3, ':');
            let (file, line) = (parts.next()?, parts.next()?.parse().ok()?);
            (file.contains('.') && line > 0).then_some(Place { file, line })
        })
    }

    /// Returns the lines around it, as HTML. Only files within `folder` are read.
    fn excerpt(&self, folder: &Path) -> Option<String> {
        let path = Path::new(self.file);
        let is_within = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !is_within {
            return None;
        }
        let path = folder.join(path).canonicalize().ok()?;
        let is_short = path
            .metadata()
            .is_ok_and(|file| file.is_file() && file.len() <= SOURCE);
        if !path.starts_with(folder.canonicalize().ok()?) || !is_short {
            return None;
        }
        let text = std::fs::read_to_string(path).ok()?;
        let first = self.line.saturating_sub(AROUND).max(1);
        let mut excerpt = String::new();
        for (number, line) in (1..).zip(text.lines()).skip(first - 1).take(2 * AROUND + 1) {
            let line = format!("{number:5}  {}", escaped(line));
            let _ = match number == self.line {
                true => writeln!(excerpt, "<mark>{line}</mark>"),
                false => writeln!(excerpt, "{line}"),
            };
        }
        (!excerpt.is_empty()).then_some(excerpt)
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_a_panic() {
        let place = |file, line| Some(Place { file, line });
        for (text, found) in [
            (
                "panicked at src/lib.rs:30:5:\nno cart",
                place("src/lib.rs", 30),
            ),
            (
                "error at handler (actor/index.ts:7:2)",
                place("actor/index.ts", 7),
            ),
            ("out of bounds memory access", None),
            ("at 12:30:05 o'clock", None),
            ("src/lib.rs:0:1", None),
        ] {
            assert_eq!(Place::find(text), found, "{text}");
        }
    }

    #[test]
    fn a_redirection_to_a_path_stays_on_the_host() {
        for (to, location) in [
            ("/a//b", "/a//b"),
            ("//evil.com", "/evil.com"),
            ("/\\evil.com", "/evil.com"),
            ("https://a.com//x", "https://a.com//x"),
        ] {
            assert_eq!(redirect(to).headers()[LOCATION], location);
        }
    }

    #[test]
    fn a_developer_with_a_browser_sees_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        std::fs::create_dir(&app).unwrap();
        std::fs::write(
            app.join("a.rs"),
            "one\nlet two: Vec<u8>;\nthree <script>\nfour",
        )
        .unwrap();
        std::fs::write(folder.path().join("secret.rs"), "secret").unwrap();
        let mut browser = HeaderMap::new();
        browser.insert(ACCEPT, HeaderValue::from_static("text/html, */*"));
        let page = |details: &str| {
            Failure {
                what: "it failed".into(),
                details: details.into(),
            }
            .page(&app)
        };
        let text = page("panicked at a.rs:3:1:\n<b>");
        assert!(
            text.contains("<mark>    3  three &lt;script&gt;</mark>"),
            "{text}"
        );
        assert!(text.contains("&lt;b&gt;"), "{text}");
        for outside in ["../secret.rs:1:1", "/etc/passwd.txt:1:1"] {
            assert!(!page(outside).contains("<mark>"), "{outside}");
        }
        let failure = Failure::new("it failed");
        let kind = |answer: Answer| answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        assert!(kind(failure.answer(Some(&app), &browser)).starts_with("text/html"));
        assert!(kind(failure.answer(Some(&app), &HeaderMap::new())).starts_with("text/plain"));
        assert!(kind(failure.answer(None, &browser)).starts_with("text/plain"));
    }
}
