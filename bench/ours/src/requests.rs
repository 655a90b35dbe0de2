//! REQ to REP: round trips, at full speed or paced, and connections that live for one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidings_socket::{Message, RepSocket, ReqSocket, SocketType};

use crate::arguments::{Api, Arguments};
use crate::measure::{Latencies, Span, announce, check, print};
use crate::on_runtime;
use crate::pipeline::CONNECT;
use crate::security::{End, Security};

pub(crate) fn rep(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let api = arguments.api()?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Rep, End::Binds)?;
    let (served, span, mut witness) = match api {
        Api::Async => on_runtime(async move {
            let (context, witness) = security.context();
            let socket = RepSocket::with_options(&context, options)?;
            announce(socket.bind(endpoint)?.await?)?;
            let mut request = socket.recv().await?;
            let (span, mut served) = (Span::start(), 0u64);
            while request.first()[..] != *END {
                served += 1;
                socket.send(request).await?;
                request = socket.recv().await?;
            }
            socket.send(request).await?;
            socket.close(LAST_REPLY).await;
            anyhow::Ok((served, span, witness))
        })?,
        Api::Blocking => {
            let (context, witness) = security.context();
            let socket = RepSocket::with_options(&context, options)?;
            announce(socket.bind(endpoint)?.blocking()?)?;
            let mut request = socket.recv_blocking()?;
            let (span, mut served) = (Span::start(), 0u64);
            while request.first()[..] != *END {
                served += 1;
                socket.send_blocking(request)?;
                request = socket.recv_blocking()?;
            }
            socket.send_blocking(request)?;
            socket.close_blocking(LAST_REPLY);
            (served, span, witness)
        }
    };
    let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
    print(&witness.tell(json!({"messages": served, "seconds": seconds, "cpu_seconds": cpu_seconds})))
}

/// What is asked, and how often
#[derive(Clone, Copy)]
pub(crate) struct Questions {
    pub(crate) size: usize,
    pub(crate) count: usize,
    /// Requests a second; without it the next one follows its reply at once
    pub(crate) rate: Option<f64>,
}

pub(crate) fn req(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let questions = Questions {
        size: arguments.needed("size")?,
        count: arguments.needed("count")?,
        rate: arguments.optional("rate")?,
    };
    let api = arguments.api()?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Req, End::Connects)?;
    let report = match api {
        Api::Async => on_runtime(async move {
            let (context, mut witness) = security.context();
            let socket = ReqSocket::with_options(&context, options)?;
            socket.connect(endpoint)?.await?;
            let report = ask_all(&socket, questions).await?;
            socket.send(END.into()).await?;
            socket.recv().await?;
            Ok(witness.tell(report))
        })?,
        Api::Blocking => {
            let (context, mut witness) = security.context();
            let socket = ReqSocket::with_options(&context, options)?;
            socket.connect(endpoint)?.blocking(CONNECT)?;
            let report = ask_all_blocking(&socket, questions)?;
            socket.send_blocking(END.into())?;
            socket.recv_blocking()?;
            witness.tell(report)
        }
    };
    print(&report)
}

/// Asks everything and says the distribution of the times
pub(crate) async fn ask_all(socket: &ReqSocket, questions: Questions) -> Result<Value> {
    let body = vec![b'x'; questions.size];
    let round_trip = async || {
        socket.send(Message::copy_from(&body)).await?;
        check(&socket.recv().await?, body.len())
    };
    for _ in 0..questions.count / 10 {
        round_trip().await?;
    }
    let mut times = Latencies::new(questions.count);
    let (span, schedule) = (Span::start(), Schedule::new(questions.rate));
    for number in 0..questions.count {
        let due = schedule.wait_for(number);
        round_trip().await?;
        times.note(due.elapsed());
    }
    times.report(span)
}

fn ask_all_blocking(socket: &ReqSocket, questions: Questions) -> Result<Value> {
    let body = vec![b'x'; questions.size];
    let round_trip = || {
        socket.send_blocking(Message::copy_from(&body))?;
        check(&socket.recv_blocking()?, body.len())
    };
    for _ in 0..questions.count / 10 {
        round_trip()?;
    }
    let mut times = Latencies::new(questions.count);
    let (span, schedule) = (Span::start(), Schedule::new(questions.rate));
    for number in 0..questions.count {
        let due = schedule.wait_for(number);
        round_trip()?;
        times.note(due.elapsed());
    }
    times.report(span)
}

/// When each request is due
struct Schedule {
    start: Instant,
    interval: Option<Duration>,
}

impl Schedule {
    fn new(rate: Option<f64>) -> Self {
        Self { start: Instant::now(), interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)) }
    }

    /// Waits until a request is due, and says when that was: a late one does not wait, and its lateness counts
    ///
    /// The thread itself waits: between two requests the runtime has nothing to do, and its timers are a
    /// hundred times too coarse.
    fn wait_for(&self, number: usize) -> Instant {
        let Some(interval) = self.interval else { return Instant::now() };
        let due = self.start + interval.mul_f64(number as f64);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match left.checked_sub(WAKING) {
                Some(long) => std::thread::sleep(long),
                None if left.is_zero() => return due,
                None => std::hint::spin_loop(),
            }
        }
    }
}

pub(crate) fn connect_echo(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let count: usize = arguments.needed("count")?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Req, End::Connects)?;
    on_runtime(async move {
        let (context, mut witness) = security.context();
        let body = [b'x'; 64];
        let span = Span::start();
        for _ in 0..count {
            let socket = ReqSocket::with_options(&context, options.clone())?;
            let connecting = socket.connect(&endpoint)?;
            socket.send(Message::copy_from(&body)).await?;
            check(&socket.recv().await?, body.len())?;
            socket.close(LAST_REPLY).await;
            drop(connecting);
        }
        let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
        let last = ReqSocket::with_options(&context, options)?;
        last.connect(&endpoint)?.await.context("can't connect to say that it is over")?;
        last.send(END.into()).await?;
        last.recv().await?;
        print(&witness.tell(json!({
            "messages": count, "seconds": seconds, "per_second": count as f64 / seconds, "cpu_seconds": cpu_seconds,
        })))
    })
}

/// The request that ends a server, which answers it all the same
pub(crate) const END: &[u8] = b"END";

/// How long the last reply may take to be handed to the system
pub(crate) const LAST_REPLY: Duration = Duration::from_secs(5);

/// How much earlier than due a sleep ends: above Linux's timer slack of 50 us and a slow wake-up
const WAKING: Duration = Duration::from_micros(150);
