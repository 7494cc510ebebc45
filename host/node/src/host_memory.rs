//! How much memory the machine has for the node: the installed memory, or what the node's control
//! groups allow if that is less; and whether it is used up.
//!
//! Only files are read, under a root that a test can choose. A file that cannot be read imposes no
//! limit.

use std::fs;
use std::path::{Path, PathBuf};

use exuvia_process::MAX_PROCESSES;

/// The memory that is assumed if nothing can be read, in bytes.
const UNKNOWN: u64 = 1 << 30;

/// Returns the bytes of memory that the node may take.
pub(crate) fn memory() -> u64 {
    memory_under(Path::new("/"))
}

fn memory_under(root: &Path) -> u64 {
    let limits = installed(root).into_iter().chain(groups(root));
    limits.min().unwrap_or(UNKNOWN)
}

/// Bytes of memory per process of the default process limit: four times what an idle process with a
/// small state takes.
const PROCESS_SHARE: u64 = 2048;
/// The lowest default process limit.
const FEWEST: u64 = 10_000;

/// Returns the default process limit of a node that may take `memory` bytes.
pub(crate) fn processes(memory: u64) -> usize {
    let processes = (memory / PROCESS_SHARE).max(FEWEST);
    usize::try_from(processes).map_or(MAX_PROCESSES, |many| many.min(MAX_PROCESSES))
}

/// The share of the machine's memory, and of the node's, that must stay free: one part in this
/// many.
const LEFT: u64 = 32;

/// Returns why a node that may take `memory` bytes has no memory for more processes; `None`: it
/// has.
pub(crate) fn shortage(memory: u64) -> Option<String> {
    shortage_under(Path::new("/"), memory)
}

fn shortage_under(root: &Path, memory: u64) -> Option<String> {
    const MIB: u64 = 1 << 20;
    let available = meminfo(root, "MemAvailable:");
    let installed = installed(root).unwrap_or(memory);
    if let Some(available) = available.filter(|available| *available < installed / LEFT) {
        let available = available / MIB;
        return Some(format!(
            "the machine has only {available} MiB of memory left"
        ));
    }
    let resident = field(root, "proc/self/status", "VmRSS:")?;
    (resident > memory - memory / LEFT).then(|| {
        let (resident, memory) = (resident / MIB, memory / MIB);
        format!("the node uses {resident} MiB of memory, the limit is {memory}")
    })
}

/// Returns the installed memory in bytes.
fn installed(root: &Path) -> Option<u64> {
    meminfo(root, "MemTotal:")
}

fn meminfo(root: &Path, name: &str) -> Option<u64> {
    field(root, "proc/meminfo", name)
}

/// Returns a field in kB of a file in `/proc`, in bytes.
fn field(root: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(root.join(file)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the limits of the control groups of the process, of both versions. The limits of the
/// groups above apply too.
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
        // In a container the path may be that of the host, and the mount the group itself: then
        // only the file of the mount is found.
        for group in PathBuf::from(group.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(mount.join(group).join(file));
            // `max`, or a missing file, is no limit.
            limits.extend(text.ok().and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn machine(files: &[(&str, &str)]) -> u64 {
        memory_under(root(files).path())
    }

    #[test]
    fn memory_is_reported_low_before_it_is_exhausted() {
        let short = |available: u64, resident: u64| {
            let meminfo = format!("MemTotal: 3200 kB\nMemAvailable: {available} kB\n");
            let status = format!("VmRSS:\t {resident} kB\n");
            let files = [("proc/meminfo", &*meminfo), ("proc/self/status", &*status)];
            shortage_under(root(&files).path(), 1600 << 10)
        };
        assert_eq!(short(100, 1550), None);
        assert!(
            short(99, 10)
                .unwrap()
                .contains("the machine has only 0 MiB")
        );
        assert!(short(3000, 1551).unwrap().contains("the node uses 1 MiB"));
        // A file that cannot be read imposes no limit.
        assert_eq!(shortage_under(root(&[]).path(), 1 << 20), None);
    }

    #[test]
    fn the_process_limit_grows_with_memory_within_bounds() {
        assert_eq!(processes(1 << 20), 10_000);
        assert_eq!(processes(1 << 30), 524_288);
        assert_eq!(processes(1 << 40), MAX_PROCESSES);
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        4096 kB\nMemFree: 5 kB\n");

    #[test]
    fn the_memory_of_a_machine_is_read_from_meminfo() {
        assert_eq!(machine(&[]), UNKNOWN);
        assert_eq!(machine(&[MEMINFO]), 4 << 20);
        assert_eq!(machine(&[("proc/meminfo", "MemTotal: many")]), UNKNOWN);
    }

    #[test]
    fn the_lowest_cgroup_limit_applies() {
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
    fn cgroup_v1_limits_apply_too() {
        let first = ("proc/self/cgroup", "5:cpu:/x\n4:memory,pids:/c\n0::/\n");
        let limit = "sys/fs/cgroup/memory/c/memory.limit_in_bytes";
        assert_eq!(machine(&[MEMINFO, first, (limit, "8192\n")]), 8192);
        // There a large number means no limit.
        assert_eq!(
            machine(&[MEMINFO, first, (limit, "9223372036854771712")]),
            4 << 20
        );
    }
}
