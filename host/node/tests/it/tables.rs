//! Tables: rows, access rights, and what becomes of tables when their owner ends.

use exuvia_node::abi::{Code, Kind, limits, table};
use exuvia_node::{Limits, Node, Pid, SpawnOptions};

use crate::actors::{X, cast, counts, handles, post};
use crate::guests::{ask, deploy, node, spawn};
use crate::puppet::{self, DATA, Puppet};

fn two() -> (Node, Puppet, Puppet) {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    (node, a, b)
}

#[test]
fn rows_are_inserted_looked_up_and_deleted_in_order() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PROTECTED).ok().reference;
    assert_eq!(a.row("table_get", t, b"pears"), None);
    assert_eq!(a.put(t, b"pears", b"3", 0).result, 0);
    assert_eq!(a.put(t, b"apples", b"", 0).result, 0);
    assert_eq!(a.put(t, b"pears", b"4", 0).result, 1);
    assert_eq!(a.put(t, b"pears", b"5", table::NEW).result, 1);
    assert_eq!(a.put(t, b"zebras", &[7; 900], table::NEW).result, 0);
    assert_eq!(b.row("table_get", t, b"pears").unwrap(), b"4");
    assert_eq!(b.row("table_get", t, b"apples").unwrap(), b"");
    assert_eq!(b.row("table_get", t, b"zebras").unwrap(), [7; 900]);
    let mut keys = Vec::new();
    let mut last = Vec::new();
    while let Some(next) = b.row("table_next", t, &last) {
        keys.push(next.clone());
        last = next;
    }
    assert_eq!(keys, [&b"apples"[..], b"pears", b"zebras"]);
    assert_eq!(b.row("table_next", t, b"b").unwrap(), b"pears");
    let info = |what: i32| {
        b.act("table_info", &[t.cast_signed(), what.into()], b"")
            .result
    };
    assert_eq!(info(table::ROWS), 3);
    assert_eq!(info(table::BYTES), 3 * 96 + 6 + 5 + 1 + 6 + 900);
    assert_eq!(a.key("table_delete", t, b"pears").result, 1);
    assert_eq!(a.key("table_delete", t, b"pears").result, 0);
    assert_eq!(info(table::ROWS), 2);
    // If the buffer is too small, the length is returned.
    let done = b.act(
        "table_get",
        &[t.cast_signed(), DATA, 6, puppet::BUFFER, 10],
        b"zebras",
    );
    assert_eq!((done.result, done.buffer()[0]), (900, 0));
    node.halt();
}

#[test]
fn a_counter_is_incremented() {
    let (node, a, b) = two();
    let t = a.table("", table::PUBLIC).ok().reference;
    let sum = |puppet: &Puppet, amount| puppet.add(t, b"hits", amount).ok().reference.cast_signed();
    assert_eq!(sum(&a, 5), 5);
    assert_eq!(sum(&b, -7), -2);
    assert_eq!(sum(&b, i64::MIN), i64::MAX - 1);
    a.put(t, b"text", b"no number", 0);
    a.add(t, b"text", 1).is(Code::BadArgument);
    node.halt();
}

#[test]
fn access_rights_are_enforced() {
    let (node, a, b) = two();
    let t = |access| a.table("", access).ok().reference;
    let (protected, private, public) = (t(table::PROTECTED), t(table::PRIVATE), t(table::PUBLIC));
    for table in [protected, private, public] {
        a.put(table, b"k", b"v", 0);
    }
    b.put(protected, b"k", b"w", 0).is(Code::Denied);
    b.key("table_delete", protected, b"k").is(Code::Denied);
    b.add(protected, b"n", 1).is(Code::Denied);
    assert_eq!(b.row("table_get", protected, b"k").unwrap(), b"v");
    b.put(private, b"k", b"w", 0).is(Code::Denied);
    b.act("table_get", &[private.cast_signed(), DATA, 1, 0, 0], b"k")
        .is(Code::Denied);
    b.act("table_next", &[private.cast_signed(), DATA, 0, 0, 0], b"k")
        .is(Code::Denied);
    assert_eq!(b.put(public, b"k", b"w", 0).result, 1);
    // Nor may others end it, give it, or name its heir.
    b.act("table_end", &[public.cast_signed()], b"")
        .is(Code::Denied);
    b.table_to("table_give", public, b.pid, 1)
        .is(Code::BadArgument);
    b.table_to("table_give", public, a.pid, 1).is(Code::Denied);
    b.table_to("table_heir", public, b.pid, 1).is(Code::Denied);
    a.table("", 3).is(Code::BadArgument);
    a.put(public, b"", b"v", 0).is(Code::BadArgument);
    a.put(public, &[1; limits::TABLE_KEY as usize + 1], b"v", 0)
        .is(Code::BadArgument);
    a.put(public, b"k", b"v", 2).is(Code::BadArgument);
    a.put(9_999, b"k", b"v", 0).is(Code::NoProc);
    node.halt();
}

