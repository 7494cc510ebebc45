//! The machine on which figures were measured.

use serde::{Deserialize, Serialize};

/// The properties of a machine. Figures are comparable only if all of them are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: u64,
    linux: String,
    max_map_count: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let processor = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, model)| model)
            .to_owned();
        let kilobytes = read("/proc/meminfo")
            .split_whitespace()
            .nth(1)
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .unwrap_or(0);
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor,
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            linux: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            max_map_count: read("/proc/sys/vm/max_map_count").trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cores, {}, {} GiB, Linux {}, vm.max_map_count {}",
            self.cores, self.processor, self.memory_gib, self.linux, self.max_map_count
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_a_file() {
        let machine = Machine::this();
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
    }
}
