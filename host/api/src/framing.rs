//! The body of `POST /v1/deploy`: one line of JSON that names the modules and their sizes,
//! then, after the newline, the bytes of the modules, one after another. A shell can write it
//! with `printf` and `cat`, and nothing is encoded twice.

use serde::{Deserialize, Serialize};

use crate::error::{Failure, code};
use crate::limits::{MAX_DEPLOY_BYTES, MAX_DEPLOY_HEADER_BYTES, MAX_DEPLOY_MODULES};
use crate::wire::{DeployOptions, Loops, Upload};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    modules: Vec<Part>,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    loops: Loops,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    name: String,
    #[serde(default)]
    source: Option<String>,
    size: u64,
}

/// Encodes a body. Fails if it would exceed [`MAX_DEPLOY_BYTES`].
pub fn write(modules: &[Upload], options: DeployOptions) -> Result<Vec<u8>, Failure> {
    let header = Header {
        modules: modules
            .iter()
            .map(|module| Part {
                name: module.name.clone(),
                source: Some(module.source.clone()),
                size: module.bytes.len() as u64,
            })
            .collect(),
        fresh: options.fresh,
        loops: options.loops,
    };
    let mut body = serde_json::to_vec(&header)
        .map_err(|error| Failure::new(code::INTERNAL, error.to_string()))?;
    let total: usize = modules.iter().map(|module| module.bytes.len()).sum();
    if body.len() + 1 + total > MAX_DEPLOY_BYTES {
        return Err(too_large());
    }
    body.reserve_exact(1 + total);
    body.push(b'\n');
    for module in modules {
        body.extend_from_slice(&module.bytes);
    }
    Ok(body)
}

/// Decodes a body. Fails if it is malformed or exceeds a limit.
pub fn read(body: &[u8]) -> Result<(Vec<Upload>, DeployOptions), Failure> {
    let wrong = |message: String| {
        Failure::new(code::BAD_REQUEST, message).help(
            "the body is one line of JSON, {\"modules\":[{\"name\":..,\"size\":..}]}, then the \
             bytes of the modules in the same order",
        )
    };
    let within = &body[..body.len().min(MAX_DEPLOY_HEADER_BYTES)];
    let end = within
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or_else(|| wrong("the body has no first line that names the modules".to_owned()))?;
    let header: Header = serde_json::from_slice(&body[..end])
        .map_err(|error| wrong(format!("the body's first line cannot be read: {error}")))?;
    match header.modules.len() {
        0 => return Err(wrong("no module is named".to_owned())),
        1..=MAX_DEPLOY_MODULES => {}
        n => {
            return Err(Failure::new(
                code::TOO_LARGE,
                format!("{n} modules in one swap, the limit is {MAX_DEPLOY_MODULES}"),
            ));
        }
    }

    let mut rest = &body[end + 1..];
    let mut modules: Vec<Upload> = Vec::with_capacity(header.modules.len());
    for part in header.modules {
        if modules.iter().any(|module| module.name == part.name) {
            return Err(wrong(format!("module `{}` is named twice", part.name)));
        }
        let split = usize::try_from(part.size)
            .ok()
            .and_then(|size| rest.split_at_checked(size));
        let Some((bytes, after)) = split else {
            return Err(wrong(format!(
                "module `{}` should have {} bytes, but only {} are left in the body",
                part.name,
                part.size,
                rest.len()
            )));
        };
        rest = after;
        modules.push(Upload {
            source: part.source.unwrap_or_else(|| part.name.clone()),
            name: part.name,
            bytes: bytes.to_vec(),
        });
    }
    if !rest.is_empty() {
        return Err(wrong(format!(
            "{} bytes are left after the last module",
            rest.len()
        )));
    }
    let options = DeployOptions {
        fresh: header.fresh,
        loops: header.loops,
    };
    Ok((modules, options))
}

/// Returns the failure of a deployment that exceeds [`MAX_DEPLOY_BYTES`].
pub fn too_large() -> Failure {
    Failure::new(
        code::TOO_LARGE,
        format!(
            "the modules of one swap have more than {MAX_DEPLOY_BYTES} bytes in total, which is the limit"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{read, write};
    use crate::wire::{DeployOptions, Loops, Upload};

    fn upload(name: &str, bytes: &[u8]) -> Upload {
        Upload {
            name: name.to_owned(),
            source: format!("{name}.wasm"),
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn modules_survive_with_newlines_inside() {
        let modules = vec![upload("a", b"\n\nx\n"), upload("b", b""), upload("c", b"{")];
        let options = DeployOptions {
            fresh: true,
            loops: Loops::Kill,
        };
        let body = write(&modules, options).unwrap();
        assert_eq!(read(&body).unwrap(), (modules, options));
    }

    #[test]
    fn a_body_written_by_hand_needs_only_name_and_size() {
        let (modules, options) = read(b"{\"modules\":[{\"name\":\"a\",\"size\":2}]}\nhi").unwrap();
        assert_eq!(modules[0].bytes, b"hi");
        assert_eq!(modules[0].source, "a");
        assert_eq!(options, DeployOptions::default());
    }

    #[test]
    fn errors_name_their_cause() {
        for (body, why) in [
            (&b""[..], "no first line"),
            (b"{\"modules\":[]}", "no first line"),
            (b"{\"modules\":[]}\n", "no module is named"),
            (b"hello\n", "cannot be read"),
            (b"{\"modules\":[],\"frsh\":true}\n", "unknown field `frsh`"),
            (
                b"{\"modules\":[{\"name\":\"a\",\"size\":3}]}\nhi",
                "should have 3 bytes, but only 2",
            ),
            (
                b"{\"modules\":[{\"name\":\"a\",\"size\":1}]}\nhi",
                "1 bytes are left",
            ),
            (
                b"{\"modules\":[{\"name\":\"a\",\"size\":18446744073709551615}]}\nhi",
                "only 2",
            ),
            (
                b"{\"modules\":[{\"name\":\"a\",\"size\":1},{\"name\":\"a\",\"size\":1}]}\nhi",
                "named twice",
            ),
        ] {
            let failure = read(body).unwrap_err();
            assert!(failure.message.contains(why), "{failure} / {why}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&body));
        }
    }
}
