//! Resolves a path over symbolic links to the directory entries that determine its target. A change
//! of any of them is a change of what the path refers to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The number of links after which resolution gives up, as in the kernel.
const MAX_LINKS: usize = 40;

/// Returns the directory entries that a path goes through: each link on the way, and finally the
/// target, or the first entry that does not exist. The folders of these entries exist, and their
/// paths contain no links.
pub(crate) fn deciding_entries(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = VecDeque::from(parts(&path));
    let mut folder = PathBuf::from("/");
    let mut entries = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        let Part::Name(name) = part else {
            match part {
                Part::Root => folder = PathBuf::from("/"),
                _ => drop(folder.pop()),
            }
            continue;
        };
        let entry = folder.join(name);
        let kind = std::fs::symlink_metadata(&entry);
        match kind {
            Ok(kind) if kind.is_symlink() => {
                links += 1;
                let to = std::fs::read_link(&entry);
                entries.push(entry);
                let Ok(to) = to else { break };
                if links > MAX_LINKS {
                    break;
                }
                for part in parts(&to).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Ok(kind) if kind.is_dir() && !rest.is_empty() => folder = entry,
            // It is the target, or nothing can be below it.
            _ => {
                entries.push(entry);
                break;
            }
        }
    }
    entries
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

fn parts(path: &Path) -> Vec<Part> {
    let part = |component: Component<'_>| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::deciding_entries;

    #[test]
    fn every_link_on_the_way_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| folder.join(name);
        fs::create_dir_all(at("store/deep")).unwrap();
        fs::write(at("store/deep/file"), "").unwrap();
        symlink("store", at("link")).unwrap();
        symlink(at("link/deep/../deep/file"), at("store/other")).unwrap();
        assert_eq!(
            deciding_entries(&at("store/deep/file")),
            [at("store/deep/file")]
        );
        assert_eq!(
            deciding_entries(&at("link/other")),
            [
                at("link"),
                at("store/other"),
                at("link"),
                at("store/deep/file")
            ]
        );
        // A missing entry is returned where it would be created.
        assert_eq!(
            deciding_entries(&at("link/none/file")),
            [at("link"), at("store/none")]
        );
        symlink("circle", at("circle")).unwrap();
        assert!(
            deciding_entries(&at("circle/file"))
                .iter()
                .all(|it| *it == at("circle"))
        );
    }
}
