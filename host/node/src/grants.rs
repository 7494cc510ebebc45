//! What a process may use of the system, as guests request it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use exuvia_process::{Destination, GrantRequest, Limits};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What a guest grants a child: `wasi` of the manifest, with paths in the guest's own view, and `connect` of `net`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestGrants {
    #[serde(default)]
    dirs: BTreeMap<String, GuestDir>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    stdio: Stdio,
    /// Missing: where the parent may.
    #[serde(default)]
    connect: Option<Vec<Destinations>>,
}

/// A destination as text.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Destinations(Destination);

impl TryFrom<String> for Destinations {
    type Error = String;

    fn try_from(text: String) -> Result<Destinations, String> {
        let destination = text.parse().map(Destinations);
        destination.map_err(|error| format!("`{text}` is no destination: {error}"))
    }
}

#[derive(Debug)]
struct GuestDir {
    path: String,
    access: Access,
}

/// A folder that is given as more than a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirEntry {
    path: String,
    #[serde(default)]
    access: Access,
}

/// Written by hand: an untagged enumeration would first buffer the whole value, however deep it is
/// nested, on the stack of a guest.
impl<'de> Deserialize<'de> for GuestDir {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GuestDir, D::Error> {
        struct PathOrMap;

        impl<'de> Visitor<'de> for PathOrMap {
            type Value = GuestDir;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or a map with `path` and `access`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<GuestDir, E> {
                Ok(GuestDir {
                    path: path.to_owned(),
                    access: Access::Read,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GuestDir, A::Error> {
                let DirEntry { path, access } =
                    DirEntry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(GuestDir { path, access })
            }
        }

        deserializer.deserialize_any(PathOrMap)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Access {
    #[default]
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stdio {
    #[default]
    Log,
    Terminal,
}

impl From<GuestGrants> for GrantRequest {
    fn from(grants: GuestGrants) -> GrantRequest {
        let folders = grants.dirs.into_iter();
        let folders = folders.map(|(guest, dir)| (guest, dir.path, dir.access == Access::Write));
        GrantRequest {
            folders: folders.collect(),
            env: grants.env,
            args: grants.args,
            terminal: grants.stdio == Stdio::Terminal,
            connect: (grants.connect).map(|all| all.into_iter().map(|to| to.0).collect()),
        }
    }
}

/// Reads what a guest grants a child, in MessagePack.
pub(crate) fn wanted(text: &[u8]) -> Result<GrantRequest, String> {
    read::<GuestGrants>(text).map(Into::into)
}

/// The maximum nesting of values that a guest passes to the host: they are read on the guest's
/// stack, of which little may be left.
const DEPTH: usize = 32;

/// Reads a value that a guest passes to the host, in MessagePack.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut rest = text;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH);
    let value = T::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    match rest.len() {
        0 => Ok(value),
        more => Err(format!("{more} bytes follow the value")),
    }
}

/// Returns the limits of a child to which a process with `limits` grants `grants`.
pub(crate) fn granted(
    limits: &Arc<Limits>,
    grants: Option<GuestGrants>,
) -> Result<Arc<Limits>, String> {
    let Some(grants) = grants else {
        return Ok(limits.clone());
    };
    let grants = limits.grants.granting(&grants.into());
    Ok(Arc::new(Limits {
        grants: Arc::new(grants.map_err(|error| error.to_string())?),
        ..(**limits).clone()
    }))
}
