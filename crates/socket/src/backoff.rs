//! When a lost or failed connection is tried again.

use std::time::Duration;

/// The waits between attempts: exponential up to a ceiling, each drawn at random
///
/// libzmq adds up to one interval of jitter when there is no ceiling and none when there is one.
/// We always draw: from the upper half of the wait that is due, so that many clients of one server
/// that restarts do not come back together (a thundering herd), and the order of magnitude holds.
#[derive(Clone, Debug)]
pub struct Backoff {
    interval: Option<Duration>,
    ceiling: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// `interval` of `None` never tries again; a `ceiling` of zero keeps the wait from growing
    pub fn new(interval: Option<Duration>, ceiling: Duration, seed: u64) -> Self {
        Self { interval, ceiling, failures: 0, random: seed | 1 }
    }

    /// A connection came about: the next wait is the shortest again
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The shortest wait
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The wait before the next attempt, or `None` when there must not be one
    pub fn next_wait(&mut self) -> Option<Duration> {
        self.next_wait_up_to(self.ceiling)
    }

    /// The same, with another ceiling this time
    pub fn next_wait_up_to(&mut self, ceiling: Duration) -> Option<Duration> {
        let interval = self.interval?;
        let due = if ceiling > interval {
            interval.saturating_mul(1 << self.failures.min(20)).min(ceiling)
        } else {
            interval
        };
        self.failures = self.failures.saturating_add(1);
        let half = due / 2;
        Some(half + half.mul_f64(self.draw()))
    }

    /// From 0 to 1: xorshift64*, which is plenty for spreading waits
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let mixed = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D);
        (mixed >> 40) as f64 / (1u64 << 24) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(wait: Option<Duration>, ms: u64) -> bool {
        wait.is_some_and(|wait| (Duration::from_millis(ms / 2)..=Duration::from_millis(ms)).contains(&wait))
    }

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_over() {
        let mut backoff = Backoff::new(Some(Duration::from_millis(100)), Duration::from_millis(350), 7);
        for ms in [100, 200, 350, 350] {
            let wait = backoff.next_wait();
            assert!(within(wait, ms), "{wait:?} for {ms}");
        }
        backoff.reset();
        assert!(within(backoff.next_wait(), 100));
    }

    #[test]
    fn without_a_ceiling_waits_stay_as_they_are() {
        let mut backoff = Backoff::new(Some(Duration::from_millis(100)), Duration::ZERO, 7);
        for _ in 0..50 {
            assert!(within(backoff.next_wait(), 100));
        }
    }

    #[test]
    fn clients_with_other_seeds_come_back_at_other_times() {
        let wait = |seed| Backoff::new(Some(Duration::from_secs(1)), Duration::ZERO, seed).next_wait();
        let waits: std::collections::BTreeSet<_> =
            (0..100u64).map(|seed| wait(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        assert!(waits.len() > 90, "{} of 100 differ", waits.len());
    }

    #[test]
    fn no_interval_means_never() {
        assert_eq!(Backoff::new(None, Duration::ZERO, 7).next_wait(), None);
    }
}
