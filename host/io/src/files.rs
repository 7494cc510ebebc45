//! Files that are served as they are: with ranges, and only if they have changed.

use std::path::Path;

use http_body_util::{Either, Empty};
use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode, Uri};
use tower_http::services::{ServeDir, ServeFile};

use crate::answer::{Answer, plain};

/// Serves a file, or with `below` the file with this path below a folder.
pub(crate) async fn serve(path: &Path, below: Option<&str>, asked: &Parts) -> Answer {
    // The folder is the root of the URL.
    let uri = format!("/{}", below.unwrap_or_default()).parse::<Uri>();
    let Ok(uri) = uri else {
        return plain(StatusCode::BAD_REQUEST, "the path is no path of a file");
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = asked.headers.clone();
    let served = match below {
        // A file beside it that is compressed already is sent to those who can read it.
        Some(_) => {
            let files = ServeDir::new(path).precompressed_br().precompressed_gzip();
            files.clone().try_call(request).await
        }
        None => ServeFile::new(path).try_call(request).await,
    };
    match served {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => {
            plain(StatusCode::NOT_FOUND, "")
        }
        Ok(response) => response.map(|body| Either::Right(Either::Right(body))),
        Err(error) => {
            tracing::warn!("{} cannot be served: {error}", path.display());
            plain(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}
