//! Packed memories lie side by side, and only the checks in a guest's own code keep it in its own.
//! Here guests try everything that accesses memory, at addresses around and far beyond the end of
//! theirs, with neighbours on both sides that must not notice.

use exuvia_engine::{EngineConfig, MemoryLayout};
use exuvia_process::Pid;

use crate::world::{Answer, Setup, World, answering};

const PAGE: u64 = 64 << 10;
/// Bytes of the memory of a new process.
const LENGTH: u64 = 2 * PAGE;
const OFFSETS: [u64; 7] = [0, 1, 0xfff, PAGE, 3 * PAGE, 0x7fff_ffff, 0xffff_ffff];

/// A way to access memory: what it does at the address in `$a`, and how many bytes from there it
/// touches. `%` stands for the offset.
const ACCESSES: [(&str, u64); 22] = [
    ("(drop (i32.load8_u offset=% (local.get $a)))", 1),
    ("(drop (i32.load16_s offset=% (local.get $a)))", 2),
    ("(drop (i32.load offset=% (local.get $a)))", 4),
    ("(drop (i64.load offset=% (local.get $a)))", 8),
    ("(drop (i32.load8_s offset=% (local.get $a)))", 1),
    ("(drop (i64.load8_u offset=% (local.get $a)))", 1),
    ("(drop (i64.load16_u offset=% (local.get $a)))", 2),
    ("(drop (i64.load32_s offset=% (local.get $a)))", 4),
    ("(drop (v128.load8x8_u offset=% (local.get $a)))", 8),
    ("(drop (v128.load32_splat offset=% (local.get $a)))", 4),
    ("(drop (f32.load offset=% (local.get $a)))", 4),
    ("(drop (f64.load offset=% (local.get $a)))", 8),
    ("(drop (v128.load offset=% (local.get $a)))", 16),
    ("(i32.store8 offset=% (local.get $a) (i32.const -1))", 1),
    ("(i32.store16 offset=% (local.get $a) (i32.const -1))", 2),
    ("(i32.store offset=% (local.get $a) (i32.const -1))", 4),
    ("(i64.store offset=% (local.get $a) (i64.const -1))", 8),
    ("(i64.store8 offset=% (local.get $a) (i64.const -1))", 1),
    ("(f32.store offset=% (local.get $a) (f32.const -1))", 4),
    ("(f64.store offset=% (local.get $a) (f64.const -1))", 8),
    ("(i64.store32 offset=% (local.get $a) (i64.const -1))", 4),
    (
        "(v128.store offset=% (local.get $a) (v128.const i64x2 -1 -1))",
        16,
    ),
];

/// The same without offsets: `$n` bytes from `$a`.
const BULK: [&str; 6] = [
    "(memory.fill (local.get $a) (i32.const -1) (local.get $n))",
    "(memory.copy (local.get $a) (i32.const 8192) (local.get $n))",
    "(memory.copy (i32.const 8192) (local.get $a) (local.get $n))",
    "(memory.init $data (local.get $a) (i32.const 0) (local.get $n))",
    // Of a fixed length, these are compiled to loads and stores.
    "(memory.copy (local.get $a) (i32.const 8192) (i32.const 64))",
    "(memory.copy (i32.const 8192) (local.get $a) (i32.const 64))",
];

/// Replies 1 if the access that the tag names was made. 1,000 fills its memory from 16 KiB on with a
/// pattern, 1,001 replies how many words of it are another pattern; 2,000 and more grows by so many
/// pages less 2,000.
fn guest() -> String {
    let mut arms = String::new();
    let mut number = 0;
    let mut arm = |body: &str| {
        arms.push_str(&format!(
            "(if (i32.eq (local.get $tag) (i32.const {number})) (then {body} (return (i64.const 1))))\n"
        ));
        number += 1;
    };
    for offset in OFFSETS {
        for (access, _) in ACCESSES {
            arm(&access.replace('%', &offset.to_string()));
        }
    }
    BULK.iter().for_each(|access| arm(access));
    let handle = format!(
        r#"(local $a i32) (local $n i32) (local $wrong i64)
           (local.set $a (i32.load (i32.const 4224)))
           (local.set $n (i32.load (i32.const 4228)))
           {arms}
           (if (i32.ge_u (local.get $tag) (i32.const 2000)) (then
             (return (i64.extend_i32_s (memory.grow (i32.sub (local.get $tag) (i32.const 2000)))))))
           (local.set $a (i32.const 16384))
           (loop $next
             (if (i32.eq (local.get $tag) (i32.const 1000))
               (then (i64.store (local.get $a) (i64.extend_i32_u (local.get $a))))
               (else (if (i64.ne (i64.load (local.get $a)) (i64.extend_i32_u (local.get $a)))
                 (then (local.set $wrong (i64.add (local.get $wrong) (i64.const 1)))))))
             (local.set $a (i32.add (local.get $a) (i32.const 8)))
             (br_if $next (i32.lt_u (local.get $a) (i32.shl (memory.size) (i32.const 16)))))
           (local.get $wrong)"#
    );
    let data = "x".repeat(4_000);
    // Without a maximum, so that the compiler knows nothing about addresses beyond the minimum.
    let guest = answering("", &handle, &format!(r#"(data $data "{data}")"#));
    guest.replace("2 8)", "2)")
}

fn world(layout: MemoryLayout) -> World {
    let world = World::new(Setup {
        engine: EngineConfig {
            layout,
            ..EngineConfig::default()
        },
        ..Setup::default()
    });
    world.deploy("m", &guest());
    world
}

fn filled(world: &World) -> Pid {
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 1_000, &[]).number(), 0);
    pid
}

