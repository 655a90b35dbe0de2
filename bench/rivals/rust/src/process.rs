//! The process around a measurement: its clocks, its memory, its streams.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

/// The processor time of the whole process since a moment
#[derive(Clone, Copy, Debug)]
pub struct Cpu(f64);

impl Cpu {
    /// Starts counting
    pub fn now() -> Self {
        Self(Self::used())
    }

    /// Seconds since then
    pub fn elapsed(self) -> f64 {
        Self::used() - self.0
    }

    fn used() -> f64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
}

/// Says where a role is bound
pub fn announce(endpoints: &str) -> Result<()> {
    println!("listening {endpoints}");
    Ok(std::io::stdout().flush()?)
}

/// The line a role ends with
pub fn print(line: &serde_json::Value) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

/// The memory the process has resident
pub fn resident_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The lines of standard input; the channel ends when it closes
pub fn stdin_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // A thread of its own, as a blocked read cannot be given up
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for a moment as exactly as the machine can
///
/// tokio's timer has steps of a millisecond and a sleeping thread wakes some 60 microseconds late, so
/// the last stretch is spent turning. To be used only while nothing is under way in the runtime.
pub async fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > TIMER_STEP {
        tokio::time::sleep(left - TIMER_STEP).await;
    }
    let left = due.saturating_duration_since(Instant::now());
    if left > TURNING {
        std::thread::sleep(left - TURNING);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

const TIMER_STEP: Duration = Duration::from_millis(2);
const TURNING: Duration = Duration::from_micros(100);

/// Ends the process by SIGALRM if it is still there after `seconds`
///
/// No thread that sleeps: with a second one every system call on a descriptor counts its users, which would
/// make a current-thread runtime look dearer than it is.
pub(crate) fn end_after(seconds: u32) {
    nix::unistd::alarm::set(seconds);
}
