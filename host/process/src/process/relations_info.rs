//! The relations of a process, for inspection.

use exuvia_abi::Pid;

use super::Process;
use crate::relations::Link;

/// The relations of a process, and whether it traps exits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationsInfo {
    /// The process that started it, if any.
    pub parent: Option<Pid>,
    /// The processes it is linked to.
    pub links: Vec<Pid>,
    /// The processes that it monitors or awaits a reply from.
    pub monitors: Vec<Pid>,
    /// How many monitors and pending requests of other processes refer to it.
    pub watchers: usize,
    /// Whether exit signals of linked processes arrive as messages.
    pub trap_exit: bool,
}

impl<G> Process<G> {
    /// Returns the process's relations.
    pub fn relations_info(&self) -> RelationsInfo {
        let relations = self.relations.as_ref();
        let mut monitors: Vec<Pid> = relations.map_or_else(Vec::new, |relations| {
            let references = relations.monitors.keys();
            let to = |reference| Some(relations.monitors.get(reference)?.pid());
            references.into_iter().filter_map(to).collect()
        });
        monitors.sort_unstable_by_key(|pid| pid.local);
        monitors.dedup();
        let parent = self.spawn_info.as_ref().map(|spawn_info| spawn_info.parent);
        RelationsInfo {
            parent: parent.filter(|parent| *parent != Pid::NONE),
            links: self.links(),
            monitors,
            watchers: relations.map_or(0, |relations| relations.watchers.len()),
            trap_exit: self.trap_exit,
        }
    }

    /// Returns the processes this process is linked to.
    pub fn links(&self) -> Vec<Pid> {
        let links = self.relations.as_ref().map(|r| &r.links);
        links.map_or(Vec::new(), |links| {
            let mut to = links.keys();
            to.retain(|peer| links.get(*peer) == Some(&Link::Active));
            to
        })
    }

    /// Returns whether it is linked to another process. A link along which the exit signal has
    /// already arrived does not count.
    pub fn is_linked(&self, to: Pid) -> bool {
        let links = self.relations.as_ref().map(|r| &r.links);
        links.is_some_and(|links| links.get(to) == Some(&Link::Active))
    }

    /// Returns the numbers of links (including those whose unlink is not acknowledged yet), of its
    /// monitors and pending requests, and of other processes' monitors and requests that refer to
    /// it.
    pub fn relation_counts(&self) -> (usize, usize, usize) {
        self.relations.as_ref().map_or((0, 0, 0), |r| {
            (r.links.len(), r.monitors.len(), r.watchers.len())
        })
    }
}
