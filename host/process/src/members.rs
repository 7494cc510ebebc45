//! The members of a group: a list with cheap snapshots. It is a tree of small nodes; a change to a
//! shared tree copies the nodes on the path to the changed place, not all members.

use std::slice;
use std::sync::Arc;

use exuvia_abi::Pid;

/// Entries of a node, and the number of index bits that select among them.
const WIDTH: usize = 1 << BITS;
const BITS: u32 = 6;

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Pid>),
    Inner(Vec<Arc<Node>>),
}

impl Node {
    fn new(height: u32) -> Node {
        match height {
            0 => Node::Leaf(Vec::new()),
            _ => Node::Inner(Vec::new()),
        }
    }

    /// Returns the leaf that contains the index.
    fn leaf(&self, height: u32, at: usize) -> &[Pid] {
        match self {
            Node::Leaf(pids) => pids,
            Node::Inner(nodes) => match nodes.get(child(height, at)) {
                Some(node) => node.leaf(height - 1, at),
                None => &[],
            },
        }
    }

    /// Returns the same leaf for modification; creates it if it does not exist yet.
    fn leaf_mut(&mut self, height: u32, at: usize) -> &mut Vec<Pid> {
        match self {
            Node::Leaf(pids) => pids,
            Node::Inner(nodes) => {
                let child = child(height, at);
                if child == nodes.len() {
                    nodes.push(Arc::new(Node::new(height - 1)));
                }
                Arc::make_mut(&mut nodes[child]).leaf_mut(height - 1, at)
            }
        }
    }

    /// Removes the last member. Returns whether nothing is left.
    fn pop(&mut self) -> bool {
        match self {
            Node::Leaf(pids) => {
                pids.pop();
                pids.is_empty()
            }
            Node::Inner(nodes) => {
                if let Some(last) = nodes.last_mut()
                    && Arc::make_mut(last).pop()
                {
                    nodes.pop();
                }
                nodes.is_empty()
            }
        }
    }
}

/// Returns the entry of a node under which an index lies.
fn child(height: u32, at: usize) -> usize {
    (at >> (BITS * height)) % WIDTH
}

/// The members of a group at one moment, in no particular order. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Members {
    root: Arc<Node>,
    /// The tree's height; 0: the root is a leaf.
    height: u32,
    len: usize,
}

impl Default for Members {
    fn default() -> Members {
        Members {
            root: Arc::new(Node::new(0)),
            height: 0,
            len: 0,
        }
    }
}

impl Members {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns an iterator over all members.
    pub fn iter(&self) -> Iter<'_> {
        self.from(0)
    }

    /// Returns an iterator that starts at an index, to process members in parts.
    pub fn from(&self, at: usize) -> Iter<'_> {
        Iter {
            members: self,
            next: at,
            leaf: [].iter(),
        }
    }

    pub(crate) fn push(&mut self, pid: Pid) {
        if self.len == WIDTH << (BITS * self.height) {
            let below = std::mem::replace(&mut self.root, Arc::new(Node::new(1)));
            self.root = Arc::new(Node::Inner(vec![below]));
            self.height += 1;
        }
        let root = Arc::make_mut(&mut self.root);
        root.leaf_mut(self.height, self.len).push(pid);
        self.len += 1;
    }

    /// Removes the member at an index. The last member takes its place and is returned, unless it
    /// was the one removed.
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<Pid> {
        let last = self.len.checked_sub(1)?;
        let moved = self.from(last).next().copied();
        Arc::make_mut(&mut self.root).pop();
        self.len = last;
        while self.height > 0 && self.len <= WIDTH << (BITS * (self.height - 1)) {
            let first = match &*self.root {
                Node::Inner(nodes) => nodes.first().cloned(),
                Node::Leaf(_) => None,
            };
            self.root = first.unwrap_or_else(|| Arc::new(Node::new(self.height - 1)));
            self.height -= 1;
        }
        if at == last {
            return None;
        }
        let moved = moved?;
        let root = Arc::make_mut(&mut self.root);
        *root.leaf_mut(self.height, at).get_mut(at % WIDTH)? = moved;
        Some(moved)
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Pid;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// An iterator over members.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    members: &'a Members,
    /// The index of the member after `leaf`.
    next: usize,
    leaf: slice::Iter<'a, Pid>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Pid;

    fn next(&mut self) -> Option<&'a Pid> {
        if let Some(pid) = self.leaf.next() {
            return Some(pid);
        }
        if self.next >= self.members.len {
            return None;
        }
        let leaf = self.members.root.leaf(self.members.height, self.next);
        self.leaf = leaf.get(self.next % WIDTH..).unwrap_or_default().iter();
        self.next += self.leaf.len();
        self.leaf.next()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(members: &Members) -> Vec<u64> {
        members.iter().map(|pid| pid.local).collect()
    }

    fn pid(number: u64) -> Pid {
        Pid {
            node: 1,
            local: number,
        }
    }

    #[test]
    fn a_snapshot_shares_all_but_the_changed_path() {
        let mut members = Members::default();
        for number in 0..300_000 {
            members.push(pid(number));
        }
        let kept = members.clone();
        members.push(pid(300_000));
        members.swap_remove(7);
        assert_eq!((kept.len(), members.len()), (300_000, 300_000));
        fn nodes<'a>(node: &'a Arc<Node>, found: &mut Vec<&'a Arc<Node>>) {
            found.push(node);
            if let Node::Inner(below) = &**node {
                below.iter().for_each(|node| nodes(node, found));
            }
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        nodes(&kept.root, &mut before);
        nodes(&members.root, &mut after);
        let new = |node: &&&Arc<Node>| !before.iter().any(|old| Arc::ptr_eq(old, node));
        // The root, and two paths down from it.
        assert!(after.iter().filter(new).count() <= 7, "of {}", after.len());
    }

    proptest! {
        #[test]
        fn it_is_a_list(
            count in 0..9_000usize,
            acts in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
            grows in any::<u64>(),
        ) {
            let mut members = Members::default();
            let mut model = Vec::new();
            for number in 0..count as u64 {
                members.push(pid(number));
                model.push(number);
            }
            let (kept, then) = (members.clone(), model.clone());
            for (turn, act) in acts.iter().enumerate() {
                if grows >> turn & 1 == 1 || model.is_empty() {
                    members.push(pid(turn as u64));
                    model.push(turn as u64);
                } else {
                    let at = act.index(model.len());
                    let moved = members.swap_remove(at);
                    model.swap_remove(at);
                    prop_assert_eq!(moved.map(|pid| pid.local), model.get(at).copied());
                }
                prop_assert_eq!(members.len(), model.len());
            }
            prop_assert_eq!(all(&members), model.clone());
            let from = model.len() / 2;
            let rest: Vec<u64> = members.from(from).map(|pid| pid.local).collect();
            prop_assert_eq!(&rest[..], &model[from..]);
            prop_assert_eq!(all(&kept), then);
        }

        #[test]
        fn it_can_be_emptied(count in 0..5_000usize) {
            let mut members = Members::default();
            for number in 0..count as u64 {
                members.push(pid(number));
            }
            for left in (0..count).rev() {
                members.swap_remove(0);
                prop_assert_eq!(members.len(), left);
            }
            prop_assert!(all(&members).is_empty() && members.height == 0);
        }
    }
}
