//! The state of a living process as its own `save` hands it over, as OTP's
//! `sys:get_state` shows it. `save` runs on a copy: the process knows nothing of it.

use exuvia_code::Tenancy;

use crate::artifact::Artifact;
use crate::crossing::save;
use crate::executor::Executor;
use crate::guest::{Guest, Residence};
use crate::image::{After, Image};

/// A state, and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// `module@version`.
    pub version: String,
    /// The number of its schema.
    pub schema: i32,
    /// What `save` has put: of SDKs a value in MessagePack, empty before INIT.
    pub bytes: Vec<u8>,
}

/// The memory of a guest at rest, copied, and the code that it belongs to.
#[derive(Debug)]
pub struct Copied {
    /// Held: the process may end meanwhile.
    version: Tenancy<Artifact>,
    pub(crate) image: Image,
}

impl Guest {
    /// Copies the state of a process at rest, or of a loop that waits with
    /// UPGRADE. `None`: it is in the middle of something, or is resident-only.
    pub fn copy(&mut self) -> Option<Copied> {
        let loops = self.loops();
        let image = match &mut self.residence {
            Residence::Image {
                image,
                waiting: false,
                ..
            } => Some(image.clone()),
            Residence::Frame {
                frame,
                suspended: false,
                waiting: false,
            } if frame.frame.reusable => frame.frame.save(After::Keep).ok(),
            Residence::Frame {
                frame,
                suspended: true,
                ..
            } if loops == Some(true) && frame.frame.reusable => frame.frame.copy(),
            _ => None,
        }?;
        let version = self.tenancy.hold();
        Some(Copied { version, image })
    }
}

impl Executor {
    /// Runs `save` on a copy.
    ///
    /// # Errors
    ///
    /// Why there is no state to see, as a sentence.
    pub fn saved(&self, copied: &Copied) -> Result<Saved, String> {
        let Copied { version, image } = copied;
        if !version.artifact.has_save {
            return Err(format!("{} exports no `save`", version.version()));
        }
        let bytes =
            save(&self.0, version.version(), image).map_err(|error| error.to_string())??;
        Ok(Saved {
            version: version.version().to_string(),
            schema: version.artifact.schema,
            bytes,
        })
    }
}
