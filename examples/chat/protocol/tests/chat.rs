//! The chat in a node with virtual time.
#![allow(clippy::unwrap_used, reason = "a test")]

use chat_protocol::{DoorClient, Said, UserClient, room, user};
use exuvia::test::Node;
use exuvia::{Match, Wait};

fn chat() -> Node {
    Node::start(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn enter(name: &str) -> UserClient {
    let door = DoorClient::whereis("door").unwrap();
    assert_eq!(door.enter(name.into()), Ok(Ok(user(name))));
    UserClient::whereis(&user(name)).unwrap()
}

fn words(user: UserClient) -> Vec<String> {
    let heard: Vec<Said> = user.heard().unwrap();
    let words = heard.into_iter();
    words
        .map(|said| format!("{}: {}", said.from, said.text))
        .collect()
}

#[test]
fn members_of_a_room_hear_only_each_other() {
    let node = chat();
    let [anna, ben, carla] = ["anna", "ben", "carla"].map(enter);
    anna.line("/join kitchen".into()).unwrap();
    ben.line("/join kitchen".into()).unwrap();
    carla.line("/join hall".into()).unwrap();
    anna.line("is there any \"soup\"?".into()).unwrap();
    ben.line("/leave".into()).unwrap();
    anna.line("hello?".into()).unwrap();
    assert_eq!(
        words(anna),
        [
            "anna: (joins)",
            "ben: (joins)",
            "anna: is there any \"soup\"?",
            "ben: (leaves)",
            "anna: hello?"
        ]
    );
    assert_eq!(
        words(ben),
        [
            "ben: (joins)",
            "anna: is there any \"soup\"?",
            "ben: (leaves)"
        ]
    );
    assert_eq!(words(carla), ["carla: (joins)"]);
    // It is also shown on the terminals.
    let lines = node.events();
    let shown = |text: &str| lines.iter().filter(|line| line.ends_with(text)).count();
    assert_eq!(shown("[kitchen] anna: hello?"), 1);
    assert_eq!(shown("[kitchen] ben: (joins)"), 2);
}

#[test]
fn a_user_who_leaves_is_gone_from_rooms_and_door() {
    let _node = chat();
    let [anna, ben] = ["anna", "ben"].map(enter);
    for user in [anna, ben] {
        user.line("/join kitchen".into()).unwrap();
    }
    let door = DoorClient::whereis("door").unwrap();
    assert_eq!(door.who(), Ok(vec!["anna".into(), "ben".into()]));
    assert_eq!(
        door.enter("anna".into()),
        Ok(Err("anna is here already".into()))
    );
    let monitor = anna.pid().monitor().unwrap();
    anna.line("/quit".into()).unwrap();
    exuvia::receive(Match::Reference(monitor), Wait::Forever).unwrap();
    // The same after a crash.
    ben.pid().kill().unwrap();
    assert_eq!(door.who(), Ok(vec![]));
    assert_eq!(room("kitchen").size(), Ok(0));
    enter("anna");
}

#[test]
fn names_and_lines_are_checked() {
    let node = chat();
    let door = DoorClient::whereis("door").unwrap();
    for name in ["", "a b", "\u{1b}[31m", &"x".repeat(33)] {
        assert!(door.enter(name.into()).unwrap().is_err(), "{name}");
    }
    let anna = enter("anna");
    for line in ["hello", "/dance", "/join ", "/join"] {
        anna.line(line.into()).unwrap();
    }
    assert_eq!(words(anna), [""; 0]);
    let warnings = node.events();
    assert!(
        warnings
            .iter()
            .any(|line| line.contains("join a room first"))
    );
    assert!(
        warnings
            .iter()
            .any(|line| line.contains("there is no /dance"))
    );
}
