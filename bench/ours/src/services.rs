//! Services: clients and workers of ours, a broker, and what it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tidings_majordomo::broker::BrokerConfig;
use tidings_majordomo::wire::{ServiceName, Wire};
use tidings_majordomo::{Client, ClientOptions, Failure, Request, Server, Titanic, TitanicConfig, Worker};
use tidings_socket::{Context, DealerSocket, Message, RouterSocket};
use tidings_store::{NewEntry, Store, StoreOptions};
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Usage};
use crate::measure::{Latencies, Span, announce, check, print, resident_kib};
use crate::on_runtime;
use crate::requests::LAST_REPLY;
use crate::routing::input_lines;

/// A broker as it comes; with `keep=yes` one that keeps more than usual and for longer, with `store=FOLDER` one that
/// stores requests there
///
/// Says its memory and what it keeps for each line of stdin, until that closes.
pub(crate) fn broker(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let keeps = arguments.or("keep", "no".to_owned())? == "yes";
    let folder: Option<String> = arguments.optional("store")?;
    arguments.finish()?;
    let config = if keeps { keeping() } else { BrokerConfig::default() };
    on_runtime(async move {
        let socket = RouterSocket::new(&Context::new())?;
        let (server, locals) = Server::builder(socket.clone(), config).start();
        let durable = match folder {
            None => None,
            Some(folder) => {
                let titanic = Titanic::new(Store::open(folder, StoreOptions::default())?, TitanicConfig::default());
                Some(titanic.serve(server.clone(), locals)?)
            }
        };
        announce(socket.bind(endpoint)?.await?)?;
        let span = Span::start();
        let mut lines = input_lines()?;
        while lines.next_line().await?.is_some() {
            // Before the figures, which take memory themselves
            let rss = resident_kib()?;
            let stats = server.stats();
            let waiting: usize = stats.services.iter().map(|service| service.waiting).sum();
            print(&json!({"rss_kib": rss, "waiting": waiting, "workers": stats.workers}))?;
        }
        let stats = server.stats();
        server.stop(Duration::ZERO).await;
        if let Some(durable) = &durable {
            durable.ended().await;
        }
        print(&json!({
            "stored": durable.map(|durable| durable.stats().stored), "messages": stats.counters.get("replies"), "refused": stats.counters.get("refused"),
            "cpu_seconds": span.cpu_seconds(),
        }))
    })
}

/// Nothing is refused or given up while memory is looked at
fn keeping() -> BrokerConfig {
    BrokerConfig {
        heartbeat_interval: Duration::from_secs(60),
        request_age: Duration::from_secs(600),
        max_waiting: 1_000_000,
        max_waiting_octets: 1 << 30,
        max_total_octets: 1 << 30,
        max_per_client: 1_000_000,
        max_workers: 100_000,
        ..BrokerConfig::default()
    }
}

/// Answers with what it was asked, until stdin closes
pub(crate) fn worker(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let service: String = arguments.needed("service")?;
    let wire = wire(&mut arguments)?;
    arguments.finish()?;
    on_runtime(async move {
        let echo = |request: Request| async move { Ok::<_, Failure>(request.into_body()) };
        // As many as any work here has under way; on other wires it is one whatever is said
        let worker = Worker::builder(&Context::new(), endpoint, &*service).wire(wire).concurrency(CONCURRENCY);
        let worker = worker.serve(echo)?;
        if !worker.ready().await {
            bail!("the worker ended before it was ready");
        }
        let span = Span::start();
        announce(&service)?;
        let mut lines = input_lines()?;
        while lines.next_line().await?.is_some() {}
        print(&json!({"cpu_seconds": span.cpu_seconds(), "wire": worker.wire().map(Wire::name)}))
    })
}

/// Keeps a number of requests on their way
pub(crate) fn client(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let load = Load::of(&mut arguments)?;
    let in_flight: usize = arguments.needed("inflight")?;
    let wire = wire(&mut arguments)?;
    arguments.finish()?;
    on_runtime(async move {
        let options = ClientOptions::default().wire(wire).max_conversations(in_flight);
        let client = Client::connect(&Context::new(), endpoint, options).await?;
        let (count, load) = (load.count, Arc::new(load));
        for _ in 0..(count / 10).min(WARM_UP) {
            load.round_trip(&client).await?;
        }
        let asking = client.clone();
        let mut report = keep_going(count, in_flight, move || {
            let (client, load) = (asking.clone(), load.clone());
            async move { load.round_trip(&client).await }
        })
        .await?;
        report["wire"] = client.wire().map(Wire::name).into();
        print(&report)
    })
}

/// Has a number of requests stored at a time, each answered when it is on disk
pub(crate) fn store(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let load = Load::of(&mut arguments)?;
    let in_flight: usize = arguments.needed("inflight")?;
    arguments.finish()?;
    on_runtime(async move {
        let client = Client::connect(&Context::new(), endpoint, ClientOptions::default()).await?;
        let (count, load, durable) = (load.count, Arc::new(load), client.durable());
        let report = keep_going(count, in_flight, move || {
            let (durable, load) = (durable.clone(), load.clone());
            async move {
                durable.submit(load.service.clone(), Message::copy_from(&load.body), None).await?;
                Ok(())
            }
        });
        print(&report.await?)
    })
}

