//! `wasi` and `net` of a module or a child: what its processes may use of the system.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use exuvia_process::Destination;
use toml::de::DeValue;

use super::table::{Table, Value, as_table, wrong_type};
use crate::error::{Found, Problems};
use crate::keys::{ACCESS, DIR, STDIO};
use crate::{Folder, Grants, MAX_GRANTS, Manifest};

/// Reads `wasi` and `net` of a table; for one that is missing, `around` applies.
pub(super) fn grants(
    parent: &Table<'_, '_>,
    base_dir: &Path,
    around: &Grants,
    path: &str,
    problems: &mut Problems,
) -> Grants {
    let connect = connect(parent, around, path, problems);
    Grants {
        connect,
        ..wasi(parent, base_dir, around, path, problems)
    }
}

fn connect(
    parent: &Table<'_, '_>,
    around: &Grants,
    path: &str,
    problems: &mut Problems,
) -> Vec<Destination> {
    let Some(table) = parent.table("net", || format!("`[{path}net]`"), problems) else {
        return around.connect.clone();
    };
    let mut connect = Vec::new();
    for at in table.strings("connect", problems).unwrap_or_default() {
        match at.value.parse() {
            Ok(destination) => connect.push(destination),
            Err(error) => {
                let message = format!("`{}` is no destination: {error}", at.value);
                let help = "write a host and a port:  \"api.example.com:443\", \"10.0.0.0/8:*\"";
                problems.add(Found::at(at.span, message).help(help.to_owned()));
            }
        }
    }
    if connect.len() > MAX_GRANTS {
        let message = format!("`connect` has more than {MAX_GRANTS} entries");
        problems.add(Found::at(table.span.clone(), message));
    }
    table.finish(problems);
    connect
}

/// Reads `wasi` of a table; if it is missing, `around` applies.
fn wasi(
    parent: &Table<'_, '_>,
    base_dir: &Path,
    around: &Grants,
    path: &str,
    problems: &mut Problems,
) -> Grants {
    let title = || format!("`[{path}wasi]`");
    let Some(table) = parent.table("wasi", title, problems) else {
        return around.clone();
    };
    let folders = folders(&table, base_dir, problems);
    let mut env = env(&table, problems);
    for at in table.strings("inherit_env", problems).unwrap_or_default() {
        // A variable that the node does not have is left out, as in a shell.
        if let Some(value) = std::env::var_os(at.value).and_then(|value| value.into_string().ok()) {
            env.entry(at.value.to_owned()).or_insert(value);
        }
    }
    let args = table.strings("args", problems).unwrap_or_default();
    let args: Vec<String> = args.iter().map(|at| at.value.to_owned()).collect();
    let terminal = table.choice("stdio", &STDIO, problems).unwrap_or_default();
    for (what, count) in [
        ("dirs", folders.len()),
        ("env", env.len()),
        ("args", args.len()),
    ] {
        if count > MAX_GRANTS {
            problems.add(Found::at(
                table.span.clone(),
                format!("`{what}` has {count} entries, more than {MAX_GRANTS}"),
            ));
        }
    }
    for text in env
        .iter()
        .flat_map(|(name, value)| [name, value])
        .chain(&args)
    {
        if text.contains('\0') {
            problems.add(Found::at(
                table.span.clone(),
                format!(
                    "`{}` contains a zero byte, which is not allowed",
                    text.escape_debug()
                ),
            ));
        }
    }
    table.finish(problems);
    Grants {
        folders,
        env,
        args,
        terminal,
        connect: Vec::new(),
    }
}

fn folders(table: &Table<'_, '_>, base_dir: &Path, problems: &mut Problems) -> Vec<Folder> {
    let Some(dirs) = table.entries("dirs", problems) else {
        return Vec::new();
    };
    dirs.filter_map(|(guest, value)| {
        let (host, write) = folder(guest.value, value, problems)?;
        if guest.value.contains('\0') || host.contains('\0') {
            problems.add(Found::at(guest.span, "a path with a zero byte".to_owned()));
            return None;
        }
        if guest.value.is_empty() || host.is_empty() {
            let found = Found::at(guest.span, "a folder without a path".to_owned());
            problems.add(found.help("write:  \"/data\" = \"data\"".to_owned()));
            return None;
        }
        let host = base_dir.join(host);
        Some(Folder {
            guest: guest.value.to_owned(),
            host: std::path::absolute(&host).unwrap_or(host),
            write,
        })
    })
    .collect()
}

/// Returns the host's folder and whether it may be written to: a folder that is given as a path
/// only is read-only.
fn folder<'a>(
    guest: &str,
    value: &'a Value<'_>,
    problems: &mut Problems,
) -> Option<(&'a str, bool)> {
    if let DeValue::String(path) = value.get_ref() {
        return Some((path, false));
    }
    let title = || format!("`dirs.\"{guest}\"`");
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        problems.add(
            wrong_type(guest, "a path or a table", value)
                .help("write a path, or { path = \"...\", access = \"write\" }".to_owned()),
        );
        return None;
    }
    let table = as_table(guest, value, &DIR, title, problems)?;
    let path = table.string("path", problems);
    if table.key_span("path").is_none() {
        problems.add(Found::at(
            table.span.clone(),
            format!("the folder `{guest}` has no `path`"),
        ));
    }
    let write = table.choice("access", &ACCESS, problems);
    table.finish(problems);
    Some((path?.value, write.unwrap_or_default()))
}

fn env(table: &Table<'_, '_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(entries) = table.entries("env", problems) else {
        return BTreeMap::new();
    };
    let mut env = BTreeMap::new();
    for (name, value) in entries {
        match value.get_ref() {
            _ if name.value.is_empty() || name.value.contains('=') => problems.add(Found::at(
                name.span,
                "a variable's name is neither empty nor has a `=`".to_owned(),
            )),
            DeValue::String(text) => {
                env.insert(name.value.to_owned(), text.clone().into_owned());
            }
            _ => problems.add(wrong_type(name.value, "a string", value)),
        }
    }
    env
}

/// Rejects folders inside one that a process may write to: a process that writes there could
/// replace the granted folder by a link, and so escape from it.
pub(super) fn check_folders(manifest: &Manifest, problems: &mut Problems) {
    let modules = manifest.modules.values().map(|module| &module.limits);
    let children = manifest.supervisor.processes().into_iter();
    let all = modules.chain(children.map(|process| &process.limits));
    let mut folders = BTreeMap::new();
    for folder in all.flat_map(|limits| &limits.grants.folders) {
        *folders.entry(real(&folder.host)).or_insert(false) |= folder.write;
    }
    for inner in folders.keys() {
        let outer = (folders.iter())
            .find(|(outer, write)| **write && *outer != inner && inner.starts_with(outer));
        if let Some((outer, _)) = outer {
            problems.add(
                Found::nowhere(format!(
                    "the folder {} lies in {}, which is granted with write access: a process that writes there could replace it by a link",
                    inner.display(),
                    outer.display()
                ))
                .help("grant only the outer one, or use folders beside each other".to_owned()),
            );
        }
    }
}

/// Returns a folder's path without links, or as far as it can be resolved.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        plain
    })
}
