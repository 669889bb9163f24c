//! Randomness that comes from one printed number.
//!
//! SplitMix64, written out here: a seed means the same plan whatever versions of other people's
//! generators are in use.

/// A stream of numbers that its seed determines.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The stream of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream, of its own from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to and without `high`; `low` where there is none between them.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % high.saturating_sub(low).max(1)
    }

    /// A place in a list of that many entries.
    pub fn place(&mut self, entries: usize) -> usize {
        usize::try_from(self.draw() % (entries.max(1) as u64)).unwrap_or(0)
    }

    /// True that many times of a hundred.
    pub fn percent(&mut self, of_hundred: u64) -> bool {
        self.draw() % 100 < of_hundred
    }

    /// Puts a list into another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.place(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut seeded = Seeded::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| seeded.draw()).collect();
        // What the reference implementation of SplitMix64 gives.
        let reference = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!(first, reference);
        let mut again = Seeded::new(1_234_567);
        assert_ne!(again.fork().draw(), first[0]);
        assert_eq!(again.draw(), first[1]);
        for _ in 0..1000 {
            assert!((5..9).contains(&seeded.range(5, 9)));
        }
    }
}
