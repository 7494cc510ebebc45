//! Shortages of memory, mappings, addresses and frames. Each ends in a message or an error code,
//! and no process dies of it.
//!
//! Some of these tests use up what the whole process of the operating system
//! has, so they run in a child: the same test, started again (see `child`).

use std::process::Command;
use std::sync::Arc;

use exuvia_abi::{Code, Reason};
use exuvia_engine::{EngineConfig, MemoryLayout, Method};
use exuvia_process::{Envelope, Limits, Payload, Pid, SendError};

use crate::child::child;
use crate::world::{Answer, Setup, World, answering, engine, is_long};

/// A frame's memory in this process.
#[derive(Debug)]
struct FrameMemory {
    /// Bytes that can be reached.
    bytes: u64,
    /// Of these, what is no file's.
    anonymous: u64,
    /// What the kernel shows of it.
    flags: String,
}

fn wide() -> EngineConfig {
    EngineConfig {
        layout: MemoryLayout::Wide,
        ..engine()
    }
}

/// The parts of all frames' memories: what lies before addresses that are
/// reserved for its growth.
fn frame_memories() -> Vec<FrameMemory> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = Vec::new();
    let mut parts: Vec<FrameMemory> = Vec::new();
    let (mut bytes, mut anonymous, mut access) = (0, 0, String::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some((start, end)) = first.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
        {
            bytes = u64::from_str_radix(end, 16).unwrap() - start;
            access = words.next().unwrap().to_owned();
        } else if first == "Anonymous:" {
            anonymous = words.next().unwrap().parse::<u64>().unwrap() << 10;
        } else if first == "VmFlags:" {
            if access.starts_with("rw") {
                parts.push(FrameMemory {
                    bytes,
                    anonymous,
                    flags: line.to_owned(),
                });
            } else if access == "---p" && bytes > 3 << 30 {
                found.append(&mut parts);
            } else {
                parts.clear();
            }
        }
    }
    found
}

/// Counts its requests. Tag 1 writes 384 KiB and clears them again, 2 writes
/// them and leaves them, 9 sleeps, 10 leaves them and sleeps, 100 and more grows by as many
/// pages less 100.
fn working() -> String {
    answering(
        r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#,
        r#"(if (i32.ge_u (local.get $tag) (i32.const 100)) (then
             (return (i64.extend_i32_s (memory.grow (i32.sub (local.get $tag) (i32.const 100)))))))
           (if (i32.and (local.get $tag) (i32.const 3)) (then
             (if (i32.lt_u (memory.size) (i32.const 8)) (then
               (drop (memory.grow (i32.sub (i32.const 8) (memory.size))))))
             (memory.fill (i32.const 0x10000) (i32.const 7) (i32.const 0x60000))
             (if (i32.eq (local.get $tag) (i32.const 1)) (then
               (memory.fill (i32.const 0x10000) (i32.const 0) (i32.const 0x60000))))))
           (if (i32.and (local.get $tag) (i32.const 8)) (then
             (return (i64.extend_i32_s (call $sleep (i64.const 1000))))))
           (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
           (i64.load (i32.const 8192))"#,
        "",
    )
}

const LIMIT: u64 = (Code::Limit as i64).cast_unsigned();

/// Where huge pages are always used, one would be taken for 512 written pages.
#[test]
fn no_page_of_a_frame_is_huge_even_after_it_has_grown() {
    if !child(
        "pressure::no_page_of_a_frame_is_huge_even_after_it_has_grown",
        ":",
    ) {
        return;
    }
    let world = World::new(Setup {
        engine: wide(),
        ..Setup::default()
    });
    world.deploy("m", &working());
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 103, &[]).number(), 2);
    let memories = frame_memories();
    let bytes: u64 = memories.iter().map(|memory| memory.bytes).sum();
    assert_eq!(bytes, 5 << 16, "{memories:?}");
    for memory in &memories {
        let mut flags = memory.flags.split_whitespace();
        assert!(flags.any(|flag| flag == "nh"), "{memory:?}");
    }
}