fn find(puppet: &Puppet, name: &str) -> puppet::Done {
    let length = i64::try_from(name.len()).unwrap();
    puppet.act(
        "table_find",
        &[DATA, length, puppet::REFERENCE],
        name.as_bytes(),
    )
}

#[test]
fn a_table_ends_with_its_owner_and_frees_its_name() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PUBLIC).ok().reference;
    assert_eq!(find(&b, "stock").ok().reference, t);
    b.table("stock", table::PUBLIC).is(Code::NameTaken);
    // A table's name is no process's.
    b.name("register", b"stock", b.pid).ok();
    a.kill();
    find(&b, "stock").is(Code::NoProc);
    b.put(t, b"k", b"v", 0).is(Code::NoProc);
    let again = b.table("stock", table::PUBLIC).ok().reference;
    assert_ne!(again, t);
    let inspected = node.inspect(b.pid).unwrap().0;
    assert_eq!(inspected.tables.len(), 1);
    assert_eq!(inspected.tables[0].name.as_deref(), Some("stock"));
    b.act("table_end", &[again.cast_signed()], b"").ok();
    find(&b, "stock").is(Code::NoProc);
    node.halt();
}

#[test]
fn an_heir_gets_the_table_and_a_message() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PROTECTED).ok().reference;
    a.put(t, b"pears", b"3", 0);
    a.table_to("table_heir", t, b.pid, 77).ok();
    b.has_nothing();
    a.kill();
    let got = b.wait().message(Kind::Table, b"");
    assert_eq!((got.sender, got.message, got.tag), (a.pid, t, 77));
    assert_eq!(b.put(t, b"pears", b"4", 0).result, 1);
    // The heir has none of its own yet.
    b.kill();
    let c = Puppet::new(&node);
    find(&c, "stock").is(Code::NoProc);
    node.halt();
}

#[test]
fn a_table_whose_heir_has_ended_is_deleted() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PROTECTED).ok().reference;
    a.table_to("table_heir", t, b.pid, 77).ok();
    b.kill();
    a.kill();
    let c = Puppet::new(&node);
    find(&c, "stock").is(Code::NoProc);
    node.halt();
}

#[test]
fn a_table_is_given_away() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PROTECTED).ok().reference;
    a.put(t, b"pears", b"3", 0);
    a.table_to("table_give", t, b.pid, 5).ok();
    let got = b.wait().message(Kind::Table, b"");
    assert_eq!((got.sender, got.message, got.tag), (a.pid, t, 5));
    a.put(t, b"pears", b"4", 0).is(Code::Denied);
    a.kill();
    assert_eq!(b.row("table_get", t, b"pears").unwrap(), b"3");
    b.table_to("table_give", t, a.pid, 5).is(Code::NoProc);
    assert_eq!(b.put(t, b"pears", b"4", 0).result, 1);
    node.halt();
}

fn limited(node: &Node, tables: u64) -> Puppet {
    let options = SpawnOptions {
        limits: Some(Limits {
            tables,
            ..Limits::default()
        }),
        ..SpawnOptions::default()
    };
    Puppet::of(node, node.spawn("puppet", b"", &options).unwrap())
}

