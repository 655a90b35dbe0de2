//! ROUTER: an echo for many peers, and a server that only keeps connections.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidings_socket::{Context, RouterSocket};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;

use crate::arguments::Arguments;
use crate::measure::{Span, announce, print, resident_kib};
use crate::on_runtime;
use crate::requests::{END, LAST_REPLY};

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

pub(crate) fn idle_server(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    arguments.finish()?;
    on_runtime(async move {
        let socket = RouterSocket::new(&Context::new())?;
        announce(socket.bind(endpoint)?.await?)?;
        let mut lines = input_lines()?;
        while lines.next_line().await?.is_some() {
            // Before the figures, which take memory themselves
            let rss = resident_kib()?;
            let connections = socket.stats().peers.iter().filter(|peer| peer.connected).count();
            print(&json!({"rss_kib": rss, "connections": connections}))?;
        }
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
