//! The side that binds: accepts connections, each into a task of its own, and pauses when the system has no more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_transport::{AcceptError, Listener, Stream};
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Arrival};
use crate::dialer::report_end;
use crate::events::{ConnectionId, EventKind};
use crate::shared::Shared;

/// Accepts until stopped
pub(crate) async fn run(shared: Arc<Shared>, listener: Listener, stop: CancellationToken) {
    let endpoint: Arc<str> = listener.local_endpoint().to_string().into();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => serve(&shared, stream, &endpoint, &stop),
            Err(AcceptError::Transient(error)) => {
                shared.say(&endpoint, || EventKind::AcceptFailed { error: error.to_string() });
            }
            Err(error) => {
                // No descriptors or memory. Newcomers wait in the backlog, who is here is not disturbed.
                let retry_in_ms = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
                shared.say(&endpoint, || EventKind::AcceptPaused { error: error.to_string(), retry_in_ms });
                shared.paused_listeners.fetch_add(1, Ordering::Relaxed);
                let stopped = tokio::time::timeout(PAUSE, stop.cancelled()).await.is_ok();
                shared.paused_listeners.fetch_sub(1, Ordering::Relaxed);
                if stopped {
                    break;
                }
                shared.say(&endpoint, || EventKind::AcceptResumed);
            }
        }
    }
    drop(listener);
    shared.say(&endpoint, || EventKind::Unbound);
}

fn serve(shared: &Arc<Shared>, stream: Stream, endpoint: &Arc<str>, stop: &CancellationToken) {
    let (shared, endpoint, stop) = (shared.clone(), endpoint.clone(), stop.clone());
    let connection = ConnectionId::fresh();
    let address: Arc<str> = stream.peer_address().to_string().into();
    shared.reporter.say(Some(connection), Some(&endpoint), Some(&address), || EventKind::Accepted);
    shared.clone().spawn(async move {
        let arrival = Arrival {
            shared: shared.clone(),
            stream,
            key: None,
            endpoint: endpoint.clone(),
            connection,
            address: address.clone(),
        };
        if let Some(ended) = connection::run(arrival, &stop, |_| {}).await {
            report_end(&shared, connection, &endpoint, &address, &ended, None);
        }
    });
}

/// How long accepting rests when the system has no descriptors or memory for more
const PAUSE: Duration = Duration::from_millis(200);
