//! The allocation bitmap of the arena: one bit for each granule. Pure: the heap converts
//! granule indices to addresses.
//!
//! The map is part of a process's image, so it holds no history: an arena without allocations
//! has a map of zeros, whatever was allocated before.

/// The bits in a word.
const BITS: usize = u64::BITS as usize;
/// The number of words: as many as `full` has bits.
const WORDS: usize = BITS;
/// The number of granules in a map.
pub(super) const GRANULES: usize = WORDS * BITS;

/// The allocated granules.
#[derive(Debug)]
pub(super) struct Map {
    taken: [u64; WORDS],
    /// The words of `taken` with no free bit left. A process with little on its heap has none,
    /// so this takes no space in its image.
    full: u64,
}

impl Map {
    pub(super) const fn new() -> Map {
        Map {
            taken: [0; WORDS],
            full: 0,
        }
    }

    /// Takes the lowest `count` contiguous granules: live blocks stay close together, and an
    /// image has few runs.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        // No block can start in a full word.
        let mut at = self.full.trailing_ones() as usize * BITS;
        while at + count <= GRANULES {
            let first = self.next(at, false);
            if first + count > GRANULES {
                return None;
            }
            let end = self.next(first, true);
            if end - first >= count {
                self.set(first, count, true);
                return Some(first);
            }
            at = end;
        }
        None
    }

    /// Takes `more` granules starting at `first` if all of them are free.
    pub(super) fn take_at(&mut self, first: usize, more: usize) -> bool {
        let fits = first + more <= GRANULES && self.next(first, true) - first >= more;
        if fits {
            self.set(first, more, true);
        }
        fits
    }

    /// Frees granules.
    pub(super) fn give(&mut self, first: usize, count: usize) {
        self.set(first, count, false);
    }

    /// Returns the first taken granule at or after `at`, or the first free one; `GRANULES` if
    /// there is none.
    fn next(&self, at: usize, taken: bool) -> usize {
        let flip = if taken { 0 } else { u64::MAX };
        let mut index = at / BITS;
        let mut below = u64::MAX << (at % BITS);
        while let Some(word) = self.taken.get(index) {
            let found = (word ^ flip) & below;
            if found != 0 {
                return index * BITS + found.trailing_zeros() as usize;
            }
            below = u64::MAX;
            index += 1;
        }
        GRANULES
    }

    fn set(&mut self, first: usize, count: usize, taken: bool) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let bit = at % BITS;
            let here = (end - at).min(BITS - bit);
            let mask = (u64::MAX >> (BITS - here)) << bit;
            let word = &mut self.taken[at / BITS];
            if taken {
                *word |= mask;
            } else {
                *word &= !mask;
            }
            if *word == u64::MAX {
                self.full |= 1 << (at / BITS);
            } else {
                self.full &= !(1 << (at / BITS));
            }
            at += here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GRANULES, Map};

    /// Pseudorandom numbers, the same in each run (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }
    }

    /// The simplest possible implementation of the same map.
    struct Naive(Vec<bool>);

    impl Naive {
        fn take(&mut self, count: usize) -> Option<usize> {
            let first = self
                .0
                .windows(count)
                .position(|all| all.iter().all(|taken| !taken))?;
            self.0[first..first + count].fill(true);
            Some(first)
        }

        fn take_at(&mut self, first: usize, more: usize) -> bool {
            let Some(all) = self.0.get_mut(first..first + more) else {
                return false;
            };
            let fits = all.iter().all(|taken| !taken);
            if fits {
                all.fill(true);
            }
            fits
        }
    }

    #[test]
    fn it_agrees_with_a_naive_map_and_is_empty_afterwards() {
        let mut numbers = Numbers(0x5eed);
        let mut map = Map::new();
        let mut naive = Naive(vec![false; GRANULES]);
        let mut held: Vec<(usize, usize)> = Vec::new();
        let mut refused = 0;
        for round in 0..20_000 {
            // Alternates between filling and emptying, so that both limits are reached.
            let filling = round / 2_000 % 2 == 0;
            if numbers.below(10) < if filling { 7 } else { 3 } {
                let largest = if numbers.below(8) == 0 { 1_024 } else { 12 };
                let count = numbers.below(largest) + 1;
                let taken = map.take(count);
                assert_eq!(taken, naive.take(count), "round {round}");
                match taken {
                    Some(first) => held.push((first, count)),
                    None => refused += 1,
                }
            } else if !held.is_empty() {
                let (first, count) = held.swap_remove(numbers.below(held.len()));
                let more = numbers.below(70) + 1;
                if numbers.below(3) == 0 {
                    let end = first + count;
                    let grown = map.take_at(end, more);
                    assert_eq!(grown, naive.take_at(end, more), "round {round}");
                    held.push((first, count + if grown { more } else { 0 }));
                } else {
                    map.give(first, count);
                    naive.0[first..first + count].fill(false);
                }
            }
            let full: Vec<bool> = naive.0.chunks(64).map(|w| w.iter().all(|t| *t)).collect();
            for (word, full) in full.into_iter().enumerate() {
                assert_eq!(map.full >> word & 1 == 1, full, "round {round}");
            }
        }
        assert!(refused > 10, "{refused}");
        for (first, count) in held {
            map.give(first, count);
        }
        assert_eq!((map.taken, map.full), ([0; 64], 0));
    }

    #[test]
    fn the_whole_arena_can_be_taken_at_once() {
        let mut map = Map::new();
        assert_eq!(map.take(GRANULES), Some(0));
        assert_eq!(map.take(1), None);
        map.give(GRANULES - 1, 1);
        assert_eq!(map.take(2), None);
        assert_eq!(map.take(1), Some(GRANULES - 1));
    }
}
