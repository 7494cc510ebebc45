//! What is short: memory, mappings, frames. Each shortage has an answer that is
//! a message or a number, and nobody dies of it.
//!
//! Some of these tests look at the mappings of the whole operating system's
//! process, or use them up, so they run in a child: the same test, started again.

use crate::world::{Answer, Setup, World, answering};

/// Of each frame's memory in this process: bytes that can be reached, and the
/// flags that the kernel shows. A memory is what lies before addresses that
/// are reserved for its growth.
fn frame_memories() -> Vec<(u64, Vec<String>)> {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = Vec::new();
    let mut before: Vec<(u64, u64, Vec<String>)> = Vec::new();
    let mut current = (0, 0, String::new());
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap();
        if let Some((start, end)) = first.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
        {
            let end = u64::from_str_radix(end, 16).unwrap();
            let access = line.split_whitespace().nth(1).unwrap();
            current = (start, end, access.to_owned());
        } else if let Some(flags) = line.strip_prefix("VmFlags:") {
            let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
            let (start, end, access) = std::mem::take(&mut current);
            if access == "---p" && end - start > 3 << 30 {
                let mut next = start;
                while let Some((start, end, flags)) = before.pop()
                    && end == next
                {
                    next = start;
                    found.push((end - start, flags));
                }
                before.clear();
            } else if access.starts_with("rw") {
                before.push((start, end, flags));
            } else {
                before.clear();
            }
        }
    }
    found
}

/// Where huge pages are always used, one would be taken for 512 written pages.
#[test]
fn no_page_of_a_frame_is_huge_also_after_it_has_grown() {
    let world = World::new(Setup::default());
    let grow = "(i64.extend_i32_s (memory.grow (local.get $tag)))";
    world.deploy("m", &answering("", grow, ""));
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 3, &[]).number(), 2);
    let memories = frame_memories();
    let bytes: u64 = memories.iter().map(|(bytes, _)| bytes).sum();
    assert_eq!(bytes, 5 << 16, "{memories:?}");
    for (bytes, flags) in &memories {
        assert!(flags.iter().any(|flag| flag == "nh"), "{bytes}: {flags:?}");
    }
    assert_ne!(world.ask(pid, 0, &[]), Answer::Nothing);
}
