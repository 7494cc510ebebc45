//! Manages the sessions: a cart for each, as a process of its own.

use std::collections::BTreeMap;

use cart_protocol::Shop;
use exuvia::prelude::*;

/// The maximum number of sessions.
const MOST: usize = 100_000;

#[derive(Serialize, Deserialize)]
struct Sessions {
    carts: BTreeMap<String, Pid>,
    /// Keyed by the monitor's reference.
    monitors: BTreeMap<u64, String>,
}

#[exuvia::actor(schema = 1, protocol = cart_protocol::Shop)]
impl Actor for Sessions {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Sessions {
            carts: BTreeMap::new(),
            monitors: BTreeMap::new(),
        })
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        if let Info::Down { reference, .. } = info
            && let Some(session) = self.monitors.remove(&reference)
        {
            self.carts.remove(&session);
        }
    }
}

impl Shop for Sessions {
    fn cart(&mut self, session: String) -> Result<Pid, String> {
        if let Some(cart) = self.carts.get(&session) {
            return Ok(*cart);
        }
        if session.is_empty() || session.len() > 64 {
            return Err("a session has a name of 1 to 64 bytes".to_owned());
        }
        if self.carts.len() >= MOST {
            return Err("too many sessions".to_owned());
        }
        let cart = exuvia::spawn("cart").monitor().start()?;
        if let Some(monitor) = cart.monitor {
            self.monitors.insert(monitor, session.clone());
        }
        self.carts.insert(session, cart.pid);
        Ok(cart.pid)
    }

    fn sessions(&self) -> usize {
        self.carts.len()
    }
}
