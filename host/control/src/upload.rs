//! Reads the modules of a deployment: a form (`multipart/form-data`) with a part for each of
//! them. The parts are read as they arrive, within limits, and an error says which part is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use exuvia_api::{
    MAX_DEPLOY_BYTES, MAX_DEPLOY_MODULES, MAX_PART_HEAD_BYTES, Problem, Upload, code,
    deployment_too_large,
};
use futures_util::StreamExt as _;
use http_body_util::BodyDataStream;
use multer::{Constraints, Multipart, SizeLimit};

use crate::bodies::{Held, forget, forget_request, is_announced_above};
use crate::host::Host;
use crate::problem::Refusal;
use crate::routes::Shared;

/// How the body is to be written, for an error message.
const HELP: &str = "the body is a form with a part for each module, as `curl --form \
                    NAME=@FILE.wasm` sends it";

/// The modules of a deployment.
pub(crate) struct Modules {
    pub(crate) modules: Vec<Upload>,
    /// Must be kept for as long as the modules.
    pub(crate) held: Arc<Held>,
}

impl<H: Host> FromRequest<Arc<Shared<H>>> for Modules {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared<H>>) -> Result<Self, Refusal> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok());
        let boundary = match content_type.map(multer::parse_boundary) {
            Some(Ok(boundary)) => boundary,
            _ => {
                forget_request(request).await;
                return Err(Problem::new(
                    code::UNSUPPORTED_MEDIA_TYPE,
                    "the body is no `multipart/form-data` with a boundary",
                )
                .help(HELP)
                .into());
            }
        };
        if is_announced_above(request.headers(), MAX_DEPLOY_BYTES) {
            forget_request(request).await;
            return Err(deployment_too_large().into());
        }
        let mut body = request.into_body();
        let held = Arc::new(Held::new(&shared.bodies));
        let patience = shared.bounds.body;
        match tokio::time::timeout(patience, read(&mut body, boundary, held)).await {
            Ok(Ok(modules)) => Ok(modules),
            Ok(Err(problem)) => {
                forget(body).await;
                Err(problem.into())
            }
            Err(_) => Err(wrong(format!("the body did not arrive within {patience:?}")).into()),
        }
    }
}

/// Reads all parts of a body. Nothing of a rejected one is kept.
async fn read(body: &mut Body, boundary: String, held: Arc<Held>) -> Result<Modules, Problem> {
    // Bytes since the last byte of a module.
    let between = Arc::new(AtomicUsize::new(0));
    let (counted, holding) = (Arc::clone(&between), Arc::clone(&held));
    let mut received = 0;
    let stream = BodyDataStream::new(body).map(move |data| {
        let data = data.map_err(|error| wrong(format!("the body could not be read: {error}")))?;
        received += data.len();
        holding.grow_to(received)?;
        // Relaxed: one task uses it.
        let before = counted.fetch_add(data.len(), Ordering::Relaxed);
        match before > MAX_PART_HEAD_BYTES {
            true => Err(wrong(format!(
                "no part begins within {MAX_PART_HEAD_BYTES} bytes"
            ))),
            false => Ok(data),
        }
    });
    let limits = SizeLimit::new().whole_stream(MAX_DEPLOY_BYTES as u64);
    let limits = Constraints::new().size_limit(limits);
    let mut form = Multipart::with_constraints(stream, boundary, limits);
    let mut modules: Vec<Upload> = Vec::new();
    loop {
        let part = modules.len() + 1;
        let next = form.next_field().await;
        let Some(mut field) = next.map_err(|error| unreadable(error, &format!("part {part}")))?
        else {
            break;
        };
        let name = match field.name() {
            None | Some("") => {
                return Err(wrong(format!(
                    "part {part} names no module in its `content-disposition`"
                )));
            }
            Some(name) => name.to_owned(),
        };
        if modules.len() == MAX_DEPLOY_MODULES {
            return Err(Problem::new(
                code::TOO_LARGE,
                format!("more than {MAX_DEPLOY_MODULES} modules in one swap, which is the limit"),
            ));
        }
        if !is_module_name(&name) {
            let shown: String = name.chars().take(MAX_MODULE_NAME_BYTES).collect();
            return Err(wrong(format!(
                "part {part}: {shown:?} is no name of a module: it has 1 to {MAX_MODULE_NAME_BYTES} of the characters `A-Z`, `a-z`, `0-9`, `_` and `-`"
            )));
        }
        if modules.iter().any(|module| module.name == name) {
            return Err(wrong(format!("part {part}: `{name}` is named twice")));
        }
        let source = field.file_name().unwrap_or(&name).to_owned();
        let mut bytes = Vec::new();
        loop {
            let chunk = field.chunk().await;
            let chunk =
                chunk.map_err(|error| unreadable(error, &format!("part {part} (`{name}`)")))?;
            between.store(0, Ordering::Relaxed);
            let Some(chunk) = chunk else { break };
            bytes.extend_from_slice(&chunk);
        }
        modules.push(Upload {
            name,
            source,
            bytes,
        });
    }
    if modules.is_empty() {
        return Err(wrong("the form has no part".to_owned()));
    }
    Ok(Modules { modules, held })
}

/// The maximum length of a module's name.
const MAX_MODULE_NAME_BYTES: usize = 255;

/// Returns whether the manifest could have a module of this name: releases outlast the node, and so do their names.
fn is_module_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.len() <= MAX_MODULE_NAME_BYTES && !name.is_empty() && name.bytes().all(is_plain)
}

fn wrong(detail: String) -> Problem {
    Problem::new(code::BAD_REQUEST, detail).help(HELP)
}

/// Converts an error of the parser. `part`: where it is.
fn unreadable(error: multer::Error, part: &str) -> Problem {
    match error {
        // An error of the stream above, or one that multer made of it.
        multer::Error::StreamReadFailed(error) => match error.downcast::<Problem>() {
            Ok(problem) => *problem,
            Err(error) => wrong(format!("{part}: the body could not be read: {error}")),
        },
        multer::Error::StreamSizeExceeded { .. } => deployment_too_large(),
        multer::Error::IncompleteFieldData { .. } | multer::Error::IncompleteStream => {
            wrong(format!("{part} is cut off: the body ends before it does"))
        }
        error => wrong(format!("{part} cannot be read: {error}")),
    }
}
