//! ROUTER: an echo for many peers; a server that only keeps connections, and a client that opens many.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidings_socket::{Context, PushSocket, RouterSocket, SocketType};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Usage};
use crate::measure::{Span, announce, print, resident_kib};
use crate::on_runtime;
use crate::requests::{END, LAST_REPLY};
use crate::security::{End, Security};

pub(crate) fn router(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    arguments.finish()?;
    on_runtime(async move {
        let socket = RouterSocket::new(&Context::new())?;
        announce(socket.bind(endpoint)?.await?)?;
        let mut message = socket.recv().await?;
        let (span, mut served) = (Span::start(), 0u64);
        while message.frames().last().is_none_or(|last| last[..] != *END) {
            served += 1;
            socket.send(message).await?;
            message = socket.recv().await?;
        }
        socket.send(message).await?;
        let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
        socket.close(LAST_REPLY).await;
        print(&json!({
            "messages": served, "seconds": seconds, "per_second": served as f64 / seconds, "cpu_seconds": cpu_seconds,
        }))
    })
}

/// `type=router|pull`: a PULL is for those that open all connections from one PUSH
pub(crate) fn idle_server(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let socket_type = match arguments.or("type", "router".to_owned())?.as_str() {
        "router" => SocketType::Router,
        "pull" => SocketType::Pull,
        other => bail!(Usage(format!("type={other} is neither router nor pull"))),
    };
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(socket_type, End::Binds)?;
    on_runtime(async move {
        let socket = Context::new().socket_with(socket_type, options)?;
        announce(socket.bind(endpoint)?.await?)?;
        let mut lines = input_lines()?;
        let since_start = Span::start();
        while lines.next_line().await?.is_some() {
            // Before the figures, which take memory themselves
            let rss = resident_kib()?;
            let connections = socket.stats().peers.iter().filter(|peer| peer.connected).count();
            print(&json!({"rss_kib": rss, "connections": connections, "cpu_seconds": since_start.cpu_seconds()}))?;
        }
        Ok(())
    })
}

/// As many connections of one PUSH, 64 of them on their way at a time; with `hold=yes` they stay until stdin closes
pub(crate) fn dial(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let connections: usize = arguments.needed("connections")?;
    let hold = arguments.or("hold", "no".to_owned())? == "yes";
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Push, End::Connects)?;
    on_runtime(async move {
        let (context, mut witness) = security.context();
        let socket = PushSocket::with_options(&context, options)?;
        let span = Span::start();
        let mut connecting = JoinSet::new();
        for begun in 0..connections {
            if begun >= ON_THEIR_WAY
                && let Some(connected) = connecting.join_next().await
            {
                connected??;
            }
            connecting.spawn(socket.connect(&endpoint)?.into_future());
        }
        while let Some(connected) = connecting.join_next().await {
            connected??;
        }
        let (seconds, cpu_seconds) = (span.seconds(), span.cpu_seconds());
        print(&witness.tell(json!({
            "messages": connections, "seconds": seconds, "per_second": connections as f64 / seconds,
            "cpu_seconds": cpu_seconds,
        })))?;
        if hold {
            let mut lines = input_lines()?;
            while lines.next_line().await?.is_some() {}
        }
        socket.close(LAST_REPLY).await;
        Ok(())
    })
}

/// The lines that come on stdin, until it closes
///
/// By the runtime and not by a thread that reads: a second thread makes system calls dearer, see `end_in_time`.
pub(crate) fn input_lines() -> Result<Lines<BufReader<Receiver>>> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let pipe = Receiver::from_owned_fd(input).context("stdin is no pipe; start this role as `cat | …`")?;
    Ok(BufReader::new(pipe).lines())
}

/// More than 100 would overrun the backlog that libzmq listens with by default
const ON_THEIR_WAY: usize = 64;
