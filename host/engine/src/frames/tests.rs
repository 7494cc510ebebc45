//! What becomes of places when the host fails in the middle.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use exuvia_abi::Pid;
use exuvia_code::{Code, Digest, Version};
use exuvia_process::{Birth, Clock, Limits, Payload, Schedule, Signal, System};

use super::*;
use crate::crossing;
use crate::executor::{Executor, ExecutorConfig};
use crate::image::Image;
use crate::loader::{Engine, EngineConfig};
use crate::observer::Observer;
use crate::turn::Ran;

const GUEST: &str = r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 2)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (br_if $next (i32.eqz (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256)
        (i64.const 0) (i32.const 0) (i64.const 0)))))
    (i32.const 0))
  (func (export "save") (result i32) (i32.const 0))
  (func (export "load") (param i32 i32) (result i32) (i32.const 0)))"#;

/// Tells nobody, and schedules nobody: a test makes each turn itself.
#[derive(Debug)]
struct Nobody;
impl Observer for Nobody {}
impl Schedule for Nobody {
    fn schedule(&self, _: u32) {}
}

struct Node {
    executor: Executor,
    old: Arc<Version<Artifact>>,
    new: Arc<Version<Artifact>>,
}

fn node() -> Node {
    let system = Arc::new(System::new(7, 100, 1, Clock::manual()));
    system.connect(Arc::new(Nobody));
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let wasm = wat::parse_str(GUEST).unwrap();
    let code = Arc::new(Code::new(10));
    let [old, new] = [1, 2].map(|number| {
        let artifact = engine.load(&wasm).unwrap();
        code.load("m", Digest([number; 32]), artifact)
    });
    code.commit(code.current_id(), std::slice::from_ref(&old), false)
        .unwrap();
    let config = ExecutorConfig {
        frames: 4,
        frame_memory: u64::MAX,
        probation: 0,
    };
    Node {
        executor: Executor::new(system, code, Arc::new(Nobody), config),
        old,
        new,
    }
}

impl Node {
    fn spawn(&self) -> Pid {
        let body = self.executor.newborn("m");
        let limits = Arc::new(Limits::default());
        let birth = Birth::new(body.unwrap(), limits, Payload::empty());
        self.executor.0.system.spawn(birth).unwrap()
    }

    fn lives(&self, pid: Pid) -> bool {
        self.executor.0.system.is_alive(pid)
    }

    fn none_is_lost(&self, live: usize) {
        let counts = self.executor.frames();
        assert_eq!(
            (counts.live, counts.vacant, counts.blocked),
            (live, counts.places - live, 0)
        );
    }
}

/// The places would be used up after the first few.
#[test]
fn a_crossing_in_which_the_host_fails_loses_no_place() {
    let node = node();
    for _ in 0..20 {
        let image = Image::broken(2);
        let crossed = crossing::cross(&node.executor.0, &node.old, &node.new, &image, None);
        let error = crossed.unwrap_err().to_string();
        assert!(error.contains("the host failed"), "{error}");
        node.none_is_lost(0);
    }
}

/// In a new frame, and in one that has served another.
#[test]
fn a_process_that_the_host_cannot_seat_ends_and_its_frame_with_it() {
    let node = node();
    for used in [false, true].repeat(10) {
        if used {
            let pid = node.spawn();
            assert!(matches!(node.executor.run(pid.slot()), Ran::Idle));
            let kill = Signal::Kill { from: Pid::NONE };
            let _ = node.executor.0.system.signal(pid, kill);
            assert!(matches!(node.executor.run(pid.slot()), Ran::Idle));
            node.none_is_lost(1);
        }
        let pid = node.spawn();
        let slot = node.executor.0.system.table.slot(pid.slot()).unwrap();
        let mut own = slot.take_own().unwrap();
        own.guest().unwrap().residence = Residence::Image {
            image: Image::broken(2),
            waiting: false,
            stamp: None,
        };
        slot.put_own(own);
        assert!(matches!(node.executor.run(pid.slot()), Ran::Idle));
        assert!(!node.lives(pid));
        node.none_is_lost(0);
    }
}

/// A panic anywhere unwinds over the frame of the process, not past its place.
#[test]
fn a_frame_that_is_dropped_gives_its_place_back() {
    let node = node();
    let shared = &node.executor.0;
    for _ in 0..20 {
        let seated = shared.frames.acquire(shared, &node.old.artifact, 2, None);
        let mut seated = seated.unwrap();
        seated.hold();
        let counts = node.executor.frames();
        assert_eq!((counts.live, counts.blocked), (1, 1));
        drop(seated);
        node.none_is_lost(0);
    }
}
