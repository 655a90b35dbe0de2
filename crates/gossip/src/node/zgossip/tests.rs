//! Our nodes among CZMQ's, as the fact sheet describes those, on a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::*;
use crate::config::{Identity, LinkInfo, NodeConfig, Wire};
use crate::event::Event;
use crate::record::{Incarnation, NodeId};
use crate::wire::zgossip::{INVALID_FRAME, PING_FRAME, PONG_FRAME, decode_frame};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A node of CZMQ, as sections 2 to 4 of the sheet have it; malformed frames are the end of it
struct Czmq {
    tuples: BTreeMap<Bytes, Bytes>,
    timeout: Duration,
    clients: BTreeMap<LinkId, (bool, Instant)>,
    remotes: BTreeSet<LinkId>,
    delivers: usize,
    invalids: usize,
    outputs: Vec<(LinkId, ZgossipMessage)>,
}

impl Czmq {
    fn new(timeout: Duration) -> Self {
        Self {
            tuples: BTreeMap::new(),
            timeout,
            clients: BTreeMap::new(),
            remotes: BTreeSet::new(),
            delivers: 0,
            invalids: 0,
            outputs: Vec::new(),
        }
    }

    fn connect(&mut self, link: LinkId) {
        self.remotes.insert(link);
        self.outputs.push((link, ZgossipMessage::Hello));
        self.send_all(link);
    }

    fn send_all(&mut self, link: LinkId) {
        for (key, value) in &self.tuples {
            self.outputs.push((link, publish(key, value)));
        }
    }

    fn accept(&mut self, now: Instant, key: &Bytes, value: &Bytes) {
        if self.tuples.get(key) == Some(value) {
            return;
        }
        self.tuples.insert(key.clone(), value.clone());
        self.delivers += 1;
        self.expire(now);
        for (link, (is_connected, _)) in std::mem::take(&mut self.clients) {
            let message = if is_connected { publish(key, value) } else { ZgossipMessage::Invalid };
            self.outputs.push((link, message));
            if is_connected {
                self.clients.insert(link, (true, now));
            }
        }
        for link in &self.remotes {
            self.outputs.push((*link, publish(key, value)));
        }
    }

    fn expire(&mut self, now: Instant) {
        let timeout = self.timeout;
        self.clients.retain(|_, (_, heard)| now.duration_since(*heard) < timeout);
    }

    fn handle(&mut self, now: Instant, link: LinkId, frame: &Bytes) {
        let message = decode_frame(frame).expect("a CZMQ node would have stopped");
        self.expire(now);
        if self.remotes.contains(&link) {
            match message {
                ZgossipMessage::Publish { key, value, .. } => self.accept(now, &key, &value),
                ZgossipMessage::Invalid => self.outputs.push((link, ZgossipMessage::Hello)),
                _ => {}
            }
            return;
        }
        let is_connected = self.clients.entry(link).or_insert((false, now)).0;
        self.clients.insert(link, (is_connected, now));
        match message {
            ZgossipMessage::Hello if !is_connected => {
                self.clients.insert(link, (true, now));
                self.send_all(link);
            }
            ZgossipMessage::Ping => self.outputs.push((link, ZgossipMessage::Pong)),
            ZgossipMessage::Publish { key, value, .. } if is_connected => self.accept(now, &key, &value),
            _ => {
                self.invalids += 1;
                self.clients.remove(&link);
                self.outputs.push((link, ZgossipMessage::Invalid));
            }
        }
    }
}

fn publish(key: &[u8], value: &[u8]) -> ZgossipMessage {
    ZgossipMessage::Publish { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value), ttl: 0 }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Ours are 0, 1, …; theirs are 100, 101, …
struct Net {
    now: Instant,
    start: Instant,
    ours: BTreeMap<usize, Node>,
    theirs: BTreeMap<usize, Czmq>,
    events: BTreeMap<usize, Vec<Event>>,
    /// Client and server
    links: BTreeMap<LinkId, (usize, usize)>,
    under_way: BTreeMap<(Instant, u64), (LinkId, usize, Bytes)>,
    sent: u64,
    next_link: u64,
    /// Of links that aren't as quick as others
    delays: BTreeMap<LinkId, Duration>,
}

impl Net {
    fn new(ours: usize, theirs: usize) -> Self {
        Self::with(&NodeConfig::default(), ours, theirs, 1000 * MS)
    }

