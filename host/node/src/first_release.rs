//! The first release of a node: from the module files, from the release store, or some modules from each.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use exuvia_code::Digest;
use exuvia_manifest::{MAX_MODULE_BYTES, Manifest, files};
use exuvia_store::{Origin, Outcome, ReleaseRecord, Store, StoreError};

use crate::error::{BootError, SwapError};
use crate::release_log::{FirstStart, StartWith, now};
use crate::report::{Choice, Resumed, ResumedModule};
use crate::request::{ModuleBytes, digest_of};

/// What a node starts with.
pub(crate) struct FirstRelease {
    pub(crate) modules: Vec<ModuleBytes>,
    /// The release, and whether it is new: to be written when the app is up.
    pub(crate) record: ReleaseRecord,
    pub(crate) is_new: bool,
    /// Whether the files that were read are others than the store knows.
    pub(crate) has_new_files: bool,
    /// Where modules come from whose file has other bytes than the release.
    pub(crate) resumed: Option<Resumed>,
}

/// Reads what a manifest's node starts with.
pub(crate) fn read(
    manifest: &Manifest,
    store: Option<&Store>,
    start: StartWith,
) -> Result<FirstRelease, BootError> {
    let head = store.map(Store::head).transpose()?.flatten();
    let wanted = match (store, start) {
        (Some(store), StartWith::Number(number)) => Some(store.release(number)?),
        _ => head.clone(),
    };
    if let (Some(store), StartWith::Release, None) = (store, start, &wanted) {
        return Err(BootError::EmptyStore(store.path().to_owned()));
    }
    let mut choices = Vec::new();
    let mut modules = Vec::new();
    let mut digests = BTreeMap::new();
    // Of a file that cannot be read now, what was read before still counts.
    let mut read = head
        .as_ref()
        .map_or_else(BTreeMap::new, |head| head.files.clone());
    read.retain(|name, _| manifest.modules.contains_key(name));
    for (name, module) in &manifest.modules {
        let file = files::read(&module.path, MAX_MODULE_BYTES);
        let file = file.map(|bytes| (digest_of(&bytes), bytes));
        let file_digest = file.as_ref().ok().map(|(digest, _)| *digest);
        if let Some(digest) = file_digest {
            read.insert(name.clone(), digest);
        }
        let stored = wanted.as_ref().and_then(|wanted| wanted.modules.get(name));
        let last_read = head.as_ref().and_then(|head| head.files.get(name));
        let choice = match (stored, &file, start) {
            (Some(stored), Ok((digest, _)), _) if stored == digest => None,
            (Some(_), _, StartWith::Release | StartWith::Number(_)) => Some(Choice::Asked),
            (Some(_), Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                Some(Choice::FileMissing)
            }
            (Some(_), Err(_), _) => Some(Choice::FileUnreadable),
            (Some(_), Ok((digest, _)), _) if Some(digest) == last_read => {
                Some(Choice::FileUnchanged)
            }
            (Some(_), _, _) => Some(Choice::FileEdited),
            (None, _, _) => wanted.is_some().then_some(Choice::NotInRelease),
        };
        let from_store = match choice {
            Some(Choice::FileEdited | Choice::NotInRelease | Choice::Dropped) | None => None,
            Some(_) => store.zip(stored).zip(wanted.as_ref()),
        };
        let (digest, bytes, source) = match from_store {
            Some(((store, digest), wanted)) => {
                (*digest, store.module(*digest)?, of_release(name, wanted))
            }
            None => {
                let (digest, bytes) =
                    file.map_err(|source| unreadable(name, &module.path, source))?;
                (digest, bytes, module.path.display().to_string())
            }
        };
        digests.insert(name.clone(), digest);
        modules.push(ModuleBytes {
            name: name.clone(),
            bytes,
            source,
            noticed: None,
        });
        choices.extend(choice.map(|from| ResumedModule {
            name: name.clone(),
            from,
        }));
    }
    // What was deployed besides the manifest's modules is still there.
    if let (Some(store), Some(wanted)) = (store, &wanted) {
        for (name, digest) in &wanted.modules {
            if digests.contains_key(name) {
                continue;
            }
            if wanted.files.contains_key(name) {
                choices.push(ResumedModule {
                    name: name.clone(),
                    from: Choice::Dropped,
                });
            } else {
                digests.insert(name.clone(), *digest);
                modules.push(ModuleBytes {
                    name: name.clone(),
                    bytes: store.module(*digest)?,
                    source: of_release(name, wanted),
                    noticed: None,
                });
            }
        }
    }
    Ok(FirstRelease::of(
        modules, digests, read, head, wanted, choices,
    ))
}

/// Where a module comes from, for messages.
fn of_release(module: &str, release: &ReleaseRecord) -> String {
    format!("{module} of release {}", release.number)
}

impl FirstRelease {
    fn of(
        modules: Vec<ModuleBytes>,
        digests: BTreeMap<String, Digest>,
        files: BTreeMap<String, Digest>,
        head: Option<ReleaseRecord>,
        wanted: Option<ReleaseRecord>,
        choices: Vec<ResumedModule>,
    ) -> FirstRelease {
        let before = wanted.as_ref().map(|wanted| (wanted.number, wanted.at));
        let has_new_files = head.as_ref().is_none_or(|head| head.files != files);
        let (record, is_new) = match head {
            Some(head) if head.modules == digests => (ReleaseRecord { files, ..head }, false),
            head => {
                let last = head.map_or(0, |head| head.number);
                let restored = wanted.filter(|wanted| wanted.modules == digests);
                let record = ReleaseRecord {
                    number: last + 1,
                    at: now(),
                    origin: match restored {
                        Some(wanted) => Origin::Rollback(wanted.number),
                        None => Origin::Files,
                    },
                    author: String::new(),
                    message: String::new(),
                    modules: digests,
                    files,
                    outcome: Outcome::Committed,
                };
                (record, true)
            }
        };
        FirstRelease {
            resumed: before
                .filter(|_| !choices.is_empty())
                .map(|(stored, at)| Resumed {
                    release: record.number,
                    stored,
                    at,
                    modules: choices,
                }),
            modules,
            record,
            is_new,
            has_new_files,
        }
    }

    /// Adds to an error of loading the modules how the node can be started without the files that were edited.
    pub(crate) fn with_way_out(&self, error: SwapError) -> BootError {
        let resumed = self.resumed.as_ref();
        let edited = resumed.filter(|it| it.modules.iter().any(|it| it.from == Choice::FileEdited));
        match edited {
            Some(resumed) => BootError::Edited {
                error: Box::new(error),
                release: resumed.stored,
            },
            None => error.into(),
        }
    }

    /// Returns what the log begins with.
    pub(crate) fn start(&self) -> FirstStart<'_> {
        let modules = self.modules.iter().filter_map(|module| {
            let digest = self.record.modules.get(&module.name)?;
            Some((*digest, module.bytes.as_slice()))
        });
        FirstStart {
            record: &self.record,
            is_new: self.is_new,
            has_new_files: self.has_new_files,
            given: modules.collect(),
        }
    }
}

fn unreadable(module: &str, path: &Path, source: io::Error) -> BootError {
    BootError::Read {
        module: module.to_owned(),
        path: path.to_owned(),
        source,
    }
}

impl From<StoreError> for BootError {
    fn from(error: StoreError) -> BootError {
        BootError::Store(Box::new(error))
    }
}
