//! Times of round trips, every one of them kept.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// The times of a run; percentiles are by nearest rank
#[derive(Debug)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Room for `count` times, so that none is taken while the memory grows
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Keeps one time
    pub fn record(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// `line` with the percentiles added to it
    pub fn add_to(mut self, line: Value) -> Value {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let at = |fraction: f64| {
            let rank = (fraction * self.0.len() as f64).ceil() as usize;
            self.0.get(rank.saturating_sub(1).min(last)).copied().unwrap_or_default()
        };
        let mean = self.0.iter().map(|time| *time as f64).sum::<f64>() / self.0.len().max(1) as f64;
        let mut fields = match line {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        for (name, fraction) in
            [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p99_9_ns", 0.999), ("max_ns", 1.0)]
        {
            fields.insert(name.to_owned(), at(fraction).into());
        }
        fields.insert("mean_ns".to_owned(), json!(mean));
        fields.insert(
            "quantiles".to_owned(),
            QUANTILES.iter().map(|fraction| json!([fraction, at(*fraction)])).collect(),
        );
        Value::Object(fields)
    }
}

const QUANTILES: [f64; 13] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut times = Latencies::with_capacity(100);
        for nanoseconds in (1..=100).rev() {
            times.record(Duration::from_nanos(nanoseconds));
        }
        let line = times.add_to(json!({"messages": 100}));
        assert_eq!(line["messages"], 100);
        assert_eq!((&line["p50_ns"], &line["p99_ns"], &line["max_ns"]), (&json!(50), &json!(99), &json!(100)));
        assert_eq!(line["mean_ns"], 50.5);
        assert_eq!((&line["quantiles"][0], &line["quantiles"][12]), (&json!([0.0, 1]), &json!([1.0, 100])));
    }

    #[test]
    fn no_times_are_zeros() {
        assert_eq!(Latencies::with_capacity(0).add_to(json!({}))["p99_ns"], 0);
    }
}
