//! The compile cache: native code on disk, by module content and engine settings.
//!
//! Native code is trusted, so the folder must belong to this user and be writable by no
//! other user. A folder or an entry that fails a check is not used, and the module is
//! compiled again. If an entry cannot be written, for example because the disk is full, the
//! node logs a warning and compiles the module again next time.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wasmtime::{Engine, Module};

/// A folder with compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// The maximum number of cached modules; the least recently used are removed first.
const ENTRIES: usize = 256;

impl Cache {
    /// Opens the folder, and creates it if necessary. Returns `None`, after a warning, if
    /// it cannot be used safely.
    pub(crate) fn open(folder: &Path) -> Option<Cache> {
        match Cache::try_open(folder) {
            Ok(cache) => Some(cache),
            Err(reason) => {
                tracing::warn!(
                    folder = %folder.display(),
                    "the compile cache is not used: {reason}"
                );
                None
            }
        }
    }

    fn try_open(folder: &Path) -> Result<Cache, String> {
        // Independent of the umask: on many systems it lets the user's group write.
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(|e| e.to_string())?;
        let metadata = fs::metadata(folder).map_err(|e| e.to_string())?;
        let probe = folder.join(format!(".probe-{}", std::process::id()));
        let made = create(&probe).map_err(|e| e.to_string())?;
        let owner = made.metadata().map_err(|e| e.to_string())?.uid();
        let _ = fs::remove_file(&probe);
        if metadata.uid() != owner {
            return Err("the folder belongs to another user; remove it or choose another".into());
        }
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err("other users can write to the folder; run `chmod go-w` on it".into());
        }
        Ok(Cache {
            folder: folder.to_owned(),
        })
    }

    fn path(&self, engine: &Engine, wasm: &[u8]) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(wasm);
        let mut settings = Settings(&mut hasher);
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut settings);
        self.folder.join(format!("{}.cwasm", hasher.finalize()))
    }

    pub(crate) fn find(&self, engine: &Engine, wasm: &[u8]) -> Option<Module> {
        let path = self.path(engine, wasm);
        let mut file = fs::File::open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if metadata.permissions().mode() & 0o022 != 0 || !metadata.is_file() {
            return None;
        }
        // The time of last use, for `trim`.
        #[allow(
            clippy::disallowed_methods,
            reason = "a file's time stamp is the system's time, not a process's"
        )]
        let _ = file.set_modified(std::time::SystemTime::now());
        match read(&mut file, engine) {
            Ok(module) => Some(module),
            Err(error) => {
                tracing::debug!(path = %path.display(), "a cached module cannot be used: {error}");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    pub(crate) fn keep(&self, engine: &Engine, wasm: &[u8], module: &Module) {
        let path = self.path(engine, wasm);
        if let Err(reason) = write(&path, module) {
            tracing::warn!(
                path = %path.display(),
                "the compiled module was not cached and will be compiled again next time: {reason}"
            );
        }
        self.trim();
    }

    fn trim(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        if files.len() <= ENTRIES {
            return;
        }
        files.sort();
        for (_, path) in &files[..files.len() - ENTRIES] {
            let _ = fs::remove_file(path);
        }
    }
}

fn create(path: &Path) -> std::io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Reads a cached module. A file is the BLAKE3 digest of the code, then the code: code that
/// a disk has damaged must never run.
fn read(file: &mut fs::File, engine: &Engine) -> Result<Module, String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let Some((digest, code)) = bytes.split_first_chunk::<{ blake3::OUT_LEN }>() else {
        return Err("it is truncated".into());
    };
    if blake3::hash(code) != *digest {
        return Err("it is damaged".into());
    }
    // SAFETY: the file is in a folder that `open` found to belong to this user and to be
    // writable by no other user, and its digest is right, so it is what `write` got from
    // `Module::serialize`. The engine itself checks version and settings.
    unsafe { Module::deserialize(engine, code) }.map_err(|e| e.to_string())
}

fn write(path: &Path, module: &Module) -> Result<(), String> {
    let code = module.serialize().map_err(|e| e.to_string())?;
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let written = create(&partial)
        .and_then(|mut file| {
            file.write_all(blake3::hash(&code).as_bytes())?;
            file.write_all(&code)
        })
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.map_err(|e| e.to_string())
}

/// Feeds the engine's settings to BLAKE3 instead of a 64-bit hash.
struct Settings<'a>(&'a mut blake3::Hasher);

impl std::hash::Hasher for Settings<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
