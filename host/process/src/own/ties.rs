//! What a process is to others, for whoever looks at it.

use exuvia_abi::Pid;

use super::Own;
use crate::relations::Link;

/// The relations of a process, and how it takes exits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    /// Who has started it, if that was a process.
    pub parent: Option<Pid>,
    /// Those it is linked to.
    pub links: Vec<Pid>,
    /// Those whose end, or whose reply, it waits for.
    pub monitors: Vec<Pid>,
    /// How many wait for its end, or its reply.
    pub watchers: usize,
    /// Exits of those it is linked to reach it as messages.
    pub trap_exit: bool,
}

impl<G> Own<G> {
    /// What it is to others.
    pub fn ties(&self) -> Ties {
        let relations = self.relations.as_ref();
        let mut monitors: Vec<Pid> = relations.map_or_else(Vec::new, |relations| {
            let references = relations.monitors.keys();
            let to = |reference| relations.monitors.get(reference).copied();
            references.into_iter().filter_map(to).collect()
        });
        monitors.sort_unstable_by_key(|pid| pid.local);
        monitors.dedup();
        let parent = self.lineage.as_ref().map(|lineage| lineage.parent);
        Ties {
            parent: parent.filter(|parent| *parent != Pid::NONE),
            links: self.links(),
            monitors,
            watchers: relations.map_or(0, |relations| relations.watchers.len()),
            trap_exit: self.trap_exit,
        }
    }

    /// Those this process is linked to.
    pub fn links(&self) -> Vec<Pid> {
        let links = self.relations.as_ref().map(|r| &r.links);
        links.map_or(Vec::new(), |links| {
            let mut to = links.keys();
            to.retain(|peer| links.get(*peer) == Some(&Link::Active));
            to
        })
    }

    /// Whether it is linked to another: not to one whose end it has been told along
    /// the link.
    pub fn is_linked(&self, to: Pid) -> bool {
        let links = self.relations.as_ref().map(|r| &r.links);
        links.is_some_and(|links| links.get(to) == Some(&Link::Active))
    }

    /// How many relations it has: links, with those whose unlinking was not
    /// answered yet; its monitors and requests under way; those of others that
    /// point here.
    pub fn relation_counts(&self) -> (usize, usize, usize) {
        self.relations.as_ref().map_or((0, 0, 0), |r| {
            (r.links.len(), r.monitors.len(), r.watchers.len())
        })
    }
}
