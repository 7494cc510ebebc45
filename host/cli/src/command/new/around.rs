//! What surrounds the folder of a new app: a Cargo workspace, a git repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Cargo workspace that contains a folder.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Its `Cargo.toml`.
    pub(super) manifest: PathBuf,
    /// The folder, relative to the workspace's.
    pub(super) below: String,
    /// The pattern in `members` that includes the folder, if any.
    pub(super) takes: Option<String>,
}

impl Workspace {
    /// Returns the workspace that cargo would find for a folder.
    pub(super) fn around(folder: &Path) -> Option<Workspace> {
        let folder = real(folder)?;
        folder.ancestors().skip(1).find_map(|above| {
            let manifest = above.join("Cargo.toml");
            let text = std::fs::read_to_string(&manifest).ok()?;
            let table: toml::Table = text.parse().ok()?;
            let workspace = table.get("workspace")?;
            let listed = |key: &str| -> Vec<String> {
                let list = workspace.get(key).and_then(toml::Value::as_array);
                let words = list.into_iter().flatten().filter_map(toml::Value::as_str);
                words
                    .map(|word| word.trim_end_matches('/').to_owned())
                    .collect()
            };
            let below = folder.strip_prefix(above).ok()?;
            let excluded = listed("exclude").iter().any(|it| below.starts_with(it));
            let below = below.to_str()?.to_owned();
            let members = listed("members").into_iter();
            let takes = members.filter(|_| !excluded).find(|it| fits(it, &below));
            Some(Workspace {
                manifest,
                below,
                takes,
            })
        })
    }
}

/// Returns the path of a folder without `..` and links, as far as it exists: the folders above
/// `here/../app` are not those above `here`.
fn real(folder: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(folder).ok()?;
    absolute.ancestors().find_map(|above| {
        let below = absolute.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(below))
    })
}

/// Returns whether a path matches a pattern of `members`.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (
        pattern.split('/').filter(|part| *part != ".").collect(),
        path.split('/').collect(),
    );
    fn parts(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=path.len()).any(|skip| parts(rest, &path[skip..])),
            (Some((one, rest)), Some((name, below))) => {
                part(one.as_bytes(), name.as_bytes()) && parts(rest, below)
            }
            _ => false,
        }
    }
    fn part(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| part(rest, &name[skip..])),
            (Some((b'?', rest)), Some((_, name))) => part(rest, name),
            (Some((one, rest)), Some((byte, name))) => one == byte && part(rest, name),
            _ => false,
        }
    }
    parts(&pattern, &path)
}

/// Initializes a git repository in a folder, unless it is inside one. Returns whether it did; a
/// missing git is not an error.
pub(super) fn begin_repository(folder: &Path) -> bool {
    let Some(real) = real(folder) else {
        return false;
    };
    if real.ancestors().any(|folder| folder.join(".git").exists()) {
        return false;
    }
    let mut git = Command::new("git");
    git.args(["init", "--quiet"])
        .arg(&real)
        // These would select another repository.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    git.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Workspace, fits};

    #[test]
    fn members_expand_their_patterns() {
        for (pattern, path, fit) in [
            ("app", "app", true),
            ("./apps/*", "apps/one", true),
            ("apps/*", "apps/one/two", false),
            ("apps/**", "apps/one/two", true),
            ("**/two", "apps/one/two", true),
            ("a?p*-x", "app-one-x", true),
            ("apps", "apps/one", false),
            ("", "app", false),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn the_workspace_around_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let takes = |name: &str| Workspace::around(&at(name)).unwrap().takes;
        assert!(Workspace::around(&at("app")).is_none());
        fs::create_dir(at("inner")).unwrap();
        fs::write(at("inner/Cargo.toml"), "[package]\nname = \"inner\"\n").unwrap();
        let text = "[workspace]\nmembers = [\"lib\", \"apps/*\"]\nexclude = [\"apps/out/\"]\n";
        fs::write(at("Cargo.toml"), text).unwrap();
        assert_eq!(takes("apps/one").as_deref(), Some("apps/*"));
        for name in ["app", "inner/app", "apps/out"] {
            assert_eq!(takes(name), None, "{name}");
        }
        assert_eq!(
            Workspace::around(&at("inner/app")).unwrap().below,
            "inner/app"
        );
        let beside = Workspace::around(&at("inner/../apps/one")).unwrap();
        assert_eq!(beside.below, "apps/one");
        fs::write(at("inner/Cargo.toml"), "[workspace]\nmembers = [\"*\"]\n").unwrap();
        fs::remove_file(at("Cargo.toml")).unwrap();
        assert!(Workspace::around(&at("inner/../app")).is_none());
    }
}