/// Each of many processes writes 384 KiB; 8 frames may keep 1 MiB.
fn bounded(method: Method, tag: u32) {
    const MOST: u64 = 1 << 20;
    const ONE: u64 = 7 << 16;
    let world = World::new(Setup {
        frame_memory: MOST,
        engine: EngineConfig {
            page_map: Some(method),
            ..engine()
        },
        ..Setup::default()
    });
    world.deploy("m", &working());
    let pids: Vec<Pid> = (0..40).map(|_| world.spawn("m")).collect();
    let mut told = 0;
    for round in 0..3 {
        for some in pids.chunks(8) {
            // Who is asked again soon gets a frame of his own.
            for count in 1..4 {
                for pid in some {
                    assert_eq!(world.ask(*pid, tag, &[]).number(), 3 * round + count);
                }
            }
            if let Some(text) = world.executor.trim_frames() {
                assert!(text.contains("`frame_memory`"), "{text}");
                told += 1;
            }
            let counts = world.executor.frames();
            assert!(counts.bytes <= MOST, "{counts:?}");
            // What is counted is what the kernel has.
            let truth: u64 = frame_memories().iter().map(|m| m.anonymous).sum();
            assert!(truth <= MOST + ONE, "{truth} bytes, {counts:?}");
        }
    }
    let counts = world.executor.frames();
    assert!(counts.released > 0, "{counts:?}");
    // Once, and not each time.
    assert_eq!(told, 1);
    for pid in &pids {
        assert_eq!(world.ask(*pid, 0, &[]).number(), 10);
    }
}

#[test]
fn memory_that_processes_leave_in_frames_is_bounded() {
    if child(
        "pressure::memory_that_processes_leave_in_frames_is_bounded",
        ":",
    ) {
        bounded(Method::Scan, 1);
    }
}

#[test]
fn memory_that_processes_keep_in_frames_is_bounded() {
    if child(
        "pressure::memory_that_processes_keep_in_frames_is_bounded",
        ":",
    ) {
        bounded(Method::Bits, 2);
    }
}

/// Where nothing tells what was written, all memory counts: fewer frames, and
/// the processes are all served.
#[test]
fn without_a_page_map_frames_are_bounded_by_their_size() {
    let world = World::new(Setup {
        frames: 64,
        frame_memory: 1 << 20,
        engine: EngineConfig {
            page_map: Some(Method::Compare),
            ..engine()
        },
        ..Setup::default()
    });
    world.deploy("m", &working());
    let pids: Vec<Pid> = (0..40).map(|_| world.spawn("m")).collect();
    for count in 1..4 {
        for pid in &pids {
            assert_eq!(world.ask(*pid, 0, &[]).number(), count);
            let counts = world.executor.frames();
            // Two pages of Wasm memory each; the last may be one too many.
            assert!(counts.live <= 9, "{counts:?}");
        }
    }
    let _ = world.executor.trim_frames();
    assert_eq!(world.ask(pids[0], 0, &[]).number(), 4);
}

/// Who blocks keeps what it has written, so past the bound nobody blocks.
#[test]
fn blocked_processes_hold_no_more_memory_than_the_bound() {
    let world = World::new(Setup {
        frames: 32,
        frame_memory: 2 << 20,
        ..Setup::default()
    });
    world.deploy("m", &working());
    let mut blocked = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let reference = world.request(world.spawn("m"), 10, &[]);
        assert!(world.settle(1_000));
        let _ = world.executor.trim_frames();
        match world.answer(reference) {
            Answer::Nothing => blocked.push(reference),
            answer => {
                assert_eq!(answer.number(), LIMIT);
                refused += 1;
            }
        }
    }
    // Five of 392 KiB, more or less.
    assert!((4..7).contains(&blocked.len()), "{} block", blocked.len());
    assert_eq!(blocked.len() + refused, 20);
    // Everybody else is served.
    for _ in 0..10 {
        assert_eq!(world.ask(world.spawn("m"), 1, &[]).number(), 1);
    }
    world.advance(1_000);
    assert!(world.settle(10_000));
    for reference in blocked {
        assert_eq!(world.answer(reference).number(), 0);
    }
    let _ = world.executor.trim_frames();
    let reference = world.request(world.spawn("m"), 9, &[]);
    assert!(world.settle(1_000));
    assert_eq!(world.answer(reference), Answer::Nothing);
}

/// Asks all processes a few times while the system gives no frames, and lets the
/// time pass after which it is tried again. Answers what the log says.
fn all_are_served(world: &World, pids: &[Pid], from: u64) -> String {
    for count in from..from + 3 {
        for pid in pids {
            let answer = world.ask(*pid, 0, &[]);
            assert_eq!(answer, Answer::Reply(count.to_le_bytes().into()));
        }
        world.advance(100);
    }
    let counts = world.executor.frames();
    assert!(counts.failures > 0, "{counts:?}");
    assert!(counts.live > 0 && counts.live < 16, "{counts:?}");
    let told = world.executor.trim_frames().unwrap();
    assert!(told.contains("no frame could be created"), "{told}");
    // Not again at once.
    assert_eq!(world.ask(pids[0], 0, &[]).number(), from + 3);
    assert_eq!(world.executor.trim_frames(), None);
    told
}

