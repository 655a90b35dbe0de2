//! How long requests took: a histogram whose buckets are fixed, so that its memory is bounded.

use std::time::Duration;

/// Times from 1 µs to some minutes in [`BUCKETS`] buckets, four to each power of two: a value read from it is at most a
/// quarter too high
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    counts: Box<[u64; BUCKETS]>,
    sum_micros: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), sum_micros: 0 }
    }
}

impl Latency {
    /// Counts one
    pub fn record(&mut self, time: Duration) {
        let micros = time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into());
        if let Some(count) = self.counts.get_mut(bucket_of(micros)) {
            *count += 1;
        }
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// How many were counted
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// The time that `part` of all took at most: 0.5 for the median; `None` if there are none
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let all = self.count();
        let wanted = ((all as f64 * part.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut counted = 0;
        let reached = self.counts.iter().position(|count| {
            counted += count;
            counted >= wanted
        })?;
        Some(upper_bound(reached))
    }

    /// The buckets in order: what a time in it is at most, and how many are in it
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().map(|(index, count)| (upper_bound(index), *count))
    }

    /// How many took at most so long, as far as buckets can tell: exact where `time` is a power of two of microseconds
    #[must_use]
    pub fn count_up_to(&self, time: Duration) -> u64 {
        self.buckets().take_while(|(bound, _)| *bound <= time).map(|(_, count)| count).sum()
    }
}

/// As a map of what people look at, in microseconds
impl serde::Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &self.count())?;
        map.serialize_entry("sum-us", &self.sum_micros)?;
        for (name, part) in [("p50-us", 0.5), ("p90-us", 0.9), ("p99-us", 0.99), ("max-us", 1.0)] {
            map.serialize_entry(name, &self.quantile(part).map_or(0, |time| time.as_micros() as u64))?;
        }
        map.end()
    }
}

/// Bucket 0 is for times up to 1 µs; then each power of two has four
fn bucket_of(micros: u64) -> usize {
    let Some(above) = micros.checked_sub(1).filter(|above| *above > 0) else { return 0 };
    let exponent = above.ilog2();
    let quarter = (above << 2 >> exponent) & 3;
    (1 + exponent as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let Some(place) = bucket.checked_sub(1) else { return Duration::from_micros(1) };
    let (exponent, quarter) = (place / 4, place as u64 % 4);
    // Rounded up, as times are whole microseconds
    Duration::from_micros(((1u64 << exponent) * (5 + quarter)).div_ceil(4).max(2))
}

/// The last one ends at 2^29 µs, some nine minutes, and takes all that is longer
pub const BUCKETS: usize = 1 + 29 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_a_bucket_that_holds_it() {
        for micros in (0..2000).chain((1..29).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1])) {
            let bucket = bucket_of(micros);
            let bound = upper_bound(bucket).as_micros() as u64;
            assert!(micros <= bound, "{micros} in {bucket} up to {bound}");
            if let Some(below) = bucket.checked_sub(1).filter(|_| bucket > 8) {
                assert!(micros > upper_bound(below).as_micros() as u64, "{micros} belongs below {bucket}");
            }
            assert!(bound <= micros + micros / 4 + 2, "{micros} {bound}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_a_quarter_too_high_at_most() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        (1..=1000).for_each(|micros| latency.record(Duration::from_micros(micros)));
        for (part, micros) in [(0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
            let found = latency.quantile(part).unwrap().as_micros();
            assert!((micros..=micros + micros / 4).contains(&found), "{part} {found}");
        }
        assert_eq!((latency.count(), latency.sum()), (1000, Duration::from_micros(500_500)));
        assert_eq!(latency.count_up_to(Duration::from_micros(512)), 512);
        assert_eq!(serde_json::to_value(&latency).unwrap()["count"], 1000);
    }
}