    fn with(config: &NodeConfig, ours: usize, theirs: usize, timeout: Duration) -> Self {
        let now = Instant::now();
        let node = |number: usize| {
            let identity = Identity { id: NodeId(number as u64 + 1), incarnation: Incarnation(1) };
            Node::new(config.clone(), identity, number as u64, now, SystemTime::now())
        };
        Self {
            now,
            start: now,
            ours: (0..ours).map(|number| (number, node(number))).collect(),
            theirs: (100..100 + theirs).map(|number| (number, Czmq::new(timeout))).collect(),
            events: BTreeMap::new(),
            links: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            next_link: 1,
            delays: BTreeMap::new(),
        }
    }

    fn connect(&mut self, client: usize, server: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (client, server));
        let wire = if client < 100 && server < 100 { Wire::Tidings } else { Wire::ZGossip };
        for (end, side) in [(server, Side::Server), (client, Side::Remote)] {
            let endpoint = format!("inproc://{}", if end == client { server } else { client });
            if let Some(node) = self.ours.get_mut(&end) {
                node.handle_link_up(
                    self.now,
                    link,
                    LinkInfo { side, wire, endpoint, key: None, explicit: true, is_leaf: false },
                );
            }
        }
        if let Some(czmq) = self.theirs.get_mut(&client) {
            czmq.connect(link);
        }
        self.collect();
        link
    }

    fn cut(&mut self, link: LinkId) {
        let (client, server) = self.links.remove(&link).unwrap();
        for end in [client, server] {
            if let Some(node) = self.ours.get_mut(&end) {
                node.handle_link_down(self.now, link, "cut");
            }
            if let Some(czmq) = self.theirs.get_mut(&end) {
                czmq.remotes.remove(&link);
                czmq.clients.remove(&link);
            }
        }
        self.under_way.retain(|_, (of, ..)| *of != link);
        self.collect();
    }

    fn put(&mut self, end: usize, key: &str, value: &str) {
        let (key, value) = (bytes(key), bytes(value));
        match self.ours.get_mut(&end) {
            Some(node) => drop(node.put(self.now, key, value, Lifetime::Permanent).unwrap()),
            None => self.theirs.get_mut(&end).unwrap().accept(self.now, &key, &value),
        }
        self.collect();
    }

    fn value(&self, end: usize, key: &str) -> Option<Bytes> {
        match self.ours.get(&end) {
            Some(node) => node.get(self.now, key.as_bytes()).map(|tuple| tuple.value),
            None => self.theirs[&end].tuples.get(key.as_bytes()).cloned(),
        }
    }

    #[track_caller]
    fn assert_all(&self, key: &str, value: &str) {
        for end in self.ours.keys().chain(self.theirs.keys()) {
            assert_eq!(self.value(*end, key).as_deref(), Some(value.as_bytes()), "node {end}");
        }
    }

    fn collect(&mut self) {
        let mut frames = Vec::new();
        for (number, node) in &mut self.ours {
            while let Some(transmit) = node.poll_transmit() {
                frames.push((transmit.link, *number, transmit.frame));
            }
            self.events.entry(*number).or_default().extend(std::iter::from_fn(|| node.poll_event()));
        }
        for (number, czmq) in &mut self.theirs {
            for (link, message) in czmq.outputs.drain(..) {
                frames.push((link, *number, encode(&message).unwrap()));
            }
        }
        for (link, from, frame) in frames {
            let Some((client, server)) = self.links.get(&link) else { continue };
            let to = if *client == from { *server } else { *client };
            self.sent += 1;
            let delay = self.delays.get(&link).copied().unwrap_or(MS);
            self.under_way.insert((self.now + delay, self.sent), (link, to, frame));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let message = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let timer = self.ours.iter().filter_map(|(number, node)| Some((node.poll_timeout()?, *number))).min();
            let Some(next) = message.into_iter().chain(timer.map(|(at, _)| at)).min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if message == Some(next) {
                let (_, (link, to, frame)) = self.under_way.pop_first().unwrap();
                match self.ours.get_mut(&to) {
                    Some(node) => node.handle_message(self.now, link, Message::from(frame)),
                    None => self.theirs.get_mut(&to).unwrap().handle(self.now, link, &frame),
                }
            } else if let Some((_, number)) = timer {
                self.ours.get_mut(&number).unwrap().handle_timeout(self.now);
            }
            self.collect();
        }
    }

    fn count(&self, node: usize, is_meant: impl Fn(&Event) -> bool) -> usize {
        self.events.get(&node).map_or(0, |events| events.iter().filter(|event| is_meant(event)).count())
    }

    fn refused(&self, node: usize, cause: Refusal) -> u64 {
        self.ours[&node].stats().refusals.count(cause)
    }
}

/// One of ours, and what a test sends it and gets from it by hand
struct Bench {
    node: Node,
    now: Instant,
}

