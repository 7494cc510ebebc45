//! Packed memories lie side by side, and only the checks in a guest's own code keep it in its own.
//! Here guests try everything that accesses memory, at addresses around and far beyond the end of
//! theirs, with neighbours on both sides that must not notice.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Where a process has its mark: eight bytes at the beginning of a page of the host.
const MARK: u64 = 12_288;

/// Replies 1 if the access that the tag names was made. 1,000 fills its memory from 16 KiB on with a
/// pattern, 1,001 replies how many words of it are another pattern; 1,002 sets its mark; 1,003 reads and
/// writes both ends of each page of 4 KiB that it has, and replies how many these are; 2,000 and more
/// grows by so many pages less 2,000.
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
           (if (i32.eq (local.get $tag) (i32.const 1002)) (then
             (i64.store (i32.const {MARK}) (i64.load (i32.const 4224)))
             (return (i64.const 0))))
           (if (i32.eq (local.get $tag) (i32.const 1003)) (then
             (local.set $a (i32.const 0))
             (loop $next
               (i32.store8 (local.get $a) (i32.load8_u (local.get $a)))
               (i32.store8 offset=4095 (local.get $a) (i32.load8_u offset=4095 (local.get $a)))
               (local.set $a (i32.add (local.get $a) (i32.const 4096)))
               (br_if $next (i32.lt_u (local.get $a) (i32.shl (memory.size) (i32.const 16)))))
             (return (i64.extend_i32_u (i32.shr_u (local.get $a) (i32.const 12))))))
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

fn engine(layout: MemoryLayout) -> EngineConfig {
    EngineConfig {
        layout,
        ..EngineConfig::default()
    }
}

