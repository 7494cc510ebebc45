//! What a process may use of the system, as guests say it and as operators see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use exuvia_process::{Grants, Limits, Wanted};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// What a guest grants a child: `wasi` of the manifest, with paths as the guest
/// itself knows them.
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
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum GuestDir {
    Read(String),
    Told {
        path: String,
        #[serde(default)]
        access: Access,
    },
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

impl From<GuestGrants> for Wanted {
    fn from(grants: GuestGrants) -> Wanted {
        let folders = grants.dirs.into_iter().map(|(guest, dir)| match dir {
            GuestDir::Read(path) => (guest, path, false),
            GuestDir::Told { path, access } => (guest, path, access == Access::Write),
        });
        Wanted {
            folders: folders.collect(),
            env: grants.env,
            args: grants.args,
            terminal: grants.stdio == Stdio::Terminal,
        }
    }
}

/// Reads what a guest grants a child, in MessagePack.
pub(crate) fn wanted(text: &[u8]) -> Result<Wanted, String> {
    let grants: GuestGrants = rmp_serde::from_slice(text).map_err(|error| error.to_string())?;
    Ok(grants.into())
}

/// The limits of a child that is granted this by a process with these.
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

/// Shows grants with the keys of the manifest. Of the environment only the names:
/// a value may be a secret.
pub(crate) fn shown<S: Serializer>(grants: &Grants, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Dir<'a> {
        path: String,
        access: &'a str,
    }
    let dirs: BTreeMap<&str, Dir<'_>> = (grants.folders.iter())
        .map(|folder| {
            let dir = Dir {
                path: folder.path().display().to_string(),
                access: if folder.write { "write" } else { "read" },
            };
            (folder.guest.as_str(), dir)
        })
        .collect();
    let mut map = to.serialize_map(None)?;
    map.serialize_entry("dirs", &dirs)?;
    map.serialize_entry("env", &grants.env.keys().collect::<Vec<_>>())?;
    map.serialize_entry("args", &grants.args)?;
    let stdio = if grants.terminal { "terminal" } else { "log" };
    map.serialize_entry("stdio", stdio)?;
    map.end()
}
