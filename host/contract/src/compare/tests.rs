//! What two modules tell of a swap, in the sentences that people read.

use super::{Code, Loss, Rollback, Way, compare};
use crate::protocol::functions;
use crate::state::StateContract;

/// A module that saves and loads, with these sections.
fn code(state: &str, protocol: &str) -> Code {
    let state = StateContract::parse(state.as_bytes());
    let schema = state.as_ref().unwrap().as_ref().map_or(0, |it| it.schema);
    Code {
        schema,
        has_save: true,
        has_load: true,
        state,
        functions: functions(protocol.as_bytes()),
    }
}

/// A module that saves and loads a state of this type.
fn state(head: &str, ty: &str) -> Code {
    code(&format!("{{{head}, \"type\": \"{ty}\"}}"), "")
}

fn differs() -> Result<(), String> {
    Err("the data segments differ".to_owned())
}

#[track_caller]
fn said(old: &Code, new: &Code) -> String {
    compare(old, new, differs()).state.to_string()
}

#[track_caller]
fn schema_1(old: &str, new: &str) -> String {
    let one = |ty| state("\"schema\": 1", ty);
    said(&one(old), &one(new))
}

#[test]
fn equal_fields_are_migrated_and_equal_memories_reused() {
    let one = state("\"schema\": 1", "{count: int, notes: List<text>}");
    let compared = compare(&one, &one, differs());
    assert_eq!(
        compared.state.to_string(),
        "migrated by `save` and `load`: schema 1 in both, and its fields fit"
    );
    assert!(compared.is_accepted() && compared.fields.is_empty());
    assert_eq!(compared.rollback, Rollback::Migrated);
    let compared = compare(&one, &one, Ok(()));
    assert_eq!(compared.state, Way::Reused);
    assert_eq!(compared.not_reused, None);
}

#[test]
fn a_field_that_does_not_fit_is_named_with_what_to_do() {
    for (old, new, part) in [
        (
            "{}",
            "{step: int}",
            "`step` is new and has no default: give it one, or raise the schema",
        ),
        (
            "{a: int}",
            "{a: text}",
            "`a` is text and was int: raise the schema and convert it in `load`",
        ),
        (
            "{a: Option<int>}",
            "{a: int}",
            "`a` is int and was Option<int>: raise",
        ),
        (
            "{a: List<{b: int}>}",
            "{a: List<{b: text}>}",
            "`a[].b` is text and was int",
        ),
        (
            "{a: Map<text, int>}",
            "{a: Map<int, int>}",
            "`a` is Map<int, int> and was",
        ),
        (
            "{a: Tuple<int, text>}",
            "{a: Tuple<int, int>}",
            "`a.1` is int and was text",
        ),
        (
            "{a: Tuple<int>}",
            "{a: Tuple<int, int>}",
            "`a` is Tuple<int, int> and was",
        ),
        (
            "{a: Enum<On, Off>}",
            "{a: Enum<On>}",
            "`a` could be `Off`, which `load` does not know",
        ),
        (
            "{a: Enum<On>}",
            "{a: Enum<On: int>}",
            "`a.On` is int and was a name alone",
        ),
        (
            "{a: Enum<On: int>}",
            "{a: Enum<On: text>}",
            "`a.On` is text and was int",
        ),
        (
            "{a: {b: text}}",
            "{a: Map<text, int>}",
            "`a` is Map<text, int> and was {b: text}",
        ),
        (
            "{a: List<text>}",
            "{a: bytes}",
            "`a` is bytes and was List<text>",
        ),
        (
            "{a: Enum<On, Off: int>}",
            "{a: text}",
            "`a` is text and was Enum<On, Off: int>",
        ),
        ("int", "text", "the state is text and was int"),
    ] {
        let said = schema_1(old, new);
        assert!(said.starts_with("refused: "), "{old} -> {new}: {said}");
        assert!(said.contains(part), "{old} -> {new}: {said}");
    }
}