fn is_untouched(world: &World, pid: Pid) -> bool {
    world.ask(pid, 1_001, &[]).number() == 0
}

/// Lets a process make an access. Returns whether it survived.
fn attempt(world: &World, pid: Pid, tag: usize, address: u64, bytes: u64) -> bool {
    let payload = [address, bytes]
        .map(|number| u32::try_from(number).unwrap().to_le_bytes())
        .concat();
    let answer = world.ask(pid, tag as u32, &payload);
    answer == Answer::Reply(1u64.to_le_bytes().into())
}

#[test]
fn a_guest_reaches_its_own_memory_and_no_byte_beyond() {
    for layout in [MemoryLayout::Packed, MemoryLayout::Wide] {
        let world = world(layout);
        let before: Vec<Pid> = (0..2).map(|_| filled(&world)).collect();
        let mut attacker = filled(&world);
        let behind: Vec<Pid> = (0..2).map(|_| filled(&world)).collect();
        let mut attempts = 0;
        let mut check = |tag: usize, address: u64, bytes: u64, may: bool| {
            let survived = attempt(&world, attacker, tag, address, bytes);
            assert_eq!(
                survived, may,
                "{layout:?}, {tag} at {address:#x}, {bytes} bytes"
            );
            if !survived {
                attacker = world.spawn("m");
                for pid in before.iter().chain(&behind) {
                    assert!(
                        is_untouched(&world, *pid),
                        "{layout:?}, {tag} at {address:#x}"
                    );
                }
            }
            attempts += 1;
        };
        for (group, offset) in OFFSETS.into_iter().enumerate() {
            for (index, (_, width)) in ACCESSES.into_iter().enumerate() {
                // The last address that is allowed, if there is one, and some that are not.
                let last = LENGTH.checked_sub(offset + width);
                let tag = group * ACCESSES.len() + index;
                if let Some(last) = last {
                    check(tag, last, 0, true);
                }
                let next = last.map_or(0, |last| last + 1);
                for address in [next, next + 4_096, next + PAGE, LENGTH * 9, 0xffff_ffff] {
                    let may = address + offset + width <= LENGTH;
                    check(tag, address, 0, may);
                }
            }
        }
        let first = OFFSETS.len() * ACCESSES.len();
        for tag in first..first + BULK.len() {
            let lengths = if tag < first + 4 { [1, 4_000] } else { [64; 2] };
            for bytes in lengths {
                check(tag, LENGTH - bytes, bytes, true);
                check(tag, LENGTH - bytes + 1, bytes, false);
                check(tag, LENGTH * 4, bytes, false);
                check(tag, 0xffff_ffff, bytes, false);
            }
            if tag < first + 3 {
                check(tag, 16_384, 0xffff_ffff, false);
            }
        }
        assert!(attempts > 400);
    }
}

/// The memory of a process that grows moves to a larger place, and in the end out of the arena. It
/// takes its contents along; what it leaves is zero for the next one.
/// The base has two pages that are not zero, which each frame copies. A page that is zero by now differs
/// from it, and that must not be forgotten when the memory moves.
#[test]
fn what_was_zeroed_in_a_copied_base_is_zero_after_the_memory_has_moved() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    // Tag 1 clears the byte and grows out of the memory's place. All answer the byte.
    let handle = "(if (i32.eq (local.get $tag) (i32.const 1)) (then
          (i32.store8 (i32.const 40960) (i32.const 0))
          (drop (memory.grow (i32.const 4)))))
        (i64.load8_u (i32.const 40960))";
    let guest = answering("", handle, r#"(data (i32.const 40960) "x")"#);
    world.deploy("m", &guest);
    let pids: Vec<Pid> = (0..20).map(|_| world.spawn("m")).collect();
    let (cleared, others) = pids.split_at(10);
    for pid in cleared {
        assert_eq!(world.ask(*pid, 1, &[]).number(), 0);
    }
    // Most have been paged out since.
    for _ in 0..2 {
        for pid in others {
            assert_eq!(world.ask(*pid, 2, &[]).number(), u64::from(b'x'));
        }
        for pid in cleared {
            assert_eq!(world.ask(*pid, 2, &[]).number(), 0, "{pid}");
        }
    }
    // Their frames are those of new processes.
    cleared.iter().for_each(|pid| world.kill(*pid));
    assert!(world.settle(100));
    for _ in 0..10 {
        let new = world.spawn("m");
        assert_eq!(world.ask(new, 2, &[]).number(), u64::from(b'x'));
    }
}

#[test]
fn a_memory_that_moves_to_grow_keeps_its_contents_and_leaves_none() {
    let world = world(MemoryLayout::Packed);
    let neighbour = filled(&world);
    for _ in 0..3 {
        let pid = filled(&world);
        let mut pages = LENGTH / PAGE;
        // To a larger place, to another one, and out of the arena.
        for more in [1, 1, 2, 1, 20, 60] {
            // What was there is there, and what is new is zero: each of its words but none.
            let new = more * PAGE / 8;
            assert_eq!(world.ask(pid, 2_000 + more as u32, &[]).number(), pages);
            assert_eq!(world.ask(pid, 1_001, &[]).number(), new);
            assert_eq!(world.ask(pid, 1_000, &[]).number(), 0);
            pages += more;
        }
        assert!(is_untouched(&world, pid) && is_untouched(&world, neighbour));
        world.kill(pid);
        assert!(world.settle(100));
        // A new process finds none of it: all words of its memory are zero.
        let next = world.spawn("m");
        let words = (LENGTH - 16_384) / 8;
        assert_eq!(world.ask(next, 1_001, &[]).number(), words);
        world.kill(next);
        assert!(world.settle(100));
    }
    assert!(is_untouched(&world, neighbour));
}
