//! Grants: what a process may use of the host system, through WASI and of the network. Everything
//! that is not granted is denied, and a child never gets more than its parent has.

mod destination;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

pub use destination::Destination;

/// A folder that a process may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The path under which the process sees it.
    pub guest: String,
    /// The folder that the operator has granted.
    pub host: PathBuf,
    /// The part of `host` that is granted; empty: all of it. Each path was granted by another
    /// process and is confined to the folder before it, even if it is a symbolic link.
    pub below: Vec<PathBuf>,
    /// Whether the process may change its contents.
    pub write: bool,
}

impl Folder {
    /// Returns the host path, for display.
    pub fn path(&self) -> PathBuf {
        let below = self.below.iter();
        below.fold(self.host.clone(), |path, below| path.join(below))
    }
}

/// What a process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Its folders, in the order in which they are opened.
    pub folders: Vec<Folder>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its arguments, without the program name.
    pub args: Vec<String>,
    /// Whether its output goes to the node's terminal instead of the log.
    pub terminal: bool,
    /// Where it may connect to.
    pub connect: Vec<Destination>,
}

/// What a process requests for a child, in paths as the process itself sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantRequest {
    /// The child's path, the parent's path, and whether the child may write there.
    pub folders: Vec<(String, String, bool)>,
    /// The child's environment. It is not checked: a parent may pass on any data that it has.
    pub env: BTreeMap<String, String>,
    /// The child's arguments.
    pub args: Vec<String>,
    /// Whether it may print to the terminal.
    pub terminal: bool,
    /// Where it may connect to; `None`: where its parent may.
    pub connect: Option<Vec<Destination>>,
}

/// Why a request was denied: the parent does not have this itself, or it is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// The parent has no such folder.
    Folder(String),
    /// The parent may read this folder, not write to it.
    Write(String),
    /// The parent's output does not go to the terminal.
    Terminal,
    /// More than [`MOST_GRANTS`] folders, variables or arguments (which of them).
    Many(&'static str),
    /// An invalid path, variable name, value or argument.
    Name(String),
    /// The parent may not connect there.
    Connect(Destination),
}

/// Maximum number of folders, of variables and of arguments of a process: each is opened or copied
/// for each process.
pub const MOST_GRANTS: usize = 256;

impl std::fmt::Display for NotGranted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotGranted::Folder(path) => {
                write!(
                    f,
                    "the folder `{path}` is not in a folder that the parent is granted"
                )
            }
            NotGranted::Write(path) => {
                write!(
                    f,
                    "the parent is granted only read access to the folder `{path}`"
                )
            }
            NotGranted::Many(what) => write!(f, "there are more than {MOST_GRANTS} {what}"),
            NotGranted::Name(name) => {
                write!(
                    f,
                    "`{}` is not a path, a variable or an argument",
                    name.escape_debug()
                )
            }
            NotGranted::Connect(to) => write!(f, "the parent may not connect to `{to}`"),
            NotGranted::Terminal => {
                f.write_str("the parent itself prints to the log, not to the terminal")
            }
        }
    }
}

impl std::error::Error for NotGranted {}

impl Grants {
    /// Returns the part of these grants that a child of a process with `parent` may have: the same
    /// folders or folders inside them. Environment and arguments are data, not rights, and are
    /// kept.
    #[must_use]
    pub fn at_most(&self, parent: &Grants) -> Grants {
        let folders = self.folders.iter().filter_map(|folder| {
            let within = |outer: &&Folder| {
                folder.host == outer.host && folder.below.starts_with(&outer.below)
            };
            let mut covering = parent.folders.iter().filter(within).peekable();
            covering.peek()?;
            let write = folder.write && covering.any(|outer| outer.write);
            Some(Folder {
                write,
                ..folder.clone()
            })
        });
        let connect = self.connect.iter().filter(|to| parent.covers(to)).cloned();
        Grants {
            folders: folders.collect(),
            terminal: self.terminal && parent.terminal,
            connect: connect.collect(),
            ..self.clone()
        }
    }

