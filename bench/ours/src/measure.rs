//! Clocks, distributions and the lines that a role prints.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tidings_socket::{CloseReport, Message};

/// A span of wall time and of the whole process's processor time
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: Instant,
    cpu: Duration,
}

impl Span {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu_time(), start: Instant::now() }
    }

    /// The one of two that started first
    pub(crate) fn earlier(self, other: Self) -> Self {
        if other.start < self.start { other } else { self }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_time().saturating_sub(self.cpu).as_secs_f64()
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The times of round trips
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn new(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn note(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The JSON line of a latency role
    pub(crate) fn report(mut self, span: Span) -> Result<Value> {
        let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
        self.0.sort_unstable();
        let (messages, Some(last)) = (self.0.len(), self.0.last()) else { bail!("nothing was measured") };
        let at = |fraction| nearest_rank(&self.0, fraction);
        let quantiles: Vec<Value> = FRACTIONS.iter().map(|fraction| json!([fraction, at(*fraction)])).collect();
        Ok(json!({
            "messages": messages, "seconds": seconds, "per_second": messages as f64 / seconds, "cpu_seconds": cpu_seconds,
            "p50_ns": at(0.5), "p90_ns": at(0.9), "p99_ns": at(0.99), "p99_9_ns": at(0.999), "max_ns": last,
            "mean_ns": self.0.iter().sum::<u64>() as f64 / messages as f64, "quantiles": quantiles,
        }))
    }
}

/// The smallest time that at least `fraction` of all times do not exceed; 0 if there are none
fn nearest_rank(sorted: &[u64], fraction: f64) -> u64 {
    // A little less than the product, as 0.999 * 1000 may come out above 999
    let rank = (fraction * sorted.len() as f64 - 1e-6).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or_default()
}

const FRACTIONS: [f64; 13] = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Says that others may connect now
pub(crate) fn announce(endpoint: impl std::fmt::Display) -> Result<()> {
    println!("listening {endpoint}");
    Ok(std::io::stdout().flush()?)
}

pub(crate) fn print(line: &Value) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

/// Sees to it that a message is as long as those sent are
pub(crate) fn check(message: &Message, octets: usize) -> Result<()> {
    if message.octets() != octets {
        bail!("a message of {} octets came where {octets} were sent", message.octets());
    }
    Ok(())
}

/// Takes a close that left something unsent for an error
pub(crate) fn flushed(report: CloseReport) -> Result<()> {
    if !report.is_complete() {
        bail!("not everything was sent before the deadline: {report:?}");
    }
    Ok(())
}

/// Octets of this process that are in memory
pub(crate) fn resident_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("can't read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How long a close may take to send what is queued
pub(crate) const FLUSH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<u64> = (1..=1000).collect();
        let at = [0.0, 0.01, 0.5, 0.99, 0.999, 0.9999, 1.0].map(|fraction| nearest_rank(&times, fraction));
        assert_eq!(at, [1, 10, 500, 990, 999, 1000, 1000]);
        assert_eq!((nearest_rank(&[7], 0.5), nearest_rank(&[], 0.5)), (7, 0));
    }
}