fn world(layout: MemoryLayout) -> World {
    let world = World::new(Setup {
        engine: engine(layout),
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

/// Two processes, one that tries things, and two more: in the order in which they got their memories.
struct Neighbours {
    world: World,
    layout: MemoryLayout,
    others: Vec<Pid>,
    attacker: Pid,
}

impl Neighbours {
    fn new(layout: MemoryLayout) -> Neighbours {
        let world = world(layout);
        let mut others: Vec<Pid> = (0..5).map(|_| filled(&world)).collect();
        let attacker = others.remove(2);
        Neighbours {
            world,
            layout,
            others,
            attacker,
        }
    }

    /// Lets the one try an access. If it dies of it, the others must not notice, and a new one tries the
    /// next.
    fn check(&mut self, tag: usize, address: u64, bytes: u64, may: bool) {
        let layout = self.layout;
        let survived = attempt(&self.world, self.attacker, tag, address, bytes);
        assert_eq!(
            survived, may,
            "{layout:?}, {tag} at {address:#x}, {bytes} bytes"
        );
        if !survived {
            self.attacker = self.world.spawn("m");
            for pid in &self.others {
                assert!(
                    is_untouched(&self.world, *pid),
                    "{layout:?}, {tag} at {address:#x}"
                );
            }
        }
    }

    /// Returns where the memory of a process begins in this process of the operating system: where the
    /// mark is that the guest sets, which is found nowhere else.
    fn address(&self, pid: Pid) -> u64 {
        static MARKS: AtomicU64 = AtomicU64::new(0x9d11_c75e_e842_0000);
        let mark = MARKS.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        assert_eq!(self.world.ask(pid, 1_002, &mark).number(), 0);
        let found = pages_that_begin_with(mark);
        assert_eq!(found.len(), 1, "{found:x?}");
        found[0] - MARK
    }
}

/// The mappings of this process of the operating system that are readable and writable, by address.
fn accessible() -> Vec<Range<u64>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        rest.starts_with("rw").then(|| number(start)..number(end))
    };
    maps.lines().filter_map(range).collect()
}

/// Whether all of a range is readable and writable for the host.
fn is_accessible(range: Range<u64>) -> bool {
    let mut at = range.start;
    for mapping in accessible() {
        if mapping.contains(&at) {
            at = mapping.end;
        }
    }
    at >= range.end
}

/// The addresses of the pages that begin with these bytes. A page that was never touched is left alone.
fn pages_that_begin_with(bytes: [u8; 8]) -> Vec<u64> {
    const HOST_PAGE: u64 = 4 << 10;
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    let memory = File::open("/proc/self/mem").unwrap();
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let mut found = Vec::new();
    for mapping in accessible() {
        let mut entries = vec![0; ((mapping.end - mapping.start) / HOST_PAGE * 8) as usize];
        // Other tests run beside this one, so a mapping may be gone by now.
        if pagemap
            .read_exact_at(&mut entries, mapping.start / HOST_PAGE * 8)
            .is_err()
        {
            continue;
        }
        for (page, entry) in (0..).zip(entries.as_chunks().0) {
            let address = mapping.start + page * HOST_PAGE;
            let mut start = [0; 8];
            if u64::from_le_bytes(*entry) & PRESENT_OR_SWAPPED != 0
                && memory.read_exact_at(&mut start, address).is_ok()
                && start == bytes
            {
                found.push(address);
            }
        }
    }
    found
}

/// Else the other tests here would prove nothing: between packed memories there is nothing that the
/// host could not write, so that only the guest's checks keep it in its own.
#[test]
fn packed_memories_are_adjacent_and_wide_ones_are_not() {
    for layout in [MemoryLayout::Packed, MemoryLayout::Wide] {
        let neighbours = Neighbours::new(layout);
        let own = neighbours.address(neighbours.attacker);
        let address = |pid: &Pid| neighbours.address(*pid);
        let mut others: Vec<u64> = neighbours.others.iter().map(address).collect();
        others.sort_unstable();
        let (below, above) = others.split_at(others.partition_point(|other| *other < own));
        match layout {
            MemoryLayout::Packed => {
                let (below, above) = (*below.last().unwrap(), above[0]);
                // There is room for another two of their size at most.
                let most = 3 * LENGTH;
                assert!(own - below < most && above - own < most);
                assert!(is_accessible(below..above + LENGTH));
            }
            MemoryLayout::Wide => {
                let gap = |other: &u64| own.abs_diff(*other);
                assert!(others.iter().all(|other| gap(other) > u64::from(u32::MAX)));
                assert!(is_accessible(own..own + LENGTH));
                for beyond in [own - 1, own + LENGTH, own + u64::from(u32::MAX)] {
                    assert!(!is_accessible(beyond..beyond + 1), "{beyond:#x}");
                }
            }
        }
    }
}

/// It visits each page that it has, then asks for an address beyond them: near its end, where its
/// neighbours are, and as far as an address reaches. So do those that have grown, where they are, to a
/// larger place and out of the arena. Who comes after them is small again.
#[test]
fn a_guest_that_sweeps_through_all_addresses_finds_its_own_pages_only() {
    const HOST_PAGES: u64 = PAGE / 4_096;
    for layout in [MemoryLayout::Packed, MemoryLayout::Wide] {
        let mut neighbours = Neighbours::new(layout);
        let own = neighbours.address(neighbours.attacker);
        let others: Vec<u64> = (neighbours.others.iter())
            .map(|pid| neighbours.address(*pid))
            .collect();
        // Loads and stores of 8 and 16 bytes, and a fill, where nothing is allowed.
        let accesses = [3, 16, 12, 21, OFFSETS.len() * ACCESSES.len()];
        for more in [0, 1, 3, 70] {
            let length = LENGTH + more * PAGE;
            let near = (0..32).map(|step| length + step * (PAGE + 4_096));
            let far = (0..32).map(|power| (1 << power) + length);
            let theirs = (others.iter()).map(|other| other.wrapping_sub(own) & 0xffff_ffff);
            let beyond = near.chain(far).chain(theirs);
            let beyond = beyond.filter(|address| (length..=0xffff_ffff).contains(address));
            for (number, address) in beyond.enumerate() {
                let pid = neighbours.attacker;
                let before = neighbours.world.ask(pid, 2_000 + more as u32, &[]);
                assert_eq!(before.number(), LENGTH / PAGE, "a new one is small");
                let swept = neighbours.world.ask(pid, 1_003, &[]);
                assert_eq!(swept.number(), length / PAGE * HOST_PAGES);
                neighbours.check(accesses[number % accesses.len()], address, 1, false);
            }
        }
    }
}

#[test]
fn a_guest_reaches_its_own_memory_and_no_byte_beyond() {
    for layout in [MemoryLayout::Packed, MemoryLayout::Wide] {
        let mut neighbours = Neighbours::new(layout);
        let mut attempts = 0;
        let mut check = |tag: usize, address: u64, bytes: u64, may: bool| {
            neighbours.check(tag, address, bytes, may);
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

/// The base has two pages that are not zero, which each frame copies. A page that is zero by now differs
/// from it, and that must not be forgotten when the memory moves.
#[test]
fn what_was_zeroed_in_a_copied_base_is_zero_after_the_memory_has_moved() {
    let world = World::new(Setup {
        frames: 4,
        engine: engine(MemoryLayout::Packed),
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

/// The memory of a process that grows moves to a larger place, and in the end out of the arena. It
/// takes its contents along; what it leaves is zero for the next one.
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
