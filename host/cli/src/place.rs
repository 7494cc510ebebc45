//! Locates the control socket: at the path given by the user, else by the environment, else
//! beside the app's manifest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use exuvia_api::{Client, RemoteNode};
use exuvia_manifest::FILE_NAME;

use crate::error::CliError;
use crate::hosts::Hosts;

/// The path of the socket, relative to the manifest's folder.
const BESIDE: &str = ".exuvia/node.sock";

/// What is known about the socket's location before an app is named.
#[derive(Debug)]
pub(crate) struct Place {
    given: Option<PathBuf>,
    /// A node on another machine.
    remote: Option<RemoteNode>,
}

impl Place {
    pub(crate) fn new(option: Option<PathBuf>, environment: Option<OsString>) -> Self {
        Self {
            given: option.or_else(|| environment.map(PathBuf::from)),
            remote: None,
        }
    }

    /// A node on another machine, by its name in the user's file of hosts.
    pub(crate) fn host(name: &str) -> Result<Self, CliError> {
        Ok(Self {
            given: None,
            remote: Some(Hosts::load()?.get(name)?),
        })
    }

    /// Fails if a node on another machine is meant: this is for one on this machine.
    pub(crate) fn check_here(&self) -> Result<(), CliError> {
        match &self.remote {
            None => Ok(()),
            Some(_) => Err(CliError::usage(
                "`--to` is for commands to a running node, and this one needs none or starts one",
            )),
        }
    }

    /// Returns the socket of the node that runs `app`: a folder or a manifest.
    pub(crate) fn of_app(&self, app: &Path) -> PathBuf {
        match &self.given {
            Some(given) => given.clone(),
            None => folder_of(app).join(BESIDE),
        }
    }

    /// Returns the socket of the app that this folder is part of. A node that runs a module
    /// without a manifest has its socket beside the module.
    pub(crate) fn of_folder(&self, folder: &Path) -> Result<PathBuf, CliError> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        folder
            .ancestors()
            .find(|folder| {
                folder.join(FILE_NAME).is_file() || folder.join(BESIDE).exists()
            })
            .map(|folder| folder.join(BESIDE))
            .ok_or_else(|| {
                CliError::no_node(format!(
                    "could not find `{}` in {} or any parent folder, so the node is unknown",
                    FILE_NAME,
                    folder.display()
                ))
                .help("run this in the app's folder, or name the node's socket with `--socket PATH` or EXUVIA_SOCKET")
            })
    }

    /// Returns a client of the app that the current folder is part of.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        if let Some(remote) = &self.remote {
            return Ok(Client::remote(remote.clone()));
        }
        let folder = std::env::current_dir().map_err(|error| {
            CliError::failed(format!(
                "the current folder does not exist any more: {error}"
            ))
        })?;
        Ok(Client::new(self.of_folder(&folder)?)?)
    }

    /// Returns a client of the node that runs `app`.
    pub(crate) fn client_of_app(&self, app: &Path) -> Result<Client, CliError> {
        if let Some(remote) = &self.remote {
            return Ok(Client::remote(remote.clone()));
        }
        Ok(Client::new(self.of_app(app))?)
    }
}

/// Returns the app that is meant: the named one, else the one of the nearest manifest, in the
/// current folder or above it. If there is none, returns the current folder, and loading its
/// manifest reports what is missing.
pub(crate) fn app(named: Option<PathBuf>) -> PathBuf {
    let here = PathBuf::from(".");
    match named {
        Some(named) if named != here => named,
        _ => nearest(&std::env::current_dir().unwrap_or_default()).unwrap_or(here),
    }
}

/// Returns the relative path from a folder to the nearest one with a manifest.
fn nearest(folder: &Path) -> Option<PathBuf> {
    let has_manifest = |folder: &Path| folder.join(FILE_NAME).exists();
    let up = folder.ancestors().position(has_manifest)?;
    Some(match up {
        0 => PathBuf::from("."),
        up => std::iter::repeat_n("..", up).collect(),
    })
}

/// Returns the folder of an app that is named by its folder or its manifest.
fn folder_of(app: &Path) -> &Path {
    if app.is_dir() {
        app
    } else {
        app.parent().unwrap_or(Path::new(""))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Place, nearest};
    use crate::error::{CliError, Exit};

    #[test]
    fn the_option_overrides_the_environment() {
        let place = Place::new(Some("a".into()), Some("b".into()));
        assert_eq!(place.of_app(Path::new("x")), PathBuf::from("a"));
        let place = Place::new(None, Some("b".into()));
        assert_eq!(place.of_folder(Path::new("/")).unwrap(), PathBuf::from("b"));
    }

    #[test]
    fn the_manifest_is_searched_upwards() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let place = Place::new(None, None);
        let Err(CliError::Report(report)) = place.of_folder(&inner) else {
            panic!("there is no manifest");
        };
        assert_eq!(report.exit, Exit::NoNode);

        let manifest = folder.path().join("exuvia.toml");
        fs::write(&manifest, "").unwrap();
        let socket = folder.path().join(".exuvia/node.sock");
        assert_eq!(place.of_folder(&inner).unwrap(), socket);
        assert_eq!(place.of_app(folder.path()), socket);
        assert_eq!(place.of_app(&manifest), socket);
        assert_eq!(nearest(&inner), Some("../..".into()));
        assert_eq!(nearest(folder.path()), Some(".".into()));
    }

    #[test]
    fn the_socket_of_a_node_without_a_manifest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join(".exuvia/node.sock");
        fs::create_dir(folder.path().join(".exuvia")).unwrap();
        fs::write(&socket, "").unwrap();
        let place = Place::new(None, None);
        assert_eq!(place.of_app(&folder.path().join("a.wasm")), socket);
        assert_eq!(place.of_folder(folder.path()).unwrap(), socket);
        assert_eq!(nearest(folder.path()), None);
    }
}
