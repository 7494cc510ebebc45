//! The files that builds read: which there are, and which have changed.
//!
//! The content counts. A file has not changed if it was saved with the same content, replaced by a
//! renamed copy, or touched by a clock that jumps; nor have files that an editor creates and
//! removes again. Files that git ignores are no sources, nor are hidden files, the files that
//! builds make, and cache folders (`walk`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use exuvia_manifest::files;

use crate::stamp::{Stamp, stamp};
use crate::watcher::link_targets::deciding_entries;

mod ignore_rules;
mod walk;

use walk::{Found, walk};

/// The maximum number of source files of an app that are watched, for all builds together.
const MAX_FILES: usize = 100_000;
/// The maximum number of their folders that are watched, and of links that are followed. Each
/// folder takes one of the system's watches (`fs.inotify.max_user_watches`).
const MAX_FOLDERS: usize = 10_000;
/// Files larger than this, in bytes, are compared by their stamps only.
const MAX_HASHED: u64 = 16 << 20;

/// All source files as they were last seen.
#[derive(Debug)]
pub(crate) struct Sources {
    roots: Vec<PathBuf>,
    /// Files that are no sources, wherever they are.
    built_files: HashSet<PathBuf>,
    /// Folders that contain no sources, as absolute paths.
    written_folders: Vec<PathBuf>,
    /// The files that this program's own output goes to, which each build would change.
    own: Vec<(u64, u64)>,
    files: HashMap<PathBuf, SourceState>,
    /// Their folders, without links.
    folders: BTreeSet<PathBuf>,
    /// Entries of any folders that determine the targets of links among the sources.
    link_entries: BTreeSet<PathBuf>,
    /// Files that changed during a build, so that the build may not have read the change.
    pending: BTreeSet<PathBuf>,
    /// Whether it was reported that there are too many.
    reported: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceState {
    stamp: Stamp,
    hash: Option<blake3::Hash>,
}

impl Sources {
    /// Scans all sources. `built_files` are the files that builds write, `written_folders` those
    /// that processes write to.
    pub(crate) fn new(
        roots: impl IntoIterator<Item = PathBuf>,
        built_files: impl IntoIterator<Item = PathBuf>,
        written_folders: Vec<PathBuf>,
    ) -> Sources {
        let mut sources = Sources {
            roots: roots.into_iter().collect(),
            built_files: built_files.into_iter().collect(),
            written_folders,
            own: outputs(),
            files: HashMap::new(),
            folders: BTreeSet::new(),
            link_entries: BTreeSet::new(),
            pending: BTreeSet::new(),
            reported: false,
        };
        sources.scan();
        if sources.files.is_empty() && !sources.roots.is_empty() {
            tracing::warn!(
                "there are no source files in {:?}: no change will be built; an ignore file of git may \
                 leave them out, and `sources` names others",
                sources.roots
            );
        }
        sources
    }

    /// Returns the folders in which every entry matters, without links.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }

    /// Returns the entries of other folders that matter: the targets of links, and the roots
    /// themselves.
    pub(crate) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let roots = self.roots.iter().flat_map(|root| deciding_entries(root));
        self.link_entries.iter().cloned().chain(roots)
    }

