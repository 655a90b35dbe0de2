//! What the daemon knows about itself, as one snapshot for page, metrics and probes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings::{Socket, SocketStats};

use super::Parts;
use super::descriptors;
use super::forwarder::Forwarder;
use super::gossip::{GossipNode, GossipView};
use super::http::Page;
use super::keys::NodeKeys;
use super::lifecycle::{Counts, Lifecycle};
use super::services::{BrokerView, Services};

/// How far the daemon is
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum State {
    Starting = 0,
    Ready = 1,
    Draining = 2,
}

/// One place that listens
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub(super) name: &'static str,
    pub(super) endpoint: String,
    pub(super) purpose: &'static str,
}

/// A watched socket and its figures
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) name: &'static str,
    pub(super) stats: SocketStats,
}

/// Reloads so far
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reloads {
    pub(super) applied: u64,
    pub(super) refused: u64,
}

/// The daemon's state, shared between its parts
pub(super) struct Health {
    state: AtomicU8,
    started: jiff::Timestamp,
    lifecycle: Lifecycle,
    sockets: Mutex<Vec<(&'static str, Socket)>>,
    listening: Mutex<Vec<Listening>>,
    samples: Mutex<Samples>,
    applied: AtomicU64,
    refused: AtomicU64,
    keys: Mutex<Option<NodeKeys>>,
    broker: Mutex<Option<BrokerView>>,
    gossip: Mutex<Option<GossipView>>,
}

impl Health {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            state: AtomicU8::new(State::Starting as u8),
            started: jiff::Timestamp::now(),
            lifecycle,
            sockets: Mutex::default(),
            listening: Mutex::default(),
            samples: Mutex::default(),
            applied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            keys: Mutex::default(),
            broker: Mutex::default(),
            gossip: Mutex::default(),
        }
    }

    /// Includes the keystore in all figures
    pub(super) fn keeps(&self, keys: NodeKeys) {
        *lock(&self.keys) = Some(keys);
    }

    pub(super) fn keys(&self) -> Option<NodeKeys> {
        lock(&self.keys).clone()
    }

    /// Includes the broker in all figures
    pub(super) fn serves(&self, broker: BrokerView) {
        *lock(&self.broker) = Some(broker);
    }

    pub(super) fn broker(&self) -> Option<BrokerView> {
        lock(&self.broker).clone()
    }

    /// Includes the gossip node in all figures
    pub(super) fn gossips(&self, node: GossipView) {
        *lock(&self.gossip) = Some(node);
    }

    pub(super) fn gossip(&self) -> Option<GossipView> {
        lock(&self.gossip).clone()
    }

    pub(super) fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Ready,
            2 => State::Draining,
            _ => State::Starting,
        }
    }

    /// Includes a socket in all figures
    pub(super) fn watches(&self, name: &'static str, socket: Socket) {
        lock(&self.sockets).push((name, socket));
    }

    /// Notes where everything listens now
    pub(super) fn listens(&self, parts: &Parts, page: Option<&Page>) {
        let service = parts.services.iter().flat_map(Services::endpoints).map(|endpoint| Listening {
            name: "service",
            endpoint: endpoint.to_string(),
            purpose: "clients and workers connect here",
        });
        let events = parts.forwarder.iter().flat_map(Forwarder::listeners).map(|(name, endpoint)| Listening {
            name,
            endpoint: endpoint.to_string(),
            purpose: if name == "events.in" { "publishers connect here" } else { "subscribers connect here" },
        });
        let gossip = parts.gossip.iter().flat_map(GossipNode::endpoints).map(|endpoint| Listening {
            name: "gossip",
            endpoint: endpoint.to_string(),
            purpose: "nodes and `tidings gossip` connect here",
        });
        let page = page.map(|page| Listening {
            name: "http",
            endpoint: format!("http://{}", page.address()),
            purpose: "page, /healthz, /readyz, /metrics, /status.json",
        });
        *lock(&self.listening) = service.chain(events).chain(gossip).chain(page).collect();
    }

    pub(super) fn listeners(&self) -> Vec<Listening> {
        lock(&self.listening).clone()
    }

    pub(super) fn reloaded(&self, applied: bool) {
        let counter = if applied { &self.applied } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reloads(&self) -> Reloads {
        Reloads { applied: self.applied.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }

    pub(super) fn started(&self) -> jiff::Timestamp {
        self.started
    }

    pub(super) fn counts(&self) -> Counts {
        self.lifecycle.counts()
    }

    /// The figures of every watched socket
    pub(super) fn sockets(&self) -> Vec<Watched> {
        let sockets = lock(&self.sockets).clone();
        sockets.into_iter().map(|(name, socket)| Watched { name, stats: socket.stats() }).collect()
    }

    /// Takes a sample of the totals, from which rates come
    pub(super) fn sample(&self) {
        let totals = Totals::of(&self.sockets());
        lock(&self.samples).push(Instant::now(), totals);
    }

    /// Everything, for `/status.json`; its size is bounded whatever the number of peers
    pub(super) async fn status(&self) -> Value {
        let broker = self.broker();
        let stored = match &broker {
            Some(broker) => broker.stored().await,
            None => None,
        };
        let sockets = self.sockets();
        let totals = Totals::of(&sockets);
        let counts = self.counts();
        let uptime = jiff::Timestamp::now().duration_since(self.started);
        let listeners: Vec<Value> = self
            .listeners()
            .iter()
            .map(
                |listener| json!({ "name": listener.name, "endpoint": listener.endpoint, "purpose": listener.purpose }),
            )
            .collect();
        let reloads = self.reloads();
        let (rates, history) = {
            let samples = lock(&self.samples);
            (samples.rates(), samples.history())
        };
        json!({
            "name": "tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "state": match self.state() {
                State::Starting => "starting",
                State::Ready => "ready",
                State::Draining => "draining",
            },
            "started": format!("{:.3}", self.started),
            "uptime_seconds": uptime.as_secs(),
            "listeners": listeners,
            "totals": totals.to_json(),
            "rates": rates,
            "history": history,
            "sockets": sockets.iter().map(socket_json).collect::<Vec<_>>(),
            "events": counts.events,
            "handshake_failures": counts.handshake_failures,
            "disconnects": counts.disconnects,
            "reloads": { "applied": reloads.applied, "refused": reloads.refused },
            "keys": self.keys().map(|keys| json!({
                "keystore": keys.status(), "admitted": keys.admitted(), "refused": keys.refused(),
            })),
            "services": broker.map(|broker| broker.to_json()),
            "gossip": self.gossip().map(|gossip| gossip.to_json()),
            "durable": stored.map(|stored| stored.to_json()),
            "descriptors": { "open": descriptors::open(), "limit": descriptors::limit() },
            "resident_octets": descriptors::resident_octets(),
        })
    }
}

