//! Files that are served as they are: with ranges, and only if they have changed. Links are followed within a folder.

mod beneath;

use std::io::ErrorKind;
use std::path::Path;

use http_body_util::{Either, Empty};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use tower_http::services::{ServeDir, ServeFile};

use self::beneath::Beneath;
use crate::answer::{Answer, plain, with_body};
use crate::settings::BuiltinFile;

/// Serves a file of the node itself, if the client does not have it already.
pub(crate) fn builtin(file: &BuiltinFile, asked: &Parts) -> Answer {
    if !matches!(asked.method, Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        let allowed = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
        return answer;
    }
    let tag = file.tag();
    let known = asked.headers.get_all(IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    // Weak ones are of proxies that have compressed it (RFC 9110, section 13.1.2).
    let is_this =
        |one: &str| matches!(one.trim().trim_start_matches("W/"), one if one == tag || one == "*");
    let is_known = known.any(|list| list.split(',').any(is_this));
    let (status, text) = match is_known {
        true => (StatusCode::NOT_MODIFIED, ""),
        false => (StatusCode::OK, file.text),
    };
    let mut answer = with_body(status, file.kind, Bytes::from_static(text.as_bytes()));
    // Asked for again each time, so that client and node are of the same version.
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    answer
}

/// Serves a file, or with `below` the file with this path below a folder: its `index.html`, if the path ends with a slash.
pub(crate) async fn serve(path: &Path, below: Option<&str>, asked: &Parts) -> Answer {
    let below = below.map(|below| below.trim_start_matches('/'));
    // The folder is the root of the URL.
    let uri = match below {
        None => "/".to_owned(),
        Some(folder) if folder.is_empty() || folder.ends_with('/') => {
            format!("/{folder}index.html")
        }
        Some(file) => format!("/{file}"),
    };
    let Ok(uri) = uri.parse::<Uri>() else {
        return plain(StatusCode::BAD_REQUEST, "the path is no path of a file");
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = asked.headers.clone();
    // What the condition is about is not looked at, so the whole file is sent (RFC 9110, section 13.1.5).
    if request.headers_mut().remove(IF_RANGE).is_some() {
        request.headers_mut().remove(RANGE);
    }
    let served = match below {
        // A file beside it that is compressed already is sent to those who can read it.
        Some(_) => {
            let files = ServeDir::with_backend(path, Beneath::new(path));
            let files = files.append_index_html_on_directories(false);
            let mut files = files.precompressed_br().precompressed_gzip();
            files.try_call(request).await
        }
        None => ServeFile::new(path).try_call(request).await,
    };
    let none = || plain(StatusCode::NOT_FOUND, "");
    match served {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => none(),
        Ok(response) => response.map(|body| Either::Right(Either::Right(Box::pin(body)))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename => none(),
            _ => {
                tracing::warn!("{} cannot be served: {error}", path.display());
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        },
    }
}
