//! The codec reads what it wrote, and nothing else: round trips, and any damage.

use proptest::prelude::*;

use super::*;
use crate::{ExitReason, Reason};

fn pid() -> impl Strategy<Value = Pid> {
    (any::<u64>(), any::<u64>()).prop_map(|(node, local)| Pid { node, local })
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let kind = prop::sample::select(vec![
        Kind::Init,
        Kind::Message,
        Kind::Request,
        Kind::Reply,
        Kind::Exit,
        Kind::Down,
        Kind::Timer,
        Kind::Table,
    ]);
    (
        pid(),
        any::<u64>(),
        bytes(60),
        any::<u32>(),
        any::<i32>(),
        kind,
    )
        .prop_map(|(sender, reference, payload, tag, reason, kind)| Envelope {
            sender,
            reference,
            payload: payload.into(),
            tag,
            reason,
            kind,
        })
}

fn limits() -> impl Strategy<Value = Limits> {
    let folder = (
        "[a-z/]{0,9}",
        "[a-z/]{0,9}",
        prop::collection::vec("[a-z]{0,5}", 0..3),
        any::<bool>(),
    )
        .prop_map(|(guest, host, below, write)| Folder {
            guest,
            host: host.into(),
            below: below.into_iter().map(Into::into).collect(),
            write,
        });
    let grants = (
        prop::collection::vec(folder, 0..3),
        prop::collection::btree_map(".{0,4}", ".{0,4}", 0..3),
        prop::collection::vec(".{0,4}", 0..3),
        any::<bool>(),
        prop::collection::vec("(\\*\\.)?[a-z]{1,4}:[1-9]", 0..3),
    )
        .prop_map(|(folders, env, args, terminal, connect)| Grants {
            folders,
            env,
            args,
            terminal,
            connect: connect
                .iter()
                .map(|to| to.parse().expect("a destination"))
                .collect(),
        });
    (any::<[u64; 3]>(), any::<[u32; 5]>(), 1..4u32, grants).prop_map(
        |([memory, mailbox_bytes, tables], numbers, priority, grants)| {
            let [
                mailbox_messages,
                message_bytes,
                children,
                descendants,
                files,
            ] = numbers;
            Limits {
                memory,
                mailbox_messages,
                mailbox_bytes,
                message_bytes,
                children,
                descendants,
                tables,
                priority: Priority::new(priority).unwrap_or_default(),
                files,
                grants: Arc::new(grants),
            }
        },
    )
}

fn guest() -> impl Strategy<Value = GuestSnapshot> {
    let because = prop_oneof![
        Just(StayReason::Exempt),
        ".{0,9}".prop_map(StayReason::Failed),
        ".{0,9}".prop_map(StayReason::Reverted),
    ];
    let stays = (any::<[u8; 32]>(), because)
        .prop_map(|(current, because)| StaysOnVersion { current, because });
    (
        ".{0,9}",
        any::<[u8; 32]>(),
        prop::option::of(bytes(200)),
        any::<bool>(),
        any::<u32>(),
        prop::option::of(stays),
    )
        .prop_map(
            |(module, digest, state, has_run, upgrades, stays)| GuestSnapshot {
                module,
                digest,
                state,
                has_run,
                upgrades,
                stays,
            },
        )
}

fn snapshot() -> impl Strategy<Value = ProcessSnapshot> {
    let link =
        (pid(), any::<Option<u64>>()).prop_map(|(to, unlinking)| LinkSnapshot { to, unlinking });
    let monitor = (any::<u64>(), pid(), any::<bool>()).prop_map(|(reference, of, awaits_reply)| {
        MonitorSnapshot {
            reference,
            of,
            awaits_reply,
        }
    });
    let timer = (any::<u64>(), any::<u64>(), pid(), envelope()).prop_map(
        |(reference, remaining, to, envelope)| TimerSnapshot {
            reference,
            remaining,
            to,
            envelope,
        },
    );
    let relations = (
        prop::collection::vec(link, 0..4),
        prop::collection::vec(monitor, 0..4),
        prop::collection::vec((pid(), any::<u64>()), 0..4),
    );
    let spawned = (pid(), bytes(40), any::<Option<u64>>(), any::<bool>());
    let names = prop::collection::vec(".{0,9}", 0..3);
    let flags = (any::<[bool; 3]>(), 1..4u32, any::<Option<u8>>());
    (
        (pid(), guest(), limits(), any::<u64>()),
        prop::collection::vec(envelope(), 0..5),
        relations,
        spawned,
        prop::collection::vec(timer, 0..3),
        (names.clone(), names),
        flags,
    )
        .prop_map(|(fixed, inbox, relations, spawned, timers, names, flags)| {
            let ([trap_exit, starting, suspended], priority, pinned_to) = flags;
            ProcessSnapshot {
                pid: fixed.0,
                guest: fixed.1,
                inbox,
                links: relations.0,
                monitors: relations.1,
                watchers: relations.2,
                parent: spawned.0,
                arguments: spawned.1.into(),
                starter: spawned.2,
                counted: spawned.3,
                timers,
                names: names.0,
                groups: names.1,
                limits: fixed.2,
                flags: Flags {
                    trap_exit,
                    starting,
                    suspended,
                    priority: Priority::new(priority).unwrap_or_default(),
                    pinned_to,
                },
                reductions: fixed.3,
            }
        })
}