    /// Returns the grants of a child that is to have `wanted`.
    ///
    /// # Errors
    ///
    /// The first item that the parent does not have itself, or that is invalid.
    pub fn granting(&self, wanted: &GrantRequest) -> Result<Grants, NotGranted> {
        let mut folders = Vec::new();
        for (what, count) in [
            ("folders", wanted.folders.len()),
            ("variables", wanted.env.len()),
            ("arguments", wanted.args.len()),
            ("destinations", wanted.connect.as_ref().map_or(0, Vec::len)),
        ] {
            if count > MOST_GRANTS {
                return Err(NotGranted::Many(what));
            }
        }
        let named = |name: &String| name.is_empty() || name.contains(['=', '\0']);
        let zeroed = |text: &&String| text.contains('\0');
        let variables = wanted.env.keys().find(|name| named(name));
        let texts = wanted.env.values().chain(&wanted.args).find(zeroed);
        let paths = wanted.folders.iter().map(|(guest, ..)| guest);
        let paths = paths
            .clone()
            .find(|path| path.is_empty() || path.contains('\0'));
        if let Some(name) = variables.or(texts).or(paths) {
            return Err(NotGranted::Name(name.clone()));
        }
        for (guest, path, write) in &wanted.folders {
            let found = self.find(path);
            let (folder, below) = found.ok_or_else(|| NotGranted::Folder(path.clone()))?;
            if *write && !folder.write {
                return Err(NotGranted::Write(path.clone()));
            }
            let mut folder = Folder {
                guest: guest.clone(),
                write: *write,
                ..folder.clone()
            };
            if !below.as_os_str().is_empty() {
                folder.below.push(below);
            }
            folders.push(folder);
        }
        if wanted.terminal && !self.terminal {
            return Err(NotGranted::Terminal);
        }
        let connect = wanted.connect.as_ref().unwrap_or(&self.connect);
        if let Some(to) = connect.iter().find(|to| !self.covers(to)) {
            return Err(NotGranted::Connect(to.clone()));
        }
        Ok(Grants {
            folders,
            env: wanted.env.clone(),
            args: wanted.args.clone(),
            terminal: wanted.terminal,
            connect: connect.clone(),
        })
    }

    fn covers(&self, to: &Destination) -> bool {
        self.connect.iter().any(|known| known.covers(to))
    }

    /// Returns whether the process may ask for a host, a name or an address, at a port. Each address that a name leads to
    /// is to be checked as well: [`Grants::may_reach`].
    pub fn may_connect(&self, host: &str, port: u16) -> bool {
        self.connect.iter().any(|to| to.names(host, port))
    }

    /// Returns whether the process may reach an address that a granted name leads to. Those of this machine and of private
    /// networks must be granted themselves: whoever owns a name could point it there.
    pub fn may_reach(&self, address: IpAddr, port: u16) -> bool {
        destination::is_public(address) || self.connect.iter().any(|to| to.reaches(address, port))
    }

    /// Returns the innermost folder that contains the path of the process, and the rest of the
    /// path.
    fn find(&self, path: &str) -> Option<(&Folder, PathBuf)> {
        let path = plain(path)?;
        let inside = self.folders.iter().filter_map(|folder| {
            let outer = plain(&folder.guest)?;
            let below = path.strip_prefix(&outer).ok()?.to_path_buf();
            Some((outer.components().count(), folder, below))
        });
        let (_, folder, below) = inside.max_by_key(|(depth, ..)| *depth)?;
        Some((folder, below))
    }
}

