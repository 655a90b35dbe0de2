//! Clocks and percentiles: what every role's line of JSON is made of.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The time and the processor time since the measured part began
pub(crate) struct Measured {
    began: Instant,
    cpu_began: Duration,
}

/// What a measured part took
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

impl Measured {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), cpu_began: cpu() }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn end(&self) -> Took {
        let seconds = self.began.elapsed().as_secs_f64();
        Took { seconds, cpu_seconds: cpu().saturating_sub(self.cpu_began).as_secs_f64() }
    }
}

impl Took {
    /// The four numbers every role has; `counted` is what the rate is of, where it is not `messages`
    pub(crate) fn report(&self, messages: usize, counted: f64) -> Value {
        // Nothing to divide by where there was but one message
        let per_second = if self.seconds > 0.0 { counted / self.seconds } else { 0.0 };
        json!({
            "messages": messages,
            "seconds": self.seconds,
            "per_second": per_second,
            "cpu_seconds": self.cpu_seconds,
        })
    }
}

/// Adds the fields of `more` to the object `report`
pub(crate) fn with(mut report: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut report, more) {
        fields.extend(more);
    }
    report
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Every single latency in nanoseconds: room for all is taken before the clock starts
pub(crate) struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub(crate) fn with_room_for(count: usize) -> Self {
        // Written once here, so that no page is first touched while the clock runs
        let mut nanoseconds = vec![1; count];
        nanoseconds.clear();
        Self { nanoseconds }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        self.add_nanoseconds(latency.as_nanos() as u64);
    }

    pub(crate) fn add_nanoseconds(&mut self, latency: u64) {
        self.nanoseconds.push(latency);
    }

    pub(crate) fn report(mut self) -> Value {
        self.nanoseconds.sort_unstable();
        let sum: u128 = self.nanoseconds.iter().map(|latency| u128::from(*latency)).sum();
        let mean = sum as f64 / self.nanoseconds.len().max(1) as f64;
        let at = |fraction| quantile(&self.nanoseconds, fraction);
        let quantiles: Vec<Value> = FRACTIONS.iter().map(|fraction| json!([fraction, at(*fraction)])).collect();
        json!({
            "p50_ns": at(0.5), "p90_ns": at(0.9), "p99_ns": at(0.99), "p99_9_ns": at(0.999),
            "max_ns": at(1.0), "mean_ns": mean.round(), "quantiles": quantiles,
        })
    }
}

const FRACTIONS: [f64; 13] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// The smallest sample that at least `fraction` of all samples do not exceed (nearest rank)
fn quantile(sorted: &[u64], fraction: f64) -> u64 {
    // A little less than the product, as 0.999 * 1000 may come out above 999
    let rank = (fraction * sorted.len() as f64 - 1e-6).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Lets threads wake when they asked to: the default slack of 50 µs would be part of every paced latency
pub(crate) fn wake_on_time() {
    // Where the kernel refuses, the wait below still spins through the last stretch
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// Waits until `due`: asleep for the most part, then spinning, as waking up takes tens of microseconds
pub(crate) fn wait_until(due: Instant) {
    if let Some(sleep) = due.saturating_duration_since(Instant::now()).checked_sub(SPIN) {
        std::thread::sleep(sleep);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// Chosen to be longer than a wake-up takes on an idle processor; not measured elsewhere
const SPIN: Duration = Duration::from_micros(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!(quantile(&sorted, 0.0), 1);
        assert_eq!(quantile(&sorted, 0.01), 10);
        assert_eq!(quantile(&sorted, 0.5), 500);
        assert_eq!(quantile(&sorted, 0.999), 999);
        assert_eq!(quantile(&sorted, 0.9999), 1000);
        assert_eq!(quantile(&sorted, 1.0), 1000);
        assert_eq!(quantile(&[7], 0.5), 7);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