/// Each frame reserves 4 GiB of addresses, and there are 20.
#[test]
fn little_address_space_means_few_frames_and_no_exits() {
    let limits = "ulimit -S -v 20971520";
    if !child(
        "pressure::little_address_space_means_few_frames_and_no_exits",
        limits,
    ) {
        return;
    }
    assert!(exuvia_engine::default_frames() < 4);
    let world = World::new(Setup {
        frames: 64,
        engine: wide(),
        ..Setup::default()
    });
    world.deploy("m", &working());
    let pids: Vec<Pid> = (0..40).map(|_| world.spawn("m")).collect();
    let told = all_are_served(&world, &pids, 1);
    assert!(
        told.contains("address space is limited to 21474836480 bytes"),
        "{told}"
    );
    // A swap says so too, and changes nothing.
    let before = world.executor.frames().live;
    let other = wat::parse_str(working().replace("8192", "8200")).unwrap();
    match world.load("m", &other) {
        Ok(version) => world.commit(&version),
        Err(error) => assert!(error.to_string().contains("ulimit -v"), "{error}"),
    }
    // When there is room again, it is used.
    let me = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &me, "--as=unlimited"])
        .status();
    assert!(raised.unwrap().success());
    world.advance(100);
    for pid in &pids {
        let _ = world.ask(*pid, 0, &[]).number();
        let _ = world.ask(*pid, 0, &[]).number();
    }
    assert!(world.executor.frames().live > before + 4);
}

/// Something else has nearly all mappings that there may be.
#[test]
fn few_mappings_mean_few_frames_and_no_exits() {
    if !child("pressure::few_mappings_mean_few_frames_and_no_exits", ":") {
        return;
    }
    // Packed ones would hardly need any.
    let world = World::new(Setup {
        frames: 64,
        engine: wide(),
        ..Setup::default()
    });
    world.deploy("m", &working());
    let pids: Vec<Pid> = (0..40).map(|_| world.spawn("m")).collect();
    let mut taken = Vec::new();
    // Neighbours of the same kind would become one mapping.
    for protection in [libc::PROT_NONE, libc::PROT_READ].iter().cycle() {
        // SAFETY: a fresh mapping that nothing refers to.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                *protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            break;
        }
        taken.push(at);
        assert!(taken.len() < 10_000_000, "there is no limit here");
    }
    // Some for a few frames, and for the host itself.
    for at in taken.iter().rev().take(40) {
        // SAFETY: it was mapped above, and nothing refers to it.
        unsafe { libc::munmap(*at, 4096) };
    }
    let told = all_are_served(&world, &pids, 1);
    assert!(told.contains("sysctl -w vm.max_map_count="), "{told}");
}

