//! `inproc-throughput` and `inproc-latency`: bare channels between two threads, or two tasks.
//!
//! A request is copied into a box of its own, as every measured message is; the echo sends back the
//! box that it received.

use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc as tokio_mpsc;

use crate::keys::{Keys, Usage};
use crate::measure::{Latencies, Measured, with};

/// The default high-water mark of the sockets that this is the floor of
const CAPACITY: usize = 1_000;

type Body = Box<[u8]>;

/// One thread sends `count` bodies, this one receives them; the clock starts at the first
pub(crate) fn throughput(mut keys: Keys) -> Result<Value> {
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    let kind = keys.choice("kind", &["std", "tokio"])?;
    keys.finish()?;
    let body = vec![b'x'; size];
    if kind == "std" {
        let (sender, receiver) = std_mpsc::sync_channel::<Body>(CAPACITY);
        let sending = thread::spawn(move || {
            (0..count).try_for_each(|_| sender.send(body[..].into()).map_err(|_| anyhow!("the receiver is gone")))
        });
        let mut receiving = Receiving::new(size, count);
        while receiving.goes_on() {
            receiving.took(&receiver.recv().context("receiving")?)?;
        }
        join(sending)?;
        receiving.report()
    } else {
        let (sender, mut receiver) = tokio_mpsc::channel::<Body>(CAPACITY);
        let sending = thread::spawn(move || {
            runtime()?.block_on(async {
                for _ in 0..count {
                    sender.send(body[..].into()).await.ok().context("the receiver is gone")?;
                }
                Ok(())
            })
        });
        let receiving = runtime()?.block_on(async {
            let mut receiving = Receiving::new(size, count);
            while receiving.goes_on() {
                receiving.took(&receiver.recv().await.context("the sender is gone")?)?;
            }
            anyhow::Ok(receiving)
        })?;
        join(sending)?;
        receiving.report()
    }
}

struct Receiving {
    size: usize,
    count: usize,
    received: usize,
    measured: Option<Measured>,
    took: Option<Value>,
}

impl Receiving {
    fn new(size: usize, count: usize) -> Self {
        Self { size, count, received: 0, measured: None, took: None }
    }

    fn goes_on(&self) -> bool {
        self.received < self.count
    }

    fn took(&mut self, body: &[u8]) -> Result<()> {
        check(body, self.size)?;
        self.received += 1;
        let measured = self.measured.get_or_insert_with(Measured::begin);
        if self.received == self.count {
            self.took = Some(measured.end().report(self.count, (self.count - 1) as f64));
        }
        Ok(())
    }

    fn report(self) -> Result<Value> {
        self.took.context("nothing was received")
    }
}

/// `count` round trips after a tenth as many to warm up
pub(crate) fn latency(mut keys: Keys) -> Result<Value> {
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    let kind = keys.choice("kind", &["std", "tokio"])?;
    let threads = keys.choice("threads", &["2", "1"])?;
    keys.finish()?;
    let body = vec![b'x'; size];
    match (kind, threads) {
        ("std", "2") => {
            let (ask, asked) = std_mpsc::sync_channel::<Body>(CAPACITY);
            let (answer, answered) = std_mpsc::sync_channel::<Body>(CAPACITY);
            let echo = thread::spawn(move || {
                while let Ok(body) = asked.recv() {
                    answer.send(body).context("the asking thread is gone")?;
                }
                Ok(())
            });
            let mut trips = Trips::new(size, count);
            while trips.go_on() {
                ask.send(body[..].into()).context("the echo is gone")?;
                trips.back(&answered.recv().context("the echo is gone")?)?;
            }
            drop(ask);
            join(echo)?;
            trips.report()
        }
        ("std", _) => Err(Usage("kind=std blocks, so it has threads=2 only".into()).into()),
        (_, threads) => {
            let (ask, asked) = tokio_mpsc::channel::<Body>(CAPACITY);
            let (answer, answered) = tokio_mpsc::channel::<Body>(CAPACITY);
            let trips = Trips::new(size, count);
            let asking = runtime()?;
            if threads == "2" {
                let echo = thread::spawn(move || runtime()?.block_on(echo(asked, answer)));
                let report = asking.block_on(round_trips(trips, body, ask, answered))?;
                join(echo)?;
                Ok(report)
            } else {
                asking.block_on(async {
                    let echo = tokio::spawn(echo(asked, answer));
                    // A task as well, as the future that a runtime blocks on is woken in a dearer way
                    let report = tokio::spawn(round_trips(trips, body, ask, answered)).await??;
                    echo.await??;
                    Ok(report)
                })
            }
        }
    }
}

async fn echo(mut asked: tokio_mpsc::Receiver<Body>, answer: tokio_mpsc::Sender<Body>) -> Result<()> {
    while let Some(body) = asked.recv().await {
        answer.send(body).await.ok().context("the asking task is gone")?;
    }
    Ok(())
}

async fn round_trips(
    mut trips: Trips,
    body: Vec<u8>,
    ask: tokio_mpsc::Sender<Body>,
    mut answered: tokio_mpsc::Receiver<Body>,
) -> Result<Value> {
    while trips.go_on() {
        ask.send(body[..].into()).await.ok().context("the echo is gone")?;
        trips.back(&answered.recv().await.context("the echo is gone")?)?;
    }
    trips.report()
}

struct Trips {
    size: usize,
    count: usize,
    warm_up_left: usize,
    done: usize,
    latencies: Latencies,
    measured: Option<Measured>,
    since: Instant,
}

impl Trips {
    fn new(size: usize, count: usize) -> Self {
        let latencies = Latencies::with_room_for(count);
        Self { size, count, warm_up_left: count / 10, done: 0, latencies, measured: None, since: Instant::now() }
    }

    /// Whether there is a round trip to be made, which then has begun
    fn go_on(&mut self) -> bool {
        if self.warm_up_left == 0 && self.measured.is_none() {
            let measured = Measured::begin();
            self.since = measured.began();
            self.measured = Some(measured);
        }
        self.done < self.count
    }

    fn back(&mut self, body: &[u8]) -> Result<()> {
        check(body, self.size)?;
        if self.measured.is_none() {
            self.warm_up_left -= 1;
            return Ok(());
        }
        // The end of one is the start of the next, so that the clock is read but once for each
        let now = Instant::now();
        self.latencies.add(now - self.since);
        self.since = now;
        self.done += 1;
        Ok(())
    }

    fn report(self) -> Result<Value> {
        let measured = self.measured.context("nothing was measured")?;
        let report = measured.end().report(self.count, self.count as f64);
        Ok(with(report, self.latencies.report()))
    }
}

fn check(body: &[u8], size: usize) -> Result<()> {
    if body.len() != size {
        bail!("a body of {} octets came where {size} were sent", body.len());
    }
    Ok(())
}

/// Without I/O or timers, which a channel does not need: the cheapest way to sleep
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().build().context("starting a runtime")
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("a thread ended early"))?
}