impl Bench {
    fn new(config: NodeConfig) -> Self {
        let now = Instant::now();
        let identity = Identity { id: NodeId(1), incarnation: Incarnation(1) };
        Self { node: Node::new(config, identity, 1, now, SystemTime::now()), now }
    }

    fn link(&mut self, link: u64, side: Side) -> Vec<Bytes> {
        let endpoint = "tcp://127.0.0.1:1".to_owned();
        let info = LinkInfo { side, wire: Wire::ZGossip, endpoint, key: None, explicit: true, is_leaf: false };
        self.node.handle_link_up(self.now, LinkId(link), info);
        self.sent(link)
    }

    fn put(&mut self, key: &str, value: &str) {
        self.node.put(self.now, bytes(key), bytes(value), Lifetime::Permanent).unwrap();
    }

    fn hear(&mut self, link: u64, message: impl Into<Message>) -> Vec<Bytes> {
        self.node.handle_message(self.now, LinkId(link), message.into());
        self.sent(link)
    }

    fn publish(&mut self, link: u64, key: &str, value: &str) -> Vec<Bytes> {
        self.hear(link, encode(&publish(key.as_bytes(), value.as_bytes())).unwrap())
    }

    /// What is sent on a link; other links' frames are lost
    fn sent(&mut self, link: u64) -> Vec<Bytes> {
        let transmits = std::iter::from_fn(|| self.node.poll_transmit());
        transmits.filter(|transmit| transmit.link == LinkId(link)).map(|transmit| transmit.frame).collect()
    }

    fn value(&self, key: &str) -> Option<Bytes> {
        self.node.get(self.now, key.as_bytes()).map(|tuple| tuple.value)
    }

    fn refused(&self, cause: Refusal) -> u64 {
        self.node.stats().refusals.count(cause)
    }
}

fn frame_of(key: &str, value: &str) -> Bytes {
    encode(&publish(key.as_bytes(), value.as_bytes())).unwrap()
}

#[test]
fn a_client_gets_everything_at_hello_and_news_after_it() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.put("a", "1");
    bench.put("b", "2");
    assert!(bench.link(7, Side::Server).is_empty(), "a server waits");
    bench.put("c", "3");
    assert!(bench.sent(7).is_empty(), "who said nothing is no client");
    assert_eq!(bench.hear(7, HELLO_FRAME), [frame_of("a", "1"), frame_of("b", "2"), frame_of("c", "3")]);
    bench.put("b", "4");
    assert_eq!(bench.sent(7), [frame_of("b", "4")]);
    assert_eq!(bench.hear(7, PING_FRAME), [PONG_FRAME]);
    assert!(bench.publish(7, "d", "5").is_empty(), "what a peer sent isn't sent back");
    assert_eq!(bench.value("d"), Some(bytes("5")));
    assert_eq!(bench.hear(7, HELLO_FRAME), [INVALID_FRAME]);
    assert_eq!(bench.hear(7, HELLO_FRAME).len(), 4, "and then everything again");
}

#[test]
fn whoever_did_not_say_hello_gets_invalid_for_news() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.link(7, Side::Server);
    assert_eq!(bench.hear(7, PING_FRAME), [PONG_FRAME]);
    bench.put("a", "1");
    assert_eq!(bench.sent(7), [INVALID_FRAME]);
    bench.put("a", "2");
    assert!(bench.sent(7).is_empty());
    assert_eq!(bench.publish(7, "b", "1"), [INVALID_FRAME]);
    assert_eq!(bench.value("b"), None);
    assert_eq!(bench.hear(7, HELLO_FRAME), [frame_of("a", "2")]);
}

#[test]
fn a_server_is_greeted_and_given_our_tuples() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.put("a", "1");
    assert_eq!(bench.link(7, Side::Remote), [HELLO_FRAME, frame_of("a", "1")]);
    assert!(bench.publish(7, "a", "1").is_empty(), "an echo");
    bench.publish(7, "b", "2");
    assert_eq!(bench.value("b"), Some(bytes("2")));
    bench.put("c", "3");
    assert_eq!(bench.sent(7), [frame_of("c", "3")]);
    // It may not have got c; a it has said to have
    assert_eq!(bench.hear(7, INVALID_FRAME), [HELLO_FRAME, PING_FRAME, frame_of("c", "3")]);
    assert!(bench.hear(7, PONG_FRAME).is_empty());
}

