//! A tap on TCP connections: passes everything on, counts the heartbeats it sees, and can stop passing.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::waiting::{PATIENCE, within};

/// Stands between the side that connects and the side that is bound
#[derive(Debug)]
pub(crate) struct Tap {
    endpoint: String,
    seen: watch::Sender<Seen>,
    frozen: watch::Sender<bool>,
    /// Ends with the tap
    _task: JoinSet<()>,
}

/// Heartbeats counted, by the side that sent them
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) from_connecting: Beats,
    pub(crate) from_bound: Beats,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beats {
    pub(crate) pings: usize,
    pub(crate) pongs: usize,
}

impl Tap {
    /// A tap in front of a bound tcp endpoint
    pub(crate) async fn on(endpoint: &str) -> Result<Self> {
        let target: SocketAddr = endpoint.strip_prefix("tcp://").context("a tcp endpoint")?.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("tcp://{}", listener.local_addr()?);
        let (seen, frozen) = (watch::Sender::new(Seen::default()), watch::Sender::new(false));
        let mut task = JoinSet::new();
        let (sink, state) = (seen.clone(), frozen.subscribe());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (sink, state) = (sink.clone(), state.clone());
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    // The end of either direction ends the connection
                    tokio::select! {
                        () = pass(from_near, to_far, &sink, |seen| &mut seen.from_connecting, state.clone()) => {}
                        () = pass(from_far, to_near, &sink, |seen| &mut seen.from_bound, state) => {}
                    }
                });
            }
        });
        Ok(Self { endpoint, seen, frozen, _task: task })
    }

    /// Where to connect instead
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits until enough has been seen
    pub(crate) async fn until(&self, what: &str, enough: impl FnMut(&Seen) -> bool) -> Result<()> {
        let mut seen = self.seen.subscribe();
        let waited = within(PATIENCE, what, seen.wait_for(enough)).await.map(|found| found.map(drop));
        waited.with_context(|| format!("seen: {:?}", self.seen.borrow()))??;
        Ok(())
    }

    /// Passes nothing on, in either direction, until thawed; nobody is told
    pub(crate) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sink: &watch::Sender<Seen>,
    side: impl Fn(&mut Seen) -> &mut Beats,
    mut frozen: watch::Receiver<bool>,
) {
    let mut tail = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if frozen.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        // A command may be split over two reads
        tail.extend_from_slice(&buffer[..count]);
        let of = |name: &[u8]| tail.windows(name.len()).filter(|window| *window == name).count();
        let (pings, pongs) = (of(b"\x04PING"), of(b"\x04PONG"));
        tail.drain(..tail.len().saturating_sub(b"\x04PING".len() - 1));
        sink.send_modify(|seen| {
            let beats = side(seen);
            beats.pings += pings;
            beats.pongs += pongs;
        });
    }
}
