//! Whether the app of a node is up, for probes and deployment tools.

use std::time::Duration;

use super::{Question, Supervision};

/// How long the root supervisor may take to reply.
const PATIENCE: Duration = Duration::from_millis(500);

/// The maximum number of children that are checked.
const MOST_CHILDREN: usize = 1_024;

impl Supervision {
    /// Returns why the app is not up; `None`: it is. An app is up when the children of its root
    /// supervisor have started. A child that has exited and is not to be restarted does not count.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let Some(root) = self.root() else {
            return Some("the app is starting".to_owned());
        };
        let system = &self.core.system;
        if system.table.is_closed_to_guests() {
            return Some("the app is stopping".to_owned());
        }
        if !system.is_alive(root) {
            return Some("the supervision tree has ended".to_owned());
        }
        let children = |reply| Question::Children {
            most: MOST_CHILDREN,
            reply,
        };
        let Some(seen) = self.ask(root, children, PATIENCE) else {
            return Some("the root supervisor does not reply".to_owned());
        };
        let not_up = |state: &str| !matches!(state, "running" | "down");
        let mut children = seen.children.iter();
        let child = children.find(|child| not_up(child.state))?;
        Some(format!("the child `{}` is {}", child.id, child.state))
    }
}