#[test]
fn malformed_frames_get_invalid_and_the_node_goes_on() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.link(7, Side::Server);
    bench.link(8, Side::Server);
    bench.hear(8, HELLO_FRAME);
    let frames: [&[u8]; 8] = [
        b"\xaa\xa1\x01\x01",
        b"",
        b"\xaa",
        b"\xaa\xa0\x06\x01",
        b"\xaa\xa0\x01\x02",
        b"\xaa\xa0\x02\x01\x05k",
        b"\xaa\xa0\x02\x01\x01k\xff\xff\xff\xffv\0\0\0\0",
        b"\xaa\xa0\x02\x01\x01k\0\0\0\x01v\0",
    ];
    for frame in frames {
        bench.hear(7, HELLO_FRAME);
        assert_eq!(bench.hear(7, Bytes::from_static(frame)), [INVALID_FRAME], "{frame:x?}");
    }
    bench.hear(7, HELLO_FRAME);
    assert_eq!(bench.hear(7, Message::multipart([PING_FRAME, Bytes::from_static(b"more")])), [INVALID_FRAME]);
    assert_eq!(bench.hear(7, PING_FRAME), [PONG_FRAME]);
    bench.put("a", "1");
    assert_eq!(bench.sent(8), [frame_of("a", "1")], "others don't notice");
    let stats = bench.node.stats();
    let causes = [Refusal::Signature, Refusal::Frames, Refusal::UnknownMessage, Refusal::Version, Refusal::Malformed];
    assert_eq!(causes.map(|cause| stats.refusals.count(cause)), [1, 2, 1, 1, 4]);
}

#[test]
fn a_server_that_sends_rubbish_is_hung_up_on() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.link(7, Side::Remote);
    for _ in 0..8 {
        assert!(bench.hear(7, Bytes::from_static(b"\xaa\xa1\x01\x01")).is_empty(), "a client never says INVALID");
    }
    let action = bench.node.poll_action();
    assert_eq!(action, Some(super::super::Action::HangUp { link: LinkId(7), reason: HangUp::Malformed }));
}

#[test]
fn a_slow_peer_costs_no_memory_and_gets_the_latest() {
    let mut bench = Bench::new(NodeConfig::default());
    for key in 0..1000 {
        bench.put(&format!("key {key:04}"), &"v".repeat(1000));
    }
    bench.link(7, Side::Server);
    bench.node.handle_message(bench.now, LinkId(7), HELLO_FRAME.into());
    let first = bench.node.poll_transmit().unwrap();
    bench.node.handle_unsent(bench.now, LinkId(7), first.frame);
    assert!(bench.sent(7).is_empty());
    for change in 0..1000 {
        bench.put("key 0999", &change.to_string());
        bench.put("key 0000", &change.to_string());
    }
    assert!(bench.sent(7).is_empty());
    let backlog: usize = bench.node.links[&LinkId(7)].backlog.iter().map(Bytes::len).sum();
    assert!(backlog < 2 * TURN_OCTETS, "{backlog}");
    assert!(bench.node.zgossip.peers[&LinkId(7)].dirty.len() <= 2);
    bench.node.handle_writable(bench.now, LinkId(7));
    let frames = bench.sent(7);
    assert_eq!(frames.len(), 1001, "each key once, and what was sent already again");
    assert!(frames.contains(&frame_of("key 0999", "999")) && frames.contains(&frame_of("key 0000", "999")));
}

#[test]
fn a_time_to_live_is_carried_and_refreshed() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.link(7, Side::Server);
    bench.hear(7, HELLO_FRAME);
    let ttl_of = |frames: Vec<Bytes>| -> Vec<u32> {
        let ttl = |frame: &Bytes| match decode_frame(frame) {
            Ok(ZgossipMessage::Publish { ttl, .. }) => ttl,
            other => panic!("{other:?}"),
        };
        frames.iter().map(ttl).collect()
    };
    let lifetime = Lifetime::Ttl(10 * S);
    bench.node.put(bench.now, "k", "v", lifetime).unwrap();
    assert_eq!(ttl_of(bench.sent(7)), [10_000]);
    bench.now += 4 * S;
    bench.link(8, Side::Server);
    assert_eq!(ttl_of(bench.hear(8, HELLO_FRAME)), [6_000]);
    bench.node.put(bench.now, "k", "v", lifetime).unwrap();
    assert_eq!(ttl_of(bench.sent(7)), [10_000]);
    bench.node.put(bench.now, "s", "v", Lifetime::Session).unwrap();
    assert_eq!(ttl_of(bench.sent(7)), [30_000]);
}

