//! When `receive` asks the host, and when what is known of the mail answers it.

use exuvia_abi::{Code, SUSPEND, receive};
use exuvia_instrument::{EXPORT_ENTER, EXPORT_MAIL, MAIL_UNKNOWN};
use wasmtime::Val;

use crate::harness::{End, Guest, rewrite};

/// Takes messages, after `spin` turns of a loop each, until an answer is not 0;
/// answers that.
const TAKES: &str = r#"(module
    (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
    (global $timeout (export "timeout") (mut i64) (i64.const 0))
    (global $mode (export "mode") (mut i32) (i32.const 0))
    (global $spin (export "spin") (mut i32) (i32.const 0))
    (func (export "run") (result i32) (local $answer i32) (local $left i32)
        (loop $next
            (local.set $left (global.get $spin))
            (loop $spin
                (br_if $spin (i32.ge_s (local.tee $left (i32.sub (local.get $left) (i32.const 1))) (i32.const 0))))
            (local.set $answer (call $receive (i32.const 1) (i32.const 2) (i32.const 3)
                (global.get $timeout) (global.get $mode) (i64.const 0)))
            (br_if $next (i32.eqz (local.get $answer))))
        (local.get $answer)))"#;

const EMPTY: i32 = Code::Empty as i32;

struct Entry {
    answer: i32,
    asked: usize,
    /// What is known of the mail afterwards.
    mail: i32,
}

fn enter(mail: i32, settings: &[(&str, Val)], answers: &[i32]) -> Entry {
    let (_, output) = rewrite(TAKES);
    let mut guest = Guest::metered(&output, 1_000);
    for (name, value) in settings {
        let global = guest.instance.get_global(&mut guest.store, name).unwrap();
        global.set(&mut guest.store, *value).unwrap();
    }
    guest.store.data_mut().answers.extend(answers);
    let End::Values(values) = guest.call(EXPORT_ENTER, &[Val::I32(mail)]) else {
        panic!("it does not return");
    };
    let known = guest.instance.get_global(&mut guest.store, EXPORT_MAIL);
    let number = |text: &str| text[4..text.len() - 1].parse().unwrap();
    Entry {
        answer: number(&values[0]),
        asked: guest.store.data().calls.len(),
        mail: known.unwrap().get(&mut guest.store).unwrap_i32(),
    }
}

#[test]
fn the_host_is_not_called_when_all_known_messages_are_taken() {
    for messages in 0..4 {
        let answers = vec![0; messages];
        let entry = enter(i32::try_from(messages).unwrap(), &[], &answers);
        assert_eq!((entry.answer, entry.asked), (EMPTY, messages));
    }
}

#[test]
fn the_host_is_called_when_the_mailbox_is_unknown() {
    for messages in 0..4 {
        let mut answers = vec![0; messages];
        answers.push(EMPTY);
        let entry = enter(MAIL_UNKNOWN, &[], &answers);
        assert_eq!((entry.answer, entry.asked), (EMPTY, messages + 1));
    }
}

#[test]
fn waiting_and_selective_receives_always_call_the_host() {
    let waits = ("timeout", Val::I64(-1));
    let by_tag = ("mode", Val::I32(receive::TAG));
    let upgrade = ("mode", Val::I32(receive::UPGRADE));
    for setting in [waits, by_tag, upgrade] {
        let entry = enter(0, &[setting], &[0, EMPTY]);
        assert_eq!((entry.answer, entry.asked), (EMPTY, 2), "{setting:?}");
    }
}

/// Of two messages one is taken; then the host says something else.
#[test]
fn a_result_without_a_message_changes_no_count() {
    let too_big = Code::TooBig as i32;
    let entry = enter(2, &[], &[0, too_big]);
    assert_eq!((entry.answer, entry.asked), (too_big, 2));
}

#[test]
fn nothing_is_known_after_a_wait() {
    let entry = enter(1, &[("mode", Val::I32(receive::TAG))], &[SUSPEND, EMPTY]);
    assert_eq!((entry.answer, entry.asked), (EMPTY, 2));
    let entry = enter(1, &[], &[SUSPEND, 0, EMPTY]);
    assert_eq!((entry.answer, entry.asked), (EMPTY, 3));
}

#[test]
fn nothing_is_known_after_a_yield() {
    // Without the yields one message would have been all.
    let entry = enter(1, &[("spin", Val::I32(5_000))], &[0, 0, EMPTY]);
    assert_eq!((entry.answer, entry.asked), (EMPTY, 3));
}

#[test]
fn nothing_is_known_between_two_entries() {
    assert_eq!(enter(3, &[], &[0, EMPTY]).mail, MAIL_UNKNOWN);
    assert_eq!(enter(0, &[], &[]).mail, MAIL_UNKNOWN);
}
