//! How a process is named in a request.

/// Returns whether a target is a pid, as `<3.1>` or `3.1`, and not a registered name.
pub fn is_pid(target: &str) -> bool {
    let inner = target.trim_start_matches('<').trim_end_matches('>');
    let is_number = |text: &str| text.parse::<u64>().is_ok();
    (inner.split_once('.'))
        .is_some_and(|(slot, generation)| is_number(slot) && is_number(generation))
        || inner.len() != target.len()
}

#[cfg(test)]
mod tests {
    use super::is_pid;

    #[test]
    fn numbers_and_brackets_are_pids() {
        for pid in ["<3.1>", "3.1", "<<3.1", "3.1>", "<x>", "0.0", "+1.2"] {
            assert!(is_pid(pid), "{pid}");
        }
        for name in ["counter", "counter-3.1", "a.1", "1", ".", "user-1"] {
            assert!(!is_pid(name), "{name}");
        }
    }
}
