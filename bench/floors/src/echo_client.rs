//! `echo-client`: round trips over one raw connection, closed-loop or paced.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::endpoint::Stream;
use crate::keys::Keys;
use crate::measure::{Latencies, Measured, wait_until, wake_on_time, with};

/// A tenth of `count` round trips to warm up, then `count` measured ones
pub(crate) fn echo_client(mut keys: Keys) -> Result<Value> {
    let endpoint = keys.endpoint()?;
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    let kind = keys.choice("kind", &["blocking", "tokio"])?;
    let rate = keys.number_if_given("rate")?;
    keys.finish()?;
    if rate.is_some() {
        wake_on_time();
    }
    let stream = endpoint.connect()?;
    if kind == "blocking" {
        return blocking(stream, size, count, rate);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        stream.set_nonblocking(true)?;
        if endpoint.is_tcp() {
            let stream = tokio::net::TcpStream::from_std(TcpStream::from(stream.into_fd()))?;
            asynchronous(stream, size, count, rate).await
        } else {
            let stream = tokio::net::UnixStream::from_std(UnixStream::from(stream.into_fd()))?;
            asynchronous(stream, size, count, rate).await
        }
    })
}

fn blocking(mut stream: Stream, size: usize, count: usize, rate: Option<usize>) -> Result<Value> {
    let (block, mut echo) = (vec![b'x'; size], vec![0; size]);
    let mut round_trip = || -> io::Result<()> {
        stream.write_all(&block)?;
        stream.read_exact(&mut echo)
    };
    for _ in 0..count / 10 {
        round_trip().context("warming up")?;
    }
    let mut schedule = Schedule::begin(count, rate);
    for number in 0..count {
        schedule.wait_for(number);
        round_trip().with_context(|| format!("round trip {} of {count}", number + 1))?;
        schedule.done();
    }
    Ok(schedule.report(count))
}

async fn asynchronous(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
    count: usize,
    rate: Option<usize>,
) -> Result<Value> {
    let (block, mut echo) = (vec![b'x'; size], vec![0; size]);
    let mut round_trip = async || -> io::Result<()> {
        stream.write_all(&block).await?;
        stream.read_exact(&mut echo).await?;
        Ok(())
    };
    for _ in 0..count / 10 {
        round_trip().await.context("warming up")?;
    }
    let mut schedule = Schedule::begin(count, rate);
    for number in 0..count {
        // Blocks the runtime, which has nothing else to do; its own timers know but milliseconds
        schedule.wait_for(number);
        round_trip().await.with_context(|| format!("round trip {} of {count}", number + 1))?;
        schedule.done();
    }
    Ok(schedule.report(count))
}

/// When each round trip is due, and how long each took from then
///
/// Without a rate the next is due when the last one is done.
struct Schedule {
    measured: Measured,
    latencies: Latencies,
    rate: Option<usize>,
    due: Instant,
}

impl Schedule {
    fn begin(count: usize, rate: Option<usize>) -> Self {
        let latencies = Latencies::with_room_for(count);
        let measured = Measured::begin();
        Self { due: measured.began(), measured, latencies, rate }
    }

    fn wait_for(&mut self, number: usize) {
        if let Some(rate) = self.rate {
            self.due = self.measured.began() + Duration::from_secs_f64(number as f64 / rate as f64);
            wait_until(self.due);
        }
    }

    fn done(&mut self) {
        let now = Instant::now();
        self.latencies.add(now - self.due);
        self.due = now;
    }

    fn report(self, count: usize) -> Value {
        let report = self.measured.end().report(count, count as f64);
        with(report, self.latencies.report())
    }
}
