//! What a broker tells goes to the log, but not faster than people read.

use std::time::{Duration, Instant};

use super::Peers;
use crate::broker::{BrokerEvent, Departure, PeerKey, WorkerAt};

/// Lets so many lines of a kind through in a second, and says how many it kept back
#[derive(Debug, Default)]
pub(super) struct Log {
    since: Option<Instant>,
    lines: u32,
    kept_back: u64,
}

impl Log {
    pub(super) fn tell(&mut self, now: Instant, event: &BrokerEvent, peers: &Peers) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            if self.kept_back > 0 {
                tracing::warn!(lines = self.kept_back, "more happened at the broker than is logged; see the counters");
            }
            *self = Self { since: Some(now), ..Self::default() };
        }
        if self.lines >= LINES {
            self.kept_back += 1;
            return;
        }
        self.lines += 1;
        write(event, peers);
    }
}

fn write(event: &BrokerEvent, peers: &Peers) {
    let address = |peer: PeerKey| peers.origin(peer).map_or_else(|| "gone".into(), |origin| origin.address.clone());
    let place = |worker: &WorkerAt| match worker {
        WorkerAt::Peer(peer) => address(*peer),
        WorkerAt::Local(_) => "local".into(),
    };
    let client = |client: &Option<PeerKey>| client.map_or_else(|| "local".into(), address);
    match event {
        BrokerEvent::WorkerReady { worker, service, concurrency, wire } => {
            let wire = wire.map_or("local", |wire| wire.name());
            tracing::info!(worker = %place(worker), %service, concurrency, wire, "worker ready");
        }
        BrokerEvent::WorkerLeft { worker, service, why, unanswered } => {
            let (worker, why, is_fine) = (place(worker), why.name(), *unanswered == 0 && !is_misbehaviour(*why));
            match is_fine {
                true => tracing::info!(%worker, %service, why, "worker left"),
                false => tracing::warn!(%worker, %service, why, unanswered, "worker left"),
            }
        }
        BrokerEvent::WorkerTurnedAway { peer, service, why } => {
            tracing::warn!(worker = %address(*peer), %service, why = why.name(), "worker turned away");
        }
        BrokerEvent::ServiceUp { service } => tracing::info!(%service, "service up"),
        BrokerEvent::ServiceDown { service, waiting: 0 } => tracing::info!(%service, "service down"),
        BrokerEvent::ServiceDown { service, waiting } => tracing::warn!(%service, waiting, "service down"),
        BrokerEvent::ServiceDrained { service } => tracing::info!(%service, "service drained"),
        BrokerEvent::RequestRefused { client: of, service, status, why, is_told } => {
            let (client, status, why) = (client(of), status.code(), why.name());
            tracing::debug!(%client, %service, status, why, is_told, "request refused");
        }
        BrokerEvent::RequestExpired { client: of, service, was_running, is_told } => {
            tracing::debug!(client = %client(of), %service, was_running, is_told, "request expired");
        }
        BrokerEvent::RequestRetried { service, attempts } => {
            tracing::info!(%service, attempts, "request given to another worker");
        }
        BrokerEvent::MalformedMessage { peer, cause } => {
            tracing::warn!(peer = %address(*peer), cause = cause.name(), "malformed message: {cause}");
        }
        BrokerEvent::SlowClient { peer } => {
            tracing::warn!(client = %address(*peer), "a client that doesn't read its replies was disconnected");
        }
        BrokerEvent::Stranger { peer } => {
            tracing::warn!(peer = %address(*peer), "a worker that never said READY was disconnected");
        }
    }
}

fn is_misbehaviour(why: Departure) -> bool {
    matches!(why, Departure::ReadyTwice | Departure::ReplyUnknown | Departure::Malformed | Departure::Reserved)
}

const PERIOD: Duration = Duration::from_secs(1);
const LINES: u32 = 100;
