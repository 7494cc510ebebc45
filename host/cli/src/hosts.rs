//! The user's file of hosts: nodes on other machines, with the fingerprints of their certificates and the tokens that they
//! are shown. Only its user may read it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use exuvia_api::{Fingerprint, RemoteNode};
use serde::Deserialize;

use crate::environment;
use crate::error::CliError;

/// Names the file.
const VARIABLE: &str = "EXUVIA_HOSTS";

/// The hosts, by name.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    path: PathBuf,
    hosts: BTreeMap<String, RemoteNode>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hosts: BTreeMap<String, Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    fingerprint: String,
    token: String,
}

impl Hosts {
    /// Reads the file; without one there are none.
    pub(crate) fn load() -> Result<Hosts, CliError> {
        let path = path()?;
        let failed = |why: &str| {
            let path = path.display();
            CliError::failed(format!("the hosts in {path} cannot be read: {why}"))
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Hosts {
                    path,
                    hosts: BTreeMap::new(),
                });
            }
            Err(error) => return Err(failed(&error.to_string())),
        };
        let metadata = fs::metadata(&path).map_err(|error| failed(&error.to_string()))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let help = format!("it has tokens: chmod 600 {}", path.display());
            return Err(failed("others may read it").help(help));
        }
        let file: File = toml::from_str(&text).map_err(|error| failed(&error.to_string()))?;
        let mut hosts = BTreeMap::new();
        for (name, entry) in file.hosts {
            let fingerprint = entry.fingerprint.parse::<Fingerprint>();
            let fingerprint = fingerprint.map_err(|error| failed(&error))?;
            let node = RemoteNode {
                address: entry.address,
                fingerprint,
                token: entry.token,
            };
            hosts.insert(name, node);
        }
        Ok(Hosts { path, hosts })
    }

    pub(crate) fn get(&self, name: &str) -> Result<RemoteNode, CliError> {
        self.hosts.get(name).cloned().ok_or_else(|| {
            CliError::usage(format!("there is no host `{name}` in {}", self.path.display()))
                .help("`exuvia login ADDR --name NAME` adds one, `exuvia hosts` shows those that there are")
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &RemoteNode)> {
        self.hosts.iter().map(|(name, node)| (name.as_str(), node))
    }

    pub(crate) fn insert(&mut self, name: &str, node: RemoteNode) {
        self.hosts.insert(name.to_owned(), node);
    }

    /// Returns whether there was such a host.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.hosts.remove(name).is_some()
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), CliError> {
        let mut text = String::new();
        for (name, node) in &self.hosts {
            // Writing to a String cannot fail. A string of TOML is one of Rust, as long as it has no odd characters, and
            // `login` lets none through.
            let _ = writeln!(
                text,
                "[hosts.{name:?}]\naddress = {:?}\nfingerprint = \"{}\"\ntoken = {:?}\n",
                node.address, node.fingerprint, node.token
            );
        }
        self.write(&text).map_err(|error| {
            CliError::failed(format!(
                "{} cannot be written: {error}",
                self.path.display()
            ))
        })
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

/// Returns `$EXUVIA_HOSTS`, or `exuvia/hosts.toml` in the folder of the user's settings.
fn path() -> Result<PathBuf, CliError> {
    if let Some(path) = environment(VARIABLE) {
        return Ok(path.into());
    }
    let absolute = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|settings| settings.join("exuvia/hosts.toml"))
        .ok_or_else(|| {
            CliError::failed("there is no folder for the file of hosts: HOME is not set")
                .help(format!("name the file in {VARIABLE}"))
        })
}
