//! The shop in a node with virtual time: sessions, and carts that change their form.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::time::Duration;

use cart_protocol::{CartClient, ShopClient};
use exuvia::test::Node;

/// The number of full carts when code is swapped.
const SESSIONS: usize = 30;

fn shop() -> Node {
    Node::start(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cart(session: &str) -> CartClient {
    let shop = ShopClient::whereis("shop").unwrap();
    CartClient::new(shop.cart(session.into()).unwrap().unwrap())
}

fn sessions() -> usize {
    ShopClient::whereis("shop").unwrap().sessions().unwrap()
}

fn add(session: &str, things: &[&str]) {
    for thing in things {
        assert_eq!(cart(session).add((*thing).into()), Ok(Ok(())));
    }
}

fn items(session: &str) -> Vec<(String, u32)> {
    let items = cart(session).items().unwrap().into_iter();
    items.map(|item| (item.thing, item.count)).collect()
}

fn of(items: &[(&str, u32)]) -> Vec<(String, u32)> {
    let items = items.iter();
    items
        .map(|(thing, count)| ((*thing).into(), *count))
        .collect()
}

fn version(number: u32) -> PathBuf {
    let versions = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/versions");
    PathBuf::from(versions).join(format!("cart_cart-v{number}.wasm"))
}

#[test]
fn a_session_has_a_cart_until_it_is_forgotten() {
    let node = shop();
    add("anna", &["apple", "pear", "apple"]);
    add("ben", &["nut"]);
    cart("anna").remove("pear".into()).unwrap();
    assert_eq!(items("anna"), of(&[("apple", 2)]));
    node.advance(Duration::from_secs(59 * 60));
    assert_eq!(items("anna"), of(&[("apple", 2)]));
    assert_eq!(sessions(), 2);
    // Ben has not used his cart for an hour.
    node.advance(Duration::from_secs(60));
    assert_eq!(sessions(), 1);
    node.advance(Duration::from_secs(60 * 60));
    assert_eq!(sessions(), 0);
    assert_eq!(items("anna"), of(&[]));
}

#[test]
fn full_carts_are_upgraded_and_rolled_back() {
    let node = shop();
    for number in 0..SESSIONS {
        add(&format!("session-{number}"), &["apple", "pear", "apple"]);
    }
    let all = |expected: &[(&str, u32)]| {
        for number in 0..SESSIONS {
            assert_eq!(items(&format!("session-{number}")), of(expected));
        }
    };
    // Expand.
    let line = node.swap("cart", version(2)).unwrap();
    assert!(line.contains(&format!("{SESSIONS} migrated")), "{line}");
    all(&[("apple", 2), ("pear", 1)]);
    add("session-7", &["nut"]);
    // Roll back, with what was added meanwhile, and forward again.
    node.rollback().unwrap();
    assert_eq!(node.version(cart("session-7").pid()), "cart@1");
    assert_eq!(
        items("session-7"),
        of(&[("apple", 2), ("nut", 1), ("pear", 1)])
    );
    cart("session-7").remove("nut".into()).unwrap();
    node.swap("cart", version(2)).unwrap();
    all(&[("apple", 2), ("pear", 1)]);
    // Contract: the list is gone, and the timers keep running.
    node.swap("cart", version(3)).unwrap();
    all(&[("apple", 2), ("pear", 1)]);
    node.advance(Duration::from_secs(3_600));
    assert_eq!(sessions(), 0);
}

/// A swap that would lose the contents of carts is refused, and nothing changes.
#[test]
fn a_rollback_fails_if_the_old_form_is_gone() {
    let node = shop();
    add("anna", &["apple"]);
    node.swap("cart", version(2)).unwrap();
    node.swap("cart", version(3)).unwrap();
    let refused = node.swap("cart", version(1)).unwrap_err();
    assert!(refused.contains("things"), "{refused}");
    assert_eq!(node.version(cart("anna").pid()), "cart@3");
    assert_eq!(items("anna"), of(&[("apple", 1)]));
}
