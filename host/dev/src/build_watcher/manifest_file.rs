//! The file of an app's manifest: whether its text has changed.

use std::path::{Path, PathBuf};

use exuvia_manifest::{FILE_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, files};

/// The file, and what was last seen of it.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    path: PathBuf,
    /// The hash of the text; `None`: it could not be read.
    seen: Option<blake3::Hash>,
}

impl ManifestFile {
    /// Finds the file of the app in a folder, or takes a file. Its text counts as seen.
    pub(crate) fn open(app: &Path) -> ManifestFile {
        // The current folder may be removed and created again.
        let app = std::path::absolute(app).unwrap_or_else(|_| app.to_owned());
        let path = match app.is_dir() {
            true => app.join(FILE_NAME),
            false => app,
        };
        ManifestFile {
            seen: hash(&path),
            path,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the manifest.
    pub(crate) fn load(&self) -> Result<Manifest, ManifestError> {
        Ok(Manifest::load(&self.path)?.for_development())
    }

    /// Returns whether the text has changed since it was last seen.
    pub(crate) fn has_changed(&self) -> bool {
        hash(&self.path) != self.seen
    }

    /// As [`ManifestFile::has_changed`]; the new text counts as seen.
    pub(crate) fn take_change(&mut self) -> bool {
        let now = hash(&self.path);
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// Returns the hash of a manifest's text, up to the maximum length of a manifest.
fn hash(file: &Path) -> Option<blake3::Hash> {
    let most = MAX_MANIFEST_BYTES as u64 + 1;
    let text = files::read_up_to(file, most).ok()?;
    Some(blake3::hash(&text))
}
