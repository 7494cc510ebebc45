//! How a process's state comes from one version into another: carried if the
//! image means the same there, else migrated by `save` and `load`, directly or
//! through the versions between. Pure in its effect: it works on an image and
//! answers an image, so the same code verifies copies and moves processes.

use std::sync::Arc;

use exuvia_code::{Path, Version};
use exuvia_process::Grants;

use crate::artifact::Artifact;
use crate::error::CrossError;
use crate::executor::Shared;
use crate::frames::NoFrame;
use crate::image::{After, Image};
use crate::places::Seated;

type Code = Arc<Version<Artifact>>;

/// The state of a process in another version.
#[derive(Debug)]
pub(crate) struct Crossed {
    pub(crate) path: Path,
    pub(crate) state: Landed,
}

/// Where the state is.
#[derive(Debug)]
pub(crate) enum Landed {
    Image(Image),
    /// In the frame where `load` has made it.
    Frame(Seated),
}

impl Landed {
    /// The image, wherever the state is; the frame goes back.
    pub(crate) fn into_image(self, shared: &Arc<Shared>) -> Result<Image, String> {
        match self {
            Landed::Image(image) => Ok(image),
            Landed::Frame(mut seated) => {
                let image = seated.frame.save(After::Reset);
                shared.frames.give_back(seated);
                image
            }
        }
    }

    /// Forgets the state: it was a copy.
    pub(crate) fn drop_in(self, shared: &Arc<Shared>) {
        if let Landed::Frame(seated) = self {
            shared.frames.retire(seated);
        }
    }
}

/// Why no process with a state can ever cross from one version to another, as far
/// as the two modules tell, and what to do about it; `None`: it may.
pub fn no_way(
    old: &Version<Artifact>,
    new: &Version<Artifact>,
) -> Option<(CrossError, &'static str)> {
    let not_carried = old.artifact.carries_to(&new.artifact).err()?;
    let (not_migrated, fix) = match (old.artifact.has_save, new.artifact.has_load) {
        (true, true) => return None,
        (false, _) => (
            format!("{old} exports no `save`"),
            "the code that runs cannot hand its state over: give it up with `exuvia deploy --fresh`, and the file \
             or the app, or deploy when its processes have ended",
        ),
        (true, false) => (
            format!("{new} exports no `load`"),
            "export `load` from the new module, or give such state up with `exuvia deploy --fresh`, and the file \
             or the app",
        ),
    };
    let error = CrossError::NoPath {
        from: old.to_string(),
        to: new.to_string(),
        not_carried,
        not_migrated,
    };
    Some((error, fix))
}

/// Brings an image of `old` to `new`, for a process that is granted this. `saved` is what its `save` has answered,
/// if it was asked already.
pub(crate) fn cross(
    shared: &Arc<Shared>,
    old: &Code,
    new: &Code,
    (image, grants): (&Image, &Grants),
    saved: Option<Result<Vec<u8>, String>>,
) -> Result<Crossed, CrossError> {
    let not_carried = match old.artifact.carries_to(&new.artifact) {
        Ok(()) => {
            return Ok(Crossed {
                path: Path::Carried,
                state: Landed::Image(image.clone()),
            });
        }
        Err(reason) => reason,
    };
    let not_migrated = match migrate(shared, old, new, (image, grants), saved)? {
        Ok(seated) => {
            return Ok(Crossed {
                path: Path::Migrated,
                state: Landed::Frame(seated),
            });
        }
        Err(reason) => reason,
    };
    Err(CrossError::NoPath {
        from: old.to_string(),
        to: new.to_string(),
        not_carried,
        not_migrated,
    })
}

/// The outer error: no frame was free, try again. The inner: it cannot be.
type Attempt<T> = Result<Result<T, String>, CrossError>;

