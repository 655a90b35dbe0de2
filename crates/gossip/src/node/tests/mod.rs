//! Nodes on a simulated network, and one by itself with a peer that a test plays.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tidings_zmtp::Message;

use super::*;
use crate::config::Side;
use crate::record::{Incarnation, Lifetime};
use crate::simulation::{Latency, LinkModel, Network, PartyId, Setup, Topology, Traffic};

mod blocked;
mod hostile;
mod presence;
mod repairing;
mod spreading;

/// A network of that shape whose links take 1 ms and lose nothing, some seconds after its start
fn settled(nodes: usize, topology: Topology, node: NodeConfig) -> Network {
    lossy(nodes, topology, node, 0.0)
}

fn lossy(nodes: usize, topology: Topology, node: NodeConfig, loss: f64) -> Network {
    seeded(nodes, topology, node, loss, 7)
}

fn seeded(nodes: usize, topology: Topology, node: NodeConfig, loss: f64, seed: u64) -> Network {
    let link = LinkModel { latency: Latency::Fixed(Duration::from_millis(1)), loss, ..LinkModel::default() };
    let presence = Some(node.presence);
    let setup = Setup { link, node, presence, ..Setup::new(nodes, topology, seed) };
    let mut network = setup.network();
    network.run_for(secs(15));
    agree(&mut network, secs(60));
    network
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass until all agree, and says how long that took
fn agree(network: &mut Network, limit: Duration) -> Duration {
    let start = network.now();
    let has_agreed = network.run_while(limit, millis(1), |network| !network.agrees());
    assert!(has_agreed, "no agreement in {limit:?}: {}", network.agreement());
    for (party, node) in network.nodes() {
        node.check().unwrap_or_else(|wrong| panic!("{party:?}: {wrong}"));
    }
    network.now() - start
}

fn put(network: &mut Network, party: usize, key: &'static str, value: &'static str) {
    network.put(PartyId(party), key, value, Lifetime::Permanent).unwrap();
}

fn get(network: &Network, party: usize, key: &str) -> Option<Bytes> {
    let now = network.local_now(PartyId(party));
    network.node(PartyId(party)).unwrap().get(now, key.as_bytes()).map(|tuple| tuple.value)
}

/// How many messages and octets of a kind were sent since
fn since(network: &Network, before: &Traffic, kind: &str) -> (u64, u64) {
    let count = network.traffic().of(kind) - before.of(kind);
    (count.messages, count.octets)
}

/// A node whose peers are the test's
struct Stage {
    node: Node,
    now: Instant,
    sent: Vec<(LinkId, Bytes)>,
}

const OWN: Identity = Identity { id: NodeId(1), incarnation: Incarnation(1_000_000) };

impl Stage {
    fn new(config: NodeConfig) -> Self {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(OWN.incarnation.0);
        Self { node: Node::new(config, OWN, 5, now, wall), now, sent: Vec::new() }
    }

    /// A link to a leaf from number 100 on
    fn link(&mut self, number: u64) -> LinkId {
        let info = LinkInfo {
            side: Side::Server,
            wire: Wire::Tidings,
            endpoint: format!("inproc://{number}"),
            key: None,
            explicit: true,
            is_leaf: number >= 100,
        };
        let link = LinkId(number);
        self.node.handle_link_up(self.now, link, info);
        self.collect();
        link
    }

    /// A link to a peer that has said HELLO
    fn peer(&mut self, number: u64) -> LinkId {
        let link = self.link(number);
        self.hear(link, hello_of(NodeId(number)));
        link
    }

    fn hear(&mut self, link: LinkId, frame: Bytes) {
        self.node.handle_message(self.now, link, Message::from(frame));
        self.collect();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.node.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.node.handle_timeout(self.now);
            self.collect();
            assert!(self.node.poll_timeout().is_none_or(|next| next > self.now), "time stands still");
        }
        self.now = end;
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(Transmit { link, frame }) = self.node.poll_transmit() {
            self.sent.push((link, frame));
        }
        self.node.check().unwrap();
    }

    /// What was sent on a link since this was asked
    fn take(&mut self, link: LinkId) -> Vec<Bytes> {
        self.collect();
        let (of_link, others) = std::mem::take(&mut self.sent).into_iter().partition(|(id, _)| *id == link);
        self.sent = others;
        of_link.into_iter().map(|(_, frame)| frame).collect()
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> Written {
        self.node.put(self.now, key, value, Lifetime::Permanent).unwrap()
    }

    fn refused(&self, cause: Refusal) -> u64 {
        self.node.stats().refusals.count(cause)
    }

    fn hang_ups(&mut self) -> Vec<HangUp> {
        let actions = std::iter::from_fn(|| self.node.poll_action());
        actions
            .filter_map(|action| if let Action::HangUp { reason, .. } = action { Some(reason) } else { None })
            .collect()
    }
}

fn hello_of(id: NodeId) -> Bytes {
    tidings::hello(&tidings::Hello {
        id,
        incarnation: Incarnation(900_000),
        has_yours: true,
        name: String::new(),
        endpoints: Vec::new(),
        digest: tidings::Digest { wants_active: true, ..tidings::Digest::default() },
    })
}

/// Frames of one kind
fn of_kind(frames: &[Bytes], number: u8) -> Vec<&Bytes> {
    frames.iter().filter(|frame| frame.get(2) == Some(&number)).collect()
}
