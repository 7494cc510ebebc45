//! The state of a living process as its own `save` returns it, similar to OTP's `sys:get_state`.
//! `save` runs on a copy, so the process does not notice.

use exuvia_code::VersionRef;
use exuvia_image::Image;

use crate::executor::Executor;
use crate::guest::Guest;
use crate::module::info::Artifact;
use crate::upgrade::migrate::save;

/// A saved state, and the code that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// `module@version`.
    pub version: String,
    /// The number of the state's schema.
    pub schema: i32,
    /// What `save` passed to `state_put`: with the SDKs a value in MessagePack, empty before INIT.
    pub bytes: Vec<u8>,
}

/// A copy of the memory of a guest at rest, and the code that it belongs to.
#[derive(Debug)]
pub struct Copied {
    /// Held, since the process may exit meanwhile.
    version: VersionRef<Artifact>,
    image: Image,
}

impl Executor {
    /// Copies the state of a process at REST, or of a loop that waits with UPGRADE. Returns `None`
    /// if the process has not started, is in the middle of a handler, has returned WAITING, or is
    /// resident-only.
    pub fn copy(&self, guest: &mut Guest) -> Option<Copied> {
        let image = self.0.frames.copy(guest)?;
        let version = guest.version.hold();
        Some(Copied { version, image })
    }

    /// Runs `save` on a copy.
    ///
    /// # Errors
    ///
    /// Returns why there is no state to show, as a sentence.
    pub fn saved(&self, copied: &Copied) -> Result<Saved, String> {
        let Copied { version, image } = copied;
        if !version.artifact.has_save {
            return Err(format!("{} exports no `save`", version.version()));
        }
        let bytes =
            save(&self.0.frames, version.version(), image).map_err(|error| error.to_string())??;
        Ok(Saved {
            version: version.version().to_string(),
            schema: version.artifact.schema,
            bytes,
        })
    }
}