fn migrate(
    shared: &Arc<Shared>,
    old: &Code,
    new: &Code,
    (image, grants): (&Image, &Grants),
    saved: Option<Result<Vec<u8>, String>>,
) -> Attempt<Seated> {
    if !old.artifact.has_save {
        return Ok(Err(format!("{old} exports no `save`")));
    }
    let saved = match saved {
        Some(saved) => saved,
        None => save(shared, old, image)?,
    };
    match saved {
        Ok(state) => bring(shared, old, new, state, grants),
        Err(reason) => Ok(Err(reason)),
    }
}

/// Brings a state that `save` of `old` handed over to `new`; for processes
/// whose state is no image.
pub(crate) fn cross_saved(
    shared: &Arc<Shared>,
    old: &Code,
    new: &Code,
    saved: Result<Vec<u8>, String>,
    grants: &Grants,
) -> Result<Crossed, CrossError> {
    let brought = match saved {
        Ok(state) => bring(shared, old, new, state, grants)?,
        Err(reason) => Err(reason),
    };
    brought
        .map(|seated| Crossed {
            path: Path::Migrated,
            state: Landed::Frame(seated),
        })
        .map_err(|not_migrated| CrossError::NoPath {
            from: old.to_string(),
            to: new.to_string(),
            not_carried: "the module is resident-only".into(),
            not_migrated,
        })
}

fn bring(
    shared: &Arc<Shared>,
    old: &Code,
    new: &Code,
    state: Vec<u8>,
    grants: &Grants,
) -> Attempt<Seated> {
    let direct = match load(shared, new, old.artifact.schema, state.clone(), grants)? {
        Ok(seated) => return Ok(Ok(seated)),
        Err(reason) => reason,
    };
    // Step by step through the versions between, in the direction of travel.
    let between = shared.code.between(old, new);
    if between.is_empty() {
        return Ok(Err(direct));
    }
    let (mut schema, mut state) = (old.artifact.schema, state);
    for version in &between {
        // A version that refuses is stepped over: it may have been one that
        // nobody ever ran.
        let Ok(mut seated) = load(shared, version.version(), schema, state.clone(), grants)? else {
            continue;
        };
        let saved = seated.frame.call_save();
        shared.frames.retire(seated);
        if let Ok(saved) = saved {
            (schema, state) = (version.artifact.schema, saved);
        }
    }
    Ok(load(shared, new, schema, state, grants)?.map_err(|_| direct))
}

/// Runs `save` of a version on an image.
pub(crate) fn save(shared: &Arc<Shared>, version: &Code, image: &Image) -> Attempt<Vec<u8>> {
    let artifact = &version.artifact;
    let mut seated = match shared
        .frames
        .acquire(shared, artifact, image.memory_pages(), None)
    {
        Ok(seated) => seated,
        Err(none) => return no_frame(none),
    };
    let loaded = seated.frame.load(image);
    let state = loaded.and_then(|()| seated.frame.call_save());
    shared.frames.retire(seated);
    Ok(state)
}

/// Runs `load` of a version on a state, in a fresh process, and leaves it
/// there.
fn load(
    shared: &Arc<Shared>,
    version: &Code,
    schema: i32,
    state: Vec<u8>,
    grants: &Grants,
) -> Attempt<Seated> {
    let artifact = &version.artifact;
    if !artifact.has_load {
        return Ok(Err(format!("{version} exports no `load`")));
    }
    let mut seated = match shared
        .frames
        .acquire(shared, artifact, artifact.base_pages(), None)
    {
        Ok(seated) => seated,
        Err(none) => return no_frame(none),
    };
    let loaded = (seated.frame)
        .initialize(artifact, &version.module, grants)
        .and_then(|()| seated.frame.call_load(schema, state));
    Ok(match loaded {
        Ok(()) => Ok(seated),
        Err(reason) => {
            shared.frames.retire(seated);
            Err(reason)
        }
    })
}

fn no_frame<T>(none: NoFrame) -> Attempt<T> {
    match none {
        NoFrame::AllBusy => Err(CrossError::NoFrame),
        NoFrame::Broken(reason) => Ok(Err(reason)),
    }
}
