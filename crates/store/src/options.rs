//! What a store promises, how much it holds, and for how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What an acknowledgement means, named for what a power failure can take
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `fsync`: it is on the disk. A power failure takes nothing that was acknowledged
    Fsync,
    /// `interval:200ms`: the operating system has it and it is synced this often. A power failure takes at most the last
    /// interval, the death of the process nothing
    Interval(Duration),
    /// `memory`: the operating system's memory has it, and the disk when that is convenient. A power failure takes what
    /// was stored since the last checkpoint, the death of the process nothing
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Interval(every) => write!(f, "interval:{}ms", every.as_millis()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl FromStr for Durability {
    type Err = DurabilityError;

    /// Reads `fsync`, `interval:200ms`, `interval:2s` or `memory`
    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        match text {
            "fsync" => Ok(Self::Fsync),
            "memory" => Ok(Self::Memory),
            _ => {
                let interval = text.strip_prefix("interval:").and_then(interval);
                interval.map(Self::Interval).ok_or_else(|| DurabilityError(text.to_owned()))
            }
        }
    }
}

fn interval(text: &str) -> Option<Duration> {
    let millis = match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok()?,
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1000)?,
    };
    (1..=MAX_INTERVAL_MILLIS).contains(&millis).then(|| Duration::from_millis(millis))
}

/// A text that names no durability
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no durability: write `fsync`, `interval:200ms` (1ms to 1h) or `memory`")]
pub struct DurabilityError(String);

/// How a store is opened; every number has a default
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub(crate) durability: Durability,
    pub(crate) max_octets: u64,
    pub(crate) max_file_octets: Option<u64>,
    pub(crate) max_body: usize,
    pub(crate) max_queues: u64,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) dedup_window: Duration,
    pub(crate) keep_results: Duration,
    pub(crate) keep_dead: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            max_octets: 4 << 30,
            max_file_octets: None,
            max_body: 16 << 20,
            max_queues: 10_000,
            max_attempts: 10,
            backoff: Backoff::default(),
            dedup_window: Duration::from_secs(24 * 3600),
            keep_results: Duration::from_secs(7 * 24 * 3600),
            keep_dead: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl StoreOptions {
    /// What an acknowledgement means (default: [`Durability::Fsync`])
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Octets of bodies and results, with 256 for each entry, that all queues may hold together (default: 4 GiB)
    ///
    /// At the bound an enqueue is refused. A result of work that was done may exceed it by a quarter.
    #[must_use]
    pub fn max_octets(mut self, octets: u64) -> Self {
        self.max_octets = octets.min(i64::MAX as u64 / 2);
        self
    }

    /// Octets that the database file may have (default: what the disk gives); its log comes on top, some 100 MiB
    #[must_use]
    pub fn max_file_octets(mut self, octets: u64) -> Self {
        self.max_file_octets = Some(octets);
        self
    }

    /// Octets of one body or result, at most 512 MiB (default: 16 MiB)
    #[must_use]
    pub fn max_body(mut self, octets: usize) -> Self {
        self.max_body = octets.min(BODY_CEILING);
        self
    }

    /// Queues that may hold something (default: 10,000)
    #[must_use]
    pub fn max_queues(mut self, queues: u64) -> Self {
        self.max_queues = queues;
        self
    }

    /// How often an entry is handed out before it is a dead letter, where the entry does not say (default: 10)
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// How long an entry waits after a failed attempt (default: 1 s, doubled each time, at most 5 min)
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long after its first arrival an id or key is known as a duplicate, though its entry is gone (default: 1 day)
    #[must_use]
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.dedup_window = window;
        self
    }

    /// How long a result is kept for whoever asks (default: 7 days)
    #[must_use]
    pub fn keep_results(mut self, time: Duration) -> Self {
        self.keep_results = time;
        self
    }

    /// How long dead letters are kept (default: 30 days)
    #[must_use]
    pub fn keep_dead(mut self, time: Duration) -> Self {
        self.keep_dead = time;
        self
    }
}

/// Waits between attempts: the first, doubled with each further one, up to the longest
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failed attempt
    pub first: Duration,
    /// After any
    pub longest: Duration,
}

impl Backoff {
    /// The wait after the attempt of this number; 1 is the first
    pub fn wait(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

/// Half of what SQLite takes in one row: a body and its neighbours stay clear of its limit of 10^9
const BODY_CEILING: usize = 512 << 20;

const MAX_INTERVAL_MILLIS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durability_reads_as_it_is_written() {
        for text in ["fsync", "memory", "interval:200ms", "interval:1ms"] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        assert_eq!("interval:2s".parse(), Ok(Durability::Interval(Duration::from_secs(2))));
        for text in
            ["", "disk", "interval", "interval:", "interval:0ms", "interval:3601s", "interval:-1s", "interval:5"]
        {
            let error = text.parse::<Durability>().unwrap_err();
            assert!(error.to_string().contains("interval:200ms"), "{error}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
        let waits: Vec<_> = (1..=6).map(|attempt| backoff.wait(attempt).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(u32::MAX).as_secs(), 10);
    }
}
