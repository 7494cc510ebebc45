//! What the guests say of their state, compared: without a process, and as it then turns out.

use std::path::Path;

use exuvia_node::{Rollback, SwapCheck, Way, check_swap};

use super::guest::Guest;
use super::{LANGUAGES, built};

#[track_caller]
fn between(old: &Path, new: &Path) -> SwapCheck {
    let read = |path: &Path| std::fs::read(path).unwrap();
    check_swap(&read(old), &read(new)).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Version 2 says in every language that it converts schema 1, whichever language has saved it.
#[test]
fn every_rewrite_says_that_it_takes_the_state() {
    let here: Vec<_> = (LANGUAGES.iter())
        .filter_map(|(_, folder)| built(folder))
        .collect();
    for old in &here {
        for new in &here {
            let swap = between(&old.join("one.wasm"), &new.join("two.wasm"));
            let (old, new) = (old.display(), new.display());
            assert_eq!(
                swap.comparison.state,
                Way::Migrated {
                    from: 1,
                    to: 2,
                    by_name: false
                },
                "{old} to {new}: {swap:?}"
            );
            assert!(swap.comparison.unreadable.is_empty(), "{old} to {new}");
        }
    }
}

/// Code that differs in code only has the same state.
#[test]
fn other_code_of_the_same_version_has_the_same_state() {
    for (_, folder) in LANGUAGES {
        let Some(at) = built(folder) else { continue };
        let swap = between(&at.join("one.wasm"), &at.join("same.wasm")).comparison;
        assert!(
            swap.fields.is_empty() && swap.is_accepted(),
            "{folder}: {swap:?}"
        );
        assert!(
            !matches!(swap.state, Way::Undecided { .. }),
            "{folder}: {swap:?}"
        );
        let back = matches!(swap.rollback, Rollback::Reused | Rollback::Migrated);
        assert!(back, "{folder}: {swap:?}");
    }
}

/// What one language describes by reflection, the other one by hand.
#[test]
fn the_same_state_has_the_same_contract_in_c_and_in_zig() {
    let (Some(c), Some(zig)) = (built("c"), built("zig")) else {
        return;
    };
    for file in ["one.wasm", "two.wasm", "bad.wasm"] {
        for (old, new) in [(&c, &zig), (&zig, &c)] {
            let swap = between(&old.join(file), &new.join(file)).comparison;
            assert!(swap.fields.is_empty(), "{file}: {swap:?}");
            let is_by_name = matches!(swap.state, Way::Migrated { by_name: true, .. });
            assert!(is_by_name, "{file}: {swap:?}");
        }
    }
}

/// What is refused without a process is refused with one, and the other way round.
#[test]
fn a_swap_turns_out_as_the_files_have_told() {
    let Some(rust) = built("rust") else { return };
    for (old, new, accepted) in [
        ("one", "two", true),
        ("two", "bad", false),
        ("one", "bad", true),
    ] {
        let file = |name: &str| rust.join(format!("{name}.wasm"));
        let told = between(&file(old), &file(new)).comparison;
        assert_eq!(told.is_accepted(), accepted, "{old} to {new}: {told:?}");
        let guest = Guest::new(&rust);
        if old != "one" {
            guest.deploy(old).unwrap();
        }
        let pid = guest.start();
        // It has a state, and is at rest.
        guest.add(pid, 2);
        assert_eq!(guest.count(pid), 2);
        guest.image(pid);
        let outcome = guest.deploy(new);
        assert_eq!(outcome.is_ok(), accepted, "{old} to {new}: {outcome:?}");
        guest.node.halt();
    }
}
