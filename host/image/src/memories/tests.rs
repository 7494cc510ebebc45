//! Memories that move, copy or share their base, and what is left of them.

use std::process::Command;

use super::*;
use crate::{Base, Method, PageMap, WASM_PAGE, total};

const BYTES: usize = 2 * WASM_PAGE;
/// Where the base is not zero: its file has three pages.
const WRITTEN: [usize; 2] = [8 * PAGE, 10 * PAGE];

fn base() -> Base {
    let mut memory = vec![0; BYTES];
    WRITTEN.into_iter().for_each(|at| memory[at] = 1);
    Base::take(&memory, 0..0, Vec::new(), 2, Vec::new())
}

fn bytes(reserve: &mut Reserve) -> &mut [u8] {
    // SAFETY: the memory is exclusively borrowed, and so long.
    unsafe { std::slice::from_raw_parts_mut(reserve.as_ptr(), reserve.bytes()) }
}

/// Returns a packed memory that has the base.
fn based(memories: &Memories, base: &Base) -> Reserve {
    let mut reserve = memories.packed(BYTES).unwrap();
    let extent = reserve.extent.clone();
    base.map(bytes(&mut reserve), &extent, 0).unwrap();
    reserve
}

#[test]
fn a_page_of_a_copied_base_that_was_zeroed_counts_as_written_where_the_memory_moves_to() {
    let memories = Memories::new();
    let mut base = base();
    base.written.push(8 * PAGE..11 * PAGE);
    for method in [Method::Scan, Method::Bits] {
        let page_map = PageMap::new(Some(method));
        let mut reserve = memories.packed(BYTES).unwrap();
        let extent = reserve.extent.clone();
        base.map(bytes(&mut reserve), &extent, 2).unwrap();
        assert!(!extent.has_file());
        bytes(&mut reserve)[WRITTEN[0]] = 0;
        for pages in [5, 9, 100] {
            reserve.grow(pages * WASM_PAGE).unwrap();
            let mut written = Vec::new();
            page_map.dirty(bytes(&mut reserve), &mut written);
            for at in WRITTEN {
                let known = written.iter().any(|range| range.contains(&at));
                assert!(known, "{method:?}, {pages} pages, {at}: {written:?}");
            }
            let memory = bytes(&mut reserve);
            assert_eq!((memory[WRITTEN[0]], memory[WRITTEN[1]]), (0, 1));
        }
    }
}

#[test]
fn a_small_base_is_copied_into_packed_memories_only() {
    let memories = Memories::new();
    let mut base = base();
    base.written.push(8 * PAGE..11 * PAGE);
    for (copied, has_file) in [(1, true), (2, false)] {
        let mut packed = memories.packed(BYTES).unwrap();
        let extent = packed.extent.clone();
        base.map(bytes(&mut packed), &extent, copied).unwrap();
        assert_eq!(extent.has_file(), has_file);
        let mut wide = memories.wide(BYTES, RESERVED, GUARD).unwrap();
        let extent = wide.extent.clone();
        base.map(bytes(&mut wide), &extent, copied).unwrap();
        assert!(extent.has_file());
        assert_eq!(bytes(&mut packed), bytes(&mut wide));
        assert_eq!(bytes(&mut packed)[WRITTEN[1]], 1);
    }
}

#[test]
fn a_memory_that_moves_keeps_its_contents_its_base_and_what_is_unwritten() {
    let (memories, base) = (Memories::new(), base());
    for method in [Method::Scan, Method::Bits] {
        let page_map = PageMap::new(Some(method));
        let mut reserve = based(&memories, &base);
        // One page of the base's, to which zeros are written, and one of no file.
        bytes(&mut reserve)[WRITTEN[0]] = 0;
        bytes(&mut reserve)[20 * PAGE] = 7;
        // Before the rest is read, which counts as written with `Bits`.
        let written = page_map.count(&reserve.extent);
        let mut expected = bytes(&mut reserve).to_vec();
        let before = reserve.as_ptr();
        for pages in [5, 9, 100] {
            reserve.grow(pages * WASM_PAGE).unwrap();
            expected.resize(pages * WASM_PAGE, 0);
            let (address, length) = (reserve.as_ptr(), reserve.bytes());
            assert!(address != before && length == pages * WASM_PAGE);
            let extent = memories.extent(address).unwrap();
            assert!(Arc::ptr_eq(&extent, &reserve.extent));
            assert_eq!(
                (extent.address(), extent.bytes()),
                (address as usize, length)
            );
            assert!(memories.extent(before).is_none());
            assert_eq!(
                page_map.count(&extent),
                written,
                "{method:?}, {pages} pages"
            );
            assert_eq!(extent.has_moved_out(), pages == 100);
        }
        assert_eq!(memories.moved_out(), 1);
        assert!(*bytes(&mut reserve) == expected[..]);
        drop(reserve);
        assert_eq!(memories.moved_out(), 0);
    }
}

