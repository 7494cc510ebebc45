//! What is built on exceptions of Wasm: those of C++, `setjmp` of C, and Lua, which is built on that. `guest-sdk/c/build.sh`
//! builds the guests.

use exuvia_node::Pid;
use exuvia_node::abi::Reason;
use rmpv::Value;

use super::guest::{Guest, message};
use super::{ALL, built};
use crate::layout::is_wide;

/// A process of a guest of the C SDK, if that is built.
fn guest(file: &str) -> Option<(Guest, Pid)> {
    if is_wide() {
        return None;
    }
    let folder = built("c")?;
    if !folder.join(format!("{file}.wasm")).is_file() {
        assert!(std::env::var_os(ALL).is_none(), "{file} is not built");
        eprintln!(
            "skipped: {file} is not built: its compiler is missing, see guest-sdk/c/build.sh"
        );
        return None;
    }
    let guest = Guest::new(&folder);
    guest.deploy_from(&folder, file).unwrap();
    let pid = guest.start();
    Some((guest, pid))
}

fn add(by: i64) -> Vec<u8> {
    message("Add", &[("by", by.into())])
}

#[test]
fn cplusplus_catches_what_it_throws() {
    let Some((guest, pid)) = guest("exceptions") else {
        return;
    };
    for round in 1..=1_000 {
        assert_eq!(
            guest.ask(pid, "Add", &[("by", 2.into())]),
            Value::from(2 * round)
        );
        assert_eq!(guest.refused(pid, add(-5)), "cannot add -5");
    }
    // Two scopes were left in each request, by a return or by an exception.
    assert_eq!(guest.ask(pid, "Destroyed", &[]), Value::from(4_000));
    println!("image of an idle process: {} B", guest.image(pid));
    let (code, text) = guest.end(pid, || {
        let ended = guest.try_ask(pid, add(13));
        assert!(ended.is_err(), "nothing catches a number");
    });
    assert_eq!(code, Reason::TRAP.0, "{text}");
    assert!(
        text.starts_with("an exception that nothing has caught"),
        "{text}"
    );
    assert!(text.contains("exceptions.cc:"), "{text}");
    guest.node.halt();
}

#[test]
fn c_comes_back_by_longjmp() {
    let Some((guest, pid)) = guest("longjmp") else {
        return;
    };
    for round in 1..=1_000 {
        assert_eq!(
            guest.ask(pid, "Add", &[("by", 2.into())]),
            Value::from(2 * round)
        );
        assert_eq!(guest.refused(pid, add(-5)), "longjmp brought 42");
    }
    guest.node.halt();
}

#[test]
fn lua_is_a_guest() {
    let Some((guest, pid)) = guest("lua") else {
        return;
    };
    let run = |pid: Pid, chunk: &str| guest.ask(pid, "Run", &[("chunk", chunk.into())]);
    let fails = |chunk: &str| guest.refused(pid, message("Run", &[("chunk", chunk.into())]));
    assert_eq!(run(pid, "count = 40; return count"), Value::from(40));
    assert_eq!(fails("error('no')"), "chunk:1: no");
    assert!(fails("local function f() return 1 + f() end return f()").contains("stack overflow"));
    assert!(fails("return return").contains("unexpected symbol"));
    assert_eq!(
        fails("local t = nil; return t.x"),
        "chunk:1: attempt to index a nil value (local 't')"
    );
    // An error that Lua itself catches, in a coroutine.
    let caught = "local co = coroutine.wrap(function() local ok, why = pcall(error, {code = 2}); count = count + why.code; return count end) return co()";
    assert_eq!(run(pid, caught), Value::from(42));
    assert_eq!(
        run(pid, "return ('%d apples'):format(count)"),
        Value::from("42 apples")
    );
    // Each has a state of its own, and the started interpreter is in the base of all.
    let others: Vec<Pid> = (0..100).map(|_| guest.start()).collect();
    for (other, number) in others.iter().zip(0..) {
        run(*other, &format!("count = {number}"));
    }
    for (other, number) in others.iter().zip(0..) {
        assert_eq!(run(*other, "return count"), Value::from(number));
    }
    println!("image of an idle process: {} B", guest.image(others[50]));
    guest.node.halt();
}
