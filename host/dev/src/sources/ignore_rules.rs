//! The ignore files that apply to a folder of sources: those of git, and `.ignore`.
//!
//! They are read with [`files`]: one that is a pipe ignores nothing, and does not block. The crate
//! `ignore` opens them itself when it walks, so only its matcher is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use exuvia_manifest::files;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The maximum number of bytes that are read of an ignore file.
const MAX_IGNORE: u64 = 1 << 20;

/// The rules in the ignore files of a folder, and those of the folders above it.
pub(super) struct IgnoreRules {
    above: Option<Arc<IgnoreRules>>,
    /// `.ignore`, which takes precedence over git's files.
    ignore: Gitignore,
    /// `.gitignore`.
    git: Gitignore,
    /// The repository's local list (`info/exclude`), which is not shared.
    exclude: Gitignore,
    /// Whether this is the root of a repository, to which git's rules from above do not apply.
    is_repository: bool,
}

impl IgnoreRules {
    /// Returns the rules of the folders above a folder, up to the root of its repository: a home
    /// folder may have rules that ignore everything.
    pub(super) fn above(folder: &Path) -> Option<Arc<IgnoreRules>> {
        let is_top = |folder: &&Path| folder.join(".git").exists();
        if is_top(&folder) {
            return None;
        }
        let top = folder.ancestors().find(is_top)?;
        let mut between: Vec<&Path> = folder
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(top))
            .collect();
        between.reverse();
        between
            .into_iter()
            .fold(None, |rules, folder| IgnoreRules::of(folder, rules))
    }

    /// Returns the rules of a folder, or those of the folder above if it has none.
    pub(super) fn of(folder: &Path, above: Option<Arc<IgnoreRules>>) -> Option<Arc<IgnoreRules>> {
        let git = folder.join(".git");
        let is_repository = git.exists();
        let exclude = match is_repository {
            true => listed_in(folder, &common(&git).join("info/exclude")),
            false => Gitignore::empty(),
        };
        let rules = IgnoreRules {
            ignore: listed_in(folder, &folder.join(".ignore")),
            git: listed_in(folder, &folder.join(".gitignore")),
            exclude,
            is_repository,
            above,
        };
        let says_nothing = !is_repository && rules.ignore.is_empty() && rules.git.is_empty();
        match says_nothing {
            true => rules.above,
            false => Some(Arc::new(rules)),
        }
    }

    /// Returns whether a path is ignored. The rule nearest to it decides.
    pub(super) fn ignores(rules: Option<&IgnoreRules>, path: &Path, is_folder: bool) -> bool {
        let (mut by_ignore, mut by_git, mut by_exclude) = (Match::None, Match::None, Match::None);
        let (mut rules, mut in_repository) = (rules, true);
        while let Some(level) = rules {
            by_ignore = by_ignore.or(level.ignore.matched(path, is_folder));
            if in_repository {
                by_git = by_git.or(level.git.matched(path, is_folder));
                by_exclude = by_exclude.or(level.exclude.matched(path, is_folder));
                in_repository = !level.is_repository;
            }
            rules = level.above.as_deref();
        }
        by_ignore.or(by_git).or(by_exclude).is_ignore()
    }
}

/// Returns the rules in an ignore file; none if it cannot be read.
fn listed_in(folder: &Path, file: &Path) -> Gitignore {
    let Ok(bytes) = files::read_up_to(file, MAX_IGNORE) else {
        return Gitignore::empty();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut builder = GitignoreBuilder::new(folder);
    for line in text.trim_start_matches('\u{feff}').lines() {
        // A line that is no valid pattern is skipped, as git does.
        let _ = builder.add_line(Some(file.to_owned()), line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// Returns the folder in which the `.git` of a folder keeps what all its worktrees share.
fn common(git: &Path) -> PathBuf {
    let line = |file: &Path| {
        let bytes = files::read_up_to(file, MAX_IGNORE).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.lines().next()?.trim().to_owned())
    };
    let of_worktree = || {
        let git_dir = line(git)?;
        let git_dir = git.parent()?.join(git_dir.strip_prefix("gitdir:")?.trim());
        let common = line(&git_dir.join("commondir"))?;
        Some(git_dir.join(common))
    };
    of_worktree().unwrap_or_else(|| git.to_owned())
}
