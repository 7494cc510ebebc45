//! The bank in a node with virtual time: transfers in progress survive crashes, a swap, and
//! both at once, and no cent is lost or created.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::time::Duration;

use bank_protocol::{AccountClient, ClerkClient, Step, Transfer};
use exuvia::test::Node;
use exuvia::{Kind, Match, Pid, Wait};

const NAMES: [&str; 3] = ["anna", "ben", "carla"];
/// The sum of all balances.
const ALL: u64 = 30_000;

fn bank() -> Node {
    let node = Node::start(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for name in NAMES {
        assert_eq!(account(name).deposit(10_000), Ok(10_000));
    }
    node
}

fn account(name: &str) -> AccountClient {
    AccountClient::whereis(name).unwrap()
}

fn clerk() -> ClerkClient {
    ClerkClient::whereis("clerk").unwrap()
}

fn begin(from: &str, to: &str, amount: u64) -> Result<u64, String> {
    clerk().begin(from.into(), to.into(), amount).unwrap()
}

fn balances() -> [u64; 3] {
    NAMES.map(|name| account(name).balance().unwrap())
}

fn version(number: u32) -> PathBuf {
    let versions = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/versions");
    PathBuf::from(versions).join(format!("bank_account-v{number}.wasm"))
}

/// Kills a process, and waits until it has terminated.
fn crash(pid: Pid) {
    let monitor = pid.monitor().unwrap();
    pid.kill().unwrap();
    let down = exuvia::receive(Match::Reference(monitor), Wait::Forever).unwrap();
    assert_eq!(down.kind, Kind::Down);
}

fn crash_named(name: &str) {
    crash(exuvia::whereis(name).unwrap());
}

#[test]
fn money_moves_once_it_is_cleared() {
    let node = bank();
    let id = begin("anna", "ben", 2_500).unwrap();
    node.advance(Duration::from_millis(1_000));
    assert_eq!(clerk().look(id).unwrap().unwrap().step, Step::Taken);
    assert_eq!(balances(), [7_500, 10_000, 10_000]);
    let before = exuvia::monotonic();
    let done: Transfer = clerk().wait(id).unwrap();
    assert_eq!(done.step, Step::Done);
    // It waited for the rest of the two seconds of virtual time, however fast the machine is.
    assert_eq!(exuvia::monotonic() - before, Duration::from_millis(1_000));
    assert_eq!(balances(), [7_500, 12_500, 10_000]);
}

#[test]
fn impossible_transfers_are_refused() {
    let _node = bank();
    assert_eq!(
        begin("anna", "nobody", 1),
        Err("there is no account nobody".into())
    );
    assert_eq!(
        begin("anna", "anna", 1),
        Err("both accounts are the same".into())
    );
    let id = begin("anna", "ben", 10_001).unwrap();
    let refused = clerk().wait(id).unwrap();
    assert_eq!(refused.step, Step::Refused("anna has 10000 only".into()));
    assert!(clerk().wait(77).is_err());
    assert_eq!(balances(), [10_000; 3]);
}

/// Whichever process crashes in the middle, the transfer completes exactly once.
#[test]
fn a_transfer_survives_a_crash() {
    for who in ["clerk", "anna", "ben"] {
        let node = bank();
        let id = begin("anna", "ben", 2_500).unwrap();
        node.advance(Duration::from_millis(500));
        assert_eq!(clerk().look(id).unwrap().unwrap().step, Step::Taken);
        crash_named(who);
        node.advance(Duration::from_secs(10));
        assert_eq!(clerk().wait(id).unwrap().step, Step::Done, "{who}");
        assert_eq!(balances(), [7_500, 12_500, 10_000], "{who}");
    }
}

#[test]
fn a_transfer_survives_a_swap() {
    let node = bank();
    let id = begin("anna", "ben", 2_500).unwrap();
    node.advance(Duration::from_millis(500));
    let line = node.swap("account", version(2)).unwrap();
    assert!(line.contains("account"), "{line}");
    assert_eq!(clerk().wait(id).unwrap().step, Step::Done);
    assert_eq!(balances(), [7_500, 12_500, 10_000]);
    assert_eq!(node.version(account("ben").pid()), "account@2");
    // A transfer that starts in new code completes in old code.
    let id = begin("ben", "carla", 100).unwrap();
    node.advance(Duration::from_millis(500));
    node.rollback().unwrap();
    assert_eq!(clerk().wait(id).unwrap().step, Step::Done);
    assert_eq!(balances(), [7_500, 12_400, 10_100]);
    assert_eq!(node.version(account("ben").pid()), "account@1");
}

/// Many transfers, with occasional crashes and code swaps.
#[test]
fn no_cent_is_lost_or_created() {
    let node = bank();
    let mut dice = 12_345_u64;
    let mut roll = |sides: u64| {
        // Knuth's generator; the high bits are the more random ones.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut begun = Vec::new();
    let mut version_now = 1;
    for _ in 0..60 {
        let (from, to) = (roll(3) as usize, roll(3) as usize);
        if from != to
            && let Ok(id) = begin(NAMES[from], NAMES[to], roll(400))
        {
            begun.push(id);
        }
        node.advance(Duration::from_millis(roll(700)));
        match roll(6) {
            0 => crash_named("clerk"),
            1 => crash_named(NAMES[roll(3) as usize]),
            2 => {
                version_now = 3 - version_now;
                node.swap("account", version(version_now)).unwrap();
            }
            _ => {}
        }
        // Crashed processes have been restarted, and the restart intensity is not reached.
        node.advance(Duration::from_secs(1));
    }
    for id in &begun {
        let over = clerk().wait(*id).unwrap();
        assert!(over.is_over(), "{over:?}");
    }
    assert!(begun.len() > 30, "{}", begun.len());
    assert_eq!(balances().iter().sum::<u64>(), ALL);
}
