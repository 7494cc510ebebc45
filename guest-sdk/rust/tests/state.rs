//! How a state is loaded when its type has changed: each line of "Migrated" in
//! `docs/upgrade.md` has its test here.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "some fields are only there to be read")]

use std::collections::BTreeMap;

use exuvia::prelude::*;
use exuvia::testing::{self, Effect, Process};

#[derive(Serialize)]
struct Old {
    count: u64,
    owner: &'static str,
    mode: Mode,
    parts: BTreeMap<&'static str, Part>,
}

#[derive(Serialize)]
enum Mode {
    Idle,
    Busy { since: u64 },
    Paused(String),
}

#[derive(Serialize)]
struct Part {
    size: u32,
}

fn old(mode: Mode) -> Old {
    Old {
        count: 7,
        owner: "ann",
        mode,
        parts: BTreeMap::from([("lid", Part { size: 3 })]),
    }
}

/// A version of the state's types, and the actor that holds it.
macro_rules! version {
    ($name:ident { $($types:tt)* }) => {
        mod $name {
            use exuvia::prelude::*;

            $($types)*

            #[exuvia::actor(schema = 2)]
            impl Actor for State {
                fn init(_: (), _: &mut Context) -> Result<Self, String> {
                    Err("it is only ever loaded".to_owned())
                }
            }
        }
    };
}

/// Loads a saved state into another version; on failure returns the logged reason.
fn load<A: Actor>(saved: &impl Serialize) -> Result<Process<A>, String> {
    let mut process = Process::<A>::new();
    if process.load(1, &exuvia::encode(saved).unwrap()) {
        return Ok(process);
    }
    assert!(process.state().is_none());
    match testing::effects().pop() {
        Some(Effect::Log { line, .. }) => Err(line),
        other => panic!("no reason was logged: {other:?}"),
    }
}

#[track_caller]
fn refused<A: Actor>(saved: &impl Serialize, words: &[&str]) {
    let why = load::<A>(saved).map(drop).unwrap_err();
    for word in words {
        assert!(why.contains(word), "{why}");
    }
}

version!(added {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) count: u64,
        #[serde(default)]
        pub(super) step: u64,
        #[serde(default = "ten")]
        pub(super) limit: u64,
        pub(super) note: Option<String>,
    }
    fn ten() -> u64 {
        10
    }
});

#[test]
fn an_added_field_has_its_default_and_a_removed_one_is_skipped() {
    let process = load::<added::State>(&old(Mode::Idle)).unwrap();
    let state = process.state();
    let state = state.as_ref().unwrap();
    assert_eq!((state.count, state.step, state.limit), (7, 0, 10));
    // An option needs no attribute.
    assert_eq!(state.note, None);
}

version!(bare {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) count: u64,
        pub(super) step: u64,
    }
});

#[test]
fn an_added_field_without_a_default_is_rejected_with_the_fix() {
    refused::<bare::State>(
        &old(Mode::Idle),
        &["schema 1", "missing field `step`", "#[serde(default)]"],
    );
}

version!(renamed {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        #[serde(alias = "owner")]
        pub(super) owned_by: String,
    }
});
version!(former {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) owner: String,
    }
});
version!(renamed_without {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) owned_by: String,
    }
});

#[test]
fn a_renamed_field_needs_its_old_name() {
    let process = load::<renamed::State>(&old(Mode::Idle)).unwrap();
    assert_eq!(process.state().as_ref().unwrap().owned_by, "ann");
    refused::<renamed_without::State>(
        &old(Mode::Idle),
        &["missing field `owned_by`", "#[serde(alias"],
    );
    // Rollback: old code expects the old name and does not find it.
    let mut back = Process::<former::State>::new();
    assert!(!back.load(2, &process.save().unwrap()));
}

version!(wider {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) count: i128,
        pub(super) owner: Bytes,
        pub(super) parts: Option<std::collections::HashMap<String, Part>>,
    }
    #[derive(Serialize, Deserialize)]
    pub(super) struct Part {
        pub(super) size: f64,
    }
});
version!(narrower {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) count: u8,
    }
});
version!(retyped {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) parts: std::collections::BTreeMap<String, Part>,
    }
    #[derive(Serialize, Deserialize)]
    pub(super) struct Part {
        pub(super) size: String,
    }
});

#[test]
fn a_type_that_holds_all_old_values_reads_them() {
    let process = load::<wider::State>(&old(Mode::Idle)).unwrap();
    let state = process.state();
    let state = state.as_ref().unwrap();
    assert_eq!((state.count, state.owner.0.as_slice()), (7, &b"ann"[..]));
    assert_eq!(state.parts.as_ref().unwrap()["lid"].size, 3.0);
}

