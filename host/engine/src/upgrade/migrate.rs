//! How a process's state is brought from one version to another. It is reused if the image means
//! the same in both versions; otherwise it is migrated by `save` and `load`, directly or through
//! the versions between them.
//!
//! This code has no effect on a process: it takes an image and returns an image or a frame. So the
//! same code verifies copies and upgrades processes.

use std::sync::Arc;

use exuvia_code::{UpgradePath, Version};
use exuvia_contract::Refusal;
use exuvia_image::{After, Image};
use exuvia_process::Grants;

use crate::error::{MissingExport, UpgradeError};
use crate::frames::slots::FrameLease;
use crate::frames::{FrameError, FrameTable, Purpose};
use crate::module::info::Artifact;

type VersionHandle = Arc<Version<Artifact>>;

/// The state of a process in another version.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) path: UpgradePath,
    pub(crate) state: Destination,
}

/// Where the upgraded state is.
#[derive(Debug)]
pub(crate) enum Destination {
    Image(Image),
    /// In the frame in which `load` has created it.
    Frame(FrameLease),
}

impl Destination {
    /// Returns the state as an image, and gives back its frame if it is in one.
    pub(crate) fn into_image(self, frames: &FrameTable) -> Result<Image, String> {
        match self {
            Destination::Image(image) => Ok(image),
            Destination::Frame(mut lease) => {
                let image = lease.frame.save(After::Reset);
                frames.give_back(lease);
                image
            }
        }
    }

    /// Discards the state, which was a copy.
    pub(crate) fn drop_in(self, frames: &FrameTable) {
        if let Destination::Frame(lease) = self {
            frames.retire(lease);
        }
    }
}

/// Returns why no process with a state can ever be upgraded from one version to another, as far as
/// the two modules tell, and what is missing. Returns `None` if an upgrade may be possible.
/// `is_direct`: there are no versions between them through which the state could go.
pub fn no_upgrade_path(
    old: &Version<Artifact>,
    new: &Version<Artifact>,
    is_direct: bool,
) -> Option<(UpgradeError, Option<MissingExport>)> {
    let not_reused = old.artifact.reuses_image_in(&new.artifact).err()?;
    let (not_migrated, missing) = match (old.artifact.has_save, new.artifact.has_load) {
        (true, true) if is_direct => (untaken(&old.artifact, &new.artifact)?, None),
        (true, true) => return None,
        (false, _) => (
            format!("{old} exports no `save`"),
            Some(MissingExport::Save),
        ),
        (true, false) => (
            format!("{new} exports no `load`"),
            Some(MissingExport::Load),
        ),
    };
    let error = UpgradeError::NoPath {
        from: old.to_string(),
        to: new.to_string(),
        not_reused,
        not_migrated,
    };
    Some((error, missing))
}

/// Returns that `load` of the newer one does not take the schema of the older one, if it says so.
fn untaken(old: &Artifact, new: &Artifact) -> Option<String> {
    let state = new.state_contract().ok()??;
    let refused = Refusal::Schema {
        from: old.schema,
        taken: state.taken(),
    };
    (state.takes(old.schema) == Some(false)).then(|| refused.to_string())
}

/// Brings an image of `old` to `new`, for a process with these grants. `saved` is the result of its
/// `save`, if that was called already.
pub(crate) fn upgrade_image(
    frames: &FrameTable,
    old: &VersionHandle,
    new: &VersionHandle,
    (image, grants): (&Image, &Grants),
    saved: Option<Result<Vec<u8>, String>>,
) -> Result<Upgraded, UpgradeError> {
    let not_reused = match old.artifact.reuses_image_in(&new.artifact) {
        Ok(()) => {
            return Ok(Upgraded {
                path: UpgradePath::Reused,
                state: Destination::Image(image.clone()),
            });
        }
        Err(reason) => reason,
    };
    let not_migrated = match migrate(frames, old, new, (image, grants), saved)? {
        Ok(lease) => {
            return Ok(Upgraded {
                path: UpgradePath::Migrated,
                state: Destination::Frame(lease),
            });
        }
        Err(reason) => reason,
    };
    Err(UpgradeError::NoPath {
        from: old.to_string(),
        to: new.to_string(),
        not_reused,
        not_migrated,
    })
}

/// The outer error: no frame was free, try again later. The inner error: it is impossible.
type Attempt<T> = Result<Result<T, String>, UpgradeError>;