#[test]
fn what_a_reader_takes_is_no_change_that_refuses() {
    for (old, new) in [
        ("{a: int}", "{a: float}"),
        ("{a: int}", "{a: Option<int>}"),
        ("{a: nil}", "{a: Option<int>}"),
        ("{a: int}", "{a: any}"),
        ("{a: text, b: pid}", "{a: bytes, b: bytes}"),
        ("{a: List<int>, b: Tuple<int, int>}", "{a: bytes, b: bytes}"),
        ("{a: Enum<On, Off>}", "{a: text}"),
        ("{a: Tuple<int, int>}", "{a: List<float>}"),
        ("{a: {b: int}}", "{a: Map<text, float>}"),
        ("{a: Map<text, int>}", "{a: Map<any, any>}"),
        ("{a: Enum<On>}", "{a: Enum<Off, On>}"),
        ("{a: Enum<On>}", "{a: Enum<Up|On>}"),
        ("{}", "{a?: int, b: Option<text>}"),
        ("{a: int}", "{b|a: int}"),
        ("{a: int, b: text}", "{a: int}"),
    ] {
        let said = schema_1(old, new);
        assert!(said.starts_with("migrated"), "{old} -> {new}: {said}");
        assert!(said.contains("its fields fit"), "{old} -> {new}: {said}");
    }
}

#[test]
fn types_that_cannot_be_compared_decide_nothing() {
    for (old, new) in [
        ("{a: 'Date'}", "{a: 'Time'}"),
        ("{a: any}", "{a: int}"),
        ("{a: Map<text, int>}", "{a: {b: int}}"),
        ("{a: bytes}", "{a: pid}"),
        ("{a: Option<int>}", "{a?: int}"),
        ("{a: List<'Byte'>}", "{a: bytes}"),
    ] {
        let said = schema_1(old, new);
        assert!(said.contains("not known"), "{old} -> {new}: {said}");
        assert!(
            said.contains("whether `a` can be read"),
            "{old} -> {new}: {said}"
        );
    }
    assert!(schema_1("{a: 'Date'}", "{a: 'Date'}").contains("its fields fit"));
}

#[test]
fn each_change_of_a_field_is_said() {
    let old = state("\"schema\": 1", "{count: int, owner: text, at: int}");
    let new = state("\"schema\": 1", "{total|count: int, step?: int, at: float}");
    let compared = compare(&old, &new, differs());
    let said: Vec<String> = compared.fields.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "`total` was `count`, under which `load` finds it",
            "`step` is new, and may be missing",
            "`at` is float and was int, which it reads",
            "`owner` is gone: what it holds is dropped; if it is still wanted, raise the schema and convert it in `load`",
        ]
    );
    // The way back has other answers.
    assert_eq!(
        compared.rollback.to_string(),
        "refused: the old code would not find or could not read `count`, `owner`, `at`; a process that has moved to the new code would stay on it"
    );
}

#[test]
fn a_part_that_is_not_read_is_dropped() {
    let old = state("\"schema\": 1", "{at: {x: int, y: int}}");
    let new = state("\"schema\": 1", "{at: Option<{x: int}>}");
    let compared = compare(&old, &new, differs());
    assert!(compared.is_accepted());
    assert_eq!(compared.fields[0].loss, Loss::Dropped);
    assert_eq!(
        compared.fields[0].to_string(),
        "`at` is Option<{x: int}> and was {x: int, y: int}, of which it reads a part: the rest is dropped; if it is still wanted, raise the schema and convert it in `load`"
    );
}

/// Some languages refuse a field that is there twice, others take one of the two.
#[test]
fn a_field_that_is_found_under_two_names_is_not_known_to_fit() {
    let old = state("\"schema\": 1", "{count: int, total: int}");
    let new = state("\"schema\": 1", "{total|count: int}");
    assert!(said(&old, &new).contains("whether `total` can be read"));
    let compared = compare(&old, &new, differs());
    let said: Vec<String> = compared.fields.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "`total` is found as `total` and as `count`: the modules do not tell which one `load` reads, or whether it refuses both; let it have one of these names, or raise the schema and convert it in `load`"
        ]
    );
}

