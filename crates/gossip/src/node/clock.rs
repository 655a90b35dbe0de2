//! What time it is, for ordering writes, and numbers that nobody needs to foresee.

use std::time::{Duration, Instant, SystemTime};

use crate::record::{Incarnation, Stamp};

/// A hybrid logical clock, which runs with the wall's from when it was read once
pub(super) struct Clock {
    start: Instant,
    /// The wall's clock at `start`, in microseconds
    base: u64,
    greatest: u64,
}

impl Clock {
    pub(super) fn new(now: Instant, wall: SystemTime) -> Self {
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: now, base: micros(since), greatest: 0 }
    }

    /// The wall's clock, in microseconds since the Unix epoch
    pub(super) fn wall(&self, now: Instant) -> u64 {
        self.base.saturating_add(micros(now.saturating_duration_since(self.start)))
    }

    /// How long the node has been there
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// The greatest stamp that was given or seen, and no less than the wall's clock
    pub(super) fn read(&self, now: Instant) -> Stamp {
        Stamp(self.greatest.max(self.wall(now)))
    }

    /// A stamp for a write: greater than all before
    pub(super) fn tick(&mut self, now: Instant) -> Stamp {
        self.greatest = self.wall(now).max(self.greatest.saturating_add(1));
        Stamp(self.greatest)
    }

    /// What taking a peer's stamp means
    pub(super) fn judge(&self, now: Instant, stamp: Stamp) -> Lift {
        let ahead = stamp.0.saturating_sub(self.read(now).0);
        if ahead == 0 {
            Lift::None
        } else if stamp.0 >= self.wall(now).max(THIS_CENTURY).saturating_add(CENTURY) {
            Lift::Absurd
        } else if ahead <= DAY {
            Lift::Small
        } else {
            Lift::Large
        }
    }

    /// Takes a peer's stamp
    pub(super) fn lift(&mut self, stamp: Stamp) {
        self.greatest = self.greatest.max(stamp.0);
    }

    /// Whether a life can have begun then: not more than a day from now
    pub(super) fn is_plausible(&self, now: Instant, incarnation: Incarnation) -> bool {
        incarnation.0 <= self.read(now).0.saturating_add(DAY) / 1000
    }

    /// A life that begins now, after another
    pub(super) fn next_life(&self, now: Instant, after: Incarnation) -> Incarnation {
        Incarnation((self.wall(now) / 1000).max(after.0.saturating_add(1)))
    }
}

/// How far a stamp is ahead
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lift {
    /// It isn't
    None,
    /// As clocks disagree
    Small,
    /// By more than a day: somebody's clock is wrong
    Large,
    /// As no clock is. In how many steps ever: whatever peers send, the clock stays within a bound that all nodes have in
    /// common, so that nobody refuses what another writes after that
    Absurd,
}

/// Numbers that look random and come from a seed alone: SplitMix64
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below `bound`; 0 if that is 0
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// A time of seven to nine eighths, so that what happens often doesn't happen everywhere at once
    pub(super) fn around(&mut self, time: Duration) -> Duration {
        time * 7 / 8 + time.mul_f64(self.below(1 << 16) as f64 / f64::from(1 << 18))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

const DAY: u64 = 24 * 3600 * 1_000_000;
/// The clock isn't lifted by more beyond the wall's
const CENTURY: u64 = 100 * 366 * DAY;
/// 2026-01-01: no wall's clock that shows less is right, and other nodes are beyond
const THIS_CENTURY: u64 = 1_767_225_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_whatever_the_wall_says() {
        let start = Instant::now();
        let mut clock = Clock::new(start, SystemTime::UNIX_EPOCH + Duration::from_micros(1000));
        assert_eq!(clock.tick(start), Stamp(1000));
        assert_eq!(clock.tick(start), Stamp(1001));
        clock.lift(Stamp(5000));
        assert_eq!(clock.tick(start), Stamp(5001));
        assert_eq!(clock.tick(start + Duration::from_secs(1)), Stamp(1_001_000));
    }

    #[test]
    fn no_stamp_takes_the_room_of_later_ones() {
        let start = Instant::now();
        let wall = THIS_CENTURY + 5 * DAY;
        let mut clock = Clock::new(start, SystemTime::UNIX_EPOCH + Duration::from_micros(wall));
        assert_eq!(clock.judge(start, Stamp(wall + DAY)), Lift::Small);
        assert_eq!(clock.judge(start, Stamp(wall + DAY + 1)), Lift::Large);
        assert_eq!(clock.judge(start, Stamp(wall + CENTURY - 1)), Lift::Large);
        assert_eq!(clock.judge(start, Stamp(wall + CENTURY)), Lift::Absurd);
        assert_eq!(clock.judge(start, Stamp(u64::MAX)), Lift::Absurd);
        // Not in small steps either
        let mut stamp = wall;
        while clock.judge(start, Stamp(stamp + DAY)) == Lift::Small {
            stamp += DAY;
            clock.lift(Stamp(stamp));
        }
        assert!(stamp < wall + CENTURY);
        // Whoever begins then takes what the others write then
        let next = clock.tick(start + Duration::from_secs(1));
        let other = Clock::new(start, SystemTime::UNIX_EPOCH + Duration::from_micros(wall));
        assert_eq!(other.judge(start + Duration::from_secs(1), next), Lift::Large);
    }

    #[test]
    fn a_clock_that_was_never_set_is_lifted_to_the_others() {
        let start = Instant::now();
        let mut clock = Clock::new(start, SystemTime::UNIX_EPOCH);
        let others = Stamp(THIS_CENTURY + 30 * 366 * DAY);
        let begun = Incarnation(others.0 / 1000);
        assert!(!clock.is_plausible(start, begun));
        assert_eq!(clock.judge(start, others), Lift::Large);
        clock.lift(others);
        assert!(clock.is_plausible(start, begun));
    }
}
