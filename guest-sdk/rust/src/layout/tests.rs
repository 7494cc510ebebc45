//! What must change a fingerprint, and what must not.

use std::collections::{BTreeMap, HashMap};

use crate::Layout;

macro_rules! version {
    ($name:ident { $($body:tt)* }) => {
        #[allow(dead_code, reason = "only the fingerprint is looked at")]
        mod $name {
            #[derive(crate::Layout)]
            $($body)*
        }
    };
}

version!(base { pub(super) struct State { count: u64, last: u64, name: String } });
version!(same { pub(super) struct State { count: u64, last: u64, name: String } });
version!(swapped { pub(super) struct State { last: u64, count: u64, name: String } });
version!(renamed { pub(super) struct State { count: u64, latest: u64, name: String } });
version!(retyped { pub(super) struct State { count: u64, last: i64, name: String } });
version!(retitled { pub(super) struct Status { count: u64, last: u64, name: String } });

#[test]
fn equal_types_have_equal_fingerprints() {
    assert_eq!(base::State::HASH, same::State::HASH);
}

#[test]
fn every_difference_changes_the_fingerprint() {
    let all = [
        base::State::HASH,
        swapped::State::HASH,
        renamed::State::HASH,
        retyped::State::HASH,
        retitled::Status::HASH,
    ];
    for (index, hash) in all.iter().enumerate() {
        assert!(!all[..index].contains(hash), "number {index} is not new");
    }
}

version!(choice { pub(super) enum Choice { One, Two(u32), Three { left: u8, right: u8 } } });
version!(choice_same { pub(super) enum Choice { One, Two(u32), Three { left: u8, right: u8 } } });
version!(choice_order { pub(super) enum Choice { Two(u32), One, Three { left: u8, right: u8 } } });
version!(choice_name { pub(super) enum Choice { One, Both(u32), Three { left: u8, right: u8 } } });
version!(choice_field { pub(super) enum Choice { One, Two(u32), Three { right: u8, left: u8 } } });
version!(choice_value { pub(super) enum Choice { One, Two(i32), Three { left: u8, right: u8 } } });

#[test]
fn variants_count_with_names_order_and_payloads() {
    assert_eq!(choice::Choice::HASH, choice_same::Choice::HASH);
    let all = [
        choice::Choice::HASH,
        choice_order::Choice::HASH,
        choice_name::Choice::HASH,
        choice_field::Choice::HASH,
        choice_value::Choice::HASH,
    ];
    for (index, hash) in all.iter().enumerate() {
        assert!(!all[..index].contains(hash), "number {index} is not new");
    }
}

version!(numbered { pub(super) enum Level { Low = 1, High = 2 } });
version!(renumbered { pub(super) enum Level { Low = 1, High = 3 } });

#[test]
fn discriminants_change_the_fingerprint() {
    assert_ne!(numbered::Level::HASH, renumbered::Level::HASH);
}

version!(holder { pub(super) struct Holder { inner: std::collections::HashMap<String, Vec<super::base::State>> } });
version!(holder_swapped { pub(super) struct Holder { inner: std::collections::HashMap<String, Vec<super::swapped::State>> } });

#[test]
fn a_nested_change_changes_the_outer_fingerprint() {
    assert_ne!(holder::Holder::HASH, holder_swapped::Holder::HASH);
    assert_ne!(
        <HashMap<u8, u8>>::HASH,
        <BTreeMap<u8, u8>>::HASH,
        "the container counts"
    );
    assert_ne!(<(u8, u16)>::HASH, <(u16, u8)>::HASH);
    assert_ne!(<[u8; 2]>::HASH, <[u8; 3]>::HASH);
    assert_ne!(<Option<u8>>::HASH, <Option<i8>>::HASH);
}

#[test]
fn generic_types_can_be_derived() {
    #[allow(dead_code, reason = "only the fingerprint is looked at")]
    #[derive(Layout)]
    struct Pair<T, const N: usize> {
        first: T,
        rest: [T; N],
    }
    assert_ne!(<Pair<u8, 2>>::HASH, <Pair<u16, 2>>::HASH);
    assert_ne!(<Pair<u8, 2>>::HASH, <Pair<u8, 3>>::HASH);
}

#[test]
fn the_section_names_its_author() {
    let section = super::section::<base::State>();
    assert_eq!(&section[..4], b"rust");
    assert_eq!(section, super::section::<same::State>());
    assert_ne!(section, super::section::<swapped::State>());
}
