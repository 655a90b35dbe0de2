//! The side that connects: dials, waits, dials again, and knows when that is of no use.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_transport::{DialError, Endpoint};
use tidings_zmtp::{PeerInfo, Properties, SocketType};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::connection::{self, Again, Arrival, Ended, Why};
use crate::error::ConnectError;
use crate::events::{ConnectionId, EventKind};
use crate::pipe::{Driver, PipeKey};
use crate::security::{TOLD_EVERY, Terms};
use crate::shared::Shared;
use crate::state::{CLOSED_HERE, Phase, SOCKET_CLOSED, TAKEN_OVER};

/// What awaiting a connect tells
pub(crate) type Outcome = Result<Peer, ConnectError>;

/// Who is at the other end of a completed connection
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// The connection, as events name it
    pub connection: ConnectionId,
    /// The endpoint as it was configured
    pub endpoint: String,
    /// The peer's address
    pub address: String,
    /// Its socket type, where its protocol version tells it
    pub socket_type: Option<SocketType>,
    /// The name it wants to be known by; may be empty
    pub routing_id: Bytes,
    /// The version of ZMTP that is spoken
    pub version: (u8, u8),
    /// Its metadata
    pub properties: Properties,
    /// SERVER and PEER: the id by which this socket sends to it and says that it received from it
    pub id: Option<u32>,
}

impl Peer {
    pub(crate) fn new(info: &PeerInfo, connection: ConnectionId, endpoint: &str, address: &str) -> Self {
        Self {
            connection,
            endpoint: endpoint.to_owned(),
            address: address.to_owned(),
            socket_type: info.socket_type,
            routing_id: info.routing_id.clone(),
            version: info.version,
            properties: info.properties.clone(),
            id: None,
        }
    }
}

/// An endpoint that a socket stays connected to
#[derive(Debug)]
pub(crate) struct Dialer {
    shared: Arc<Shared>,
    /// Its place in the socket's list
    number: u64,
    endpoint: Endpoint,
    name: Arc<str>,
    /// `None` with `immediate`: the pipe comes with each connection
    key: Option<PipeKey>,
    /// What the peer is called here (connect_as); empty if it isn't
    peer_name: Bytes,
    stop: CancellationToken,
    outcome: watch::Sender<Option<Outcome>>,
    terms: Arc<Terms>,
    backoff: Backoff,
    refused_backoff: Backoff,
    /// Handshakes in a row that broke off as they do when a key is wrong
    suspicious: u32,
}