#[test]
fn what_a_peer_brings_in_is_bounded() {
    let mut config = NodeConfig::default();
    (config.quotas.max_tuples_per_owner, config.quotas.max_octets_per_owner) = (10, 1300);
    config.quotas.max_value = 900;
    let mut bench = Bench::new(config);
    bench.link(7, Side::Server);
    bench.hear(7, HELLO_FRAME);
    for key in 0..20 {
        bench.publish(7, &format!("{key:02}"), "v");
    }
    assert_eq!((bench.node.len(), bench.refused(Refusal::KeyQuota)), (8, 12), "a quarter is left for what is put here");
    bench.publish(7, "00", &"v".repeat(901));
    assert_eq!(bench.refused(Refusal::Oversized), 1);
    bench.publish(7, "00", &"v".repeat(900));
    bench.publish(7, "01", &"v".repeat(900));
    assert_eq!(bench.refused(Refusal::OctetQuota), 1);
    bench.publish(7, "$tidings/node/0000000000000001", "{}");
    assert_eq!(bench.refused(Refusal::ReservedKey), 1);
    bench.node.remove(bench.now, b"05").unwrap();
    bench.publish(7, "new", "v");
    assert_eq!(bench.value("new"), Some(bytes("v")), "what is gone makes room");
}

#[test]
fn what_czmq_would_garble_is_withheld() {
    let mut bench = Bench::new(NodeConfig::default());
    bench.link(7, Side::Server);
    bench.hear(7, HELLO_FRAME);
    bench.put("a\0b", "1");
    bench.put("c", "1\0");
    bench.put("d", "1");
    assert_eq!(bench.sent(7), [frame_of("d", "1")]);
    assert_eq!(bench.node.zgossip_withheld(), 2);
}

#[test]
fn tuples_go_both_ways_between_a_client_of_ours_and_czmqs_server() {
    let mut net = Net::new(1, 1);
    net.put(100, "theirs", "1");
    net.put(0, "ours", "1");
    net.connect(0, 100);
    net.run(S);
    net.assert_all("theirs", "1");
    net.assert_all("ours", "1");
    // An idle hour: CZMQ forgets its clients after a second
    net.run(3600 * S);
    net.put(100, "theirs", "2");
    net.put(0, "ours", "2");
    net.run(10 * MS);
    net.assert_all("theirs", "2");
    net.assert_all("ours", "2");
    assert_eq!(net.theirs[&100].invalids, 0);
}

#[test]
fn a_server_with_a_short_timeout_is_found_out_and_nothing_is_lost() {
    let mut net = Net::with(&NodeConfig::default(), 1, 1, 100 * MS);
    net.connect(0, 100);
    for round in 0..20 {
        net.run(5 * S);
        net.put(100, "theirs", &round.to_string());
        net.run(5 * S);
        net.put(0, "ours", &round.to_string());
        net.run(100 * MS);
        net.assert_all("theirs", &round.to_string());
        net.assert_all("ours", &round.to_string());
    }
    assert!(net.theirs[&100].invalids <= 3, "{}", net.theirs[&100].invalids);
}

#[test]
fn a_client_of_czmq_that_is_silent_for_an_hour_hears_the_news() {
    let mut net = Net::new(1, 1);
    net.connect(100, 0);
    net.run(3600 * S);
    net.put(0, "ours", "1");
    net.run(10 * MS);
    net.put(100, "theirs", "1");
    net.run(10 * MS);
    net.assert_all("ours", "1");
    net.assert_all("theirs", "1");
}

#[test]
fn with_a_server_timeout_it_is_forgotten_as_by_the_original() {
    let config = NodeConfig { server_timeout: Some(100 * MS), ..NodeConfig::default() };
    let mut net = Net::with(&config, 1, 1, 1000 * MS);
    net.connect(100, 0);
    net.run(S);
    net.put(0, "ours", "1");
    net.run(10 * MS);
    assert_eq!(net.value(100, "ours"), None);
    net.put(100, "theirs", "1");
    net.run(10 * MS);
    assert_eq!(net.value(0, "theirs"), None, "what it sent when it was unknown is lost");
    assert_eq!(net.value(100, "ours"), Some(bytes("1")), "but INVALID made it say HELLO");
}