fn migrate(
    frames: &FrameTable,
    old: &VersionHandle,
    new: &VersionHandle,
    (image, grants): (&Image, &Grants),
    saved: Option<Result<Vec<u8>, String>>,
) -> Attempt<FrameLease> {
    if !old.artifact.has_save {
        return Ok(Err(format!("{old} exports no `save`")));
    }
    let saved = match saved {
        Some(saved) => saved,
        None => save(frames, old, image)?,
    };
    match saved {
        Ok(state) => load_state(frames, old, new, state, grants),
        Err(reason) => Ok(Err(reason)),
    }
}

/// Brings a state that `save` of `old` returned to `new`, for a process whose state cannot be read
/// as an image.
pub(crate) fn upgrade_saved(
    frames: &FrameTable,
    old: &VersionHandle,
    new: &VersionHandle,
    saved: Result<Vec<u8>, String>,
    grants: &Grants,
) -> Result<Upgraded, UpgradeError> {
    let brought = match saved {
        Ok(state) => load_state(frames, old, new, state, grants)?,
        Err(reason) => Err(reason),
    };
    brought
        .map(|lease| Upgraded {
            path: UpgradePath::Migrated,
            state: Destination::Frame(lease),
        })
        .map_err(|not_migrated| UpgradeError::NoPath {
            from: old.to_string(),
            to: new.to_string(),
            not_reused: "the module is resident-only".into(),
            not_migrated,
        })
}

fn load_state(
    frames: &FrameTable,
    old: &VersionHandle,
    new: &VersionHandle,
    state: Vec<u8>,
    grants: &Grants,
) -> Attempt<FrameLease> {
    let direct = match load(frames, new, old.artifact.schema, state.clone(), grants)? {
        Ok(lease) => return Ok(Ok(lease)),
        Err(reason) => reason,
    };
    // Step by step through the versions between, in the direction of the upgrade.
    let between = frames.host().code.between(old, new);
    if between.is_empty() {
        return Ok(Err(direct));
    }
    let (mut schema, mut state) = (old.artifact.schema, state);
    for version in &between {
        // A version that refuses the state is skipped: perhaps no process ever ran it.
        let Ok(mut lease) = load(frames, version.version(), schema, state.clone(), grants)? else {
            continue;
        };
        let saved = lease.frame.call_save();
        frames.retire(lease);
        if let Ok(saved) = saved {
            (schema, state) = (version.artifact.schema, saved);
        }
    }
    Ok(load(frames, new, schema, state, grants)?.map_err(|_| direct))
}

/// Runs `save` of a version on an image.
pub(crate) fn save(
    frames: &FrameTable,
    version: &VersionHandle,
    image: &Image,
) -> Attempt<Vec<u8>> {
    let artifact = &version.artifact;
    let mut lease = match frames.acquire(artifact, image.memory_pages(), Purpose::Save) {
        Ok(lease) => lease,
        Err(none) => return no_frame(none),
    };
    let loaded = lease.frame.load(image);
    let state = loaded.and_then(|()| lease.frame.call_save());
    frames.retire(lease);
    Ok(state)
}

/// Runs `load` of a version on a state, in a frame at the base. Returns the frame, which then has
/// the loaded state.
fn load(
    frames: &FrameTable,
    version: &VersionHandle,
    schema: i32,
    state: Vec<u8>,
    grants: &Grants,
) -> Attempt<FrameLease> {
    let artifact = &version.artifact;
    if !artifact.has_load {
        return Ok(Err(format!("{version} exports no `load`")));
    }
    let mut lease = match frames.acquire(artifact, artifact.base_pages(), Purpose::Process(None)) {
        Ok(lease) => lease,
        Err(none) => return no_frame(none),
    };
    let loaded = (lease.frame)
        .initialize(artifact, &version.module, grants)
        .and_then(|()| lease.frame.call_load(schema, state));
    Ok(match loaded {
        Ok(()) => Ok(lease),
        Err(reason) => {
            frames.retire(lease);
            Err(reason)
        }
    })
}

fn no_frame<T>(none: FrameError) -> Attempt<T> {
    match none {
        FrameError::NoneFree => Err(UpgradeError::NoFrame),
        FrameError::Broken(reason) => Ok(Err(reason)),
    }
}