/// Returns a path without `.` and without the root, since guest paths are absolute either way.
/// `None`: it contains `..` or a NUL.
fn plain(path: &str) -> Option<PathBuf> {
    if path.contains('\0') {
        return None;
    }
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(guest: &str, host: &str, below: &[&str], write: bool) -> Folder {
        Folder {
            guest: guest.into(),
            host: host.into(),
            below: below.iter().map(Into::into).collect(),
            write,
        }
    }

    fn wanted(guest: &str, path: &str, write: bool) -> GrantRequest {
        GrantRequest {
            folders: vec![(guest.into(), path.into(), write)],
            ..GrantRequest::default()
        }
    }

    #[test]
    fn a_child_gets_only_folders_inside_its_parents() {
        let parent = Grants {
            folders: vec![
                folder("/data", "/srv/data", &[], false),
                folder("/data/out", "/srv/out", &["x"], true),
            ],
            ..Grants::default()
        };
        let got = parent.granting(&wanted("/in", "/data/./a/b", false));
        assert_eq!(
            got.map(|grants| grants.folders),
            Ok(vec![folder("/in", "/srv/data", &["a/b"], false)])
        );
        // The innermost folder applies.
        let got = parent.granting(&wanted("w", "data/out/y", true));
        assert_eq!(
            got.map(|grants| grants.folders),
            Ok(vec![folder("w", "/srv/out", &["x", "y"], true)])
        );
        for (path, write, refused) in [
            ("/data/a", true, NotGranted::Write("/data/a".into())),
            ("/dat", false, NotGranted::Folder("/dat".into())),
            ("/", false, NotGranted::Folder("/".into())),
            ("/data/../x", false, NotGranted::Folder("/data/../x".into())),
        ] {
            assert_eq!(parent.granting(&wanted("/w", path, write)), Err(refused));
        }
        let terminal = GrantRequest {
            terminal: true,
            ..GrantRequest::default()
        };
        assert_eq!(parent.granting(&terminal), Err(NotGranted::Terminal));
    }

    #[test]
    fn the_grants_of_a_supervisor_bound_those_of_its_children() {
        let parent = Grants {
            folders: vec![folder("/a", "/srv", &["a"], false)],
            ..Grants::default()
        };
        let wants = Grants {
            folders: vec![
                folder("/x", "/srv", &["a", "b"], true),
                folder("/y", "/srv", &["b"], false),
                folder("/z", "/etc", &["a"], false),
            ],
            args: vec!["one".into()],
            terminal: true,
            ..Grants::default()
        };
        let got = wants.at_most(&parent);
        assert_eq!(got.folders, [folder("/x", "/srv", &["a", "b"], false)]);
        assert_eq!((got.args.len(), got.terminal), (1, false));
    }

    #[test]
    fn a_child_connects_only_where_its_parent_may() {
        let to = |text: &str| text.parse::<Destination>().unwrap();
        let parent = Grants {
            connect: vec![to("*.example.com:443"), to("10.0.0.0/8:*")],
            ..Grants::default()
        };
        let granting = |connect: Option<Vec<Destination>>| {
            let request = GrantRequest {
                connect,
                ..GrantRequest::default()
            };
            parent.granting(&request).map(|grants| grants.connect)
        };
        assert_eq!(granting(None), Ok(parent.connect.clone()));
        let less = vec![to("a.example.com:443"), to("10.1.0.0/16:80")];
        assert_eq!(granting(Some(less.clone())), Ok(less));
        let more = to("example.org:443");
        assert_eq!(
            granting(Some(vec![more.clone()])),
            Err(NotGranted::Connect(more))
        );
        let wants = Grants {
            connect: vec![to("*:443"), to("10.0.0.1:1")],
            ..Grants::default()
        };
        assert_eq!(wants.at_most(&parent).connect, [to("10.0.0.1:1")]);
    }

    #[test]
    fn a_name_that_leads_to_a_private_address_needs_a_grant_of_its_own() {
        let grants = |all: &[&str]| Grants {
            connect: all.iter().map(|text| text.parse().unwrap()).collect(),
            ..Grants::default()
        };
        let name = grants(&["a.example.com:80"]);
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(name.may_connect("a.example.com", 80));
        assert!(name.may_reach("8.8.8.8".parse().unwrap(), 80));
        assert!(!name.may_reach(local, 80));
        assert!(grants(&["a.example.com:80", "127.0.0.0/8:80"]).may_reach(local, 80));
        assert!(!grants(&["*:80"]).may_reach(local, 80));
    }

    proptest! {
        /// Whatever is requested, by a child's child too, lies inside the folder of the first
        /// process.
        #[test]
        fn no_path_leaves_the_first_folder(
            paths in prop::collection::vec("(/?(a|b|\\.|\\.\\.)){0,5}", 1..4),
            write in any::<bool>(),
        ) {
            let first = Grants {
                folders: vec![folder("/", "/srv", &["base"], write)],
                ..Grants::default()
            };
            let mut at = first.clone();
            for path in paths {
                let Ok(next) = at.granting(&wanted("/", &path, true)) else {
                    break;
                };
                let folder = &next.folders[0];
                prop_assert!(write && folder.host == Path::new("/srv"));
                prop_assert_eq!(&folder.below[0], Path::new("base"));
                let mut parts = folder.below.iter().flat_map(|below| below.components());
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(next.at_most(&first).folders, next.folders.clone());
                at = next;
            }
        }
    }
}
