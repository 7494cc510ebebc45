//! Does what its requests say, a text each: see `host/node/tests/it/languages/components.rs`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use self::bindings::exuvia::actor::host;
use self::bindings::exuvia::actor::types::Selection;
use self::bindings::{Guest, Message};

#[allow(clippy::too_many_arguments, reason = "it is generated")]
mod bindings {
    wit_bindgen::generate!({ world: "actor", path: "../../wit", pub_export_macro: true });
}

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Actor;
bindings::export!(Actor with_types_in bindings);

impl Guest for Actor {
    fn schema() -> i32 {
        1
    }
    fn init(_: Vec<u8>) -> Result<(), String> {
        Ok(())
    }
    fn handle_message(message: Message) {
        COUNT.fetch_add(message.payload.len() as u32, Ordering::Relaxed);
    }
    fn handle_request(message: Message) -> Result<Option<Vec<u8>>, String> {
        let text = String::from_utf8(message.payload).map_err(|error| error.to_string())?;
        let (what, rest) = text.split_once(' ').unwrap_or((&text, ""));
        answer(what, rest).map(Some)
    }
    fn save() -> Vec<u8> {
        COUNT.load(Ordering::Relaxed).to_le_bytes().to_vec()
    }
    fn load(_: i32, state: Vec<u8>) -> Result<(), String> {
        let bytes = state
            .try_into()
            .map_err(|_| "4 bytes are a count".to_owned())?;
        COUNT.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        Ok(())
    }
}

fn answer(what: &str, rest: &str) -> Result<Vec<u8>, String> {
    match what {
        "count" => Ok(COUNT.load(Ordering::Relaxed).to_string().into()),
        "environment" => {
            let all = std::env::vars().map(|(name, value)| format!("{name}={value}"));
            Ok(all.collect::<Vec<_>>().join(";").into())
        }
        "files" => files(rest).map_err(|error| error.to_string()),
        "list" => {
            let mut removed = 0;
            for entry in fs::read_dir(rest).map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
                removed += 1;
            }
            Ok(format!("{removed}").into())
        }
        "read" => fs::read(rest).map_err(|error| error.to_string()),
        "join" => {
            let joined = host::group_join(rest, host::self_());
            joined
                .map(|()| Vec::new())
                .map_err(|error| format!("{error:?}"))
        }
        "members" => Ok(host::group_members(rest).len().to_string().into()),
        "select" => {
            let tag = rest.parse().map_err(|_| "a tag is a number".to_owned())?;
            match host::receive(Selection::Tag(tag), Some(2_000)) {
                Ok(message) => Ok(message.payload),
                Err(error) => Err(format!("{error:?}")),
            }
        }
        "large" => Ok(vec![
            1;
            rest.parse()
                .map_err(|_| "a length is a number".to_owned())?
        ]),
        "keep" => {
            let bytes: usize = rest
                .parse()
                .map_err(|_| "a length is a number".to_owned())?;
            std::mem::forget(vec![1u8; bytes]);
            Ok(Vec::new())
        }
        _ => Err(format!("there is no `{what}`")),
    }
}

/// What was found, one after the other.
fn files(at: &str) -> std::io::Result<Vec<u8>> {
    let path = format!("{at}/file");
    let mut found = Vec::new();
    fs::write(&path, b"0123456789")?;
    // Several times, since each looks for the folder anew.
    found.push(fs::read_to_string(&path)?);
    let mut file = File::options().read(true).write(true).open(&path)?;
    let mut buffer = [0u8; 8];
    file.seek(SeekFrom::End(0))?;
    found.push(format!("at the end {}", file.read(&mut buffer)?));
    file.rewind()?;
    file.write_all(b"ab")?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    found.push(rest);
    let mut appending = File::options().append(true).open(&path)?;
    appending.write_all(b"cd")?;
    drop(appending);
    found.push(fs::read_to_string(&path)?);
    found.push(fs::metadata(&path)?.len().to_string());
    Ok(found.join(",").into())
}
