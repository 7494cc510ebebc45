//! Children that a process asks a supervisor for.

use exuvia_node::{Filter, Node, Pid};
use serde::Serialize;

use super::*;
use crate::puppet::Puppet;

/// The supervisors of an app that has just booted, from the root on.
fn supervisors(node: &Node) -> Vec<Pid> {
    let all = node.processes(&Filter::default());
    // The first is the app itself.
    let natives = all.iter().filter(|it| it.module.is_none()).skip(1);
    natives.map(|it| node.find(&it.pid).unwrap()).collect()
}

/// Asks a supervisor for one more child, a puppet.
fn ask_for(node: &Node, supervisor: Pid, module: &str, name: &str) -> Puppet {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Ask<'a> {
        StartChild(Child<'a>),
    }
    let ask = Ask::StartChild(Child {
        id: name,
        module,
        name,
        args: "",
    });
    let ask = rmp_serde::to_vec_named(&ask).unwrap();
    let reply = node.call(supervisor, 0, ask, STOP).unwrap();
    let text = String::from_utf8_lossy(&reply.payload).into_owned();
    assert!(text.contains("started"), "{text}");
    Puppet::of(node, node.find(name).unwrap())
}

#[test]
fn a_child_started_on_request_has_the_limits_of_its_module() {
    // Of the manifest's supervisors, nested or not: that of `roomy`, not of the
    // others.
    let app = boot(
        r#"
[modules.roomy]
path = "puppet.wasm"
limits = { memory = "256KiB" }
[limits]
memory = "128KiB"
[[supervisor.children]]
id = "below"
[supervisor.children.supervisor]
"#,
    );
    let node = app.node();
    let supervisors = supervisors(node);
    assert_eq!(supervisors.len(), 2);
    for (supervisor, name) in supervisors.into_iter().zip(["outer", "inner"]) {
        let child = ask_for(node, supervisor, "roomy", name);
        // From one page to four, and no further.
        assert_eq!(child.act("grow", &[3], b"").result, 1, "{name}");
        assert_eq!(child.act("grow", &[1], b"").result, -1, "{name}");
    }
    assert!(app.stop(STOP).orderly);
    // Those of a guest's supervisor have the guest's.
    let a = four_pages();
    let supervisor = start(&a, &spec("one_for_one", &[])).ok().pid;
    let child = ask_for(&a.node, supervisor, "puppet", "more");
    assert_eq!(child.act("grow", &[3], b"").result, 1);
    assert_eq!(child.act("grow", &[1], b"").result, -1);
    a.node.halt();
}
