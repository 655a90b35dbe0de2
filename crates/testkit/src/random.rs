//! Chance from a seed.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use tidings_zmtp::{Entropy, EntropyError};

/// A small generator of numbers that look random, the same ones for the same seed (SplitMix64)
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that gives the numbers of that seed
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number of all that there are
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number within the range; its lower end when the range is empty
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        match high.saturating_sub(low).checked_add(1) {
            Some(width) => low + self.next_u64() % width,
            None => self.next_u64(),
        }
    }
}

/// Keys and nonces from a seed: the same ones each time, so that what is said can be foretold
#[derive(Debug)]
pub struct SeededEntropy(Mutex<Random>);

impl SeededEntropy {
    /// The entropy of that seed, from its beginning
    pub fn seeded(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Random::seeded(seed))))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, octets: &mut [u8]) -> Result<(), EntropyError> {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        octets.fill_with(|| random.next_u64() as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_the_range() {
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (0..100).map(|_| random.within(3..=7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for wanted in 3..=7 {
            assert!(draw(1).contains(&wanted), "{wanted}");
        }
        assert!(draw(1).iter().all(|number| (3..=7).contains(number)));
    }
}
