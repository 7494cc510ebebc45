//! Lets people in: starts and monitors a process for each.

use std::collections::BTreeMap;

use chat_protocol::{Door, user};
use exuvia::prelude::*;

#[derive(Serialize, Deserialize)]
struct Guests {
    /// Keyed by the monitor's reference.
    here: BTreeMap<u64, String>,
}

#[exuvia::actor(schema = 1, protocol = chat_protocol::Door)]
impl Actor for Guests {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Guests {
            here: BTreeMap::new(),
        })
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        if let Info::Down { reference, .. } = info
            && let Some(name) = self.here.remove(&reference)
        {
            exuvia::info!("{name} has left");
        }
    }
}

impl Door for Guests {
    fn enter(&mut self, name: String) -> Result<String, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
            return Err("a name has 1 to 32 letters, digits, - or _".to_owned());
        }
        let registered = user(&name);
        if exuvia::whereis(&registered).is_ok() {
            return Err(format!("{name} is here already"));
        }
        let spawned = exuvia::spawn("user")
            .args(&name)
            .and_then(|user| user.monitor().start());
        let child = spawned.map_err(|error| error.to_string())?;
        // Registered before anyone looks it up.
        exuvia::register(&registered, child.pid)?;
        if let Some(monitor) = child.monitor {
            self.here.insert(monitor, name);
        }
        Ok(registered)
    }

    fn who(&self) -> Vec<String> {
        let mut names: Vec<String> = self.here.values().cloned().collect();
        names.sort();
        names
    }
}