/// Samples the totals once a second, for as long as the daemon runs
pub(super) async fn sample_forever(health: Arc<Health>) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        health.sample();
    }
}

/// What went through the daemon: messages in at one side, out at the other
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    received: u64,
    received_octets: u64,
    sent: u64,
    sent_octets: u64,
    dropped: u64,
}

impl Totals {
    fn of(sockets: &[Watched]) -> Self {
        let mut totals = Self::default();
        for Watched { name, stats } in sockets {
            totals.dropped += stats.dropped;
            // The other direction of events carries subscriptions, which nobody takes for messages
            match *name {
                "events.in" => totals.take_in(stats),
                "events.out" => totals.give_out(stats),
                _ => {
                    totals.take_in(stats);
                    totals.give_out(stats);
                }
            }
        }
        totals
    }

    fn take_in(&mut self, stats: &SocketStats) {
        self.received += stats.received;
        self.received_octets += stats.received_octets;
    }

    fn give_out(&mut self, stats: &SocketStats) {
        self.sent += stats.sent;
        self.sent_octets += stats.sent_octets;
    }

    fn to_json(self) -> Value {
        json!({
            "received": self.received, "received_octets": self.received_octets,
            "sent": self.sent, "sent_octets": self.sent_octets, "dropped": self.dropped,
        })
    }

    /// Messages per second since `earlier`: in, out, dropped
    fn per_second(self, earlier: Self, seconds: f64) -> [f64; 3] {
        // A total falls when a socket goes; a rate below zero would say nothing
        let rate = |now: u64, then: u64| ((now.saturating_sub(then)) as f64 / seconds * 10.0).round() / 10.0;
        [rate(self.received, earlier.received), rate(self.sent, earlier.sent), rate(self.dropped, earlier.dropped)]
    }
}

