//! How long a series of requests took: a table for people, an object for programs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::cli::units::{count, display_duration};
use crate::cli::{Exit, Failure, table};

/// The times of a series of requests, to three digits
pub(super) struct Latencies {
    nanoseconds: Histogram<u64>,
}

impl Latencies {
    /// None yet
    ///
    /// # Errors
    /// When the histogram does not take its bounds, which are constants.
    pub(super) fn new() -> Result<Self, Failure> {
        let nanoseconds = Histogram::new(DIGITS).map_err(|error| Failure::new(Exit::Usage, "system", error))?;
        Ok(Self { nanoseconds })
    }

    /// Notes one more
    pub(super) fn note(&mut self, latency: Duration) {
        // It grows by itself: every length has its place
        self.nanoseconds.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)).ok();
    }

    /// What people want to know of a series that took `elapsed` in all
    pub(super) fn table(&self, failed: u64, elapsed: Duration) -> String {
        let shown = |(_, nanoseconds): (&str, u64)| display_short(Duration::from_nanos(nanoseconds));
        let titles: Vec<String> =
            self.figures().iter().map(|(title, _)| format!(" {}", title.to_uppercase())).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let figures = table::layout(&titles, &[self.figures().into_iter().map(shown).collect()]);
        let rate = self.nanoseconds.len() as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        let answered = count(self.nanoseconds.len(), "request");
        format!("{answered} answered{failed} in {}, {rate:.0} a second\n{figures}", display_duration(rounded(elapsed)))
    }

    /// The same for programs
    pub(super) fn to_json(&self, failed: u64, elapsed: Duration) -> Value {
        let microseconds = |(title, nanoseconds): (&str, u64)| (title.to_owned(), json!(nanoseconds as f64 / 1000.0));
        let latencies: serde_json::Map<String, Value> = self.figures().into_iter().map(microseconds).collect();
        json!({
            "answered": self.nanoseconds.len(), "failed": failed, "seconds": elapsed.as_secs_f64(),
            "latency_microseconds": latencies,
        })
    }

    fn figures(&self) -> [(&'static str, u64); 6] {
        let at = |quantile| self.nanoseconds.value_at_quantile(quantile);
        let (min, max) = (self.nanoseconds.min(), self.nanoseconds.max());
        [("min", min), ("p50", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99)), ("p999", at(0.999)), ("max", max)]
    }
}

/// A latency in three digits or so: `87us`, `1.25ms`, `2.04s`
pub(super) fn display_short(latency: Duration) -> String {
    let seconds = latency.as_secs_f64();
    match seconds {
        0.0..0.0001 => format!("{:.1}us", seconds * 1e6),
        0.0001..0.001 => format!("{:.0}us", seconds * 1e6),
        0.001..1.0 => format!("{:.2}ms", seconds * 1e3),
        _ => format!("{seconds:.2}s"),
    }
}

fn rounded(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0 => Duration::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)),
        _ => Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// What a figure is exact to
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_told_in_a_table() {
        let mut latencies = Latencies::new().unwrap();
        (1..=100).for_each(|n| latencies.note(Duration::from_micros(n * 10)));
        let text = latencies.table(3, Duration::from_millis(2500));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "100 requests answered, 3 failed in 2s500ms, 40 a second");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["MIN", "P50", "P90", "P99", "P999", "MAX"]);
        assert_eq!(lines[2].split_whitespace().next(), Some("10.0us"));
        assert_eq!(lines[1].len(), lines[2].len(), "{text}");
        let object = latencies.to_json(0, Duration::from_secs(1));
        assert!((object["latency_microseconds"]["p50"].as_f64().unwrap() - 500.0).abs() < 1.0, "{object}");
    }

    #[test]
    fn latencies_are_short() {
        for (micros, text) in [(87, "87.0us"), (870, "870us"), (1250, "1.25ms"), (2_040_000, "2.04s")] {
            assert_eq!(display_short(Duration::from_micros(micros)), text);
        }
    }
}
