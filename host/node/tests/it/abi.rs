//! The host calls as `guest-sdk/abi.md` describes them, one behaviour a test.

mod calls;
mod names;
mod receiving;
mod relations;
mod spawning;
mod time;

use exuvia_node::Node;

use crate::guests::{deploy, node};
use crate::puppet::{self, Puppet};

fn with_puppets() -> Node {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    node
}

fn two() -> (Node, Puppet, Puppet) {
    let node = with_puppets();
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    (node, a, b)
}
