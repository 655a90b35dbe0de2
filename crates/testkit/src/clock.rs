//! A clock that stands still until it is moved.

use std::time::{Duration, Instant};

/// Virtual time: a fixed beginning, and how far it was moved since
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    beginning: Instant,
    elapsed: Duration,
}

impl Clock {
    /// A clock at its beginning; which instant that is means nothing
    pub fn new() -> Self {
        Self { beginning: Instant::now(), elapsed: Duration::ZERO }
    }

    /// The present
    pub fn now(&self) -> Instant {
        self.beginning + self.elapsed
    }

    /// How far the clock was moved since its beginning
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Moves on
    pub fn advance(&mut self, time: Duration) {
        self.elapsed += time;
    }

    /// Moves on to that instant; stays when it is past
    pub fn advance_to(&mut self, instant: Instant) {
        self.elapsed = self.elapsed.max(instant.saturating_duration_since(self.beginning));
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_runs_back() {
        let mut clock = Clock::new();
        let beginning = clock.now();
        clock.advance(Duration::from_secs(2));
        clock.advance_to(beginning + Duration::from_secs(1));
        assert_eq!(clock.now(), beginning + Duration::from_secs(2));
        clock.advance_to(beginning + Duration::from_secs(3));
        assert_eq!(clock.elapsed(), Duration::from_secs(3));
    }
}
