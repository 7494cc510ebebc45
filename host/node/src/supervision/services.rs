//! What guests ask the node for: the engine knows it by a trait.

use std::sync::{Arc, Weak};

use exuvia_engine::{Guest, Services};
use exuvia_process::{GrantRequest, Limits, Native};

use super::Supervision;
use super::protocol::from_guest;
use crate::grants;

pub(crate) struct GuestServices(pub(crate) Weak<Supervision>);

impl Services for GuestServices {
    fn supervisor(
        &self,
        specification: &[u8],
        limits: &Arc<Limits>,
    ) -> Result<Box<dyn Native<Guest>>, String> {
        let supervision = self.0.upgrade().ok_or("the node is stopping")?;
        from_guest(&supervision, specification, limits)
    }

    fn grants(&self, text: &[u8]) -> Result<GrantRequest, String> {
        grants::wanted(text)
    }

    fn config(&self, key: &str) -> Option<Vec<u8>> {
        let config = self.0.upgrade()?.core.app_config.lock().clone();
        config.get(key).cloned()
    }
}
