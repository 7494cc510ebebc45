//! How the watcher detects changes: the system reports changes in folders as long as it has watches
//! left. The rest has to be polled.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;

use super::event_queue::EventQueue;

/// What a watcher may use of the system, and how it is tested.
#[derive(Clone)]
pub struct WatchLimits {
    /// The maximum number of folders that are watched.
    pub watches: usize,
    /// Whether the system is asked for notifications at all; else files are only polled.
    pub notifications: bool,
    /// Called before each scan, to simulate a file system that does not respond.
    #[doc(hidden)]
    pub before_scan: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for WatchLimits {
    fn default() -> WatchLimits {
        WatchLimits {
            watches: usize::MAX,
            notifications: true,
            before_scan: None,
        }
    }
}

impl std::fmt::Debug for WatchLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (f.debug_struct("WatchLimits"))
            .field("watches", &self.watches)
            .field("notifications", &self.notifications)
            .finish_non_exhaustive()
    }
}

/// The folders whose changes the system reports.
#[derive(Debug)]
pub(super) struct FolderWatches {
    /// The system's notifier; without it there are no events.
    notifier: Option<RecommendedWatcher>,
    most: usize,
    /// The watched folders, each with its device and inode.
    watched: HashMap<PathBuf, (u64, u64)>,
    /// Why the system reports only some folders or none; `None`: it reports all.
    missing: Option<MissingWatches>,
}

/// Why changes may not be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingWatches {
    pub(super) reason: String,
    pub(super) help: String,
}

impl FolderWatches {
    pub(super) fn new(queue: &Arc<EventQueue>, limits: &WatchLimits) -> FolderWatches {
        let events = queue.clone();
        let made = match limits.notifications {
            true => notify::recommended_watcher(move |event| events.push(event)),
            false => Err(notify::Error::io(Errno::MFILE.into())),
        };
        let (notifier, missing) = match made {
            Ok(notifier) => (Some(notifier), None),
            Err(error) => (None, Some(no_notifier(&error))),
        };
        FolderWatches {
            notifier,
            most: limits.watches,
            watched: HashMap::new(),
            missing,
        }
    }

    /// Returns why changes may not be reported.
    pub(super) fn missing(&self) -> Option<&MissingWatches> {
        self.missing.as_ref()
    }

    /// Returns whether a path is a watched folder.
    pub(super) fn is_watched(&self, path: &Path) -> bool {
        self.watched.contains_key(path)
    }

    /// Drops the watch of a folder that is gone; mostly the system has dropped it already.
    pub(super) fn forget(&mut self, path: &Path) {
        if self.watched.remove(path).is_some()
            && let Some(notifier) = &mut self.notifier
        {
            let _ = notifier.unwatch(path);
        }
    }

    /// Watches exactly these folders. Returns whether one is watched that was not before.
    pub(super) fn watch_exactly(&mut self, wanted: &HashSet<PathBuf>) -> bool {
        let Some(notifier) = &mut self.notifier else {
            return false;
        };
        self.watched.retain(|path, folder| {
            let stays = wanted.contains(path) && identity(path) == Some(*folder);
            if !stays {
                let _ = notifier.unwatch(path);
            }
            stays
        });
        let (mut new, mut missing) = (false, None);
        for path in wanted {
            if self.watched.contains_key(path) {
                continue;
            }
            let Some(folder) = identity(path) else {
                continue;
            };
            let watched = match self.watched.len() < self.most {
                true => notifier.watch(path, RecursiveMode::NonRecursive),
                false => Err(notify::Error::new(ErrorKind::MaxFilesWatch)),
            };
            match watched {
                Ok(()) => {
                    self.watched.insert(path.clone(), folder);
                    new = true;
                }
                // It was removed in the meantime.
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    let used_up = matches!(error.kind, ErrorKind::MaxFilesWatch);
                    missing = Some(not_watched(path, &error));
                    if used_up {
                        break;
                    }
                }
            }
        }
        self.missing = missing;
        new
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino()))
}

fn not_watched(folder: &Path, error: &notify::Error) -> MissingWatches {
    match &error.kind {
        ErrorKind::MaxFilesWatch => MissingWatches {
            reason: "this user has no more file watches".into(),
            help: raise("fs.inotify.max_user_watches"),
        },
        ErrorKind::Io(cause) => MissingWatches {
            reason: format!("{} cannot be watched: {cause}", folder.display()),
            help: "give the node's user read access to the folder".into(),
        },
        _ => MissingWatches {
            reason: format!("{} cannot be watched: {error}", folder.display()),
            help: "nothing needs to be done".into(),
        },
    }
}

fn no_notifier(error: &notify::Error) -> MissingWatches {
    let ErrorKind::Io(cause) = &error.kind else {
        return MissingWatches {
            reason: format!("the system does not report changes: {error}"),
            help: "nothing needs to be done".into(),
        };
    };
    // The same error means that this program has too many files open.
    let none_left = || std::fs::File::open("/dev/null").is_err();
    let help = match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) if !none_left() => raise("fs.inotify.max_user_instances"),
        Some(Errno::MFILE) => "raise the limit that `ulimit -n` shows".to_owned(),
        Some(Errno::NFILE) => raise("fs.file-max"),
        Some(Errno::NOSPC) => raise("fs.epoll.max_user_watches"),
        _ => "nothing needs to be done".to_owned(),
    };
    let reason = match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) if help.contains("instances") => {
            "too many programs of this user watch files".to_owned()
        }
        _ => format!("the system does not report changes: {cause}"),
    };
    MissingWatches { reason, help }
}

/// Returns the command that raises a setting of the kernel.
fn raise(setting: &str) -> String {
    let file = format!("/proc/sys/{}", setting.replace('.', "/"));
    let now = std::fs::read_to_string(file).unwrap_or_default();
    let now = now.trim();
    match now.parse::<u64>() {
        Ok(number) => format!(
            "`sysctl -w {setting}={}` (it is {now})",
            number.saturating_mul(4).max(1024)
        ),
        Err(_) => format!("raise `{setting}` with `sysctl -w`"),
    }
}