/// The system has no memory left when a guest grows: the guest is told, and one
/// that cannot do without it ends for that reason.
#[test]
fn a_guest_sees_when_the_system_has_no_memory() {
    let test = "pressure::a_guest_sees_when_the_system_has_no_memory";
    if !child(test, "ulimit -S -d 1048576") {
        return;
    }
    let world = World::new(Setup::default());
    // Tag 1 grows by 128 MiB and answers the size before, 2 traps if it cannot.
    let growing = answering(
        "",
        "(local $size i32)
         (if (i32.eqz (local.get $tag)) (then (return (i64.const 5))))
         (local.set $size (memory.grow (i32.const 2048)))
         (if (i32.and (i32.eq (local.get $size) (i32.const -1)) (i32.eq (local.get $tag) (i32.const 2)))
           (then unreachable))
         (i64.extend_i32_s (local.get $size))",
        "",
    );
    world.deploy("m", &growing.replace("2 8)", "2)"));
    let limits = Arc::new(Limits {
        memory: 4 << 30,
        ..Limits::default()
    });
    let other = world.spawn("m");
    let pid = world.spawn_with("m", &limits);
    let sizes: Vec<u64> = (0..9).map(|_| world.ask(pid, 1, &[]).number()).collect();
    assert_eq!((sizes[0], sizes[8]), (2, u64::MAX), "{sizes:?}");
    match world.ask(pid, 2, &[]) {
        Answer::Down(code, text) => {
            assert_eq!(code, Reason::MEMORY.0);
            assert!(text.contains("the system is out of memory"), "{text}");
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(world.ask(other, 0, &[]).number(), 5);
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 5);
}

/// All frames but those that are kept back are held by callers of a server of
/// which no frame is left.
#[test]
fn a_paged_out_server_runs_even_if_its_callers_hold_all_frames() {
    let world = World::new(Setup::default());
    world.deploy("server", &working());
    let call = r#"(import "exuvia" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i64) (result i32)))"#;
    let calling = answering(
        call,
        r#"(i32.store (i32.const 5000) (i32.const 48))
           (i64.store (i32.const 5100) (i64.extend_i32_s (call $call (i32.const 4224) (i32.const 0) (i32.const 0) (i32.const 0)
             (i32.const 5000) (i32.const 5200) (i32.const 64) (i64.const -1))))
           (select (i64.load (i32.const 5200)) (i64.load (i32.const 5100)) (i64.eqz (i64.load (i32.const 5100))))"#,
        "",
    );
    world.deploy("caller", &calling);
    let server = world.spawn("server");
    assert_eq!(world.ask(server, 0, &[]).number(), 1);
    for _ in 0..20 {
        assert_eq!(world.ask(world.spawn("server"), 0, &[]).number(), 1);
    }
    let look =
        |process: &mut exuvia_engine::GuestProcess| process.guest().map(|guest| guest.describe());
    let at = world.executor.examine(server.slot(), look);
    assert_eq!(at.flatten(), Some("paged out"));
    let may_block = 6;
    let callers: Vec<u64> = (0..50)
        .map(|_| world.request(world.spawn("caller"), 0, &server.to_bytes()))
        .collect();
    let all_block = (0..10_000).any(|_| {
        let block = world.executor.frames().blocked == may_block;
        block || !world.turn()
    });
    assert!(all_block, "{:?}", world.executor.frames());
    assert!(world.settle(10_000));
    let answers: Vec<u64> = callers.iter().map(|r| world.answer(*r).number()).collect();
    let mut served: Vec<u64> = answers.into_iter().filter(|a| *a != LIMIT).collect();
    served.sort_unstable();
    assert!(served.len() >= may_block, "{served:?}");
    assert!(
        served.iter().copied().eq(2..2 + served.len() as u64),
        "{served:?}"
    );
    assert_eq!(world.executor.frames().blocked, 0);
}

/// What a paged-out process is sent waits in its mailbox up to its limits. No
/// message is lost without the sender being told, and none of the others.
#[test]
fn the_mailbox_of_a_paged_out_process_is_limited() {
    let most: u32 = if is_long() { 1_000_000 } else { 100_000 };
    let world = World::new(Setup::default());
    let counts = answering("", "(i64.load (i32.const 8192))", "").replace(
        "(if (i32.eq (i32.load (i32.const 4100)) (i32.const 3))",
        "(if (i32.eq (i32.load (i32.const 4100)) (i32.const 2)) (then
           (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))))
         (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3))",
    );
    world.deploy("m", &counts);
    let limits = Arc::new(Limits {
        mailbox_messages: most,
        ..Limits::default()
    });
    let pid = world.spawn_with("m", &limits);
    assert_eq!(world.ask(pid, 0, &[]).number(), 0);
    for _ in 0..20 {
        assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 0);
    }
    let state = |pid: Pid| {
        let look = |process: &mut exuvia_engine::GuestProcess| {
            process.guest().map(|guest| guest.describe())
        };
        world.executor.examine(pid.slot(), look).flatten()
    };
    assert_eq!(state(pid), Some("paged out"));
    let send = || {
        let envelope = Envelope::message(Pid::NONE, 0, Payload::new(&[7; 16]));
        world.system.send(pid, envelope)
    };
    for _ in 0..most {
        assert_eq!(send(), Ok(()));
    }
    for _ in 0..100 {
        assert_eq!(send(), Err(SendError::Full));
    }
    // What `ps` shows.
    let waiting = world.system.table.slot(pid.slot()).unwrap().mailbox.len();
    assert_eq!(waiting as u64, u64::from(most));
    // It is served in turn with others, and all of it.
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 0);
    assert!(world.settle(most));
    assert_eq!(world.ask(pid, 0, &[]).number(), u64::from(most));
}
