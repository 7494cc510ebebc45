//! The body of a deployment: `multipart/form-data` (RFC 7578) with one part for each module. The
//! part's name is the module's, its file name says where the bytes are from. So a shell can
//! deploy with `curl --form hello=@hello.wasm`.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::limits::MAX_DEPLOY_BYTES;
use crate::problem::{Problem, code};
use crate::release::Upload;

/// A body and its media type.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// Encodes modules. Fails if the body would exceed [`MAX_DEPLOY_BYTES`].
pub(crate) fn form(modules: &[Upload]) -> Result<Form, Problem> {
    let boundary = boundary();
    let head = |module: &Upload| {
        format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"; filename=\"{}\"\r\n\
             content-type: application/wasm\r\n\r\n",
            escaped(&module.name),
            escaped(&module.source)
        )
    };
    let end = format!("--{boundary}--\r\n");
    let parts = modules
        .iter()
        .map(|module| head(module).len() + module.bytes.len() + 2);
    let size = parts.sum::<usize>() + end.len();
    if size > MAX_DEPLOY_BYTES {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(size);
    for module in modules {
        body.extend_from_slice(head(module).as_bytes());
        body.extend_from_slice(&module.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(end.as_bytes());
    Ok(Form {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        body,
    })
}

/// Returns the failure of a deployment that exceeds [`MAX_DEPLOY_BYTES`].
pub fn too_large() -> Problem {
    Problem::new(
        code::TOO_LARGE,
        format!(
            "the modules of one swap have more than {MAX_DEPLOY_BYTES} bytes in total, which is \
             the limit"
        ),
    )
}

/// Returns a line that no module has in it: 128 random bits.
fn boundary() -> String {
    // Each state has random keys.
    let random = || RandomState::new().build_hasher().finish();
    format!("exuvia-{:016x}{:016x}", random(), random())
}

/// Escapes what would end the quoted text, as HTML's forms do; and backslashes, which some
/// readers take for escapes.
fn escaped(text: &str) -> String {
    text.replace('\\', "%5C")
        .replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::{escaped, form};
    use crate::release::Upload;

    #[test]
    fn a_body_has_one_part_for_each_module() {
        let modules = [("a", &b"\r\n--x"[..]), ("b", b"")].map(|(name, bytes)| Upload {
            name: name.to_owned(),
            source: format!("{name}.wasm"),
            bytes: bytes.to_vec(),
        });
        let form = form(&modules).unwrap();
        let boundary = form.content_type.split("boundary=").nth(1).unwrap();
        let body = String::from_utf8(form.body).unwrap();
        let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
        assert_eq!(parts.len(), 4, "{body}");
        assert!(parts[1].contains("name=\"a\"; filename=\"a.wasm\"\r\n"));
        assert!(parts[1].ends_with("\r\n\r\n\r\n--x\r\n"), "{body}");
        assert!(parts[2].ends_with("\r\n\r\n\r\n"), "{body}");
        assert_eq!(parts[3], "--\r\n");
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(escaped("a\"\r\nb\\"), "a%22%0D%0Ab%5C");
    }
}