/// The last minutes of totals, in constant memory
#[derive(Debug, Default)]
struct Samples {
    ring: VecDeque<(Instant, Totals)>,
}

impl Samples {
    fn push(&mut self, at: Instant, totals: Totals) {
        if self.ring.len() == SAMPLES {
            self.ring.pop_front();
        }
        self.ring.push_back((at, totals));
    }

    /// Rates over the last ten samples, or as many as there are
    fn rates(&self) -> Value {
        let rates = self.ring.back().and_then(|(now, totals)| {
            let (then, earlier) = self.ring.iter().rev().nth(RATE_SAMPLES).or_else(|| self.ring.front())?;
            let seconds = now.duration_since(*then).as_secs_f64();
            (seconds > 0.0).then(|| (seconds, totals.per_second(*earlier, seconds)))
        });
        let (seconds, [received, sent, dropped]) = rates.unwrap_or_default();
        json!({
            "over_seconds": seconds.round(),
            "received_per_second": received, "sent_per_second": sent, "dropped_per_second": dropped,
        })
    }

    /// Rates between each two neighbours, oldest first
    fn history(&self) -> Value {
        let mut series: [Vec<f64>; 3] = Default::default();
        for ((then, earlier), (now, totals)) in self.ring.iter().zip(self.ring.iter().skip(1)) {
            let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
            for (series, rate) in series.iter_mut().zip(totals.per_second(*earlier, seconds)) {
                series.push(rate);
            }
        }
        let [received, sent, dropped] = series;
        json!({ "every_seconds": SAMPLE_EVERY.as_secs(), "received": received, "sent": sent, "dropped": dropped })
    }
}

fn socket_json(Watched { name, stats }: &Watched) -> Value {
    let mut peers: Vec<_> = stats.peers.iter().collect();
    // Whoever lags or loses is what the reader looks for
    peers.sort_by_key(|peer| std::cmp::Reverse((peer.queued_out, peer.dropped)));
    let shown: Vec<Value> = peers
        .iter()
        .take(PEERS_SHOWN)
        .map(|peer| {
            json!({
                "connection": peer.connection, "endpoint": peer.endpoint, "address": peer.address,
                "routing_id": peer.routing_id, "connected": peer.connected,
                "queued_out": peer.queued_out, "queued_out_octets": peer.queued_out_octets,
                "queued_in": peer.queued_in, "queued_in_octets": peer.queued_in_octets,
                "sent": peer.sent, "received": peer.received,
                "sent_octets": peer.sent_octets, "received_octets": peer.received_octets,
                "dropped": peer.dropped, "subscriptions": peer.subscriptions,
            })
        })
        .collect();
    json!({
        "name": name, "type": stats.socket_type, "bound": stats.bound,
        "sent": stats.sent, "received": stats.received, "dropped": stats.dropped, "unrouted": stats.unrouted,
        "closes": stats.closes, "accept_paused": stats.accept_paused,
        "peer_count": stats.peers.len(), "peers": shown, "peers_left_out": stats.peers.len().saturating_sub(PEERS_SHOWN),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Two minutes and a bit of history
const SAMPLES: usize = 128;

/// Samples that a rate looks back: long enough to read, short enough to follow
const RATE_SAMPLES: usize = 10;

/// Most peers listed per socket, those with the longest queues first
const PEERS_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn received(received: u64) -> Totals {
        Totals { received, ..Totals::default() }
    }

    #[test]
    fn rates_look_back_over_the_last_samples() {
        let start = Instant::now();
        let mut samples = Samples::default();
        assert_eq!(samples.rates()["received_per_second"], 0.0);
        for second in 0..=20_u64 {
            // Nothing for ten seconds, then 50 a second
            samples.push(start + Duration::from_secs(second), received(second.saturating_sub(10) * 50));
        }
        assert_eq!(samples.rates()["received_per_second"], 50.0);
        assert_eq!(samples.history()["received"].as_array().unwrap().len(), 20);
    }

    #[test]
    fn the_memory_of_samples_is_constant() {
        let mut samples = Samples::default();
        for n in 0..1000 {
            samples.push(Instant::now(), received(n));
        }
        assert_eq!(samples.ring.len(), SAMPLES);
    }
}