#[test]
fn the_number_and_bytes_of_tables_are_limited() {
    let (node, a, b) = two();
    let small = limited(&node, 3 * 100);
    let one = small.table("", table::PUBLIC).ok().reference;
    let two = small.table("", table::PUBLIC).ok().reference;
    for (table, key) in [(one, b"abc"), (two, b"abc"), (two, b"abd")] {
        small.put(table, key, b"v", 0).ok();
    }
    small.put(one, b"abe", b"v", 0).is(Code::Limit);
    b.put(one, b"abe", b"v", 0).is(Code::Limit);
    b.add(one, b"n", 1).is(Code::Limit);
    // What is replaced or removed makes room.
    assert_eq!(small.put(two, b"abd", b"", 0).result, 1);
    small.put(two, b"abd", b"vv", 0).is(Code::Limit);
    small.key("table_delete", two, b"abd");
    small.put(one, b"abe", b"v", 0).ok();
    small.act("table_end", &[two.cast_signed()], b"").ok();
    small.put(one, b"abf", b"v", 0).ok();
    // Given away, they count for the new owner.
    small.table_to("table_give", one, a.pid, 0).ok();
    let three = small.table("", table::PUBLIC).ok().reference;
    for key in [b"abc", b"abd", b"abe"] {
        small.put(three, key, b"v", 0).ok();
    }
    small.put(three, b"abf", b"v", 0).is(Code::Limit);
    a.put(one, b"more", &[1; 500], 0).ok();
    for _ in 1..limits::TABLES {
        small.table("", table::PUBLIC).ok();
    }
    small.table("", table::PUBLIC).is(Code::Limit);
    a.table_to("table_give", one, small.pid, 0).is(Code::Limit);
    node.halt();
}

#[test]
fn a_table_survives_a_swap() {
    let (node, a, b) = two();
    let t = a.table("stock", table::PROTECTED).ok().reference;
    a.put(t, b"pears", b"3", 0);
    deploy(&node, "puppet", &puppet::text(2));
    assert_eq!(a.act("version", &[], b"").result, 2);
    assert_eq!(a.row("table_get", t, b"pears").unwrap(), b"3");
    assert_eq!(a.put(t, b"pears", b"4", 0).result, 1);
    assert_eq!(b.row("table_get", t, b"pears").unwrap(), b"4");
    node.halt();
}

/// Rows of the one that all share, whose number the actor has at 48.
fn shared(node: &Node, friend: &Puppet) -> u64 {
    let t = friend.table("puppet", table::PUBLIC).ok().reference;
    friend.put(t, b"new-name", &5i64.to_le_bytes(), 0);
    friend.put(t, b"old-name", b"old", 0);
    assert_eq!(node.system().tables.find("puppet"), Some(t));
    t
}

#[test]
fn tables_in_probation() {
    let (node, friend, actor) = cast(counts());
    let t = shared(&node, &friend);
    // Finds it, stores, adds, removes, makes one of its own.
    let message = [
        "(drop (call $table_find (i32.const 1024) (i32.const 6) (i32.const 48)))",
        "(drop (call $table_add (i64.load (i32.const 48)) (i32.const 1040) (i32.const 8) (i64.const 2) (i32.const 200)))",
        "(drop (call $table_delete (i64.load (i32.const 48)) (i32.const 1056) (i32.const 8)))",
        "(drop (call $table_put (i64.load (i32.const 48)) (i32.const 1072) (i32.const 8) (i32.const 1072) (i32.const 3) (i32.const 0)))",
        "(drop (call $table_new (i32.const 1040) (i32.const 8) (i32.const 0) (i32.const 200)))",
        X,
    ]
    .concat();
    deploy(&node, "actor", &handles(&message).text());
    let number = |key: &[u8]| friend.row("table_get", t, key);
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    assert_eq!(number(b"new-name").unwrap(), 5i64.to_le_bytes());
    assert_eq!(number(b"old-name").unwrap(), b"old");
    assert_eq!(number(b"too many"), None);
    find(&friend, "new-name").is(Code::NoProc);
    let second: Pid = spawn(&node, "actor", &friend.pid.to_bytes());
    post(&node, second, b"fine");
    ask(&node, second);
    assert_eq!(number(b"new-name").unwrap(), 7i64.to_le_bytes());
    assert_eq!(number(b"old-name"), None);
    assert_eq!(number(b"too many").unwrap(), b"too");
    find(&friend, "new-name").ok();
    node.halt();
}
