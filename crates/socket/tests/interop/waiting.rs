//! Deadlines on everything that is awaited, and events instead of sleeps.

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use tidings_socket::{Event, EventKind, EventStream, Message, Socket};

/// Longer than anything takes on a loaded machine; a test that needs it fails
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a future yields, if it does in time
pub(crate) async fn within<T>(time: Duration, what: &str, future: impl IntoFuture<Output = T>) -> Result<T> {
    tokio::time::timeout(time, future.into_future()).await.map_err(|_| anyhow!("{what}: not within {time:?}"))
}

/// The next event that `wanted` makes something of; the others are passed over and named on failure
pub(crate) async fn event<T>(
    events: &mut EventStream,
    what: &str,
    mut wanted: impl FnMut(&Event) -> Option<T>,
) -> Result<T> {
    let mut seen = Vec::new();
    let search = async {
        loop {
            let event = events.next().await.context("the event stream ended")?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            seen.push(event.kind.to_string());
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => bail!("no event '{what}' within {PATIENCE:?}; seen instead: {seen:?}"),
    }
}

/// The next completed handshake
pub(crate) async fn handshaken(events: &mut EventStream) -> Result<()> {
    event(events, "handshaken", |event| matches!(event.kind, EventKind::Handshaken { .. }).then_some(())).await
}

/// The end of a connection: the reason's name, messages requeued, messages lost
pub(crate) async fn disconnected(events: &mut EventStream) -> Result<(&'static str, u64, u64)> {
    event(events, "disconnected", |event| match event.kind {
        EventKind::Disconnected { reason, requeued, lost, .. } => Some((reason, requeued, lost)),
        _ => None,
    })
    .await
}

/// A message of these frames
pub(crate) fn message<const N: usize>(frames: [&[u8]; N]) -> Message {
    Message::multipart(frames.map(Bytes::copy_from_slice))
}

/// The same as owned frames, for comparisons
pub(crate) fn frames<const N: usize>(frames: [&[u8]; N]) -> Vec<Bytes> {
    frames.map(Bytes::copy_from_slice).to_vec()
}

pub(crate) async fn send(socket: &Socket, message: Message) -> Result<()> {
    let kind = socket.socket_type();
    Ok(within(PATIENCE, &format!("our {kind} sends"), socket.send(message)).await??)
}

pub(crate) async fn recv(socket: &Socket) -> Result<Vec<Bytes>> {
    let kind = socket.socket_type();
    let message = within(PATIENCE, &format!("our {kind} receives"), socket.recv()).await??;
    Ok(message.into_frames().to_vec())
}

/// Receives one message and compares
pub(crate) async fn expect<const N: usize>(socket: &Socket, wanted: [&[u8]; N]) -> Result<()> {
    let received = recv(socket).await?;
    if received != wanted {
        let shown = |frame: &[u8]| format!("{}:\"{}\"", frame.len(), frame.get(..32).unwrap_or(frame).escape_ascii());
        let (received, wanted) = (received.iter().map(|f| shown(f)).collect::<Vec<_>>(), wanted.map(shown));
        bail!("our {} received {received:?}, not {wanted:?}", socket.socket_type());
    }
    Ok(())
}