#[test]
fn two_writers_on_both_sides_of_ours_come_to_one_value() {
    for (ours, theirs, links) in [
        (1, 2, vec![(100, 0), (101, 0)]),
        (1, 2, vec![(0, 100), (0, 101)]),
        (1, 1, vec![(100, 0)]),
        (2, 2, vec![(100, 0), (0, 1), (1, 101), (101, 0)]),
        (3, 3, vec![(0, 100), (100, 1), (1, 101), (101, 2), (2, 102), (102, 0)]),
    ] {
        let mut net = Net::new(ours, theirs);
        for (client, server) in links {
            net.connect(client, server);
        }
        net.run(3 * S);
        let all: Vec<usize> = net.ours.keys().chain(net.theirs.keys()).copied().collect();
        for end in &all {
            net.put(*end, "key", &format!("value of {end}"));
        }
        net.run(30 * S);
        let value = net.value(0, "key").unwrap();
        net.assert_all("key", std::str::from_utf8(&value).unwrap());
        let before: usize = net.theirs.values().map(|czmq| czmq.delivers).sum();
        net.run(60 * S);
        assert_eq!(net.theirs.values().map(|czmq| czmq.delivers).sum::<usize>(), before, "nothing circulates");
        assert!(before < 40 * theirs, "{before} deliveries");
    }
}

#[test]
fn a_storm_among_czmq_nodes_ends_at_ours() {
    // 100 and 101 chase their values over their own link, which nobody else can end
    let mut net = Net::with(&NodeConfig::default(), 2, 3, 3600 * S);
    net.delays.insert(LinkId(1), 5 * MS);
    net.connect(101, 100);
    net.connect(0, 100);
    net.connect(0, 101);
    net.connect(1, 0);
    net.connect(102, 1);
    net.run(3 * S);
    net.put(100, "key", "alpha");
    net.put(101, "key", "omega");
    net.run(60 * S);
    assert!(net.theirs[&100].delivers > 5_000, "they are at it");
    assert!(net.theirs[&102].delivers < 20, "beyond ours it is quiet: {}", net.theirs[&102].delivers);
    for end in [0, 1, 102] {
        assert_eq!(net.value(end, "key"), Some(bytes("omega")), "node {end}");
    }
    let is_contested = |event: &Event| matches!(event, Event::Contested { winner, .. } if winner == "omega");
    assert_eq!(net.count(0, is_contested), 1);
    assert_eq!(net.count(0, |event| matches!(event, Event::Settled { .. })), 0);
    assert!(net.count(0, |event| matches!(event, Event::Put { .. })) < 20);
    assert!(net.count(0, |event| matches!(event, Event::Refused { .. })) < 70, "told once a second");
    assert!(net.refused(0, Refusal::Contested) > 5_000);
    assert!(net.ours[&0].stats().records_out < 40, "{}", net.ours[&0].stats().records_out);
    // Half of it PINGs
    assert!(net.ours[&0].stats().frames_out < 1000, "{}", net.ours[&0].stats().frames_out);
    assert_eq!(net.ours[&0].stats().contested, 1);
    // One of the two is stopped: the key settles everywhere
    let links: Vec<LinkId> =
        net.links.iter().filter(|(_, (a, b))| *a == 101 || *b == 101).map(|(link, _)| *link).collect();
    for link in links {
        net.cut(link);
    }
    net.theirs.remove(&101);
    net.run(30 * S);
    assert_eq!(net.count(0, |event| matches!(event, Event::Settled { .. })), 1);
    net.assert_all("key", "omega");
    net.put(100, "key", "alpha");
    net.run(S);
    net.assert_all("key", "alpha");
}

#[test]
fn a_storm_of_many_values_is_kept_where_it_is() {
    let mut net = Net::with(&NodeConfig::default(), 2, 3, 3600 * S);
    net.delays.insert(LinkId(1), 20 * MS);
    for (client, server) in [(101, 100), (0, 100), (0, 101), (1, 0), (102, 1)] {
        net.connect(client, server);
    }
    for number in 0..10 {
        net.put(100, "key", &format!("{number} of the one"));
        net.put(101, "key", &format!("{number} of the other"));
        net.run(20 * MS);
    }
    net.run(15 * S);
    let before = (net.theirs[&100].delivers, net.theirs[&102].delivers, net.ours[&0].stats());
    net.run(15 * S);
    assert!(net.theirs[&100].delivers > before.0 + 1_000, "they are at it");
    assert_eq!(net.theirs[&102].delivers, before.1);
    let frames = net.ours[&0].stats().frames_out - before.2.frames_out;
    assert!(frames < 400, "{frames} in a quarter of a minute");
    assert_eq!(net.value(0, "key"), net.value(102, "key"));
    assert_eq!(net.value(1, "key"), net.value(102, "key"));
}

#[test]
fn who_was_away_does_not_bring_back_what_was_overwritten() {
    for is_client in [false, true] {
        let mut net = Net::new(2, 2);
        let connect = |net: &mut Net| if is_client { net.connect(100, 0) } else { net.connect(0, 100) };
        let link = connect(&mut net);
        net.connect(1, 0);
        net.put(100, "key", "old");
        net.put(100, "own", "1");
        net.run(3 * S);
        net.theirs.remove(&101);
        net.cut(link);
        net.put(1, "key", "new");
        net.put(100, "own", "2");
        net.run(3 * S);
        connect(&mut net);
        net.run(3 * S);
        net.assert_all("key", "new");
        net.assert_all("own", "2");
    }
}

