//! Walks a folder of sources: all files and folders in it except those that git ignores, that are
//! hidden, and that hold build results.
//!
//! Symbolic links to files and to folders are followed, but each folder is entered only once, so
//! cycles end. A folder that contains the root itself is not entered, or a whole machine could
//! become a source.

use std::collections::{HashSet, VecDeque};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ignore_rules::IgnoreRules;
use crate::watcher::link_targets::deciding_entries;

/// Folders that hold build results.
const MADE: [&str; 3] = ["target", "node_modules", "zig-out"];
/// Tools mark a cache folder with this file, so that it is left out of backups.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// What a walk reports.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A folder, without links.
    Folder(&'a Path),
    /// A file, or whatever is not a folder, with the metadata of its target.
    File(&'a Path, &'a Metadata),
    /// An entry that determines the target of a link.
    LinkEntry(PathBuf),
}

/// Reports everything below a root, which may be a file itself, in an order that depends on names
/// only. `wanted` returns whether to enter a folder.
pub(super) fn walk(root: &Path, wanted: &dyn Fn(&Path) -> bool, found: &mut dyn FnMut(Found<'_>)) {
    let Ok(metadata) = std::fs::metadata(root) else {
        return;
    };
    if !metadata.is_dir() {
        found(Found::File(root, &metadata));
        return;
    }
    let Ok(real) = std::fs::canonicalize(root) else {
        return;
    };
    let mut walk = Walk {
        wanted,
        found,
        top: real.clone(),
        entered: HashSet::from([identity(&metadata)]),
        links: VecDeque::new(),
    };
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let rules = IgnoreRules::above(&absolute);
    walk.folder(Folder {
        path: root.to_owned(),
        absolute,
        real,
        rules,
    });
    // A folder that can be reached without links is reported under that path, even if links to it
    // exist.
    while let Some((folder, identity)) = walk.links.pop_front() {
        if walk.entered.insert(identity) {
            walk.folder(folder);
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A folder on the walk.
struct Folder {
    path: PathBuf,
    /// The absolute path, for the rules.
    absolute: PathBuf,
    /// The path without links.
    real: PathBuf,
    /// The rules of the folders above.
    rules: Option<Arc<IgnoreRules>>,
}

struct Walk<'a> {
    wanted: &'a dyn Fn(&Path) -> bool,
    found: &'a mut dyn FnMut(Found<'_>),
    /// The root, without links.
    top: PathBuf,
    entered: HashSet<(u64, u64)>,
    /// Folders behind links, which are entered last.
    links: VecDeque<(Folder, (u64, u64))>,
}

impl Walk<'_> {
    /// Walks a folder and everything below it. The recursion follows real folders only, so the
    /// length of paths bounds it.
    fn folder(&mut self, folder: Folder) {
        (self.found)(Found::Folder(&folder.real));
        let Ok(entries) = std::fs::read_dir(&folder.real) else {
            return;
        };
        let rules = IgnoreRules::of(&folder.absolute, folder.rules.clone());
        let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            let path = folder.path.join(&name);
            let real = folder.real.join(&name);
            // It may have been removed in the meantime, or be a broken link.
            let metadata = std::fs::metadata(&real);
            let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
            if !is_source(&name.to_string_lossy(), &real, is_folder) {
                continue;
            }
            let absolute = folder.absolute.join(&name);
            if IgnoreRules::ignores(rules.as_deref(), &absolute, is_folder) {
                continue;
            }
            if kind.is_symlink() {
                for entry in deciding_entries(&real) {
                    (self.found)(Found::LinkEntry(entry));
                }
            }
            let Ok(metadata) = metadata else { continue };
            if !is_folder {
                (self.found)(Found::File(&path, &metadata));
                continue;
            }
            if !(self.wanted)(&path) {
                continue;
            }
            let mut below = Folder {
                path,
                absolute,
                real,
                rules: rules.clone(),
            };
            if !kind.is_symlink() {
                if self.entered.insert(identity(&metadata)) {
                    self.folder(below);
                }
                continue;
            }
            let Ok(real) = std::fs::canonicalize(&below.real) else {
                continue;
            };
            if !self.top.starts_with(&real) {
                below.real = real;
                self.links.push_back((below, identity(&metadata)));
            }
        }
    }
}

