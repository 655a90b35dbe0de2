//! The library's own proxy, and the ends that put load on it.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;
use tidings_socket::{
    Context, DealerSocket, Message, Options, Proxy, RouterSocket, Socket, SocketType, SubSocket, XpubSocket, XsubSocket,
};

use crate::arguments::{Arguments, Usage};
use crate::measure::{FLUSH, Latencies, Span, announce, check, flushed, print};
use crate::on_runtime;
use crate::requests::{END, LAST_REPLY};
use crate::routing::input_lines;
use crate::services::WARM_UP;

/// Binds both sides and passes messages until stdin closes
pub(crate) fn proxy(mut arguments: Arguments) -> Result<()> {
    let frontend: String = arguments.needed("frontend")?;
    let backend: String = arguments.needed("backend")?;
    let kind: String = arguments.needed("kind")?;
    arguments.finish()?;
    on_runtime(async move {
        let context = Context::new();
        let sides: [Socket; 2] = match kind.as_str() {
            "xsub-xpub" => {
                // Nothing is dropped on the way, so that the sink can count
                let backend = Options::of(SocketType::Xpub).xpub_nodrop(true);
                [XsubSocket::new(&context)?.into(), XpubSocket::with_options(&context, backend)?.into()]
            }
            "router-dealer" => [RouterSocket::new(&context)?.into(), DealerSocket::new(&context)?.into()],
            _ => bail!(Usage(format!("kind={kind} is neither xsub-xpub nor router-dealer"))),
        };
        let [front, back] = &sides;
        let (frontend, backend) = (front.bind(frontend)?.await?, back.bind(backend)?.await?);
        let [front, back] = sides;
        let span = Span::start();
        let running = Proxy::new(front, back).spawn()?;
        announce(format!("{frontend} {backend}"))?;
        let mut lines = input_lines()?;
        while lines.next_line().await?.is_some() {}
        let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
        let passed = running.statistics();
        print(&json!({
            "messages": passed.forward.messages, "back": passed.back.messages,
            "refused": passed.forward.refused + passed.back.refused, "seconds": seconds, "cpu_seconds": cpu_seconds,
        }))
    })
}

/// Publishes into a proxy as soon as its subscription is there
pub(crate) fn source(mut arguments: Arguments) -> Result<()> {
    let (endpoint, size, count) = load(&mut arguments)?;
    arguments.finish()?;
    on_runtime(async move {
        let options = Options::of(SocketType::Xpub).xpub_verbose(true).xpub_nodrop(true);
        let socket = XpubSocket::with_options(&Context::new(), options)?;
        socket.connect(endpoint)?.await?;
        socket.recv().await?;
        let body = vec![b'x'; size];
        let span = Span::start();
        for _ in 0..count {
            socket.send(Message::copy_from(&body)).await?;
        }
        flushed(socket.close(FLUSH).await)?;
        report(count, span)
    })
}

/// Receives from a proxy; the clock starts with the first message
pub(crate) fn sink(mut arguments: Arguments) -> Result<()> {
    let (endpoint, size, count) = load(&mut arguments)?;
    arguments.finish()?;
    on_runtime(async move {
        let socket = SubSocket::new(&Context::new())?;
        socket.subscribe("");
        socket.connect(endpoint)?.await?;
        check(&socket.recv().await?, size)?;
        let span = Span::start();
        for _ in 1..count {
            check(&socket.recv().await?, size)?;
        }
        report(count - 1, span)
    })
}

/// Keeps a number of requests on their way; with `times=yes` each round trip is timed
pub(crate) fn client(mut arguments: Arguments) -> Result<()> {
    let (endpoint, size, count) = load(&mut arguments)?;
    let inflight: usize = arguments.needed("inflight")?;
    let is_timed = arguments.or("times", "no".to_owned())? == "yes";
    arguments.finish()?;
    on_runtime(async move {
        let socket = DealerSocket::new(&Context::new())?;
        socket.connect(endpoint)?.await?;
        let body = vec![b'x'; size];
        // The worker may come later than we do
        for _ in 0..if is_timed { (count / 10).min(WARM_UP) } else { 1 } {
            socket.send(Message::copy_from(&body)).await?;
            check(&socket.recv().await?, size)?;
        }
        // Replies come in the order of their requests
        let (mut times, mut began) = (Latencies::new(count), VecDeque::with_capacity(inflight));
        let span = Span::start();
        let mut sent = 0;
        for answered in 0..count {
            while sent < count && sent - answered < inflight.max(1) {
                if is_timed {
                    began.push_back(Instant::now());
                }
                socket.send(Message::copy_from(&body)).await?;
                sent += 1;
            }
            check(&socket.recv().await?, size)?;
            if let Some(began) = began.pop_front() {
                times.note(began.elapsed());
            }
        }
        if is_timed {
            print(&times.report(span)?)?
        } else {
            report(count, span)?
        }
        socket.send(END.into()).await?;
        socket.recv().await?;
        Ok(())
    })
}

/// Answers with what it was sent
pub(crate) fn worker(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    // The client's keys, which mean nothing here
    for key in ["size", "count", "inflight"] {
        arguments.optional::<usize>(key)?;
    }
    arguments.finish()?;
    on_runtime(async move {
        let socket = DealerSocket::new(&Context::new())?;
        socket.connect(endpoint)?.await?;
        let mut message = socket.recv().await?;
        let (span, mut served) = (Span::start(), 0);
        while message.frames().last().is_none_or(|last| last[..] != *END) {
            served += 1;
            socket.send(message).await?;
            message = socket.recv().await?;
        }
        socket.send(message).await?;
        socket.close(LAST_REPLY).await;
        report(served, span)
    })
}

fn load(arguments: &mut Arguments) -> Result<(String, usize, usize)> {
    Ok((arguments.needed("endpoint")?, arguments.needed("size")?, arguments.needed("count")?))
}

fn report(messages: usize, span: Span) -> Result<()> {
    let seconds = span.seconds();
    print(&json!({
        "messages": messages, "seconds": seconds, "per_second": messages as f64 / seconds,
        "cpu_seconds": span.cpu_seconds(),
    }))
}