impl Dialer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        number: u64,
        endpoint: Endpoint,
        key: Option<PipeKey>,
        stop: CancellationToken,
        outcome: watch::Sender<Option<Outcome>>,
        terms: Arc<Terms>,
    ) -> Self {
        let seed = shared.context.random();
        let (interval, ceiling, refused) = terms.look(&shared, |options| {
            (options.reconnect_interval, options.reconnect_interval_max, options.refused_retry_interval)
        });
        Self {
            name: endpoint.to_string().into(),
            backoff: Backoff::new(interval, ceiling, seed),
            refused_backoff: Backoff::new(refused, Duration::ZERO, seed.rotate_left(32)),
            suspicious: 0,
            shared,
            number,
            endpoint,
            key,
            peer_name: Bytes::new(),
            stop,
            outcome,
            terms,
        }
    }

    /// Routes to whoever is at the endpoint by this name; empty leaves the choice to the peer
    pub(crate) fn naming_peers(self, peer_name: Bytes) -> Self {
        Self { peer_name, ..self }
    }

    /// Keeps the endpoint connected until it is stopped, refused for good, or must not be tried again
    pub(crate) async fn run(mut self) {
        let mut told: Option<Instant> = None;
        loop {
            let options = self.terms.stream_options(&self.shared);
            if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                self.terms.tell_of_end(&self.shared, &self.name);
                told = Some(Instant::now());
            }
            let dialled = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                dialled = tidings_transport::dial(&self.endpoint, &options) => dialled,
            };
            let wait = match dialled {
                Ok(stream) => self.converse(stream).await,
                Err(error) => self.handle_failure(&error),
            };
            let Some(wait) = wait else { break };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.shared.endpoints().dialed.retain(|dialed| dialed.number != self.number);
        // What is still queued is reported by close; without a close nobody is left to send it
        if let Some(key) = self.key
            && self.shared.phase() == Phase::Open
        {
            self.shared.with(|state| state.retire(key));
        }
        self.settle(Err(ConnectError::Closed));
    }

    /// One connection from beginning to end; the wait before the next, if there is to be one
    async fn converse(&mut self, stream: tidings_transport::Stream) -> Option<Duration> {
        let connection = ConnectionId::fresh();
        let peer = stream.peer_address();
        let address: Arc<str> = peer.to_string().into();
        self.shared.reporter.say(Some(connection), Some(&self.name), Some(&address), || EventKind::Connected);
        let arrival = Arrival {
            shared: self.shared.clone(),
            terms: self.terms.clone(),
            stream,
            dialled: true,
            key: self.key,
            peer_name: self.peer_name.clone(),
            endpoint: self.name.clone(),
            connection,
            address,
            peer,
            outcome: Some(self.outcome.clone()),
        };
        let mut driver = connection::Driver::new(arrival);
        let ended = driver.run(&self.stop).await;
        if ended.was_handshaken {
            self.backoff.reset();
        }
        let again = ended.again();
        self.suspicious = if again == Again::Slower { self.suspicious + 1 } else { 0 };
        let wait = match again {
            _ if self.must_end(&ended) => None,
            Again::Never => None,
            Again::Rarely => self.refused_backoff.next_wait(),
            // Doubling even where other waits don't
            Again::Slower => self.backoff.next_wait_up_to(self.refused_backoff.interval().unwrap_or(REFUSED)),
            Again::AsUsual => self.backoff.next_wait(),
        };
        driver.report(&ended, wait);
        let stopped = self.stop.is_cancelled() || self.shared.phase() != Phase::Open;
        if !ended.was_handshaken && !stopped {
            if ended.is_refusal() || self.suspicious >= SUSPICIOUS {
                let (endpoint, code, reason) = (self.endpoint.clone(), ended.why.code(), ended.detail());
                self.settle(Err(ConnectError::Refused { endpoint, code, reason }));
            } else if wait.is_none() {
                let (endpoint, reason, breaks_off) = (self.endpoint.clone(), ended.detail(), again == Again::Slower);
                self.settle(Err(ConnectError::GaveUp { endpoint, reason, breaks_off }));
            }
        }
        wait
    }

    fn must_end(&self, ended: &Ended) -> bool {
        let here = match &ended.why {
            Why::Socket(reason) => [SOCKET_CLOSED, CLOSED_HERE, TAKEN_OVER].contains(reason),
            Why::Protocol(_) | Why::Tls(_) => false,
        };
        let closing = self.shared.phase() != Phase::Open;
        let unsent = self.key.is_some_and(|key| self.shared.with(|state| state.has_unsent(key)));
        here || self.stop.is_cancelled() || (closing && !unsent)
    }

    fn handle_failure(&mut self, error: &DialError) -> Option<Duration> {
        let wait = self.backoff.next_wait();
        self.shared.say(&self.name, || EventKind::ConnectFailed { error: error.to_string(), retry_in_ms: in_ms(wait) });
        if wait.is_none() {
            let (endpoint, reason) = (self.endpoint.clone(), error.to_string());
            self.settle(Err(ConnectError::GaveUp { endpoint, reason, breaks_off: false }));
        }
        wait
    }

    /// Tells whoever awaits the connect, unless it was told before
    fn settle(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(outcome);
            }
            first
        });
    }
}

/// Broken off so often in a row, a handshake is taken for refused: whoever awaits the connect should not wait for ever.
/// Once may be a server that is just stopping.
const SUSPICIOUS: u32 = 3;
/// The default of `refused_retry_interval`, for when that is never
const REFUSED: Duration = Duration::from_secs(60);

/// The pipe of a connection-to-be, driven by nobody yet
pub(crate) fn idle() -> Driver {
    Driver::None
}

pub(crate) fn in_ms(wait: Option<Duration>) -> Option<u64> {
    wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}
