//! Any bytes may stand in a section: they are an error or a contract, and comparing two of them ends.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use exuvia_contract::{
    Code, Field, Loss, MAX_DEPTH, StateContract, Type, Variant, compare, functions,
};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-z_][a-z0-9_]{0,6}"
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Nil),
        Just(Type::Bool),
        Just(Type::Int),
        Just(Type::Float),
        Just(Type::Text),
        Just(Type::Bytes),
        Just(Type::Pid),
        Just(Type::Any),
        "[A-Za-z:<>, ]{0,9}".prop_map(Type::Other),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let field = (
            name(),
            prop::collection::vec(name(), 0..2),
            inner.clone(),
            any::<bool>(),
        );
        let field = field.prop_map(|(name, aliases, ty, default)| Field {
            name,
            aliases,
            ty,
            default,
        });
        let variant = (
            name(),
            prop::collection::vec(name(), 0..2),
            prop::option::of(inner.clone()),
        );
        let variant = variant.prop_map(|(name, aliases, content)| Variant {
            name,
            aliases,
            content,
        });
        prop_oneof![
            boxed.clone().prop_map(Type::Option),
            boxed.clone().prop_map(Type::List),
            (boxed.clone(), boxed).prop_map(|(key, value)| Type::Map(key, value)),
            prop::collection::vec(inner, 0..4).prop_map(Type::Tuple),
            prop::collection::vec(variant, 0..4).prop_map(Type::Enum),
            prop::collection::vec(field, 0..4).prop_map(Type::Record),
        ]
    })
}

fn code(state: Result<Option<StateContract>, String>, protocol: &[u8]) -> Code {
    Code {
        schema: 1,
        has_save: true,
        has_load: true,
        state,
        functions: functions(protocol),
    }
}

fn of(ty: &Type) -> Code {
    let line = serde_json::json!({ "schema": 1, "type": ty.to_string() });
    code(StateContract::parse(line.to_string().as_bytes()), b"")
}

proptest! {
    #[test]
    fn a_type_is_read_as_it_was_written(ty in types()) {
        prop_assert_eq!(Type::parse(&ty.to_string()), Ok(ty));
    }

    #[test]
    fn equal_states_differ_in_nothing_and_others_are_compared(old in types(), new in types()) {
        let differs = Err(String::new());
        let same = compare(&of(&old), &of(&old), differs.clone());
        prop_assert!(same.fields.is_empty() && same.is_accepted());
        let compared = compare(&of(&old), &of(&new), differs);
        prop_assert!(compared.unreadable.is_empty());
        let refused = compared.fields.iter().any(|change| change.loss == Loss::Refused);
        prop_assert_eq!(compared.is_accepted(), !refused);
        let _ = compared.state.to_string();
    }

    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = StateContract::parse(&bytes);
        let _ = functions(&bytes);
    }

    #[test]
    fn almost_a_section_is_an_error_or_a_contract(
        text in r#"\{("(schema|type|loads)":("[a-zA-Z<>{},:?|']{0,12}"|"\{[a-c]\??: (int|text|List<int>)\}"|[0-9\[\],]{0,6}|true),?){0,4}\}"#,
        protocol in r#"(\{"name":"[a-c]"(,"reply":"[\[\]A-Za-z<>]{0,9}")?(,"parameters":\[\{"name":"x","type":"[\[\]<>A-Za-z]{0,12}"\}\])?\}\n){0,4}"#,
    ) {
        let one = code(StateContract::parse(text.as_bytes()), protocol.as_bytes());
        let other = code(Ok(None), b"{\"name\":\"a\",\"parameters\":[{\"name\":\"x\",\"type\":\"Vec<u8>\"}]}");
        for compared in [compare(&one, &other, Err(String::new())), compare(&other, &one, Ok(()))] {
            let _ = (compared.state.to_string(), serde_json::to_string(&compared).unwrap());
        }
    }

    #[test]
    fn what_is_nested_deeply_does_not_exhaust_the_stack(
        open in prop::sample::select(vec!["List<", "{a:", "Enum<a:", "Tuple<", "Option<", "Map<int,", "[]", "[", "Vec<"]),
        depth in MAX_DEPTH..20_000,
    ) {
        let text = format!("{}int", open.repeat(depth));
        prop_assert!(Type::parse(&text).is_err());
        let line = serde_json::json!({ "name": "a", "parameters": [{ "name": "x", "type": text }] });
        let deep = code(Ok(None), line.to_string().as_bytes());
        let flat = code(Ok(None), b"{\"name\":\"a\",\"parameters\":[{\"name\":\"x\",\"type\":\"int\"}]}");
        let _ = compare(&deep, &flat, Err(String::new())).messages.unwrap().len();
    }
}
