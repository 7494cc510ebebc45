//! Size, nesting and number have limits, and arbitrary input is survived.

use exuvia_manifest::MAX_MANIFEST_BYTES;
use proptest::prelude::*;

use crate::{FULL, parse, problems, refused, with_children};

#[test]
fn too_many_children_are_rejected_before_they_are_allocated() {
    let child = |n: u32| {
        format!(
            "[[supervisor.children]]\nid = \"c{n}\"\n[supervisor.children.supervisor]\n\
             children = [{{ id = \"x\", module = \"m\", count = 1000000, name = \"x{n}-{{n}}\" }}]\n"
        )
    };
    let children: String = (0..100).map(child).collect();
    let found = problems(&with_children(&children));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("100000100 children"), "{found:#?}");
}

#[test]
fn the_nesting_of_supervisors_is_limited() {
    let nested = |depth: usize| {
        let open = "{ id = \"s\", supervisor = { children = [".repeat(depth);
        let close = "] } }".repeat(depth);
        format!("[app]\nname = \"a\"\n[supervisor]\nchildren = [{open}{close}]\n")
    };
    parse(&nested(15)).expect("16 levels with the root");
    let found = problems(&nested(16));
    assert!(found[0].contains("nested deeper than 16"), "{found:#?}");
    // Far deeper, where the TOML parser itself gives up.
    refused(&nested(10_000));
}

/// Texts whose trees are as deep as the parser allows, by each way to nest.
#[test]
fn deep_nesting_overflows_no_stack() {
    let dotted = vec!["a"; 78].join(".");
    let mut value = "1".to_owned();
    for _ in 0..78 {
        value = format!("{{ {dotted} = {value} }}");
    }
    for text in [
        format!("{dotted} = {value}"),
        format!("[{dotted}]\n{dotted} = {value}"),
        with_children(&format!(
            "[[supervisor.children]]\nid = \"c\"\nmodule = \"m\"\nargs = {value}\n"
        )),
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
    ] {
        refused(&text);
    }
}

#[test]
fn the_size_of_a_manifest_is_limited() {
    let text = format!("[app]\nname = \"a\"\n#{}", "x".repeat(MAX_MANIFEST_BYTES));
    assert_eq!(
        refused(&text),
        "error: the manifest is larger than 1MiB\n --> exuvia.toml\n"
    );
}

/// One change to the text: bytes replaced by a piece of another place or by
/// something that matters to the format.
fn mutated(text: &str, changes: &[(usize, usize, usize)]) -> String {
    const PIECES: [&str; 24] = [
        "",
        "\"",
        "'",
        "\"\"\"",
        "=",
        "[",
        "]",
        "[[",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\t",
        "#",
        "-1",
        "1e999",
        "nan",
        "0x",
        "é",
        "{n}",
        "count = 7\n",
        "children",
        "99999999999999999999",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    for &(at, length, piece) in changes {
        let at = at % (chars.len() + 1);
        let end = (at + length % 12).min(chars.len());
        let piece: Vec<char> = match PIECES.get(piece % (PIECES.len() * 2)) {
            Some(piece) => piece.chars().collect(),
            None => {
                let from = piece % (chars.len() + 1);
                chars.iter().skip(from).take(20).copied().collect()
            }
        };
        chars.splice(at..end, piece);
    }
    chars.into_iter().collect()
}

/// Either outcome is good; what counts is that there is one, and that it can be
/// shown.
fn survives(text: &str) {
    match parse(text) {
        Ok(manifest) => {
            for child in &manifest.supervisor.children {
                assert!(child.instances().take(10).count() > 0);
            }
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(error.to_string().starts_with("error: "));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_manifests_cause_no_panic(
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        survives(&mutated(FULL, &changes));
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }
}
