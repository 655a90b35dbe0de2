//! The side that binds: accepts connections, each into a task of its own, and pauses when the system has no more.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use tidings_transport::{AcceptError, Listener, PeerAddress, Stream};
use tokio_util::sync::CancellationToken;

use crate::connection::{Arrival, Driver};
use crate::events::{ConnectionId, EventKind};
use crate::half_open::{HalfOpen, Place};
use crate::security::{TOLD_EVERY, Terms};
use crate::shared::Shared;

/// Accepts until stopped
pub(crate) async fn run(shared: Arc<Shared>, listener: Listener, stop: CancellationToken, terms: Arc<Terms>) {
    let half_open = Arc::new(HalfOpen::default());
    let endpoint: Arc<str> = listener.local_endpoint().to_string().into();
    let mut paused = Pause { shared: &shared, endpoint: &endpoint, lasts: false };
    let mut stopped = pin!(stop.cancelled());
    let mut looks = tokio::time::interval(TOLD_EVERY);
    let has_certificate = terms.tls_status().is_some();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped.as_mut() => break,
            _ = looks.tick(), if has_certificate => {
                terms.tell_of_end(&shared, &endpoint);
                continue;
            }
            accepted = listener.accept_from() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                paused.end();
                let most = terms.look(&shared, |options| options.max_handshakes) as usize;
                serve(&shared, &terms, stream, peer, &endpoint, &stop, |waker| half_open.enter(waker, most));
            }
            Err(AcceptError::Transient(error)) => {
                shared.say(&endpoint, || EventKind::AcceptFailed { error: error.to_string() });
            }
            Err(error) => {
                // No descriptors or memory. Newcomers wait in the backlog, and of those who are here only such as have not
                // said yet what they want are disturbed.
                half_open.make_room();
                paused.begin(&error);
                if tokio::time::timeout(PAUSE, stopped.as_mut()).await.is_ok() {
                    break;
                }
            }
        }
    }
    drop(listener);
    drop(paused);
    shared.say(&endpoint, || EventKind::Unbound);
}

/// Accepting rests, from the first failure until a connection is accepted again
struct Pause<'a> {
    shared: &'a Shared,
    endpoint: &'a str,
    lasts: bool,
}

impl Pause<'_> {
    fn begin(&mut self, error: &AcceptError) {
        if !mem::replace(&mut self.lasts, true) {
            let retry_in_ms = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
            self.shared.say(self.endpoint, || EventKind::AcceptPaused { error: error.to_string(), retry_in_ms });
            self.shared.paused_listeners.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn end(&mut self) {
        if mem::replace(&mut self.lasts, false) {
            self.shared.paused_listeners.fetch_sub(1, Ordering::Relaxed);
            self.shared.say(self.endpoint, || EventKind::AcceptResumed);
        }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if self.lasts {
            self.shared.paused_listeners.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(
    shared: &Arc<Shared>,
    terms: &Arc<Terms>,
    stream: Stream,
    peer: PeerAddress,
    endpoint: &Arc<str>,
    stop: &CancellationToken,
    enter: impl FnOnce(Arc<AtomicWaker>) -> Place,
) {
    let connection = ConnectionId::fresh();
    let address: Arc<str> = peer.to_string().into();
    shared.reporter.say(Some(connection), Some(endpoint), Some(&address), || EventKind::Accepted);
    let mut driver = Driver::new(Arrival {
        shared: shared.clone(),
        terms: terms.clone(),
        stream,
        dialled: false,
        key: None,
        peer_name: Bytes::new(),
        endpoint: endpoint.clone(),
        connection,
        address,
        peer,
        outcome: None,
    });
    driver.takes_place(enter);
    let stop = stop.clone();
    shared.spawn(async move {
        let ended = driver.run(&stop).await;
        driver.report(&ended, None);
    });
}

/// When accepting is tried again after the system had no descriptors or memory for more
const PAUSE: Duration = Duration::from_millis(200);