fn is_source(name: &str, real: &Path, is_folder: bool) -> bool {
    if is_folder {
        return (!name.starts_with('.') || name == ".cargo")
            && !MADE.contains(&name)
            && !real.join(CACHE_TAG).exists();
    }
    !is_scratch(name)
}

/// Returns whether a name is that of a file which editors keep beside the edited one.
fn is_scratch(name: &str) -> bool {
    name.starts_with(['.', '#'])
        || name.ends_with(['~', '#'])
        || [".swp", ".swx", ".tmp", ".bak", ".orig"]
            .iter()
            .any(|end| name.ends_with(end))
        // The file with which vim tests whether it may write to a folder.
        || name == "4913"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Found, walk};

    fn names(root: &Path) -> Vec<String> {
        let mut names = Vec::new();
        walk(root, &|_| true, &mut |found| {
            if let Found::File(path, _) = found {
                names.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        });
        names
    }

    fn write(root: &Path, name: &str, text: &str) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn ignored_files_are_not_visited() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        write(top, ".git/info/exclude", "mine\n");
        write(top, ".gitignore", "*.log\nbuilt/\n/only-here\n");
        write(top, "app/.gitignore", "!keep.log\r\nb[ad\r\n");
        write(top, "app/.ignore", "*.txt\n");
        for name in [
            "a.log",
            "keep.log",
            "mine",
            "a.txt",
            "only-here",
            "built/x",
            "deep/mine",
            "src/a.rs",
        ] {
            write(top, &format!("app/{name}"), "");
        }
        write(top, "app/other/.git/HEAD", "");
        write(top, "app/other/a.log", "");
        let expected = ["keep.log", "only-here", "other/a.log", "src/a.rs"];
        assert_eq!(names(&top.join("app")), expected);
        // Outside a repository the files of folders above do not count.
        fs::remove_dir_all(top.join(".git")).unwrap();
        assert!(names(&top.join("app")).contains(&"a.log".to_owned()));
    }

    #[test]
    fn links_are_followed_and_cycles_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["app/src/a.rs", "shared/b.rs", "shared/.hidden", "one.rs"] {
            write(folder.path(), name, "");
        }
        symlink("../shared", at("app/0-shared")).unwrap();
        symlink("../../one.rs", at("app/src/one.rs")).unwrap();
        symlink("src", at("app/1-again")).unwrap();
        symlink("..", at("app/2-up")).unwrap();
        symlink("../app", at("shared/back")).unwrap();
        symlink("nowhere", at("app/3-nothing")).unwrap();
        assert_eq!(
            names(&at("app")),
            ["src/a.rs", "src/one.rs", "0-shared/b.rs"]
        );
        let mut entries = Vec::new();
        walk(&at("app"), &|_| true, &mut |found| {
            if let Found::LinkEntry(entry) = found {
                entries.push(entry);
            }
        });
        let real = fs::canonicalize(folder.path()).unwrap();
        for expected in ["app/0-shared", "shared", "one.rs", "app/nowhere"] {
            assert!(
                entries.contains(&real.join(expected)),
                "{expected}: {entries:?}"
            );
        }
    }

    #[test]
    fn an_ignore_file_that_is_a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.rs", "");
        write(folder.path(), ".git/HEAD", "");
        fs::create_dir(folder.path().join(".git/info")).unwrap();
        for name in [".gitignore", ".ignore", ".git/info/exclude"] {
            let file = folder.path().join(name);
            let made = std::process::Command::new("mkfifo").arg(file).status();
            assert!(made.unwrap().success());
        }
        assert_eq!(names(folder.path()), ["a.rs"]);
    }
}