    /// Scans the sources again; returns the files that were added, changed or removed, sorted.
    pub(crate) fn scan(&mut self) -> Vec<PathBuf> {
        let changed = self.compare();
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return changed;
        }
        pending.extend(changed);
        pending.into_iter().collect()
    }

    /// Notes that a build has ended. Lock files are its own doing; everything else that changed
    /// during the build is returned by the next scan.
    pub(crate) fn built(&mut self) {
        let changed = self.compare();
        self.pending
            .extend(changed.into_iter().filter(|path| !is_lock(path)));
    }

    /// Returns whether something has changed that was not pending already, and makes it pending.
    pub(crate) fn has_news(&mut self) -> bool {
        let changed = self.compare();
        let before = self.pending.len();
        self.pending.extend(changed);
        self.pending.len() > before
    }

    /// Returns what changed during a build.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &PathBuf> {
        self.pending.iter()
    }

    /// Returns whether something changed during a build.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn is_written(&self, path: &Path) -> bool {
        !self.written_folders.is_empty()
            && std::path::absolute(path).is_ok_and(|path| {
                self.written_folders
                    .iter()
                    .any(|folder| path.starts_with(folder))
            })
    }

    fn compare(&mut self) -> Vec<PathBuf> {
        let mut states = HashMap::new();
        let mut folders = BTreeSet::new();
        let mut link_entries = BTreeSet::new();
        let mut too_many = false;
        for root in &self.roots {
            let wanted = |path: &Path| !self.is_written(path);
            if !wanted(root) {
                continue;
            }
            walk(root, &wanted, &mut |found| match found {
                Found::Folder(real) if folders.len() < MAX_FOLDERS => {
                    folders.insert(real.to_owned());
                }
                Found::LinkEntry(entry) if link_entries.len() < MAX_FOLDERS => {
                    link_entries.insert(entry);
                }
                Found::Folder(_) | Found::LinkEntry(_) => too_many = true,
                Found::File(path, _)
                    if self.built_files.contains(path) || states.contains_key(path) => {}
                Found::File(path, metadata) => {
                    if states.len() >= MAX_FILES {
                        too_many = true;
                    } else if !self.own.contains(&(metadata.dev(), metadata.ino()))
                        // It may have been removed in the meantime.
                        && let Some(state) = state_of(path, self.files.get(path))
                    {
                        states.insert(path.to_owned(), state);
                    }
                }
            });
        }
        if too_many && !std::mem::replace(&mut self.reported, true) {
            tracing::warn!(
                "the sources have more than {MAX_FILES} files or {MAX_FOLDERS} folders; changes of \
                 the others are not seen: name fewer in `sources`"
            );
        }
        let mut changed: Vec<PathBuf> = states
            .iter()
            .filter(|(path, now)| self.files.get(*path).is_none_or(|seen| !seen.same(now)))
            .map(|(path, _)| path.clone())
            .collect();
        let gone = self.files.keys().filter(|path| !states.contains_key(*path));
        changed.extend(gone.cloned());
        changed.sort();
        self.files = states;
        self.folders = folders;
        self.link_entries = link_entries;
        changed
    }
}

impl SourceState {
    fn same(&self, other: &SourceState) -> bool {
        match (&self.hash, &other.hash) {
            (Some(one), Some(two)) => one == two,
            _ => self.stamp == other.stamp,
        }
    }
}

fn state_of(path: &Path, before: Option<&SourceState>) -> Option<SourceState> {
    let stamp = stamp(path)?;
    if let Some(before) = before.filter(|before| before.stamp == stamp) {
        return Some(before.clone());
    }
    let hash = if stamp.length > MAX_HASHED {
        None
    } else {
        Some(blake3::hash(&files::read(path, MAX_HASHED).ok()?))
    };
    Some(SourceState { stamp, hash })
}

/// Returns the files that standard output and standard error are redirected to.
fn outputs() -> Vec<(u64, u64)> {
    let of = |status: rustix::fs::Stat| {
        rustix::fs::FileType::from_raw_mode(status.st_mode)
            .is_file()
            .then_some((status.st_dev, status.st_ino))
    };
    [
        rustix::fs::fstat(std::io::stdout()),
        rustix::fs::fstat(std::io::stderr()),
    ]
    .into_iter()
    .filter_map(|status| status.ok().and_then(of))
    .collect()
}

