//! PUSH to PULL: one message per call or batches, one frame or several, async or blocking.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tidings_socket::{Message, PullSocket, PushSocket, SocketType};

use crate::arguments::{Api, Arguments};
use crate::measure::{FLUSH, Span, announce, check, flushed, print};
use crate::on_runtime;
use crate::security::{End, Security};

/// What is sent, and how
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Octets of a frame
    pub(crate) size: usize,
    /// Messages in all
    pub(crate) count: usize,
    /// Frames of a message
    pub(crate) frames: usize,
    /// Messages of one call; with one the plain calls are used
    pub(crate) batch: usize,
}

impl Load {
    fn new(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            size: arguments.needed("size")?,
            count: arguments.needed("count")?,
            frames: arguments.or("frames", 1usize)?.max(1),
            batch: arguments.or("batch", 1usize)?.max(1),
        })
    }

    /// A fresh message with a copy of the body in every frame
    fn message(&self, body: &[u8]) -> Message {
        let mut message = Message::copy_from(body);
        for _ in 1..self.frames {
            message.push_back(Bytes::copy_from_slice(body));
        }
        message
    }

    fn octets(&self) -> usize {
        self.size * self.frames
    }

    /// How many messages each socket gets before it is the next one's turn
    fn turn(&self) -> usize {
        if self.batch > 1 { self.batch } else { 100 }
    }
}

pub(crate) fn push(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let load = Load::new(&mut arguments)?;
    let connections: usize = arguments.or("connections", 1usize)?.max(1);
    let api = arguments.api()?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Push, End::Connects)?;
    let (span, mut witness) = match api {
        Api::Async => on_runtime(async move {
            let (context, witness) = security.context();
            let mut sockets = Vec::new();
            for _ in 0..connections {
                let socket = PushSocket::with_options(&context, options.clone())?;
                socket.connect(&endpoint)?.await?;
                sockets.push(socket);
            }
            let span = Span::start();
            send_all(&sockets, load).await?;
            flushed(context.close(FLUSH).await)?;
            anyhow::Ok((span, witness))
        })?,
        Api::Blocking => {
            let (context, witness) = security.context();
            let mut sockets = Vec::new();
            for _ in 0..connections {
                let socket = PushSocket::with_options(&context, options.clone())?;
                socket.connect(&endpoint)?.blocking(CONNECT)?;
                sockets.push(socket);
            }
            let span = Span::start();
            send_all_blocking(&sockets, load)?;
            flushed(context.close_blocking(FLUSH))?;
            (span, witness)
        }
    };
    let seconds = span.seconds();
    print(&witness.tell(json!({
        "messages": load.count, "seconds": seconds, "per_second": load.count as f64 / seconds,
        "cpu_seconds": span.cpu_seconds(),
    })))
}

/// Sends everything, the sockets taking turns
pub(crate) async fn send_all(sockets: &[PushSocket], load: Load) -> Result<()> {
    let body = vec![b'x'; load.size];
    let mut left = load.count;
    let mut batch = Vec::with_capacity(load.batch);
    for socket in sockets.iter().cycle() {
        let turn = left.min(load.turn());
        if load.batch > 1 {
            batch.extend((0..turn).map(|_| load.message(&body)));
            while !batch.is_empty() {
                socket.send_many(&mut batch).await?;
            }
        } else {
            for _ in 0..turn {
                socket.send(load.message(&body)).await?;
            }
        }
        left -= turn;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

fn send_all_blocking(sockets: &[PushSocket], load: Load) -> Result<()> {
    let body = vec![b'x'; load.size];
    let mut left = load.count;
    let mut batch = Vec::with_capacity(load.batch);
    for socket in sockets.iter().cycle() {
        let turn = left.min(load.turn());
        if load.batch > 1 {
            batch.extend((0..turn).map(|_| load.message(&body)));
            while !batch.is_empty() {
                socket.send_many_blocking(&mut batch)?;
            }
        } else {
            for _ in 0..turn {
                socket.send_blocking(load.message(&body))?;
            }
        }
        left -= turn;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

pub(crate) fn pull(mut arguments: Arguments) -> Result<()> {
    let endpoint: String = arguments.needed("endpoint")?;
    let load = Load::new(&mut arguments)?;
    // How many will connect; the clock starts with the first message, so nothing waits for them
    let _peers: usize = arguments.or("peers", 1)?;
    let api = arguments.api()?;
    let security = Security::new(&mut arguments, &endpoint)?;
    arguments.finish()?;
    let options = security.options(SocketType::Pull, End::Binds)?;
    let report = match api {
        Api::Async => on_runtime(async move {
            let (context, mut witness) = security.context();
            let socket = PullSocket::with_options(&context, options)?;
            announce(socket.bind(endpoint)?.await?)?;
            let report = receive_all(&socket, load).await?;
            anyhow::Ok(witness.tell(report))
        })?,
        Api::Blocking => {
            let (context, mut witness) = security.context();
            let socket = PullSocket::with_options(&context, options)?;
            announce(socket.bind(endpoint)?.blocking()?)?;
            witness.tell(receive_all_blocking(&socket, load)?)
        }
    };
    print(&report)
}

/// Receives everything and says how fast
pub(crate) async fn receive_all(socket: &PullSocket, load: Load) -> Result<Value> {
    check(&socket.recv().await?, load.octets())?;
    let span = Span::start();
    let mut left = load.count.saturating_sub(1);
    if load.batch > 1 {
        let mut batch = Vec::with_capacity(load.batch);
        while left > 0 {
            left -= socket.recv_many(&mut batch, load.batch.min(left)).await?;
            for message in batch.drain(..) {
                check(&message, load.octets())?;
            }
        }
    } else {
        for _ in 0..left {
            check(&socket.recv().await?, load.octets())?;
        }
    }
    report_received(load, span)
}

fn receive_all_blocking(socket: &PullSocket, load: Load) -> Result<Value> {
    check(&socket.recv_blocking()?, load.octets())?;
    let span = Span::start();
    let mut left = load.count.saturating_sub(1);
    if load.batch > 1 {
        let mut batch = Vec::with_capacity(load.batch);
        while left > 0 {
            left -= socket.recv_many_blocking(&mut batch, load.batch.min(left))?;
            for message in batch.drain(..) {
                check(&message, load.octets())?;
            }
        }
    } else {
        for _ in 0..left {
            check(&socket.recv_blocking()?, load.octets())?;
        }
    }
    report_received(load, span)
}

fn report_received(load: Load, span: Span) -> Result<Value> {
    let seconds = span.seconds();
    let after_first = load.count.checked_sub(1).context("count is at least 1")?;
    Ok(json!({
        "messages": load.count, "seconds": seconds, "per_second": after_first as f64 / seconds,
        "cpu_seconds": span.cpu_seconds(),
    }))
}

/// How long a connection may take to come about
pub(crate) const CONNECT: Duration = Duration::from_secs(30);