#[test]
fn a_schema_is_taken_if_load_says_so() {
    let old = state("\"schema\": 1", "{count: int}");
    let own = state("\"schema\": 2", "{total: int}");
    assert_eq!(
        said(&old, &own),
        "refused: `load` takes schema 2, and the state has schema 1: convert schema 1 in `load`, and say that it takes it (`loads`)"
    );
    let listed = state("\"schema\": 2, \"loads\": [1]", "{total: int}");
    let compared = compare(&old, &listed, differs());
    assert_eq!(
        compared.state.to_string(),
        "migrated by `save` and `load`, which converts schema 1 to 2"
    );
    let fields: Vec<String> = compared.fields.iter().map(ToString::to_string).collect();
    assert_eq!(
        fields,
        [
            "`total` is new: `load` makes it",
            "`count` is gone: `load` converts it, or drops it"
        ]
    );
    let back = compared.rollback.to_string();
    assert!(
        back.contains("the old code does not take schema 2"),
        "{back}"
    );
    let any = state("\"schema\": 2, \"loads\": \"any\"", "{total: int}");
    assert!(said(&old, &any).contains("its `load` decides when it runs"));
    let by_name = state("\"schema\": 2, \"loads\": \"fields\"", "{total: int}");
    let why = "`total` is new and has no default: give it one, or convert it in `load`";
    assert!(said(&old, &by_name).contains(why));
    let fits = state("\"schema\": 2, \"loads\": \"fields\"", "{count: int}");
    assert!(said(&old, &fits).contains("by the names of its fields, and they fit"));
}

#[test]
fn what_load_converts_is_no_loss() {
    let old = state(
        "\"schema\": 1",
        "{at: int, mode: Enum<On, Off>, count: int, total: int, owner: text}",
    );
    let new = "{at: text, mode: Enum<On>, total|count: int, name|owner: text}";
    let new = state("\"schema\": 2, \"loads\": [[0, 1]]", new);
    let compared = compare(&old, &new, differs());
    assert!(compared.is_accepted());
    let said: Vec<String> = compared.fields.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "`at` is text and was int: `load` converts it",
            "`mode` could be `Off`, which is gone: `load` converts it",
            "`total` had several of its names: `load` converts them",
            "`name` was `owner`, under which `load` finds it",
        ]
    );
}

#[test]
fn what_would_happen_in_a_rollback_is_said() {
    let one = state("\"schema\": 1", "{count: int}");
    let any = state("\"schema\": 1", "{count: any}");
    let neither = Code {
        has_save: false,
        has_load: false,
        ..one.clone()
    };
    for (old, new, text) in [
        (&one, &one, "migrated by `save` and `load`"),
        (
            &one,
            &any,
            "the modules do not tell whether the old code takes the state back",
        ),
        (
            &neither,
            &neither,
            "refused: the new code exports no `save`; the old code exports no `load`; a process that has moved to the new code would stay on it",
        ),
    ] {
        let back = compare(old, new, differs()).rollback;
        assert_eq!(back.to_string(), text);
    }
    let back = compare(&neither, &neither, Ok(())).rollback;
    assert_eq!(back.to_string(), "reused");
}

#[test]
fn without_a_section_only_the_numbers_are_known() {
    let with = state("\"schema\": 1", "{count: int}");
    let without = Code {
        schema: 1,
        ..code("", "")
    };
    assert!(said(&without, &with).contains("the old code does not describe its state"));
    assert!(said(&with, &without).contains("the new code does not describe its state"));
    let other = Code {
        schema: 2,
        ..code("", "")
    };
    assert!(said(&with, &other).contains("`load` of schema 2 takes schema 1, which is not known"));
    // It need not describe its state for the new code to refuse its schema.
    assert!(said(&other, &with).starts_with("refused: `load` takes schema 1"));
}

#[test]
fn save_and_load_are_needed_unless_the_memory_is_reused() {
    let both = state("\"schema\": 1", "{}");
    let neither = Code {
        has_save: false,
        has_load: false,
        ..both.clone()
    };
    assert!(said(&neither, &both).contains("exports no `save`"));
    assert!(said(&both, &neither).contains("exports no `load`"));
    assert_eq!(compare(&neither, &neither, Ok(())).state, Way::Reused);
}

#[test]
fn a_section_that_cannot_be_read_is_reported_and_decides_nothing() {
    let good = state("\"schema\": 1", "{}");
    let bad = Code {
        state: Err("line 1: no".to_owned()),
        ..good.clone()
    };
    let compared = compare(&bad, &good, differs());
    assert_eq!(
        compared.unreadable,
        ["the section `exuvia.state` of the old code cannot be read: line 1: no"]
    );
    assert!(matches!(compared.state, Way::Undecided { .. }));
}

#[track_caller]
fn messages(old: &str, new: &str) -> Vec<(String, bool)> {
    let of = |protocol| code("", protocol);
    let compared = compare(&of(old), &of(new), differs());
    let changes = compared.messages.unwrap();
    (changes.iter())
        .map(|change| (change.to_string(), change.is_breaking()))
        .collect()
}