#[test]
fn a_value_that_does_not_fit_its_new_type_is_rejected_with_its_path() {
    let fits = load::<narrower::State>(&old(Mode::Idle)).unwrap();
    assert_eq!(fits.state().as_ref().unwrap().count, 7);
    let large = Old {
        count: 256,
        ..old(Mode::Idle)
    };
    refused::<narrower::State>(&large, &["field `count`", "256"]);
    refused::<retyped::State>(&old(Mode::Idle), &["field `parts.lid.size`", "string"]);
}

version!(modes {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) mode: Mode,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    pub(super) enum Mode {
        // New, before the others.
        Off,
        #[serde(alias = "Paused")]
        Held(String),
        Idle,
        Busy {
            since: u64,
            #[serde(default)]
            until: u64,
        },
    }
});
version!(fewer_modes {
    #[derive(Serialize, Deserialize)]
    pub(super) struct State {
        pub(super) mode: Mode,
    }
    #[derive(Serialize, Deserialize)]
    pub(super) enum Mode {
        Idle,
        Paused(String),
    }
});

#[test]
fn variants_are_read_by_their_names() {
    let mode = |old_mode| {
        let process = load::<modes::State>(&old(old_mode)).unwrap();
        let saved = process.save().unwrap();
        let state: modes::State = exuvia::decode(&saved).unwrap();
        state.mode
    };
    assert_eq!(mode(Mode::Idle), modes::Mode::Idle);
    assert_eq!(
        mode(Mode::Busy { since: 5 }),
        modes::Mode::Busy { since: 5, until: 0 }
    );
    assert_eq!(
        mode(Mode::Paused("lunch".to_owned())),
        modes::Mode::Held("lunch".to_owned())
    );
}

#[test]
fn a_removed_variant_is_rejected_only_if_a_state_holds_it() {
    assert!(load::<fewer_modes::State>(&old(Mode::Idle)).is_ok());
    refused::<fewer_modes::State>(
        &old(Mode::Busy { since: 5 }),
        &["field `mode", "unknown variant `Busy`", "`migrate`"],
    );
}

/// A field changed its meaning: minutes became seconds.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Seconds {
    seconds: u64,
}

#[exuvia::actor(schema = 2)]
impl Actor for Seconds {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Seconds { seconds: 0 })
    }

    fn migrate(from_schema: i32, state: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Minutes {
            minutes: u64,
        }
        match from_schema {
            1 => exuvia::decode(state).map(|old: Minutes| Seconds {
                seconds: old.minutes * 60,
            }),
            2 => exuvia::decode(state),
            other => return Err(format!("schema {other} is none of ours")),
        }
        .map_err(String::from)
    }
}

#[test]
fn migrate_gets_the_schema_and_its_error_is_the_reason() {
    #[derive(Serialize)]
    struct Minutes {
        minutes: u64,
    }
    let process = load::<Seconds>(&Minutes { minutes: 3 }).unwrap();
    assert_eq!(*process.state(), Some(Seconds { seconds: 180 }));
    let mut next = Process::<Seconds>::new();
    assert!(next.load(2, &process.save().unwrap()));
    assert_eq!(*next.state(), *process.state());
    assert!(!next.load(7, &process.save().unwrap()));
    assert!(matches!(
        &testing::effects()[..],
        [Effect::Log { line, .. }] if line.contains("schema 7 is none of ours")
    ));
}

#[test]
fn a_module_without_an_actor_has_the_same_rules() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Totals {
        count: u64,
        #[serde(default)]
        errors: u64,
    }
    let saved = exuvia::encode(&old(Mode::Idle)).unwrap();
    exuvia::state::put(&saved).unwrap();
    let totals: Option<Totals> = exuvia::state::load(1, saved.len());
    assert_eq!(
        totals,
        Some(Totals {
            count: 7,
            errors: 0
        })
    );
    assert!(exuvia::state::save(&totals));
    let saved = exuvia::state::get(100).unwrap();
    assert_eq!(exuvia::decode::<Option<Totals>>(&saved).unwrap(), totals);
    let nothing: Option<fewer_modes::State> = exuvia::state::load(1, saved.len());
    assert!(nothing.is_none());
    assert!(matches!(
        &testing::effects()[..],
        [Effect::Log { line, .. }] if line.contains("missing field `mode`")
    ));
}
