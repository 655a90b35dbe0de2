//! PUB to SUB: many subscribers, many subscriptions, and some who never read.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidings_socket::{Message, Options, SocketType, SubSocket, XpubSocket};
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Usage};
use crate::measure::{FLUSH, Span, announce, check, flushed, print, resident_kib};
use crate::on_runtime;
use crate::security::{End, Security};

/// Binds, waits for every subscription, publishes, and ends with a mark that every subscriber waits for
pub(crate) fn publish(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let size: usize = arguments.needed("size")?;
    let count: usize = arguments.needed("count")?;
    let subscribers: usize = arguments.needed("subscribers")?;
    let subscriptions: usize = arguments.needed("subscriptions")?;
    let topics: usize = arguments.or("topics", 1usize)?.max(1);
    let drop: String = arguments.or("drop", "no".to_owned())?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    if size < TOPIC {
        bail!(Usage(format!("a message is at least as long as its topic, {TOPIC} octets")));
    }
    let drops = match drop.as_str() {
        "yes" => true,
        "no" => false,
        _ => bail!(Usage(format!("drop={drop} is neither yes nor no"))),
    };
    on_runtime(async move {
        // An XPUB tells when the subscriptions are there; it publishes as a PUB does
        let options = Options::of(SocketType::Xpub).xpub_verbose(true).xpub_nodrop(!drops);
        let (context, mut witness) = security.context();
        let socket = XpubSocket::with_options(&context, security.add_to(options, End::Binds)?)?;
        announce(socket.bind(endpoint)?.await?)?;
        // The end mark's subscription is one more of each subscriber
        let mut missing = subscribers * (subscriptions + 1);
        while missing > 0 {
            missing -= usize::from(socket.recv().await?.first().first() == Some(&SUBSCRIBES));
        }
        let topics: Vec<[u8; TOPIC]> = (0..topics).map(topic).collect::<Result<_>>()?;
        let mut body = vec![b'x'; size];
        let rss_before = resident_kib()?;
        let span = Span::start();
        for topic in topics.iter().cycle().take(count) {
            body[..TOPIC].copy_from_slice(topic);
            socket.send(Message::copy_from(&body)).await?;
        }
        let seconds = span.seconds();
        let rss_after = resident_kib()?;
        body[..TOPIC].copy_from_slice(END_MARK);
        socket.send(Message::copy_from(&body)).await?;
        if drops {
            // Who had no room for one mark gets another
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && socket.stats().peers.iter().any(|peer| peer.connected) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                socket.send(Message::copy_from(&body)).await?;
            }
        }
        let dropped = socket.stats().dropped;
        let report = socket.close(if drops { Duration::ZERO } else { FLUSH }).await;
        if !drops {
            flushed(report)?;
        }
        print(&witness.tell(json!({
            "messages": count, "seconds": seconds, "per_second": count as f64 / seconds,
            "cpu_seconds": span.cpu_seconds(), "dropped": dropped,
            "rss_kib_before": rss_before, "rss_kib_after": rss_after,
        })))
    })
}

/// Many SUB sockets in one process, one task each on one runtime
pub(crate) fn subscribe(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let size: usize = arguments.needed("size")?;
    let _count: usize = arguments.needed("count")?;
    let connections: usize = arguments.needed("connections")?;
    let subscriptions: usize = arguments.needed("subscriptions")?;
    let expect: u64 = arguments.needed("expect")?;
    let _topics: usize = arguments.or("topics", 1)?;
    let frozen: usize = arguments.or("frozen", 0)?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Sub, End::Connects)?;
    on_runtime(async move {
        let (context, mut witness) = security.context();
        let mut unread = Vec::new();
        let mut reading = JoinSet::new();
        for number in 0..connections + frozen {
            let socket = SubSocket::with_options(&context, options.clone())?;
            socket.subscribe(END_MARK);
            if subscriptions <= 1 {
                socket.subscribe("");
            } else {
                for place in 0..subscriptions {
                    socket.subscribe(topic(number * subscriptions + place)?);
                }
            }
            socket.connect(&endpoint)?.await?;
            if number < connections {
                reading.spawn(read_to_end(socket, size));
            } else {
                unread.push(socket);
            }
        }
        let (mut messages, mut first, mut last) = (0u64, None::<Span>, None::<(f64, f64)>);
        while let Some(done) = reading.join_next().await {
            let (received, span) = done??;
            messages += received;
            if let Some(span) = span {
                // The clock starts with whoever was first, and stops with whoever ends last
                first = Some(first.map_or(span, |first| first.earlier(span)));
                last = first.map(|first| (first.seconds(), first.cpu_seconds()));
            }
        }
        let (seconds, cpu_seconds) = last.context("nothing was received")?;
        print(&witness.tell(json!({
            "messages": messages, "seconds": seconds, "per_second": messages as f64 / seconds,
            "missed": expect.saturating_sub(messages), "cpu_seconds": cpu_seconds,
        })))
    })
}

/// Reads until the end mark; returns how many messages came before it, and since when
async fn read_to_end(socket: SubSocket, size: usize) -> Result<(u64, Option<Span>)> {
    let (mut received, mut span) = (0, None);
    loop {
        let message = socket.recv().await?;
        check(&message, size)?;
        if message.first().starts_with(END_MARK) {
            return Ok((received, span));
        }
        if received == 0 {
            span = Some(Span::start());
        }
        received += 1;
    }
}

/// The digits of a topic
fn topic(number: usize) -> Result<[u8; TOPIC]> {
    let digits = format!("{number:0TOPIC$}");
    digits.as_bytes().try_into().with_context(|| format!("topic {number} has more than {TOPIC} digits"))
}

/// How the message of a new subscription begins
const SUBSCRIBES: u8 = 1;

/// Octets of a topic
const TOPIC: usize = 8;

/// The topic of the last message, to which every subscriber is subscribed
const END_MARK: &[u8; TOPIC] = b"99999999";