#[test]
fn who_does_not_know_of_a_deletion_does_not_undo_it() {
    let mut net = Net::new(2, 1);
    let link = net.connect(100, 0);
    net.connect(1, 0);
    net.put(100, "key", "v");
    net.run(3 * S);
    net.ours.get_mut(&1).unwrap().remove(net.now, b"key").unwrap();
    net.collect();
    net.run(3 * S);
    assert_eq!((net.value(0, "key"), net.value(100, "key")), (None, Some(bytes("v"))), "ZGP has no word for it");
    net.cut(link);
    net.connect(100, 0);
    net.run(3 * S);
    assert_eq!((net.value(0, "key"), net.value(1, "key")), (None, None));
    assert_eq!(net.refused(0, Refusal::Deleted), 1);
    net.put(100, "key", "again");
    net.run(3 * S);
    net.assert_all("key", "again");
}

#[test]
fn thousands_of_tuples_and_restarts_of_either_side() {
    let mut net = Net::new(2, 2);
    net.connect(0, 100);
    net.connect(101, 0);
    net.connect(1, 0);
    for key in 0..2000 {
        net.put([0, 1, 100, 101][key % 4], &format!("key {key}"), "v");
    }
    net.run(10 * S);
    for end in [0, 1] {
        assert_eq!(net.ours[&end].len(), 2000);
    }
    for end in [100, 101] {
        assert_eq!(net.theirs[&end].tuples.len(), 2000);
    }
    let links: Vec<LinkId> =
        net.links.iter().filter(|(_, (a, b))| *a == 101 || *b == 101).map(|(link, _)| *link).collect();
    for link in links {
        net.cut(link);
    }
    net.theirs.insert(101, Czmq::new(S));
    net.connect(101, 0);
    net.run(10 * S);
    assert_eq!(net.theirs[&101].tuples.len(), 2000);
    assert_eq!(net.theirs[&100].delivers, 2000, "nobody else was told anything again");
    assert!(net.now - net.start < 60 * S);
}

/// Numbers that a seed gives
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }
}

/// Any network in which no two CZMQ nodes are neighbours: those chase values by themselves (sheet, section 8)
fn mixed(seed: u64) -> (Net, Dice) {
    let mut dice = Dice(seed);
    let (ours, theirs) = (1 + dice.roll(4), 1 + dice.roll(4));
    let mut net = Net::new(ours, theirs);
    let mut pairs = BTreeSet::new();
    for node in 1..ours {
        pairs.insert((dice.roll(node), node));
    }
    for node in 100..100 + theirs {
        pairs.insert((dice.roll(ours), node));
    }
    for _ in 0..dice.roll(8) {
        let (a, b) = (dice.roll(ours), if dice.roll(2) == 0 { dice.roll(ours) } else { 100 + dice.roll(theirs) });
        if a != b {
            pairs.insert((a.min(b), a.max(b)));
        }
    }
    for (a, b) in pairs {
        let (client, server) = if dice.roll(2) == 0 { (a, b) } else { (b, a) };
        let delay = MS * (1 + dice.roll(60) as u32);
        net.delays.insert(LinkId(net.next_link), delay);
        net.connect(client, server);
    }
    net.run(3 * S);
    (net, dice)
}

#[test]
fn a_node_that_was_started_anew_believes_its_own_kind_rather_than_what_peers_had_before() {
    for czmq_first in [true, false] {
        let mut net = Net::new(2, 1);
        net.connect(100, 0);
        net.connect(0, 1);
        net.put(100, "key", "old");
        net.put(100, "gone", "v");
        net.run(3 * S);
        for link in net.links.keys().copied().collect::<Vec<_>>() {
            net.cut(link);
        }
        net.put(1, "key", "new");
        net.ours.get_mut(&1).unwrap().remove(net.now, b"gone").unwrap();
        net.put(100, "own", "1");
        net.run(20 * S);
        let identity = Identity { id: NodeId(1), incarnation: Incarnation(2) };
        net.ours.insert(0, Node::new(NodeConfig::default(), identity, 3, net.now, SystemTime::now() + 23 * S));
        for turn in 0..2 {
            if czmq_first == (turn == 0) {
                net.connect(100, 0)
            } else {
                net.connect(0, 1)
            };
            net.run(3 * S);
        }
        net.run(3 * S);
        net.assert_all("key", "new");
        net.assert_all("own", "1");
        assert_eq!((net.value(0, "gone"), net.value(1, "gone")), (None, None));
        net.put(100, "key", "newer");
        net.run(3 * S);
        net.assert_all("key", "newer");
    }
}