/// Returns whether a path is a file in which package managers record the versions that they
/// resolved.
fn is_lock(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| {
        name.ends_with(".lock") || name == "package-lock.json" || name == "go.sum"
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Sources;

    fn names(folder: &Path, changed: &[std::path::PathBuf]) -> Vec<String> {
        let name = |path: &std::path::PathBuf| {
            let path = path.strip_prefix(folder).unwrap();
            path.display().to_string()
        };
        changed.iter().map(name).collect()
    }

    #[test]
    fn only_changed_contents_of_sources_count() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        };
        write(".gitignore", "*.log\n");
        write("src/lib.rs", "one");
        write("Cargo.toml", "a");
        let mut sources = Sources::new(
            [folder.path().to_owned()],
            [at("out/app.wasm")],
            vec![at("data")],
        );
        std::fs::create_dir(at("data")).unwrap();
        std::fs::write(at("data/log.txt"), "a process has written this").unwrap();
        assert_eq!(sources.scan(), Vec::<std::path::PathBuf>::new());

        // None of this is a change.
        write("src/lib.rs", "one");
        write("src/.lib.rs.swp", "x");
        write("src/lib.rs~", "x");
        write("src/#lib.rs#", "x");
        write("src/4913", "x");
        write("noise.log", "x");
        write("target/debug/app.wasm", "x");
        write("cache/CACHEDIR.TAG", "x");
        write("cache/file", "x");
        write(".exuvia/node.sock.lock", "x");
        write("out/app.wasm", "x");
        write("src/lib.rs.new", "one");
        fs::rename(at("src/lib.rs.new"), at("src/lib.rs")).unwrap();
        assert_eq!(names(folder.path(), &sources.scan()), [""; 0]);

        // All of this is.
        write("src/lib.rs", "two");
        write("src/deep/new.rs", "x");
        write(".cargo/config.toml", "x");
        fs::remove_file(at("Cargo.toml")).unwrap();
        assert_eq!(
            names(folder.path(), &sources.scan()),
            [
                ".cargo/config.toml",
                "Cargo.toml",
                "src/deep/new.rs",
                "src/lib.rs"
            ]
        );
        assert_eq!(names(folder.path(), &sources.scan()), [""; 0]);

        // The same length and the same timestamp, as after a jump of the clock.
        let time = fs::metadata(at("src/lib.rs")).unwrap().modified().unwrap();
        write("src/lib.rs.new", "six");
        let file = fs::File::options().write(true).open(at("src/lib.rs.new"));
        file.unwrap().set_modified(time).unwrap();
        fs::rename(at("src/lib.rs.new"), at("src/lib.rs")).unwrap();
        assert_eq!(names(folder.path(), &sources.scan()), ["src/lib.rs"]);
    }

    #[test]
    fn lock_files_of_a_build_are_no_change_and_saves_during_it_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("lib.rs"), "one").unwrap();
        let mut sources = Sources::new([folder.path().to_owned()], [], Vec::new());
        fs::write(at("Cargo.lock"), "x").unwrap();
        fs::write(at("lib.rs"), "two").unwrap();
        sources.built();
        assert!(sources.is_pending());
        assert_eq!(sources.scan(), [at("lib.rs")]);
        assert!(!sources.is_pending() && sources.scan().is_empty());
        // Changed outside a build, it counts.
        fs::write(at("Cargo.lock"), "y").unwrap();
        assert_eq!(sources.scan(), [at("Cargo.lock")]);
    }

    #[test]
    fn a_root_can_be_a_file_or_disappear_and_return() {
        let folder = tempfile::tempdir().unwrap();
        let src = folder.path().join("src");
        let one = folder.path().join("one.c");
        fs::write(&one, "1").unwrap();
        let mut sources = Sources::new([src.clone(), one.clone()], [], Vec::new());
        fs::write(folder.path().join("two.c"), "2").unwrap();
        assert!(sources.scan().is_empty());
        fs::create_dir(&src).unwrap();
        fs::write(src.join("a.c"), "a").unwrap();
        assert_eq!(sources.scan(), [src.join("a.c")]);
        let real = fs::canonicalize(&src).unwrap();
        assert!(sources.folders().any(|folder| folder == real));
        fs::remove_dir_all(&src).unwrap();
        assert_eq!(sources.scan(), [src.join("a.c")]);
        fs::create_dir(&src).unwrap();
        fs::write(src.join("a.c"), "a").unwrap();
        assert_eq!(sources.scan(), [src.join("a.c")]);
        // A root that is named itself is always a source.
        fs::write(&one, "3").unwrap();
        assert_eq!(sources.scan(), [one]);
    }
}
