//! What a description says, and that serde saves just that.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{TypeText, section};
use crate::http::Responder;
use crate::socket::Socket;
use crate::{Address, Bytes, Caller, Pending, Pid, Saved};

/// Has no description.
#[derive(Serialize, Deserialize, Default)]
struct Date(u32);

#[derive(Serialize, Deserialize, Saved, Default)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "only the description is looked at")]
struct All {
    #[serde(alias = "amount")]
    total_count: i64,
    #[serde(default)]
    step: u8,
    #[serde(rename = "who", default = "String::new")]
    owner: String,
    #[serde(rename(serialize = "new", deserialize = "old"))]
    renamed: bool,
    #[serde(skip)]
    cache: Option<Box<All>>,
    at: Option<Date>,
    #[serde(with = "plain")]
    by_hand: u16,
    r#type: f32,
}

mod plain {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize, Saved)]
#[allow(dead_code, reason = "only the description is looked at")]
enum Mode {
    Idle,
    #[serde(rename = "working", alias = "busy")]
    Busy {
        since: u64,
    },
    Moved(i8, i8),
    Named(String),
    #[serde(skip)]
    Hidden,
}

#[derive(Serialize, Deserialize, Saved, Default)]
#[allow(dead_code, reason = "only the description is looked at")]
struct Flat {
    #[serde(flatten)]
    first: Empty,
    #[serde(flatten)]
    lenient: Lenient,
    own: u8,
    #[serde(flatten)]
    last: Empty,
}

#[derive(Serialize, Deserialize, Saved, Default)]
struct Empty {}

#[derive(Serialize, Deserialize, Saved)]
struct Id(u64);

#[derive(Serialize, Deserialize, Saved)]
struct Nothing;

#[derive(Serialize, Deserialize, Saved)]
struct Pair<T>(T, Vec<T>);

#[derive(Serialize, Deserialize, Saved, Default)]
#[serde(default)]
#[allow(dead_code, reason = "only the description is looked at")]
struct Lenient {
    a: u8,
    b: Option<u8>,
}

fn text<T: Saved>() -> String {
    T::TYPE.as_str().to_owned()
}

#[test]
fn a_description_has_the_names_of_serde() {
    assert_eq!(
        text::<All>(),
        "{totalCount|amount: int, step?: int, who?: text, new|old: bool, at: 'Option<Date>', byHand: 'u16 with plain', type: float}"
    );
    assert_eq!(
        text::<Mode>(),
        "Enum<Idle, working|busy: {since: int}, Moved: Tuple<int, int>, Named: text>"
    );
    assert_eq!(text::<Lenient>(), "{a?: int, b?: Option<int>}");
    assert_eq!(text::<Flat>(), "{a?: int, b?: Option<int>, own: int}");
    assert_eq!(text::<Empty>(), "{}");
    assert_eq!(text::<Id>(), "int");
    assert_eq!(text::<Nothing>(), "nil");
    assert_eq!(
        text::<Pair<Mode>>(),
        format!("Tuple<{0}, List<{0}>>", text::<Mode>())
    );
}

#[test]
fn what_is_described_is_what_is_saved() {
    let saved = crate::encode(&All::default()).unwrap();
    let saved: BTreeMap<String, serde::de::IgnoredAny> = crate::decode(&saved).unwrap();
    let names: Vec<_> = saved.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["at", "byHand", "new", "step", "totalCount", "type", "who"]
    );
    let saved = crate::encode(&Flat::default()).unwrap();
    let saved: BTreeMap<String, serde::de::IgnoredAny> = crate::decode(&saved).unwrap();
    assert_eq!(saved.keys().collect::<Vec<_>>(), ["a", "b", "own"]);
    let saved = crate::encode(&Mode::Busy { since: 1 }).unwrap();
    let saved: BTreeMap<String, BTreeMap<String, u64>> = crate::decode(&saved).unwrap();
    assert_eq!(saved["working"]["since"], 1);
    let (first, rest): (u8, Vec<u8>) =
        crate::decode(&crate::encode(&Pair(1u8, vec![2])).unwrap()).unwrap();
    assert_eq!((first, rest), (1, vec![2]));
    let wait = crate::encode(&Duration::new(1, 2)).unwrap();
    let wait: BTreeMap<String, u64> = crate::decode(&wait).unwrap();
    assert_eq!((wait["secs"], wait["nanos"]), (1, 2));
    let caller = Caller::<u8>::new(Pid::NONE, 3);
    let caller: BTreeMap<String, serde::de::IgnoredAny> =
        crate::decode(&crate::encode(&caller).unwrap()).unwrap();
    assert_eq!(caller.keys().collect::<Vec<_>>(), ["pid", "reference"]);
}

#[test]
fn types_of_the_library_are_described() {
    for (text, expected) in [
        (text::<(char, ())>(), "Tuple<text, nil>"),
        (text::<HashSet<usize>>(), "List<int>"),
        (text::<BTreeMap<String, Bytes>>(), "Map<text, bytes>"),
        (text::<Result<u8, String>>(), "Enum<Ok: int, Err: text>"),
        (text::<[f64; 3]>(), "List<float>"),
        (text::<Option<Box<Pid>>>(), "Option<pid>"),
        (text::<Address<(), (), ()>>(), "pid"),
        (text::<Caller<u8>>(), "{pid: pid, reference: int}"),
        (text::<Pending<u8>>(), "int"),
        (text::<Socket>(), "pid"),
        (text::<Responder>(), "{connection: pid, reference: int}"),
        (text::<Duration>(), "{secs: int, nanos: int}"),
    ] {
        assert_eq!(text, expected);
    }
}

#[test]
fn the_section_is_one_line_of_json() {
    let text = section(-12, "[1]", Some(Lenient::TYPE));
    assert_eq!(
        text.as_str(),
        "{\"schema\": -12, \"loads\": [1], \"type\": \"{a?: int, b?: Option<int>}\"}\n"
    );
    let largest = section(i32::MAX, "\"any\"", Some(TypeText::new("nil")));
    assert!(largest.as_str().starts_with("{\"schema\": 2147483647, "));
    assert!(
        section(i32::MIN, "[]", Some(TypeText::new("nil")))
            .as_str()
            .contains("-2147483648")
    );
    assert_eq!(section(1, "[]", None).as_str(), "");
}