#[test]
fn each_change_of_a_message_is_said() {
    let line = |name: &str, parameters: &[(&str, &str)], reply: Option<&str>| {
        let parameters: Vec<_> = (parameters.iter())
            .map(|(name, ty)| serde_json::json!({ "name": name, "type": ty }))
            .collect();
        let mut line = serde_json::json!({ "name": name, "parameters": parameters });
        if let Some(reply) = reply {
            line["reply"] = reply.into();
        }
        line.to_string()
    };
    let add = |parameters: &[(&str, &str)]| line("add", parameters, None);
    let by = [("by", "i64")];
    for (old, new, part, breaking) in [
        (
            add(&by),
            add(&[("by", "String")]),
            "`add`: `by` is String and was i64, which is another type",
            true,
        ),
        (
            add(&by),
            add(&[("by", "f64")]),
            "`by` is f64 and was i64",
            false,
        ),
        (
            add(&by),
            add(&[("by", "i64"), ("at", "i64")]),
            "takes `at` too, which callers do not give yet",
            true,
        ),
        (
            add(&by),
            add(&[("by", "i64"), ("at", "Option<i64>")]),
            "may be left out",
            false,
        ),
        (
            add(&[("by", "i64"), ("at", "i64")]),
            add(&by),
            "takes no `at` any more",
            false,
        ),
        (add(&by), add(&[]), "has no parameters any more", true),
        (add(&[]), add(&by), "has parameters and had none", true),
        (
            add(&by),
            line("add", &by, Some("i64")),
            "is a request and was a message",
            true,
        ),
        (
            line("add", &by, Some("i64")),
            add(&by),
            "is a message and was a request",
            true,
        ),
        (
            line("add", &by, Some("i64")),
            line("add", &by, Some("text")),
            "the reply is text and was i64",
            true,
        ),
        (add(&by), line("plus", &by, None), "`add` is gone", true),
        (
            add(&by),
            format!("{}\n{}", add(&by), line("plus", &by, None)),
            "`plus` is new",
            false,
        ),
        (
            add(&[("by", "Foo")]),
            add(&[("by", "Bar")]),
            "`by` is Bar and was Foo: not compared",
            false,
        ),
        // These are a list of numbers and a binary, which `Vec<u8>` is not read from.
        (
            add(&[("by", "Bytes")]),
            add(&[("by", "Vec<u8>")]),
            "`by` is Vec<u8> and was Bytes, which is another type",
            true,
        ),
        (
            add(&[("by", "[u8; 4]")]),
            add(&[("by", "Bytes")]),
            "`by` is Bytes and was [u8; 4]: not compared",
            false,
        ),
        // Anybody may call a type so.
        (
            add(&[("by", "Value")]),
            add(&by),
            "`by` is i64 and was Value: not compared",
            false,
        ),
    ] {
        let found = messages(&old, &new);
        let hit = found.iter().find(|(text, _)| text.contains(part));
        assert_eq!(
            hit.map(|(_, breaking)| *breaking),
            Some(breaking),
            "{part}: {found:?}"
        );
    }
}

#[test]
fn languages_write_the_same_types_in_their_own_ways() {
    let of = |types: &[&str]| {
        let parameters: Vec<_> = (types.iter().enumerate())
            .map(|(at, ty)| serde_json::json!({ "name": at.to_string(), "type": ty }))
            .collect();
        serde_json::json!({ "name": "all", "parameters": parameters }).to_string()
    };
    let rust = of(&[
        "i64",
        "String",
        "Option<f64>",
        "Bytes",
        "Vec<String>",
        "Pid",
    ]);
    for other in [
        of(&["any"; 6]),
        of(&[
            "int64",
            "string",
            "Option<float64>",
            "[]byte",
            "[]string",
            "exuvia.Pid",
        ]),
        of(&["i64", "text", "Option<f64>", "Bytes", "[text]", "Pid"]),
        of(&["int", "text", "Option<float>", "bytes", "List<text>", "pid"]),
        of(&[
            "bigint",
            "text",
            "Option<number>",
            "binary",
            "[text]",
            "pid",
        ]),
    ] {
        assert!(
            messages(&rust, &other).is_empty(),
            "{:?}",
            messages(&rust, &other)
        );
    }
}

#[test]
fn modules_that_describe_no_messages_are_not_compared() {
    let none = code("", "");
    let some = code("", "{\"name\":\"get\"}");
    assert!(compare(&none, &some, differs()).messages.is_none());
    assert!(compare(&some, &none, differs()).messages.is_none());
}