/// Gives a body the head and the checksum of a snapshot.
fn wrapped(body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

proptest! {
    #[test]
    fn what_was_written_is_read(snapshot in snapshot()) {
        let bytes = snapshot.to_bytes();
        prop_assert_eq!(ProcessSnapshot::from_bytes(&bytes), Ok(snapshot));
    }

    #[test]
    fn any_damage_is_found(
        snapshot in snapshot(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut bytes = snapshot.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(ProcessSnapshot::from_bytes(&bytes).is_err());
        prop_assert!(ProcessSnapshot::from_bytes(&bytes[..at]).is_err());
        bytes[at] ^= flip;
        bytes.push(flip);
        prop_assert!(ProcessSnapshot::from_bytes(&bytes).is_err());
    }

    /// With a right checksum too: a body may be anything.
    #[test]
    fn random_bodies_are_errors_or_snapshots(body in bytes(300)) {
        if let Ok(read) = ProcessSnapshot::from_bytes(&wrapped(&body)) {
            prop_assert_eq!(read.to_bytes(), wrapped(&body));
        }
        let _ = ProcessSnapshot::from_bytes(&body);
    }

    #[test]
    fn changed_bodies_are_errors_or_snapshots(
        snapshot in snapshot(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = snapshot.to_bytes();
        let mut body = bytes[HEAD..bytes.len() - CHECKSUM].to_vec();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let cut = cut.index(body.len());
        for body in [&body[..], &body[..cut]] {
            if let Ok(read) = ProcessSnapshot::from_bytes(&wrapped(body)) {
                prop_assert_eq!(read.to_bytes(), wrapped(body));
            }
        }
    }

    #[test]
    fn numbers_have_one_encoding(number in any::<u64>(), small in any::<i32>()) {
        let mut bytes = Vec::new();
        number.write(&mut bytes);
        small.write(&mut bytes);
        let mut reader = Reader(&bytes);
        prop_assert_eq!(u64::read(&mut reader), Ok(number));
        prop_assert_eq!(i32::read(&mut reader), Ok(small));
        prop_assert!(reader.0.is_empty());
    }
}

#[test]
fn a_map_has_one_encoding() {
    let map = |names: &[&str]| {
        let pairs = names.iter().map(|name| (name.to_string(), String::new()));
        let mut bytes = Vec::new();
        pairs.collect::<Vec<_>>().write(&mut bytes);
        BTreeMap::<String, String>::read(&mut Reader(&bytes))
    };
    assert_eq!(map(&["a", "b"]).map(|map| map.len()), Ok(2));
    let error = Err(DecodeError::Invalid("order of names"));
    assert_eq!(map(&["b", "a"]), error);
    assert_eq!(map(&["a", "a"]), error);
}

/// A length that promises more than there is must not be believed.
#[test]
fn a_huge_length_allocates_nothing() {
    let mut body = Vec::new();
    u64::MAX.write(&mut body);
    assert!(String::read(&mut Reader(&body)).is_err());
    assert!(Payload::read(&mut Reader(&body)).is_err());
    assert!(Vec::<u64>::read(&mut Reader(&body)).is_err());
    assert!(Vec::<Envelope>::read(&mut Reader(&body)).is_err());
}

#[test]
fn each_refusal_says_why() {
    let head = |version: u16, length: u64| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes
    };
    let error = |bytes: &[u8]| ProcessSnapshot::from_bytes(bytes).err();
    assert_eq!(error(b""), Some(DecodeError::NoSnapshot));
    assert_eq!(error(&[7; 200]), Some(DecodeError::NoSnapshot));
    assert_eq!(error(&head(9, 0)), Some(DecodeError::UnknownVersion(9)));
    let length = DecodeError::Length {
        expected: u64::MAX,
        found: 18,
    };
    assert_eq!(error(&head(VERSION, u64::MAX)), Some(length));
    let mut zeros = head(VERSION, 4);
    zeros.extend_from_slice(&[0; 4 + CHECKSUM]);
    assert_eq!(error(&zeros), Some(DecodeError::Damaged));
    assert_eq!(error(&wrapped(&[])), Some(DecodeError::Invalid("length")));
    let text = DecodeError::UnknownVersion(9).to_string();
    assert!(
        text.contains('9') && text.contains(&VERSION.to_string()),
        "{text}"
    );
}

/// The reason of an exit that lies in a mailbox is data like any other.
#[test]
fn an_exit_notification_survives() {
    let reason = ExitReason::with(-7, b"why").caused_by_release();
    let exit = Envelope::exit_notification(Kind::Exit, Pid::NONE, 3, &reason);
    let mut bytes = Vec::new();
    exit.write(&mut bytes);
    assert_eq!(Envelope::read(&mut Reader(&bytes)), Ok(exit));
    assert_ne!(Reason::NORMAL.0, reason.code());
}