/// The store beneath, without a broker and its connections
pub(crate) fn enqueue(mut arguments: Arguments) -> Result<()> {
    let folder: String = arguments.needed("folder")?;
    let size: usize = arguments.needed("size")?;
    let count: usize = arguments.needed("count")?;
    let in_flight: usize = arguments.needed("inflight")?;
    arguments.finish()?;
    on_runtime(async move {
        let store = Store::open(folder, StoreOptions::default())?;
        let (queue, body) = (store.queue("echo")?, Bytes::from(vec![b'x'; size]));
        let report = keep_going(count, in_flight, move || {
            let stored = queue.enqueue(NewEntry::new([body.clone()]));
            async move {
                stored.await?;
                Ok(())
            }
        });
        print(&report.await?)
    })
}

/// Does something so often, with so many under way, and tells how long each took
async fn keep_going<F>(count: usize, in_flight: usize, once: impl Fn() -> F + Clone + Send + 'static) -> Result<Value>
where
    F: Future<Output = Result<()>> + Send,
{
    let left = Arc::new(AtomicUsize::new(count));
    let mut all = Latencies::new(count);
    let span = Span::start();
    let mut going = JoinSet::new();
    for _ in 0..in_flight {
        let (once, left) = (once.clone(), left.clone());
        going.spawn(async move {
            let mut times = Vec::with_capacity(count / in_flight * 2);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let began = Instant::now();
                once().await?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    while let Some(times) = going.join_next().await {
        times??.into_iter().for_each(|time| all.note(time));
    }
    all.report(span)
}

/// What is asked, and how often
struct Load {
    service: ServiceName,
    body: Vec<u8>,
    count: usize,
}

impl Load {
    fn of(arguments: &mut Arguments) -> Result<Self> {
        let service: String = arguments.needed("service")?;
        Ok(Self {
            service: ServiceName::new(service)?,
            body: vec![b'x'; arguments.needed("size")?],
            count: arguments.needed("count")?,
        })
    }

    async fn round_trip(&self, client: &Client) -> Result<()> {
        let reply = client.request(self.service.clone(), Message::copy_from(&self.body)).await?;
        check(&reply.body, self.body.len())
    }
}

/// Sends requests for which there is no worker, all at once, and stays
///
/// On a wire without refusals, or the broker would not let them wait.
pub(crate) fn fill(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let load = Load::of(&mut arguments)?;
    let head = match wire(&mut arguments)? {
        Wire::Mdp01 => vec![Bytes::new(), Bytes::from_static(b"MDPC01")],
        Wire::Majortomo => vec![Bytes::new(), Bytes::from_static(b"MDPC02"), Bytes::from_static(b"\x02")],
        other => bail!(Usage(format!("wire={other} is neither mdp-0.1 nor majortomo"))),
    };
    arguments.finish()?;
    on_runtime(async move {
        let socket = DealerSocket::new(&Context::new())?;
        socket.connect(endpoint)?.await?;
        let service = load.service.bytes().clone();
        let span = Span::start();
        for _ in 0..load.count {
            let more = [service.clone(), Bytes::copy_from_slice(&load.body)];
            socket.send(Message::multipart(head.iter().cloned().chain(more))).await?;
        }
        told_and_held(load.count, span).await?;
        socket.close(LAST_REPLY).await;
        Ok(())
    })
}

/// As many DEALER of one context; with `ready=yes` each is a worker that has nothing to do
pub(crate) fn idle(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let service: String = arguments.needed("service")?;
    let connections: usize = arguments.needed("connections")?;
    let is_ready = arguments.or("ready", "no".to_owned())? == "yes";
    arguments.finish()?;
    on_runtime(async move {
        let context = Context::builder().max_sockets(connections + 1).build()?;
        let span = Span::start();
        let (mut sockets, mut connecting) = (Vec::with_capacity(connections), JoinSet::new());
        for begun in 0..connections {
            if begun >= ON_THEIR_WAY
                && let Some(connected) = connecting.join_next().await
            {
                connected??;
            }
            let socket = DealerSocket::new(&context)?;
            connecting.spawn(socket.connect(&endpoint)?.into_future());
            sockets.push(socket);
        }
        while let Some(connected) = connecting.join_next().await {
            connected??;
        }
        if is_ready {
            for socket in &sockets {
                let ready = ["", "MDPW01", "\u{1}", &service].map(|frame| Bytes::copy_from_slice(frame.as_bytes()));
                socket.send(Message::multipart(ready)).await?;
            }
        }
        told_and_held(connections, span).await
    })
}

/// Says what it did, and keeps the connections until stdin closes
async fn told_and_held(messages: usize, span: Span) -> Result<()> {
    let seconds = span.seconds();
    print(&json!({
        "messages": messages, "seconds": seconds, "per_second": messages as f64 / seconds,
        "cpu_seconds": span.cpu_seconds(),
    }))?;
    let mut lines = input_lines()?;
    while lines.next_line().await?.is_some() {}
    Ok(())
}

fn wire(arguments: &mut Arguments) -> Result<Wire> {
    let name = arguments.or("wire", Wire::Mdp01.name().to_owned())?;
    Wire::from_name(&name).with_context(|| Usage(format!("wire={name} is no wire of Majordomo")))
}

/// Round trips before what is measured, one by one
pub(crate) const WARM_UP: usize = 1000;

/// The most that any work has under way
const CONCURRENCY: u32 = 1024;

/// As `dial` has
const ON_THEIR_WAY: usize = 64;
