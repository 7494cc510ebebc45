//! How much memory this machine has for the node: what it was built with, or
//! what the node's control groups allow, if that is less.
//!
//! Only files are read, under a root that a test can choose. What cannot be read
//! limits nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// If nothing can be read.
const UNKNOWN: u64 = 1 << 30;

/// Bytes of memory that the node can have.
pub(crate) fn memory() -> u64 {
    memory_under(Path::new("/"))
}

fn memory_under(root: &Path) -> u64 {
    let limits = installed(root).into_iter().chain(groups(root));
    limits.min().unwrap_or(UNKNOWN)
}

/// What the machine has.
fn installed(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of the control groups that the process is in, of both versions.
/// Each group has those of the groups above it too.
fn groups(root: &Path) -> Vec<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = root.join("sys/fs/cgroup");
    let mut limits = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = match kinds {
            "" => (mounts.clone(), "memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                (mounts.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be that of the host, and the mount be
        // the group itself: then only the mount's own file is found.
        for group in PathBuf::from(group.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(mount.join(group).join(file));
            // `max`, and no file at all, is no limit.
            limits.extend(text.ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_under(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        4096 kB\nMemFree: 5 kB\n");

    #[test]
    fn a_machine_has_what_it_was_built_with() {
        assert_eq!(machine(&[]), UNKNOWN);
        assert_eq!(machine(&[MEMINFO]), 4 << 20);
        assert_eq!(machine(&[("proc/meminfo", "MemTotal: many")]), UNKNOWN);
    }

    #[test]
    fn the_smallest_group_counts() {
        let second = ("proc/self/cgroup", "0::/a/b\n");
        let max = "sys/fs/cgroup/a/b/memory.max";
        let above = "sys/fs/cgroup/a/memory.max";
        assert_eq!(machine(&[MEMINFO, second, (max, "max\n")]), 4 << 20);
        assert_eq!(machine(&[MEMINFO, second, (max, "65536\n")]), 65_536);
        let both = [MEMINFO, second, (max, "max\n"), (above, "131072\n")];
        assert_eq!(machine(&both), 131_072);
        // The mount is the group itself, as in a container.
        let own = ("sys/fs/cgroup/memory.max", "4096");
        assert_eq!(machine(&[MEMINFO, second, own]), 4096);
    }

    #[test]
    fn groups_of_the_first_version_count_too() {
        let first = ("proc/self/cgroup", "5:cpu:/x\n4:memory,pids:/c\n0::/\n");
        let limit = "sys/fs/cgroup/memory/c/memory.limit_in_bytes";
        assert_eq!(machine(&[MEMINFO, first, (limit, "8192\n")]), 8192);
        // No limit is a large number there.
        assert_eq!(
            machine(&[MEMINFO, first, (limit, "9223372036854771712")]),
            4 << 20
        );
    }
}
