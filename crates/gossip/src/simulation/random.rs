//! Chance from a seed: the same numbers for the same seed, on every machine.

use std::ops::RangeInclusive;

/// A small generator of numbers that look random (SplitMix64); not for secrets
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

    /// An index below `count`, which must not be 0
    pub fn index(&mut self, count: usize) -> usize {
        (self.next_u64() % count.max(1) as u64) as usize
    }

    /// Evenly from 0 to below 1
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True that often: never at 0, always at 1
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.fraction() < probability
    }

    /// Approximately normal, of mean 0 and deviation 1: the sum of twelve, so never beyond 6
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.fraction()).sum::<f64>() - 6.0
    }

    /// Brings a list into a random order
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.index(last + 1));
        }
    }

    /// 32 octets, for those who ask for a seed of their own
    pub fn octets(&mut self) -> [u8; 32] {
        let mut octets = [0; 32];
        octets.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.next_u64().to_le_bytes()));
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |seed| {
            let mut random = Random::seeded(seed);
            (0..100).map(|_| random.within(3..=7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((3..=7).all(|wanted| draw(1).contains(&wanted)));
    }

    #[test]
    fn chances_come_as_often_as_they_should() {
        let mut random = Random::seeded(1);
        let hits = (0..100_000).filter(|_| random.chance(0.05)).count();
        assert!((4_500..5_500).contains(&hits), "{hits}");
        assert!(!random.chance(0.0) && random.chance(1.0));
        let mean = (0..10_000).map(|_| random.normal()).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
    }
}