#[test]
fn a_packed_memory_that_shrinks_and_grows_is_zero_at_its_end() {
    let (memories, page_map) = (Memories::new(), PageMap::new(None));
    let mut reserve = memories.packed(BYTES).unwrap();
    let shrink = |reserve: &mut Reserve, to, stays| {
        // SAFETY: nothing refers to the memory, and `bytes` asks for its length each time.
        unsafe { reserve.extent.shrink(to, stays).unwrap() }
    };
    let written = |reserve: &mut Reserve| {
        let (mut ranges, reached) = (Vec::new(), reserve.extent.reached());
        page_map.dirty_up_to(bytes(reserve), reached, &mut ranges);
        total(&ranges) as usize
    };
    reserve.grow(3 * WASM_PAGE).unwrap();
    bytes(&mut reserve).fill(7);
    assert!(!shrink(&mut reserve, WASM_PAGE, false));
    assert!(bytes(&mut reserve).iter().all(|byte| *byte == 7));
    assert_eq!(
        written(&mut reserve),
        WASM_PAGE,
        "the others were given back"
    );
    reserve.grow(2 * WASM_PAGE).unwrap();
    let (kept, new) = bytes(&mut reserve).split_at_mut(WASM_PAGE);
    assert!(kept.iter().all(|byte| *byte == 7) && new.iter().all(|byte| *byte == 0));
    // Pages that are zero again may stay, and count even behind the end.
    new[..PAGE].fill(7);
    new[..PAGE].fill(0);
    for _ in 0..2 {
        assert!(shrink(&mut reserve, WASM_PAGE, true));
        assert_eq!(reserve.extent.reached(), 2 * WASM_PAGE);
        let counted = page_map.count(&reserve.extent);
        assert_eq!(counted, Some((WASM_PAGE + PAGE) as u64));
        assert_eq!(written(&mut reserve), WASM_PAGE + PAGE);
    }
    assert!(!shrink(&mut reserve, WASM_PAGE, false));
    assert_eq!(written(&mut reserve), WASM_PAGE, "up to where it has been");
    reserve.grow(2 * WASM_PAGE).unwrap();
    assert!(
        bytes(&mut reserve)[WASM_PAGE..]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_wide_memory_keeps_nothing_behind_its_end() {
    let memories = Memories::new();
    let mut reserve = memories.wide(BYTES, 4 * BYTES, GUARD).unwrap();
    reserve.grow(2 * BYTES).unwrap();
    // SAFETY: nothing refers to the memory.
    assert!(!unsafe { reserve.extent.shrink(BYTES, true) }.unwrap());
    assert_eq!(reserve.extent.reached(), 0);
}

#[test]
fn the_place_of_a_memory_with_a_base_is_zero_for_the_next_one() {
    let (memories, base) = (Memories::new(), base());
    let mut reserve = based(&memories, &base);
    bytes(&mut reserve).fill(9);
    let place = reserve.as_ptr();
    drop(reserve);
    let mut next = memories.packed(BYTES).unwrap();
    assert_eq!(next.as_ptr(), place);
    assert!(bytes(&mut next).iter().all(|byte| *byte == 0));
}

/// Freeing frames is what helps when the system allows no more mappings, so it must be possible
/// then.
#[test]
fn places_are_cleared_when_the_system_allows_no_more_mappings() {
    const CHILD: &str = "EXUVIA_TEST_ALL_MAPPINGS";
    const NAME: &str =
        "memories::tests::places_are_cleared_when_the_system_allows_no_more_mappings";
    if std::env::var_os(CHILD).is_none() {
        // It takes all mappings of an operating system process.
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let (memories, base) = (Memories::new(), base());
    let made: Vec<Reserve> = (0..8).map(|_| based(&memories, &base)).collect();
    let mut places: Vec<_> = made.iter().map(Reserve::as_ptr).collect();
    // At the limit there is no memory for a longer list either.
    let mut others = Vec::with_capacity(1 << 20);
    let refused = loop {
        match memories.wide(PAGE, 2 * PAGE, PAGE) {
            Ok(other) if others.len() < others.capacity() => others.push(other),
            Ok(_) => return,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    drop(made);
    let unclean = memories.arena.unclean();
    others.clear();
    assert_eq!(unclean, 0);
    let mut again: Vec<Reserve> = (0..8).map(|_| memories.packed(BYTES).unwrap()).collect();
    for reserve in &mut again {
        assert!(bytes(reserve).iter().all(|byte| *byte == 0));
    }
    let mut taken: Vec<_> = again.iter().map(Reserve::as_ptr).collect();
    places.sort_unstable();
    taken.sort_unstable();
    assert_eq!(taken, places);
}