#[test]
fn in_any_mixed_network_the_last_word_of_one_writer_stands() {
    let mut wrong = Vec::new();
    for seed in 0..120 {
        let (mut net, mut dice) = mixed(seed);
        let ends: Vec<usize> = net.ours.keys().chain(net.theirs.keys()).copied().collect();
        let writer = ends[dice.roll(ends.len())];
        let mut last = String::new();
        let writes = 2 + dice.roll(6);
        for write in 0..writes {
            // Some values come again
            last = format!("{} of {seed}", if dice.roll(3) == 0 { 0 } else { write });
            if write + 1 == writes && writer >= 100 {
                // A CZMQ node takes a late echo of its own word for a newer one, so that it has to wait before its last
                net.run(2 * S);
            }
            net.put(writer, "key", &last);
            let longest = [10, 100, 1000][dice.roll(3)];
            net.run(MS * dice.roll(longest) as u32);
        }
        net.run(60 * S);
        if ends.iter().any(|end| net.value(*end, "key").as_deref() != Some(last.as_bytes())) {
            let values: Vec<_> = ends.iter().map(|end| (*end, net.value(*end, "key"))).collect();
            wrong.push(format!("seed {seed}: {writer} said {last:?}, but {values:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of 120\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn in_any_mixed_network_many_writers_come_to_one_value() {
    let mut wrong = Vec::new();
    for seed in 1000..1120 {
        let (mut net, mut dice) = mixed(seed);
        let ends: Vec<usize> = net.ours.keys().chain(net.theirs.keys()).copied().collect();
        for write in 0..2 + dice.roll(10) {
            net.put(ends[dice.roll(ends.len())], "key", &format!("{} of {seed}", dice.roll(write + 1)));
            let longest = [10, 100, 1000][dice.roll(3)];
            net.run(MS * dice.roll(longest) as u32);
        }
        net.run(60 * S);
        let sent = net.theirs.values().map(|czmq| czmq.delivers).sum::<usize>();
        let values: BTreeSet<_> = ends.iter().map(|end| net.value(*end, "key")).collect();
        net.run(30 * S);
        if values.len() > 1 || net.theirs.values().map(|czmq| czmq.delivers).sum::<usize>() != sent || sent > 1000 {
            wrong.push(format!("seed {seed}: {values:?} after {sent} deliveries"));
        }
    }
    assert!(wrong.is_empty(), "{} of 120\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_not_taken_is_not_remembered_either() {
    let mut config = NodeConfig::default();
    config.quotas.max_tuples_per_owner = 100;
    let mut bench = Bench::new(config);
    bench.link(7, Side::Server);
    bench.hear(7, HELLO_FRAME);
    for number in 0..5000 {
        bench.publish(7, &format!("key-{number}"), "value");
    }
    assert_eq!(bench.node.len(), 75, "a quarter is left for what is put here");
    assert_eq!(bench.refused(Refusal::KeyQuota), 4925);
    assert_eq!(bench.node.zgossip.peers[&LinkId(7)].held.len(), 75);
    for number in 0..25 {
        bench.put(&format!("own-{number}"), "value");
    }
    // Nor what is no more
    for number in 0..75 {
        bench.node.remove(bench.now, format!("key-{number}").as_bytes()).unwrap();
    }
    assert!(bench.node.zgossip.peers[&LinkId(7)].held.len() <= 25);
}

#[test]
fn nothing_keeps_the_frames_that_it_came_in() {
    let mut bench = Bench::new(NodeConfig::default());
    for link in [7, 8] {
        bench.link(link, Side::Server);
        bench.hear(link, HELLO_FRAME);
    }
    // What is behind the last field is ignored; the second reads nothing
    let mut frames = Vec::new();
    bench.node.handle_unsent(bench.now, LinkId(8), PONG_FRAME);
    for (turn, value) in ["one", "two", "one", "three", "two"].iter().cycle().take(50).enumerate() {
        let frame = Bytes::from([&frame_of("key", value)[..], &[0; 100_000]].concat());
        frames.push(frame.clone());
        bench.hear(if turn % 3 == 0 { 8 } else { 7 }, frame);
    }
    bench.now += 2 * S;
    bench.node.handle_timeout(bench.now);
    bench.sent(7);
    assert!(frames.iter().all(Bytes::is_unique), "a hundred thousand octets for each three");
}
